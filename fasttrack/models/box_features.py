"""Features of many boxes of a frame: a patch with some context for each, one small map for each patch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import itemgetter

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack.errors import RangeError
from fasttrack.geometry import Window
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import Backbone

__all__ = ["BoxFeatures"]

_PATCHES = 1024  # sampled at once: 140 MB at 107 px


class BoxFeatures:
    """(N, 4) boxes of every target → (N, C, cells, cells) features.

    Args:
        backbone: a frozen network with one output.
        side_px: side of the patch; every box fills the same square of it, whatever its aspect.
        context_px: px of the patch around the box, each side.
        cells: side of the map; larger maps of the network are averaged over blocks.

    Source: MDNet §3.1; DLST §3.2.
    """

    def __init__(self, backbone: Backbone, side_px: int = 107, context_px: int = 16, cells: int = 3) -> None:
        if not 0 <= 2 * context_px < side_px:
            raise RangeError("BoxFeatures", "context_px", f"0 ≤ 2·context < {side_px}", str(context_px))
        self.backbone, self.side_px, self.cells = backbone, side_px, cells
        self._zoom = side_px / (side_px - 2 * context_px)
        self.channels = backbone.taps[0].channels

    def __call__(self, scene: Scene, boxes: Sequence[Tensor], targets: Sequence[int]) -> list[Tensor]:
        """Features of (N, 4) boxes x, y, w, h for each target, in px of its frame: N maps for each."""
        places = [(k, self.window(*row)) for own, k in zip(boxes, targets, strict=True) for row in own.tolist()]
        parts = [torch.empty(0, self.channels, self.cells, self.cells, device=scene.device)]
        for first in range(0, len(places), _PATCHES):
            groups = itertools.groupby(places[first : first + _PATCHES], itemgetter(0))
            some = {k: [window for _, window in own] for k, own in groups}
            maps = self.backbone(scene.sample(list(some.values()), list(some)))[0]
            parts.append(F.adaptive_avg_pool2d(maps, self.cells).contiguous())
        return list(torch.cat(parts).split([len(own) for own in boxes]))

    def window(self, x: float, y: float, w: float, h: float) -> Window:
        """The box with its context."""
        zoom, side = self._zoom, self.side_px
        return Window.around(x + w / 2, y + h / 2, w * zoom, h * zoom, side, side)

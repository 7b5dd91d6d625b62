"""Features of many boxes of one frame: a patch with some context for each, one small map for each patch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack.errors import RangeError
from fasttrack.geometry import Window
from fasttrack.vision.crop import sample
from fasttrack.vision.features import Backbone

__all__ = ["BoxFeatures"]

_PATCHES = 1024  # sampled at once: 140 MB at 107 px


class BoxFeatures:
    """(N, 4) boxes → (N, C, cells, cells) features.

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

    def __call__(self, frame: Tensor, boxes: Tensor) -> Tensor:
        """Features of the boxes x, y, w, h in px of the (H, W, 3) uint8 frame."""
        parts = [torch.empty(0, self.channels, self.cells, self.cells, device=frame.device)]
        for part in boxes.split(_PATCHES):
            if len(part):
                maps = self.backbone(sample(frame, [self.window(*row) for row in part.tolist()]))[0]
                parts.append(F.adaptive_avg_pool2d(maps, self.cells).contiguous())
        return torch.cat(parts)

    def window(self, x: float, y: float, w: float, h: float) -> Window:
        """The box with its context."""
        zoom, side = self._zoom, self.side_px
        return Window.around(x + w / 2, y + h / 2, w * zoom, h * zoom, side, side)

"""Outputs of a network brought to one grid of cells, one after the other in the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack.errors import RangeError
from fasttrack.vision.features.backbone import Backbone
from fasttrack.vision.features.base import check_patches
from fasttrack.vision.features.network_module import StackModule
from fasttrack.vision.features.networks import Tap

__all__ = ["LayerStack"]


class LayerStack:
    """(T, 3, h, w) float32 RGB 0..255 → (T, Σ channels, h // stride, w // stride), map after map.

    Cell ``k`` of every map has its centre at ``(k + ½)·stride`` patch px, wherever the network's own cells lie: a
    coarser output is interpolated linearly between its cells (the deconvolution of DSLT §3.3 with its usual start),
    a finer one is averaged over blocks first. Both are sums over places, so that a 1×1 reduction of the channels
    may come after them instead of before.

    Args:
        network: name of a backbone.
        outputs: names of its outputs, in the order of the channels.
        stride: patch px per cell; None for that of the finest output.
        side: every cell carries the channels of its side × side neighbourhood (0 beyond the edge), channel by
            channel, row by row: a 1×1 convolution of them is a ``side`` × ``side`` one of the maps.
        options: of ``Backbone`` (``weights=``, ``convention=``, …).

    Attributes:
        sizes: channels of every output, side² times its own.

    Raises:
        UnknownName, WeightsError: as ``Backbone``.
        RangeError: a stride below 1 px; a side that is not odd and positive.
    """

    def __init__(
        self, network: str, outputs: Sequence[str], *, stride: int | None = None, side: int = 1, **options: Any
    ) -> None:
        self._backbone = Backbone(network, outputs, **options)
        self.taps, self.weights_note = self._backbone.taps, self._backbone.weights_note
        self.stride = min(tap.stride for tap in self.taps) if stride is None else stride
        if self.stride < 1:
            raise RangeError("LayerStack", "stride", "at least 1 px", repr(stride))
        if side < 1 or side % 2 == 0:
            raise RangeError("LayerStack", "side", "an odd number of cells", repr(side))
        self.side = side
        self.sizes = tuple(tap.channels * side**2 for tap in self.taps)
        self.channels = sum(self.sizes)
        self._steps: dict[tuple[Tap, int, int], Tensor] = {}

    def __call__(self, patches: Tensor) -> Tensor:
        """Maps of the patches, contiguous, without gradient.

        Raises:
            ShapeError, DtypeError: patches of another shape or type, or too small for one cell.
        """
        check_patches("LayerStack", patches, self.stride)
        rows, columns = (side // self.stride for side in patches.shape[2:])
        out = patches.new_empty((len(patches), self.channels, rows, columns))
        with torch.no_grad():
            for part, x, tap in zip(out.split(self.sizes, 1), self._backbone(patches), self.taps, strict=True):
                part.copy_(self._neighbours(self._placed(x, tap, rows, columns)))
        return out

    def module(self) -> StackModule:
        """The same as a module, for export and ``torch.compile``."""
        return StackModule(self._backbone.module(), self._stacked, self.stride)

    def _stacked(self, maps: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        pairs = zip(maps, self.taps, strict=True)
        return torch.cat([self._neighbours(self._placed(x, tap, rows, columns)) for x, tap in pairs], 1)

    def _neighbours(self, placed: Tensor) -> Tensor:
        if self.side == 1:
            return placed
        spread = F.unfold(placed, self.side, padding=self.side // 2)
        return spread.view(placed.shape[0], -1, *placed.shape[2:])

    def _placed(self, x: Tensor, tap: Tap, rows: int, columns: int) -> Tensor:
        block = self.stride // tap.stride
        if block > 1:
            x = F.avg_pool2d(x, block)
            tap = Tap(tap.name, tap.channels, tap.stride * block, tap.offset_px, tap.receptive_field_px, tap.layers)
        if tap.stride == self.stride and tap.offset_px == 0:
            return x[:, :, :rows, :columns]
        down, across = (self._step(tap, n, cells) for n, cells in zip(x.shape[2:], (rows, columns), strict=True))
        return down.to(x.device) @ (x.contiguous() @ across.to(x.device).T)

    def _step(self, tap: Tap, cells: int, wanted: int) -> Tensor:
        if torch.compiler.is_compiling():  # what a trace makes must not be kept
            return _interpolation(tap, cells, wanted, self.stride)
        key = tap, cells, wanted
        if key not in self._steps:
            self._steps[key] = _interpolation(tap, cells, wanted, self.stride)
        return self._steps[key]


def _interpolation(tap: Tap, cells: int, wanted: int, stride: int) -> Tensor:
    """(wanted, cells) weights of linear interpolation; beyond the outermost centres the outermost cell."""
    places_px = (torch.arange(wanted) + 0.5) * stride - tap.offset_px
    at = (places_px / tap.stride - 0.5).clamp(0, cells - 1)
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)

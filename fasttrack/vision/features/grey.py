"""Brightness, evened out: what MOSSE sees."""

from __future__ import annotations

from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError
from fasttrack.vision.features.base import check_patches

__all__ = ["Grey"]


class Grey:
    """log(1 + grey) of each cell, per patch shifted and scaled to mean 0 and norm √(cells), from ``ops.grey``.

    Args:
        stride: px per cell.

    Source: Bolme et al. 2010 (MOSSE), §3.1 (log, mean 0, norm 1).
    """

    name = "grey"
    channels = 1
    needs_fit = False
    typical_rms = 1.0
    weights_note = ""

    def __init__(self, stride: int = 1) -> None:
        if stride < 1:
            raise RangeError("grey", "stride", "at least 1 px", str(stride))
        self.stride = stride

    def fit(self, patches: Tensor) -> None:
        """Nothing to learn."""

    def fork(self) -> Grey:
        """Itself: it keeps no state."""
        return self

    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, 1, h//stride, w//stride); a patch of one brightness gives zeros."""
        check_patches(self.name, patches, self.stride)
        return ops.grey(patches.detach(), cell_size=self.stride)

"""Histograms of oriented gradients as a feature of a tracker."""

from __future__ import annotations

from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError
from fasttrack.vision.features.base import check_patches

__all__ = ["HOG"]


class HOG:
    """31-channel fHOG (18 signed and 9 unsigned orientations, 4 texture energies), from ``ops.hog``.

    Args:
        stride: px per cell.
    """

    name = "hog"
    channels = 31
    needs_fit = False
    typical_rms = 0.18
    weights_note = ""

    def __init__(self, stride: int = 4) -> None:
        if stride < 1:
            raise RangeError("hog", "stride", "at least 1 px", str(stride))
        self.stride = stride

    def fit(self, patches: Tensor) -> None:
        """Nothing to learn."""

    def fork(self) -> HOG:
        """Itself: it keeps no state."""
        return self

    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, 31, h//stride, w//stride)."""
        check_patches(self.name, patches, self.stride)
        return ops.hog(patches.detach(), cell_size=self.stride)

"""Raw colour: the mean RGB of every cell."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack.errors import RangeError
from fasttrack.vision.features.base import check_patches

__all__ = ["RGB"]


class RGB:
    """Mean colour of each cell, centred: ``mean(RGB) / 255 − ½``, in −0.5..0.5.

    Args:
        stride: px per cell.
    """

    name = "rgb"
    channels = 3
    needs_fit = False
    typical_rms = 0.25
    weights_note = ""

    def __init__(self, stride: int = 4) -> None:
        if stride < 1:
            raise RangeError("rgb", "stride", "at least 1 px", str(stride))
        self.stride = stride

    def fit(self, patches: Tensor) -> None:
        """Nothing to learn."""

    def fork(self) -> RGB:
        """Itself: it keeps no state."""
        return self

    @torch.no_grad()
    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, 3, h//stride, w//stride)."""
        check_patches(self.name, patches, self.stride)
        return F.avg_pool2d(patches, self.stride).mul_(1 / 255).sub_(0.5)

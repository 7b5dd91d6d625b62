"""Brightness, evened out: what MOSSE sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack.errors import RangeError
from fasttrack.vision.features.base import check_patches

__all__ = ["Grey"]

_FLATTEST = 1e-5  # deviation of log brightness at which a patch counts as flat


class Grey:
    """log(1 + grey) of each cell, per patch shifted and scaled to mean 0 and norm √(cells).

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

    @torch.no_grad()
    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, 1, h//stride, w//stride); a patch of one brightness gives zeros."""
        check_patches(self.name, patches, self.stride)
        # log(3 + r + g + b) = log(1 + grey) + log 3, and the mean takes the constant away.
        sums = patches.sum(1, keepdim=True)
        logs = (sums if self.stride == 1 else F.avg_pool2d(sums, self.stride)).add_(3.0).log_()
        even, _, gains = torch.native_layer_norm(logs, logs.shape[1:], None, None, _FLATTEST**2)
        # A deviation below a thousandth of a grey level is nothing but rounding.
        return even.mul_(gains < 0.5**0.5 / _FLATTEST)

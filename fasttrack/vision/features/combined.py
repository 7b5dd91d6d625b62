"""HOG and Color Names side by side."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fasttrack.vision.features.color_names import ColorNames
from fasttrack.vision.features.hog import HOG

__all__ = ["HOGColorNames"]


class HOGColorNames:
    """The 31 channels of HOG, then the 11 of Color Names, brought to one scale.

    What a regression can use of a family is how much its cells differ: the variance ``Σ_c var(x_c)`` over a
    map. On natural images that is 0.41 for HOG and 0.155 for Color Names (measured on 32 frames of 16
    videos), so the shares, with the 1/11 that each would have of nothing in particular taken off, are
    multiplied by ``color_gain`` = sqrt(0.41 / 0.155) ≈ 1.6: both families then weigh the same.

    Args:
        stride: px per cell.
        table: the user's own Color Names table; default ours.
        color_gain: factor of the centred colour shares.
    """

    name = "hog+cn"
    channels = HOG.channels + ColorNames.channels
    needs_fit = False
    typical_rms = 0.22

    def __init__(self, stride: int = 4, table: str | Path | None = None, color_gain: float = 1.6) -> None:
        self._hog, self._colors = HOG(stride), ColorNames(stride, table)
        self.stride, self.color_gain = stride, color_gain
        self.weights_note = self._colors.weights_note

    def fit(self, patches: Tensor) -> None:
        """Nothing to learn."""

    def fork(self) -> HOGColorNames:
        """Itself: it keeps no state."""
        return self

    @torch.no_grad()
    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, 42, h//stride, w//stride)."""
        colors = self._colors(patches).sub_(1 / ColorNames.channels).mul_(self.color_gain)
        return torch.cat((self._hog(patches), colors), dim=1)

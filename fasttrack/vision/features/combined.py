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

    A regression sees the two families through the energy ``Σ_c x_c²`` of a cell. Color Names, raw, holds
    several times that of HOG, and nearly all of it in the mean, which says nothing about the place of the
    target. So the table's mean 1/11 is taken from each share and the rest multiplied by ``color_gain``,
    whose default gives both families the same energy on natural images (measured).

    Args:
        stride: px per cell.
        table: the user's own Color Names table; default ours.
        color_gain: factor of the centred colour shares.
    """

    name = "hog+cn"
    channels = HOG.channels + ColorNames.channels
    needs_fit = False
    typical_rms = HOG.typical_rms

    def __init__(self, stride: int = 4, table: str | Path | None = None, color_gain: float = 0.6) -> None:
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

"""Correlation filters on windows of a backbone's map: what they see needs no pass of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError
from fasttrack.geometry import Box, Window
from fasttrack.models.filter_regressor import FilterConfig, FilterRegressor
from fasttrack.vision.features.networks import Tap
from fasttrack.vision.fusion import pooled_windows
from fasttrack.vision.labels import gaussian_map, hann_window

__all__ = ["WindowFilter"]


class WindowFilter:
    """T filters on the square regions of T objects, each pooled to the same cells whatever the object's size.

    Args:
        learning: kernel, λ and rate.
        tap: where the cells of the maps lie.
        region: side of the region, object sides.
        cells: side of the region, cells; raised to a size that transforms fast (``ops.fft_size``).
        label_sigma: σ of the label, object sides.
        rms: root mean square that the features of the first frame are brought to, per target.

    Source: DRVT §3.3.
    """

    def __init__(
        self, learning: FilterConfig, tap: Tap, region: float, cells: int, label_sigma: float, rms: float
    ) -> None:
        self.tap, self.region, self.cells, self.rms = tap, region, ops.fft_size(cells), rms
        n, sigma = self.cells, label_sigma * self.cells / region
        self._label = gaussian_map((n, n), torch.full((1, 2), (n - 1) / 2), (sigma, sigma))[0]
        self._learning = learning
        self._model: FilterRegressor | None = None
        self._gains = torch.empty(0)

    def windows(self, boxes: Sequence[Box], factors: Sequence[float]) -> list[list[Window]]:
        """Regions of the objects at several sizes, one px per cell."""
        n, r = self.cells, self.region
        return [[Window.around(*b.center, b.w * r * f, b.h * r * f, n, n) for f in factors] for b in boxes]

    def fit(self, maps: Tensor, crops: Sequence[Window], boxes: Sequence[Box]) -> None:
        """Learn the first frame, forgetting everything before: (T, C, H, W) maps of T crops."""
        pooled = pooled_windows(maps, self.tap, crops, self.windows(boxes, (1.0,)))
        rms = pooled.square().mean((1, 2, 3, 4), keepdim=True).sqrt()
        self._gains = self.rms / rms.clamp_min(torch.finfo(rms.dtype).tiny)
        window = hann_window((self.cells, self.cells), maps.device)
        self._model = FilterRegressor(self._learning, self._label.to(maps.device), window)
        self._model.fit([(pooled * self._gains)[:, 0]])

    def respond(self, maps: Tensor, crops: Sequence[Window], windows: Sequence[Sequence[Window]]) -> Tensor:
        """(T, S, cells, cells) responses in the windows; the peak lies at the object's centre."""
        return self._fitted.respond(pooled_windows(maps, self.tap, crops, windows) * self._gains)

    def update(self, maps: Tensor, crops: Sequence[Window], boxes: Sequence[Box], rows: Sequence[int]) -> None:
        """One more frame of the targets ``rows``: their maps, crops and boxes."""
        pooled = pooled_windows(maps, self.tap, crops, self.windows(boxes, (1.0,)))
        self._fitted.update((pooled * self._gains[list(rows)])[:, 0], rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these targets only."""
        self._fitted.keep(rows)
        self._gains = self._gains[list(rows)]

    @property
    def _fitted(self) -> FilterRegressor:
        if self._model is None:
            raise RangeError("WindowFilter", "self", "fitted (call fit on the first frame)", "not fitted")
        return self._model

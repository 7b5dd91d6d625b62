"""A correlation filter per target, with its running average, for several targets of one size at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError

__all__ = ["FilterConfig", "FilterRegressor"]


@dataclass(frozen=True)
class FilterConfig:
    """How filters learn.

    Args:
        kernel: "linear" or "gaussian".
        kernel_sigma: width of the Gaussian kernel.
        ridge: λ, > 0.
        rate: share of the newest frame in the running average, 0..1.
    """

    kernel: str = "gaussian"
    kernel_sigma: float = 0.5
    ridge: float = 1e-4
    rate: float = 0.02


class FilterRegressor:
    """T filters with one label, trained and asked in one call each (``ops.cf_train``, ``ops.cf_detect``).

    The response to features moved by (d, e) cells is the label moved by (d, e), cyclically.

    Args:
        config: kernel, λ and rate.
        label: (H, W) wanted response of the training frame.
        window: (H, W) factor on all features, against the jump at the border of the cyclic shifts.

    Source: Henriques et al. 2015 (KCF); Bolme et al. 2010 (MOSSE).
    """

    def __init__(self, config: FilterConfig, label: Tensor, window: Tensor) -> None:
        self.config, self.label, self.window = config, label, window
        self._model: ops.CorrelationFilter | None = None

    def fit(self, copies: Sequence[Tensor]) -> None:
        """Learn from the first frame, forgetting everything before: the mean filter of its copies, (T, C, H, W)."""
        model = self._trained(copies[0])
        for k, features in enumerate(copies[1:], start=2):
            ops.cf_update_(model, self._trained(features), 1 / k)
        self._model = model

    def respond(self, features: Tensor) -> Tensor:
        """(T, S, C, H, W) → (T, S, H, W)."""
        return ops.cf_detect(self._fitted("respond"), features, self.window)

    def update(self, features: Tensor, rows: Sequence[int]) -> None:
        """One more frame of the targets ``rows``; (len(rows), C, H, W), centred on them."""
        c = self.config
        ops.cf_learn_(self._fitted("update"), features, self.label, c.rate, c.ridge, self.window, rows)

    def respond_in(self, frame: Tensor, boxes: Tensor, cell_px: int) -> tuple[Tensor, Tensor]:
        """``respond`` to the brightness (``features.Grey``) of windows of a frame, and the table of the peaks.

        Args:
            frame: (H, W, 3) uint8.
            boxes: (T·S, 4) rows (x, y, w, h) in px, on the device of the frame.
            cell_px: px of a patch per cell.
        """
        return ops.grey_filter_detect(self._fitted("respond_in"), frame, boxes, self.window, cell_px)

    def update_in(self, frame: Tensor, boxes: Tensor, cell_px: int, rows: Sequence[int]) -> None:
        """``update`` of the targets ``rows`` with the brightness of a window of each."""
        c, model = self.config, self._fitted("update_in")
        ops.grey_filter_learn_(model, frame, boxes, self.label, c.rate, c.ridge, self.window, rows, cell_px)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these targets only."""
        model = self._fitted("keep")
        at = torch.tensor(rows, device=model.template.device)
        self._model = replace(model, template=model.template[at], coefficients=model.coefficients[at])

    def _trained(self, features: Tensor) -> ops.CorrelationFilter:
        c = self.config
        return ops.cf_train(features, self.label, c.ridge, c.kernel, c.kernel_sigma, self.window)

    def _fitted(self, what: str) -> ops.CorrelationFilter:
        if self._model is None:
            raise RangeError(f"FilterRegressor.{what}", "self", "fitted (call fit on the first frame)", "not fitted")
        return self._model

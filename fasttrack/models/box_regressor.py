"""From the features of a box to a better box: ridge regression learnt in the first frame."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError, ShapeError
from fasttrack.geometry import Box

__all__ = ["BoxRegressor"]

_FLOOR = 1e-3  # added to the variances, so that a target that never varies is not divided by zero


class BoxRegressor:
    """W = argmin ‖XW − Y‖² + λ‖W‖² from features X to what moves a box (x, y, w, h) onto the target (gx, gy, gw, gh).

    A row of targets is ((gcx − cx)/w, (gcy − cy)/h, log gw/w, log gh/h), less its mean over the samples and
    whitened: all four weigh the same whatever their variance and correlation.

    Args:
        ridge: λ > 0.

    Source: Girshick et al. 2014 (R-CNN), appendix C; used by MDNet §3.4 and DLST §3.3.
    """

    def __init__(self, ridge: float = 1000.0) -> None:
        if not ridge > 0:
            raise RangeError("BoxRegressor", "ridge", "a number > 0", repr(ridge))
        self.ridge = ridge
        self._weight = self._unwhiten = self._mean = torch.empty(0)

    def fit(self, features: Tensor, boxes: Tensor, target: Box) -> None:
        """Learn from the (N, …) features of the (N, 4) boxes around the target, forgetting everything before.

        Raises:
            ShapeError: not as many features as boxes, or none.
        """
        if len(features) != len(boxes) or len(boxes) == 0:
            raise ShapeError("BoxRegressor.fit", "features", f"one row per box ({len(boxes)})", str(len(features)))
        moves = _moves(boxes, target)
        self._mean = moves.mean(0)
        centred = moves - self._mean
        variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        deviations = (variances.clamp_min(0) + _FLOOR).sqrt()
        self._unwhiten = (axes * deviations) @ axes.T
        white = centred @ ((axes / deviations) @ axes.T)
        rows = _rows(features)
        self._weight = ops.ridge_solve(rows, white.to(rows), self.ridge)

    def boxes(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Better boxes for the (N, 4) boxes with the (N, …) features: (N, 4) float64.

        Raises:
            RangeError: not fitted.
        """
        if self._weight.numel() == 0:
            raise RangeError("BoxRegressor.boxes", "self", "fitted (call fit on the first frame)", "not fitted")
        white = (_rows(features) @ self._weight).to(self._mean)
        moves = white @ self._unwhiten + self._mean
        sides = boxes[:, 2:]
        centres = boxes[:, :2] + sides / 2 + moves[:, :2] * sides
        sides = sides * moves[:, 2:].exp()
        return torch.cat([centres - sides / 2, sides], 1)


def _moves(boxes: Tensor, target: Box) -> Tensor:
    centre, sides = boxes.new_tensor(target.center), boxes.new_tensor([target.w, target.h])
    away = centre - (boxes[:, :2] + boxes[:, 2:] / 2)
    return torch.cat([away / boxes[:, 2:], (sides / boxes[:, 2:]).log()], 1)


def _rows(features: Tensor) -> Tensor:
    """(N, D + 1): the last column is the constant term."""
    rows = features.flatten(1)
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1)

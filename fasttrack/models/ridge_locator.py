"""Ridge regression from samples of a search region to a label of the target, with a running data matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError

__all__ = ["RidgeConfig", "RidgeLocator"]


@dataclass(frozen=True)
class RidgeConfig:
    """How the locator learns.

    Args:
        ridge: λ.
        interval: frames between two solutions of the regression.
        first_share: the first frame keeps at least this share of the data matrix.
        sweeps: Gauss–Seidel sweeps over the normal equations, started from the last solution; 0 solves exactly. The
            first frame is always solved exactly. Forms a D × D matrix: for learnt samples, not for pooled features.
    """

    ridge: float = 0.1
    interval: int = 10
    first_share: float = 0.0
    sweeps: int = 0


class RidgeLocator:
    """T regressions w = argmin ‖Xw − y‖² + λ‖w‖², one per target, whose X is an average over the frames.

    X₁ = X̃₁,  X_t = (1 − δ)·X_{t−1} + δ·X̃_t: rows at the same place relative to the target are averaged, so the
    label y stays the same. Only every ``interval``-th update solves again.

    Args:
        config: λ, interval and the first frame's share.
        label: (N,) wanted score of every sample.

    Source: DCFST eq. 1–3, 6, 7; first_share and sweeps as released.
    """

    def __init__(self, config: RidgeConfig, label: Tensor) -> None:
        self.config, self.label = config, label
        self._samples = self._first = self.weight = torch.empty(0)
        self._shares: list[float] = []  # of the first frame
        self._age: list[int] = []  # updates since the last solution

    def fit(self, samples: Tensor) -> None:
        """Learn from the (T, N, D) samples of the first frame, forgetting everything before."""
        self._samples = samples
        self._first = samples.clone() if self.config.first_share > 0 else samples[:0]
        self._shares, self._age = [1.0] * len(samples), [0] * len(samples)
        self.weight = torch.empty(len(samples), samples.shape[2], dtype=samples.dtype, device=samples.device)
        for k in range(len(samples)):
            self._solve(k, 0)

    def update(self, samples: Tensor, rows: Sequence[int], rates: Sequence[float], at_once: Sequence[int] = ()) -> None:
        """One more frame of the targets ``rows``; (len(rows), N, D), with a rate δ for each.

        Args:
            samples: of the frame, scaled.
            rows: the targets they belong to.
            rates: δ of each.
            at_once: targets to be solved anew now, whatever the interval.
        """
        if not self._age:
            raise RangeError("RidgeLocator.update", "self", "fitted (call fit on the first frame)", "not fitted")
        due = []
        for new, k, rate in zip(samples, rows, rates, strict=True):
            self._samples[k].lerp_(new, rate)
            self._shares[k] *= 1 - rate
            floor, share = self.config.first_share, self._shares[k]
            if share < floor:
                # share' = p + (1 − p)·share = floor, with p of the first frame mixed in.
                self._samples[k].lerp_(self._first[k], (floor - share) / (1 - share))
                self._shares[k] = floor
            self._age[k] += 1
            if self._age[k] >= self.config.interval or k in at_once:
                due.append(k)
        for k in due:  # one at a time: the data matrices are large, and few are due at once
            self._solve(k, self.config.sweeps)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these targets only."""
        at = list(rows)
        self._samples, self.weight = self._samples[at], self.weight[at]
        self._first = self._first[at] if len(self._first) else self._first
        self._shares, self._age = [self._shares[k] for k in at], [self._age[k] for k in at]

    def scores(self, samples: Tensor, rows: Sequence[int]) -> Tensor:
        """(len(rows), N) scores Xw of scaled samples of these targets."""
        return torch.bmm(samples, self.weight[list(rows)][:, :, None])[:, :, 0]

    def _solve(self, k: int, sweeps: int) -> None:
        data, label, ridge = self._samples[k], self.label, self.config.ridge
        exact = sweeps == 0
        self.weight[k] = (
            ops.ridge_solve(data, label, ridge) if exact else swept(data, label, ridge, self.weight[k], sweeps)
        )
        self._age[k] = 0


def swept(samples: Tensor, label: Tensor, ridge: float, weight: Tensor, sweeps: int) -> Tensor:
    """Gauss–Seidel sweeps over (XᵀX + λI)·w = Xᵀy from ``weight``: (L + D)·w' = Xᵀy − U·w, converges for λ > 0."""
    matrix = samples.T @ samples
    matrix.diagonal().add_(ridge)
    right, upper = samples.T @ label, matrix.triu(1)
    for _ in range(sweeps):
        rest = (right - upper @ weight)[:, None]
        weight = torch.linalg.solve_triangular(matrix, rest, upper=False)[:, 0]
    return weight

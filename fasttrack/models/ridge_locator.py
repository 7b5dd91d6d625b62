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
    """

    ridge: float = 0.1
    interval: int = 10
    first_share: float = 0.0


class RidgeLocator:
    """T regressions w = argmin ‖Xw − y‖² + λ‖w‖², one per target, whose X is an average over the frames.

    X₁ = X̃₁,  X_t = (1 − δ)·X_{t−1} + δ·X̃_t: rows at the same place relative to the target are averaged, so the
    label y stays the same. Only every ``interval``-th update solves again.

    Args:
        config: λ, interval and the first frame's share.
        label: (N,) wanted score of every sample.

    Source: DCFST eq. 1–3, 6, 7.
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
        self._solve(list(range(len(samples))))

    def update(self, samples: Tensor, rows: Sequence[int], rates: Sequence[float]) -> None:
        """One more frame of the targets ``rows``; (len(rows), N, D), with a rate δ for each."""
        if not self._age:
            raise RangeError("RidgeLocator.update", "self", "fitted (call fit on the first frame)", "not fitted")
        due = []
        for new, k, rate in zip(samples, rows, rates, strict=True):
            self._samples[k].lerp_(new, rate)
            self._shares[k] *= 1 - rate
            self._age[k] += 1
            if self._age[k] >= self.config.interval:
                due.append(k)
        if due:
            self._solve(due)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these targets only."""
        at = list(rows)
        self._samples, self.weight = self._samples[at], self.weight[at]
        self._first = self._first[at] if len(self._first) else self._first
        self._shares, self._age = [self._shares[k] for k in at], [self._age[k] for k in at]

    def _solve(self, rows: list[int]) -> None:
        for k in rows:  # one at a time: the data matrices are large, and few are due at once
            floor, share, data = self.config.first_share, self._shares[k], self._samples[k]
            if share < floor:
                # share' = p + (1 − p)·share = floor, with p of the first frame mixed in.
                data = data.lerp(self._first[k], (floor - share) / (1 - share))
            self.weight[k] = ops.ridge_solve(data, self.label, self.config.ridge)
            self._age[k] = 0

"""Ridge regression from samples of a search region to a label of the target, with a running data matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError

__all__ = ["RidgeConfig", "RidgeLocator", "Solve", "solve_rows", "swept"]

#: State of one target, label, λ, last solution, sweeps → solution (D,).
Solve = Callable[[Sequence[Tensor], Tensor, float, Tensor | None, int], Tensor]


@dataclass(frozen=True)
class RidgeConfig:
    """How the locator learns.

    Args:
        ridge: λ.
        interval: frames between two solutions of the regression.
        first_share: the first frame keeps at least this share of the data matrix.
        sweeps: Gauss–Seidel sweeps over the normal equations, started from the last solution; 0 solves exactly. The
            first frame is always solved exactly.
    """

    ridge: float = 0.1
    interval: int = 10
    first_share: float = 0.0
    sweeps: int = 0


def solve_rows(state: Sequence[Tensor], label: Tensor, ridge: float, weight: Tensor | None, sweeps: int) -> Tensor:
    """The solution for a state that is the data matrix itself, (N, D)."""
    (samples,) = state
    if sweeps == 0 or weight is None:
        return ops.ridge_solve(samples, label, ridge)
    return swept(samples, label, ridge, weight, sweeps)


class RidgeLocator:
    """T regressions w = argmin ‖Xw − y‖² + λ‖w‖², one per target, whose X is an average over the frames.

    X₁ = X̃₁,  X_t = (1 − δ)·X_{t−1} + δ·X̃_t: rows at the same place relative to the target are averaged, so the
    label y stays the same. Only every ``interval``-th update solves again. What is averaged is the state of a target:
    tensors that X is linear in, X itself in the simplest case.

    Args:
        config: λ, interval and the first frame's share.
        label: (N,) wanted score of every sample.
        solve: the solution from the state of one target.

    Source: DCFST eq. 1–3, 6, 7; first_share and sweeps as released.
    """

    def __init__(self, config: RidgeConfig, label: Tensor, solve: Solve = solve_rows) -> None:
        self.config, self.label, self.weight = config, label, torch.empty(0)
        self._solve = solve
        self._state: tuple[Tensor, ...] = ()
        self._first: tuple[Tensor, ...] = ()
        self._shares: list[float] = []  # of the first frame
        self._age: list[int] = []  # updates since the last solution

    def fit(self, state: Sequence[Tensor]) -> None:
        """Learn from the state of the first frame, tensors (T, …), forgetting everything before."""
        self._state = tuple(part.clone() for part in state)
        self._first = tuple(part.clone() for part in state) if self.config.first_share > 0 else ()
        targets = len(self._state[0])
        self._shares, self._age = [1.0] * targets, [0] * targets
        self.weight = torch.stack([self._solution(k, None) for k in range(targets)])

    def update(
        self, state: Sequence[Tensor], rows: Sequence[int], rates: Sequence[float], at_once: Sequence[int] = ()
    ) -> None:
        """One more frame of the targets ``rows``.

        Args:
            state: of the frame, tensors (len(rows), …).
            rows: the targets it belongs to.
            rates: δ of each.
            at_once: targets to be solved anew now, whatever the interval.
        """
        if not self._age:
            raise RangeError("RidgeLocator.update", "self", "fitted (call fit on the first frame)", "not fitted")
        due = []
        for i, (k, rate) in enumerate(zip(rows, rates, strict=True)):
            for own, new in zip(self._state, state, strict=True):
                own[k].lerp_(new[i], rate)
            self._shares[k] *= 1 - rate
            self._keep_first(k)
            self._age[k] += 1
            if self._age[k] >= self.config.interval or k in at_once:
                due.append(k)
        for k in due:  # one at a time: a solution needs much memory, and few are due at once
            self.weight[k] = self._solution(k, self.weight[k])
            self._age[k] = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these targets only."""
        at = list(rows)
        self._state, self.weight = tuple(part[at] for part in self._state), self.weight[at]
        self._first = tuple(part[at] for part in self._first)
        self._shares, self._age = [self._shares[k] for k in at], [self._age[k] for k in at]

    def _keep_first(self, k: int) -> None:
        """Mix the first frame in again where its share is too small."""
        floor, share = self.config.first_share, self._shares[k]
        if share < floor:
            # share' = p + (1 − p)·share = floor, with p of the first frame mixed in.
            for own, first in zip(self._state, self._first, strict=True):
                own[k].lerp_(first[k], (floor - share) / (1 - share))
            self._shares[k] = floor

    def _solution(self, k: int, weight: Tensor | None) -> Tensor:
        own = [part[k] for part in self._state]
        return self._solve(own, self.label, self.config.ridge, weight, self.config.sweeps)


def swept(samples: Tensor, label: Tensor, ridge: float, weight: Tensor, sweeps: int) -> Tensor:
    """Gauss–Seidel sweeps over (XᵀX + λI)·w = Xᵀy from ``weight``: (L + D)·w' = Xᵀy − U·w, converges for λ > 0.

    Forms a D × D matrix: for learnt samples (D = 1024), not for pooled features (D = 12288).
    """
    matrix = samples.T @ samples
    matrix.diagonal().add_(ridge)
    right, upper = samples.T @ label, matrix.triu(1)
    for _ in range(sweeps):
        rest = (right - upper @ weight)[:, None]
        weight = torch.linalg.solve_triangular(matrix, rest, upper=False)[:, 0]
    return weight

"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttrack.compat.pytracking._conjugate_gradient import L2Problem, MinimizationProblem
from fasttrack.compat.pytracking._records import extended, show
from fasttrack.compat.pytracking._vectors import check_vector, each, gradients, inner, leaves, parts, total

__all__ = ["GradientDescent", "GradientDescentL2"]


class _Descent:
    """d ← ∇L(x) + momentum·d,  x ← x − step_length·d,  d = 0 at the start of a run."""

    def __init__(
        self,
        problem: Any,
        variable: Any,
        step_length: float,
        momentum: float = 0.0,
        debug: bool = False,
        plotting: bool = False,
        visdom: Any = None,
        fig_num: Sequence[int] = (10, 11),
    ) -> None:
        check_vector(type(self).__name__, "variable", variable)
        self.problem, self.x = problem, variable
        self.step_length, self.momentum = step_length, momentum
        self.debug, self.plotting, self.visdom, self.fig_num = debug or plotting, plotting, visdom, fig_num
        self.losses = self.residuals = self.gradient_mags = torch.zeros(0)

    def _loss(self, x: Any) -> Tensor:
        raise NotImplementedError

    def run(self, num_iter: int, dummy: Any = None) -> None:
        """Take ``num_iter`` steps; ``dummy`` stands where other optimisers take a second number."""
        losses: list[Tensor] = []
        slopes: list[Tensor] = []
        direction = None
        for _ in range(num_iter):
            loss, slope = self._at(self.x)
            if self.debug:
                losses.append(loss)
                slopes.append(slope)
            direction = slope if direction is None else each(torch.add, slope, each(self._kept, direction))
            with torch.no_grad():
                for part, change in zip(parts(self.x), parts(direction), strict=True):
                    part.sub_(change, alpha=self.step_length)
        if self.debug and num_iter > 0:
            loss, slope = self._at(self.x)
            self.losses = extended(self.losses, [*losses, loss])
            self.gradient_mags = extended(self.gradient_mags, [inner(s, s).sqrt() for s in (*slopes, slope)])
        if self.plotting:
            show({"Loss": self.losses, "Gradient magnitude": self.gradient_mags}, self.visdom, self.fig_num)

    def _kept(self, direction: Tensor) -> Tensor:
        return direction * self.momentum

    def _at(self, x: Any) -> tuple[Tensor, Any]:
        """Loss and gradient at x."""
        with torch.enable_grad():
            place = leaves(x)
            loss = self._loss(place)
            return loss.detach(), gradients(loss, place)


class GradientDescentL2(_Descent):
    """Gradient descent with momentum for problems of least squares, L(x) = ⟨r(x), r(x)⟩.

    d ← ∇L(x) + momentum·d,  x ← x − step_length·d,  d = 0 at the start of a run. The host waits for the device once a
    run with ``debug``, else never.

    Args:
        problem: the residuals r and their inner product.
        variable: x, a tensor or a TensorList; changed in place.
        step_length: length of a step in units of d.
        momentum: share of the last d that stays.
        debug: keep ``losses`` and ``gradient_mags`` before each step and at the end of a run, on the CPU.
        plotting: draw them after each run; includes ``debug``.
        visdom: object with pytracking's ``register(data, mode, debug_level, title)``; None: Matplotlib.
        fig_num: numbers of the figures of Matplotlib.

    Raises:
        DtypeError: a variable that is neither a tensor nor a list of tensors.

    Source: behaviour of ``pytracking.libs.optimization``; the rival of Gauss–Newton in ATOM §4.1.
    """

    problem: L2Problem

    def _loss(self, x: Any) -> Tensor:
        residuals = self.problem(x)
        return total(self.problem.ip_output(residuals, residuals))


class GradientDescent(_Descent):
    """Gradient descent with momentum for any loss; arguments and steps as ``GradientDescentL2``.

    Source: behaviour of ``pytracking.libs.optimization``.
    """

    problem: MinimizationProblem

    def _loss(self, x: Any) -> Tensor:
        return total(self.problem(x))

"""The loop around conjugate gradients: a system at the variable, its solution added to it, and what is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttrack.compat.pytracking._conjugate_gradient import ConjugateGradientBase
from fasttrack.compat.pytracking._records import extended, show
from fasttrack.compat.pytracking._vectors import check_vector, each, gradients, inner, leaves, parts
from fasttrack.errors import ArgumentError

__all__ = ["OuterLoop", "schedule"]


class OuterLoop(ConjugateGradientBase):
    """A variable, its problem, and steps x ← x + Δ with A Δ = b for the system of the moment."""

    def __init__(
        self,
        problem: Any,
        variable: Any,
        cg_eps: float,
        fletcher_reeves: bool,
        standard_alpha: bool,
        direction_forget_factor: float,
        debug: bool,
        analyze: bool,
        plotting: bool,
        visdom: Any,
        fig_num: Sequence[int],
    ) -> None:
        debug = debug or analyze or plotting
        super().__init__(fletcher_reeves, standard_alpha, direction_forget_factor, debug)
        check_vector(type(self).__name__, "variable", variable)
        self.problem, self.x, self.cg_eps = problem, variable, cg_eps
        self.analyze_convergence, self.plotting, self.visdom, self.fig_num = analyze, plotting, visdom, fig_num
        self.residuals = self.losses = self.gradient_mags = torch.zeros(0)
        self._losses: list[Tensor] = []
        self._slopes: list[Tensor] = []

    def _system(self) -> None:
        """Set ``b``, and what ``A`` needs, at the variable."""
        raise NotImplementedError

    def _value(self) -> Tensor:
        """The loss where the system was set."""
        raise NotImplementedError

    def _loss(self, x: Any) -> Tensor:
        """The loss at x."""
        raise NotImplementedError

    def _clear(self) -> None:
        """Let go of the graphs."""
        raise NotImplementedError

    def ip(self, a: Any, b: Any) -> Any:
        """``ip_input`` of the problem."""
        return self.problem.ip_input(a, b)

    def M1(self, x: Any) -> Any:
        """``M1`` of the problem."""
        return self.problem.M1(x)

    def M2(self, x: Any) -> Any:
        """``M2`` of the problem."""
        return self.problem.M2(x)

    def evaluate_CG_iteration(self, delta_x: Any) -> None:
        """With ``analyze``: keep the loss at x + Δ, and the norm of its gradient."""
        if not self.analyze_convergence:
            return
        with torch.enable_grad():
            place = leaves(each(torch.add, self.x, delta_x))
            loss = self._loss(place)
            slope = gradients(loss, place)
        self._losses.append(loss)
        self._slopes.append(inner(slope, slope).sqrt())

    def _outer_step(self, num_cg_iter: int) -> None:
        with torch.enable_grad():
            self._system()
        if self.debug and not self.analyze_convergence:
            self._losses.append(self._value())
        delta, residuals = self.run_CG(num_cg_iter, eps=self.cg_eps)
        if delta is not None:
            with torch.no_grad():
                for part, change in zip(parts(self.x), parts(delta), strict=True):
                    part.add_(change)
        if residuals is not None:
            self.residuals = extended(self.residuals, [residuals])
        self._clear()

    def _outer_run(self, steps: Sequence[int]) -> None:
        if self.analyze_convergence:
            self.evaluate_CG_iteration(0)
        for num_cg_iter in steps:
            self._outer_step(num_cg_iter)
        if self.debug and not self.analyze_convergence:
            with torch.no_grad():
                self._losses.append(self._loss(self.x))
        self.losses = extended(self.losses, self._losses)
        self.gradient_mags = extended(self.gradient_mags, self._slopes)
        self._losses, self._slopes = [], []
        if self.plotting:
            curves = {"Loss": self.losses, "CG residuals": self.residuals}
            if self.analyze_convergence:
                curves["Gradient magnitude"] = self.gradient_mags
            show(curves, self.visdom, self.fig_num)


def schedule(op: str, num_cg_iter: int | Sequence[int], count_name: str, count: int | None) -> list[int]:
    """Steps of conjugate gradients of each outer step."""
    if not isinstance(num_cg_iter, int):
        return list(num_cg_iter)
    if count is None:
        hint = f"or pass a list of steps as num_cg_iter, which is {num_cg_iter}"
        raise ArgumentError(op, count_name, "a number where num_cg_iter is one", "None", hint)
    return [num_cg_iter] * count

"""Gauss–Newton steps for problems of least squares, each solved by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fasttrack.compat.pytracking._conjugate_gradient import L2Problem
from fasttrack.compat.pytracking._outer_loop import OuterLoop, schedule
from fasttrack.compat.pytracking._vectors import each, gradients, leaves, total

__all__ = ["ConjugateGradient", "GaussNewtonCG"]


class _LeastSquares(OuterLoop):
    """JᵀJ Δ = −Jᵀ r of the residuals r: both products come from one graph of r and one of Jᵀ u, linear in u."""

    def _system(self) -> None:
        self._place = leaves(self.x)
        self._residuals = self.problem(self._place)
        self._cotangent = leaves(self._residuals)
        self._pulled = gradients(self._residuals, self._place, self._cotangent, create_graph=True)
        self.b = each(lambda part: -part.detach(), self._pulled)

    def _value(self) -> Tensor:
        fixed = each(Tensor.detach, self._residuals)
        return total(self.problem.ip_output(fixed, fixed))

    def _loss(self, x: Any) -> Tensor:
        residuals = self.problem(x)
        return total(self.problem.ip_output(residuals, residuals))

    def _clear(self) -> None:
        self._place = self._residuals = self._cotangent = self._pulled = None

    def A(self, x: Any) -> Any:
        """JᵀJ x: Jᵀu is linear in u, so its derivative along x is J x."""
        pushed = gradients(self._pulled, self._cotangent, x, retain_graph=True)
        return gradients(self._residuals, self._place, pushed, retain_graph=True)


class ConjugateGradient(_LeastSquares):
    """One Gauss–Newton step of a problem of least squares: exact where its residuals are linear.

    JᵀJ Δ = −Jᵀ r(x),  x ← x + Δ,  J the Jacobian of r at x; solved by ``ConjugateGradientBase``, which says what
    happens at a solved system. Without ``debug`` and ``cg_eps`` the host never waits for the device.

    Args:
        problem: r, inner products and preconditioner.
        variable: x, a tensor or a TensorList; changed in place.
        cg_eps: stop once √⟨s, s⟩ of the residual s of the system is at most this. Above 0 the host waits for the
            device once a step.
        fletcher_reeves: β of Fletcher and Reeves; else that of Polak and Ribière.
        standard_alpha: α = ρ/⟨p, A p⟩; else ⟨p, s⟩/⟨p, A p⟩.
        direction_forget_factor: how much of the last run's direction is kept; 0: none.
        debug: keep ``residuals`` (norms of all steps) and ``losses`` (before and after each run), on the CPU.
        plotting: draw them after each run; includes ``debug``.
        visdom: object with pytracking's ``register(data, mode, debug_level, title)``; None: Matplotlib.
        fig_num: numbers of the figures of Matplotlib.

    Raises:
        DtypeError: a variable that is neither a tensor nor a list of tensors.
        RangeError: a negative ``direction_forget_factor``.

    Source: ATOM (Danelljan et al. 2019) §3.2, algorithm 1 with one outer step; ECO (2017) §3.3.
    """

    def __init__(
        self,
        problem: L2Problem,
        variable: Any,
        cg_eps: float = 0.0,
        fletcher_reeves: bool = True,
        standard_alpha: bool = True,
        direction_forget_factor: float = 0,
        debug: bool = False,
        plotting: bool = False,
        visdom: Any = None,
        fig_num: Sequence[int] = (10, 11),
    ) -> None:
        options = (cg_eps, fletcher_reeves, standard_alpha, direction_forget_factor)
        super().__init__(problem, variable, *options, debug, False, plotting, visdom, fig_num)

    def run(self, num_cg_iter: int) -> None:
        """Change the variable by ``num_cg_iter`` steps of conjugate gradients; 0: by nothing."""
        if num_cg_iter > 0:
            self._outer_run([num_cg_iter])


class GaussNewtonCG(_LeastSquares):
    """Gauss–Newton for problems of least squares, each step solved by conjugate gradients.

    Repeats x ← x + Δ, JᵀJ Δ = −Jᵀ r(x), with J at the present x. Without ``debug`` and ``cg_eps`` the host never waits
    for the device.

    Args:
        problem, variable, cg_eps, fletcher_reeves, standard_alpha, direction_forget_factor, plotting, visdom, fig_num:
            as ``ConjugateGradient``.
        debug: keep ``residuals`` (norms of all steps) and ``losses`` (at the start of each Gauss–Newton step, and at
            the end of a run), on the CPU.
        analyze: keep ``losses`` and ``gradient_mags`` at the start and after every single step; costs a gradient each.

    Raises:
        DtypeError, RangeError: as ``ConjugateGradient``.

    Source: ATOM (Danelljan et al. 2019) §3.2, algorithm 1; ECO (2017) §3.1.
    """

    def __init__(
        self,
        problem: L2Problem,
        variable: Any,
        cg_eps: float = 0.0,
        fletcher_reeves: bool = True,
        standard_alpha: bool = True,
        direction_forget_factor: float = 0,
        debug: bool = False,
        analyze: bool = False,
        plotting: bool = False,
        visdom: Any = None,
        fig_num: Sequence[int] = (10, 11, 12),
    ) -> None:
        options = (cg_eps, fletcher_reeves, standard_alpha, direction_forget_factor)
        super().__init__(problem, variable, *options, debug, analyze, plotting, visdom, fig_num)

    def run(self, num_cg_iter: int | Sequence[int], num_gn_iter: int | None = None) -> tuple[Tensor, Tensor]:
        """Take Gauss–Newton steps.

        Args:
            num_cg_iter: steps of conjugate gradients in each Gauss–Newton step, or one number for each.
            num_gn_iter: Gauss–Newton steps, where ``num_cg_iter`` is one number.

        Returns:
            ``losses`` and ``residuals`` of all runs so far, (K,) and (M,); empty without ``debug``.

        Raises:
            ArgumentError: one number of steps, and no number of Gauss–Newton steps.
        """
        steps = schedule("GaussNewtonCG.run", num_cg_iter, "num_gn_iter", num_gn_iter)
        if steps:
            self._outer_run(steps)
        return self.losses, self.residuals

    def run_GN_iter(self, num_cg_iter: int) -> None:
        """Take one Gauss–Newton step."""
        self._outer_step(num_cg_iter)

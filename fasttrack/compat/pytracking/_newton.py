"""Newton steps for any loss, each solved by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fasttrack.compat.pytracking._conjugate_gradient import MinimizationProblem
from fasttrack.compat.pytracking._outer_loop import OuterLoop, schedule
from fasttrack.compat.pytracking._vectors import each, gradients, leaves, total

__all__ = ["NewtonCG"]


class NewtonCG(OuterLoop):
    """Newton's method for any loss, each step solved by conjugate gradients.

    Repeats x ← x + Δ, (H + μ I) Δ = −∇L(x), μ ← factor·μ, H the Hessian at the present x. The system must be positive
    definite, which ``init_hessian_reg`` can see to. Without ``debug`` and ``cg_eps`` the host never waits for the
    device.

    Args:
        problem: L, the inner product of its variable and preconditioner.
        variable: x, a tensor or a TensorList; changed in place.
        init_hessian_reg: μ of the first step.
        hessian_reg_factor: factor of μ from step to step.
        cg_eps, fletcher_reeves, standard_alpha, direction_forget_factor, debug, analyze, plotting, visdom, fig_num: as
            ``GaussNewtonCG``.

    Raises:
        DtypeError, RangeError: as ``ConjugateGradient``.

    Source: behaviour of ``pytracking.libs.optimization``; Nocedal & Wright 2006, §7.1.
    """

    def __init__(
        self,
        problem: MinimizationProblem,
        variable: Any,
        init_hessian_reg: float = 0.0,
        hessian_reg_factor: float = 1.0,
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
        self.hessian_reg, self.hessian_reg_factor = init_hessian_reg, hessian_reg_factor

    def run(self, num_cg_iter: int | Sequence[int], num_newton_iter: int | None = None) -> tuple[Tensor, Tensor]:
        """Take Newton steps.

        Args:
            num_cg_iter: steps of conjugate gradients in each Newton step, or one number for each.
            num_newton_iter: Newton steps, where ``num_cg_iter`` is one number.

        Returns:
            ``losses`` and ``residuals`` of all runs so far, (K,) and (M,); empty without ``debug``.

        Raises:
            ArgumentError: one number of steps, and no number of Newton steps.
        """
        steps = schedule("NewtonCG.run", num_cg_iter, "num_newton_iter", num_newton_iter)
        if steps:
            self._outer_run(steps)
        return self.losses, self.residuals

    def run_newton_iter(self, num_cg_iter: int) -> None:
        """Take one Newton step, and scale μ."""
        self._outer_step(num_cg_iter)

    def A(self, x: Any) -> Any:
        """(H + μ I) x, the derivative of the gradient along x."""
        curved = gradients(self._slope, self._place, x, retain_graph=True)
        return each(lambda h, part: h + self.hessian_reg * part, curved, x)

    def _system(self) -> None:
        self._place = leaves(self.x)
        self._height = self.problem(self._place)
        self._slope = gradients(self._height, self._place, create_graph=True)
        self.b = each(lambda part: -part.detach(), self._slope)

    def _value(self) -> Tensor:
        return total(self._height).detach()

    def _loss(self, x: Any) -> Tensor:
        return total(self.problem(x))

    def _clear(self) -> None:
        self._place = self._height = self._slope = None
        self.hessian_reg *= self.hessian_reg_factor

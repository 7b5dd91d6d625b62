"""The method of conjugate gradients, without a word from the device while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack.compat.pytracking._vectors import add_scaled_, each, inner, quotient, total
from fasttrack.errors import RangeError

__all__ = ["ConjugateGradientBase", "L2Problem", "MinimizationProblem"]


class _Problem:
    """What every problem may redefine: the inner product of its variable, and a preconditioner of two factors."""

    def __call__(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def ip_input(self, a: Any, b: Any) -> Any:
        """Inner product of two vectors like the variable; one number, or a list with one for each part."""
        return inner(a, b)

    def M1(self, x: Any) -> Any:
        """First factor of the preconditioner, applied to a residual."""
        return x

    def M2(self, x: Any) -> Any:
        """Second factor of the preconditioner, applied to the result of the first."""
        return x


class L2Problem(_Problem):
    """A problem of least squares: minimise ⟨r(x), r(x)⟩.

    A subclass defines ``__call__(x)``, the residuals r at x (tensor or TensorList), and may redefine the inner
    products ``ip_input`` and ``ip_output`` and the preconditioner ``M2 ∘ M1``, which stands for the inverse of JᵀJ.

    Source: behaviour of ``pytracking.libs.optimization``; the residuals of ATOM §3.2.
    """

    def ip_output(self, a: Any, b: Any) -> Any:
        """Inner product of two vectors of residuals."""
        return inner(a, b)


class MinimizationProblem(_Problem):
    """A problem of minimisation: ``__call__(x)`` is the loss at x, one number.

    Source: behaviour of ``pytracking.libs.optimization``.
    """


class ConjugateGradientBase:
    """Preconditioned conjugate gradients for A x = b with a symmetric, positive (semi-)definite A.

    Of r = b − A x, from the direction p and the ρ′ of the step before:

    z = M₂ M₁ r,  ρ = ⟨r, z⟩,  p ← z + β p,  α = ρ/⟨p, A p⟩,  x ← x + α p,  r ← r − α A p

    β = ρ/ρ′ (Fletcher–Reeves) or max(0, (ρ − ⟨r′, z⟩)/ρ′) with the residual r′ before (Polak–Ribière). Where ρ, ρ′ or
    ⟨p, A p⟩ is 0 the quotient over it counts as 0, so that a solved system stays where it is. That is decided on the
    device: a run waits for nothing, unless ``eps`` > 0 asks for the norm after every step.

    A subclass defines ``A`` and sets ``b``, and may redefine ``ip``, ``M1``, ``M2`` and ``evaluate_CG_iteration``.
    Vectors are tensors or TensorLists; where ``ip`` gives a list, each part has its own ρ, α and β.

    Args:
        fletcher_reeves: which β.
        standard_alpha: α as above; else ⟨p, r⟩/⟨p, A p⟩, which is exact when p was carried over from another system.
        direction_forget_factor: 0 forgets p at the start of a run; d > 0 keeps it and makes the first β d times as
            large, as ECO and ATOM do to go on with the direction of the last frame.
        debug: keep the norms of the residuals, and call ``evaluate_CG_iteration`` after every step.

    Raises:
        RangeError: a negative ``direction_forget_factor``.

    Source: ECO §3.1 and §3.3 (Polak–Ribière, as the system changes from frame to frame); ATOM §3.2.
    """

    b: Any

    def __init__(
        self,
        fletcher_reeves: bool = True,
        standard_alpha: bool = True,
        direction_forget_factor: float = 0,
        debug: bool = False,
    ) -> None:
        if not direction_forget_factor >= 0:
            raise RangeError(type(self).__name__, "direction_forget_factor", "≥ 0", repr(direction_forget_factor))
        self.fletcher_reeves = fletcher_reeves
        self.standard_alpha = standard_alpha
        self.direction_forget_factor = direction_forget_factor
        self.debug = debug
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the direction, so that the next run starts with that of steepest descent."""
        self.p: Any = None
        self.rho: Any = None
        self.r_prev: Any = None

    def run_CG(self, num_iter: int, x: Any = None, eps: float = 0.0) -> tuple[Any, Tensor | None]:
        """Take steps from ``x``, which is changed in place, or from 0.

        Args:
            num_iter: most steps to take.
            x: the start; None: 0, and the solution is a new vector (None after 0 steps).
            eps: stop once √⟨r, r⟩ ≤ eps. Above 0 the host waits for the device once a step.

        Returns:
            The solution, and with ``debug`` the norms √⟨r, r⟩ before the first and after each step (steps + 1,), on
            the CPU; else None.
        """
        if self.direction_forget_factor == 0:
            self.reset_state()
        elif self.p is not None:
            self.rho = each(lambda rho: rho / self.direction_forget_factor, self.rho)
        r = each(torch.clone, self.b) if x is None else each(torch.sub, self.b, self.A(x))
        norms = [self.residual_norm(r)] if self.debug else []
        for step in range(num_iter):
            q, alpha = self._direction(r)
            if x is None:
                x = each(torch.mul, self.p, alpha)
            else:
                add_scaled_(x, self.p, alpha)
            if not self.debug and eps <= 0:
                if step < num_iter - 1:
                    add_scaled_(r, q, alpha, -1)
                continue
            add_scaled_(r, q, alpha, -1)
            norm = self.residual_norm(r)
            if self.debug:
                self.evaluate_CG_iteration(x)
                norms.append(norm)
            if eps > 0 and bool(norm <= eps):
                break
        return x, torch.stack(norms).cpu() if self.debug else None

    def _direction(self, r: Any) -> tuple[Any, Any]:
        """Turn ``p`` towards the residual; returns A p and the length α of the step."""
        z = self.M2(self.M1(r))
        before, self.rho = self.rho, self.ip(r, z)
        if self.p is None:
            self.p = each(torch.clone, z)
        else:
            self.p = each(torch.addcmul, z, self.p, self._beta(z, before))
        q = self.A(self.p)
        curvature = self.ip(self.p, q)
        if self.standard_alpha:
            alpha = quotient(self.rho, curvature)
        else:
            # A carried direction may go on where ρ is 0; the system is solved there.
            alpha = each(lambda a, rho: a * (rho != 0), quotient(self.ip(self.p, r), curvature), self.rho)
        if not self.fletcher_reeves:
            self.r_prev = each(torch.clone, r)
        return q, alpha

    def _beta(self, z: Any, before: Any) -> Any:
        """How much of the last direction stays."""
        if self.fletcher_reeves:
            return quotient(self.rho, before)
        changed = each(torch.sub, self.rho, self.ip(self.r_prev, z))
        return each(lambda beta: beta.clamp(0), quotient(changed, before))

    def A(self, x: Any) -> Any:
        """The product with the matrix of the system."""
        raise NotImplementedError(f"{type(self).__name__} defines no A")

    def ip(self, a: Any, b: Any) -> Any:
        """Inner product; here one number for each part of the vectors."""
        return each(inner, a, b)

    def M1(self, x: Any) -> Any:
        """First factor of the preconditioner."""
        return x

    def M2(self, x: Any) -> Any:
        """Second factor of the preconditioner."""
        return x

    def residual_norm(self, r: Any) -> Tensor:
        """√⟨r, r⟩ over all parts, on the device."""
        return total(self.ip(r, r)).sqrt()

    def evaluate_CG_iteration(self, delta_x: Any) -> None:
        """Called after every step of a run with ``debug``; nothing here."""

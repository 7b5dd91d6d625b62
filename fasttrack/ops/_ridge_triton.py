"""Ridge regression on a GPU: our kernels for the symmetric product, small systems and the outer products.

Nothing here waits for the device. A system without a solution gives NaN: whether there is one is only known there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack.ops._ridge_rows import Adjoint, Solution
from fasttrack.ops._rows import kernel_input, on_gpu

__all__ = ["adjoint", "solve", "why_not"]


def why_not(first: Tensor, *_: Any) -> str | None:
    """Why the kernels cannot run on these arguments."""
    return on_gpu(first, "X")


def solve(X: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool) -> Solution:
    """Weights, residual and factor."""
    from fasttrack.kernels import ridge_solve as kernels

    a, targets, lams = kernel_input(X), kernel_input(y), lam.detach().contiguous()
    dual = a.shape[2] > a.shape[1]
    right = targets if dual else (a.mT @ targets).contiguous()
    matrix = kernels.gram(a, lams)
    good = (lams > 0) & lams.isfinite()
    if _is_small(right):
        factor, found = kernels.solve_small(matrix, right)
    else:
        factor, info = torch.linalg.cholesky_ex(matrix)
        good &= info == 0
        found = _substitute(factor, right)
    if refine:
        found = _refined(a, targets.double() if dual else a.mT.double() @ targets.double(), lams, factor, found)
    w, residual = _primal_solution(a, targets, lams, found)
    w = torch.where(good[:, None, None], w, float("nan"))
    if not keep:
        none = a.new_empty(0)
        return w, none, torch.empty_like(none)
    return w, residual, factor


def adjoint(
    X: Tensor, lam: Tensor, factor: Tensor, w: Tensor, residual: Tensor, grad: Tensor, refine: bool, dense: bool
) -> Adjoint:
    """Both v = (XᵀX + λI)⁻¹g and b = Xv, and the gradient in X, by the factor of the forward."""
    from fasttrack.kernels import ridge_solve as kernels

    a, g, lams = kernel_input(X), kernel_input(grad), lam.detach().contiguous()
    dual = a.shape[2] > a.shape[1]
    right = a @ g if dual else g
    found = _substitute(factor, right)
    if refine:
        found = _refined(a, a.double() @ g.double() if dual else g.double(), lams, factor, found)
    if dual:
        b = found
        v = ((g - a.mT.to(b.dtype) @ b) / lams[:, None, None]).float()
    else:
        v = found
        b = a.to(v.dtype) @ v
    v, b = v.float().contiguous(), b.float().contiguous()
    grad_X = kernels.outer(residual.contiguous(), v, b, w.contiguous()) if dense else a.new_empty(0)
    return v, b, grad_X


def _is_small(right: Tensor) -> bool:
    from fasttrack.kernels import ridge_solve as kernels

    return right.shape[1] <= kernels.SMALL and 0 < right.shape[2] <= kernels.SMALL_RIGHT


def _substitute(factor: Tensor, right: Tensor) -> Tensor:
    """(L Lᵀ)⁻¹ right."""
    from fasttrack.kernels import ridge_solve as kernels

    solution: Tensor
    if _is_small(right):
        solution = kernels.substitute_small(factor.contiguous(), right.contiguous())
    else:
        half = torch.linalg.solve_triangular(factor, right, upper=False)
        solution = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solution


def _refined(X: Tensor, right: Tensor, lam: Tensor, factor: Tensor, found: Tensor) -> Tensor:
    """``found`` plus the solution of its residual, in float64."""
    a, first = X.double(), found.double()
    product = a @ (a.mT @ first) if X.shape[2] > X.shape[1] else a.mT @ (a @ first)
    rest = right - product - lam[:, None, None] * first
    return first + _substitute(factor, rest.float()).double()


def _primal_solution(X: Tensor, y: Tensor, lam: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Both w and y − Xw in float32 from the solution of the system that was factored, float32 or float64."""
    a = X.to(found.dtype)
    if X.shape[2] > X.shape[1]:
        return (a.mT @ found).float(), (lam[:, None, None] * found).float()
    return found.float(), (y - a @ found).float()

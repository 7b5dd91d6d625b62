"""Backward of the ridge regression in closed form, and once more as formulas that autograd can differentiate.

With A = XᵀX + λI, r = y − Xw and a gradient g in w:

    v = A⁻¹g,  b = Xv      (dual: b = K⁻¹Xg, v = (g − Xᵀb)/λ, K = XXᵀ + λI)
    grad_X = r vᵀ − b wᵀ,  grad_y = b,  grad_λ = −⟨v, w⟩

For X = P Wᵀ, grad_X has rank 2M and is never formed: grad_P = grad_X W and grad_W = grad_Xᵀ P are thin products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack.ops._ridge_rows import Adjoint, factorised

__all__ = ["linear_gradient", "save_linear", "save_solve", "solve_gradient"]

AdjointCall = Callable[..., Adjoint]


def save_solve(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    X, y, lam, ctx.refine, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(X, y, lam, *output)


def save_linear(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    P, W, y, lam, ctx.refine, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(P, W, y, lam, *output)


def solve_gradient(adjoint: AdjointCall) -> Callable[..., tuple[Tensor | None, ...]]:
    """Backward of ``ridge_solve`` over the op that computes (v, b, grad_X)."""

    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None, None
        X, y, lam, w, residual, factor = ctx.saved_tensors
        grad_lam: Tensor | None
        if torch.is_grad_enabled() or not kept(factor):
            grad_X, grad_y, grad_lam = formulas(X.double(), y.double(), lam, grad.double())
        else:
            v, grad_y, grad_X = adjoint(X, lam, factor, w, residual, grad, ctx.refine, ctx.needs_input_grad[0])
            grad_lam = lam_gradient(v, w) if ctx.needs_input_grad[2] else None
        needs = ctx.needs_input_grad
        return (
            grad_X.to(X.dtype) if needs[0] else None,
            grad_y.to(y.dtype) if needs[1] else None,
            grad_lam if needs[2] else None,
            None,
            None,
        )

    return backward


def linear_gradient(adjoint: AdjointCall) -> Callable[..., tuple[Tensor | None, ...]]:
    """Backward of ``ridge_linear`` over the op that computes (v, b, grad_X)."""

    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, None, None, None, None, None
        P, W, y, lam, w, X, residual, factor = ctx.saved_tensors
        grad_lam: Tensor | None
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled() or not kept(factor):
            wide_P, wide_W = P.double(), W.double()
            dense, grad_y, grad_lam = formulas(wide_P @ wide_W.mT, y.double(), lam, grad.double())
            grad_P = dense @ wide_W
            grad_W = torch.einsum("bnd,bnf->df", dense, wide_P)
        else:
            v, grad_y, _empty = adjoint(X, lam, factor, w, residual, grad, ctx.refine, False)
            grad_P, grad_W = thin_products(P, W, residual, v, grad_y, w, needs[0], needs[1])
            grad_lam = lam_gradient(v, w) if needs[3] else None
        return (
            grad_P.to(P.dtype) if needs[0] else None,
            grad_W.to(W.dtype) if needs[1] else None,
            grad_y.to(y.dtype) if needs[2] else None,
            grad_lam if needs[3] else None,
            None,
            None,
        )

    return backward


def kept(factor: Tensor) -> bool:
    """Whether the forward kept its factor; a transform may ask for a gradient that nothing announced."""
    return factor.dim() == 3


def lam_gradient(v: Tensor, w: Tensor) -> Tensor:
    return -(v.double() * w.double()).sum((1, 2))


def thin_products(
    P: Tensor, W: Tensor, r: Tensor, v: Tensor, b: Tensor, w: Tensor, needs_P: bool, needs_W: bool
) -> tuple[Tensor, Tensor]:
    """(r vᵀ − b wᵀ) W and Σ over the batch of (r vᵀ − b wᵀ)ᵀ P, through matrices of 2M columns."""
    left, right = torch.cat((r, -b), 2), torch.cat((v, w), 2)
    grad_P = left @ (right.mT @ W.to(w.dtype)) if needs_P else left
    grad_W = right
    if needs_W:
        through = left.mT @ P.to(w.dtype)
        grad_W = right.permute(1, 0, 2).flatten(1) @ through.flatten(0, 1)
    return grad_P, grad_W


def formulas(X: Tensor, y: Tensor, lam: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in X, y and λ, in float64, as functions of all four that autograd can differentiate."""
    factor, _ = factorised(X, lam)
    scale = lam[:, None, None]
    if X.shape[2] > X.shape[1]:
        alpha = torch.cholesky_solve(y, factor)
        w, r = X.mT @ alpha, scale * alpha
        b = torch.cholesky_solve(X @ grad, factor)
        v = (grad - X.mT @ b) / scale
    else:
        w = torch.cholesky_solve(X.mT @ y, factor)
        r = y - X @ w
        v = torch.cholesky_solve(grad, factor)
        b = X @ v
    return r @ v.mT - b @ w.mT, b, -(v * w).sum((1, 2))

"""Ridge regression in closed form, with the gradient through the solver."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from fasttrack.ops import _checks as check
from fasttrack.ops import _ridge_gradient as gradient
from fasttrack.ops import _ridge_rows as rows
from fasttrack.ops import _ridge_triton as triton
from fasttrack.ops._autocast import promoted
from fasttrack.ops._batching import folded
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._ridge_rows import Solution
from fasttrack.ops._rows import cpu_row, on_cpu, reference_row, triton_row, wide

__all__ = ["ridge_linear", "ridge_solve"]


def ridge_solve(
    X: Tensor, y: Tensor, lam: float | Tensor, refine: bool = False, *, backend: str | None = None
) -> Tensor:
    """Weights of the regularised least-squares problem, differentiable in all of its data.

    w = argmin ‖Xw − y‖² + λ‖w‖² = (XᵀX + λI)⁻¹ Xᵀy = Xᵀ (XXᵀ + λI)⁻¹ y

    The smaller of the two Gram matrices is factored once (the second form where D > N) and the factor is reused
    by the backward. In float32 the relative error of w is e ≈ 1e-8·κ, κ = ‖X‖₂²/λ + 1; ``refine`` brings it to e² (at
    best the rounding of the result) for the price of a few passes over X. Gradients in X, y and λ, of any order.

    Args:
        X: (…, N, D) float tensor, one sample per row; N and D may be 0.
        y: (…, N, M) targets, or (…, N) for one target per sample; same leading axes, dtype and device as X.
        lam: λ > 0, a number or a float tensor of shape () or of the leading axes.
        refine: one step of iterative refinement with residuals in float64, of w and of its gradients.
        backend: explicit backend; None chooses.

    Returns:
        (…, D, M), or (…, D) for y (…, N); dtype of X (half types are computed in float32). On a GPU, where looking
        at values would make the host wait, a system without a solution gives NaN instead of an error.

    Memory: the factor of the smaller Gram matrix, 1.5·min(N, D)² float32 numbers while it is made; where a backward
    may follow, min(N, D)² per system are kept for it. A packed copy of X lives for the call.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.
        RangeError: λ is not positive; on the CPU also where X or y is not finite, or λ so small against ‖X‖² that
            the matrix is not positive definite in the arithmetic used.

    Examples:
        >>> ridge_solve(torch.eye(2), torch.tensor([1.0, 2.0]), lam=1.0)  # (I + I)⁻¹ y
        tensor([0.5000, 1.0000])

    Source: Zheng et al. 2020 (DCFST), eq. 1–3.
    """
    op = "ridge_solve"
    check.tensor(op, "X", X)
    if X.dim() < 2:
        check.shape_error(op, "X", "(…, N, D)", X)
    X, y = promoted(X, y)
    lams = _check_targets(op, X, y, lam, "X")
    systems = X.reshape(prod(X.shape[:-2]), *X.shape[-2:])
    targets = _columns(X, y)
    w = _SOLVE(systems, targets, lams, bool(refine), _keep(X, y, lams), backend=backend)[0]
    return _shaped(w, X, y)


def ridge_linear(
    P: Tensor, W: Tensor, y: Tensor, lam: float | Tensor, refine: bool = False, *, backend: str | None = None
) -> Tensor:
    """``ridge_solve`` on the output of a linear layer, X = P Wᵀ, without ever forming the gradient in X.

    w = argmin ‖P Wᵀw − y‖² + λ‖w‖²

    The gradient in X has rank 2M, so those in P and W are products with matrices of 2M columns instead of two
    products as large as the layer. The solution acts on new samples as P′(Wᵀw), without the layer.

    Args:
        P: (…, N, F) float tensor, inputs of the layer.
        W: (D, F) weight of the layer, as ``torch.nn.Linear`` has it, shared by all leading axes.
        y: (…, N, M) targets, or (…, N).
        lam: λ > 0, a number or a float tensor of shape () or of the leading axes.
        refine: as in ``ridge_solve``.
        backend: explicit backend; None chooses.

    Returns:
        (…, D, M), or (…, D) for y (…, N); dtype of P.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: as in ``ridge_solve``.

    Source: Zheng et al. 2020 (DCFST), §3.2: the locator's fully connected layer and its solver.
    """
    op = "ridge_linear"
    check.tensor(op, "P", P)
    if P.dim() < 2:
        check.shape_error(op, "P", "(…, N, F)", P)
    check.tensor(op, "W", W, dims=(2,), layout="(D, F)")
    P, W, y = promoted(P, W, y)
    if W.shape[1] != P.shape[-1]:
        check.shape_error(op, "W", f"(D, F) with the F of P, {P.shape[-1]}", W)
    check.same_dtype(op, "W", W, "P", P)
    check.same_device(op, "W", W, "P", P)
    lams = _check_targets(op, P, y, lam, "P")
    inputs = P.reshape(prod(P.shape[:-2]), *P.shape[-2:])
    w = _LINEAR(inputs, W, _columns(P, y), lams, bool(refine), _keep(P, W, y, lams), backend=backend)[0]
    return _shaped(w, P, y)


def _check_targets(op: str, X: Tensor, y: Tensor, lam: float | Tensor, name: str) -> Tensor:
    """Check y and λ against ``X``, the argument called ``name``; λ per system in float64."""
    check.tensor(op, "y", y)
    if y.shape[: X.dim() - 1] != X.shape[:-1] or y.dim() > X.dim():
        check.shape_error(op, "y", f"(…, N, M) or (…, N) with the (…, N) of {name}, {tuple(X.shape[:-1])}", y)
    check.same_dtype(op, "y", y, name, X)
    check.same_device(op, "y", y, name, X)
    batch = X.shape[:-2]
    if not isinstance(lam, Tensor):
        check.number(op, "lam", lam, low=0.0, low_open=True)
        return torch.full((prod(batch),), float(lam), dtype=torch.float64, device=X.device)
    check.tensor(op, "lam", lam)
    if lam.dim() != 0 and lam.shape != batch:
        check.shape_error(op, "lam", f"a number, or of shape () or {tuple(batch)}", lam)
    check.same_device(op, "lam", lam, name, X)
    return lam.double().expand(batch).reshape(prod(batch))


def _columns(X: Tensor, y: Tensor) -> Tensor:
    """``y`` as (B, N, M)."""
    targets = y.unsqueeze(-1) if y.dim() < X.dim() else y
    return targets.reshape(prod(X.shape[:-2]), *targets.shape[-2:])


def _shaped(w: Tensor, X: Tensor, y: Tensor) -> Tensor:
    """``w`` (B, D, M) with the leading axes of X, the M of y, and the dtype of X."""
    solution = w.to(X.dtype).reshape(*X.shape[:-2], *w.shape[1:])
    return solution.squeeze(-1) if y.dim() < X.dim() else solution


def _keep(*tensors: Tensor) -> bool:
    """Whether a backward may follow, which needs residual and factor."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _cpu_why_not(first: Tensor, *_: Any) -> str | None:
    return on_cpu(first, "X")


def _linear(solve: Any) -> Any:
    """Launcher of ``ridge_linear`` over one of ``ridge_solve``: the layer is a product of the library."""

    def run(P: Tensor, W: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool) -> tuple[Tensor, ...]:
        X = wide(P) @ wide(W).mT
        w, residual, factor = solve(X, y, lam, refine, keep)
        return w, X.detach() if keep else w.new_empty(0), residual, factor

    return run


def _linear_meta(
    P: Tensor, W: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    X = P.new_empty((*P.shape[:2], W.shape[0]), dtype=wide(P.new_empty(0)).dtype)
    w, residual, factor = rows.solve_meta(X, y, lam, refine, keep)
    return w, X if keep else w.new_empty(0), residual, factor


def _solve_meta(X: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool) -> Solution:
    return rows.solve_meta(X, y, lam, refine, keep)


_ADJOINT = Op(
    "ridge_adjoint",
    "(Tensor X, Tensor lam, Tensor factor, Tensor w, Tensor residual, Tensor grad, bool refine, bool dense)"
    " -> (Tensor v, Tensor b, Tensor grad_X)",
    rows=(
        triton_row(triton.why_not, triton.adjoint),
        cpu_row(_cpu_why_not, rows.adjoint_cpu),
        reference_row(rows.adjoint_reference),
    ),
    meta=rows.adjoint_meta,
    batch=folded(0, 1, 2, 3, 4, 5),
)
_SOLVE = Op(
    "ridge_solve",
    "(Tensor X, Tensor y, Tensor lam, bool refine, bool keep) -> (Tensor w, Tensor residual, Tensor factor)",
    rows=(
        triton_row(triton.why_not, triton.solve),
        cpu_row(_cpu_why_not, rows.solve_cpu),
        reference_row(rows.solve_reference),
    ),
    meta=_solve_meta,
    gradient=Gradient(gradient.save_solve, gradient.solve_gradient(_ADJOINT)),
    batch=folded(0, 1, 2),
)
_LINEAR = Op(
    "ridge_linear",
    "(Tensor P, Tensor W, Tensor y, Tensor lam, bool refine, bool keep)"
    " -> (Tensor w, Tensor X, Tensor residual, Tensor factor)",
    rows=(
        triton_row(triton.why_not, _linear(triton.solve)),
        cpu_row(_cpu_why_not, _linear(rows.solve_cpu)),
        reference_row(_linear(rows.solve_reference)),
    ),
    meta=_linear_meta,
    gradient=Gradient(gradient.save_linear, gradient.linear_gradient(_ADJOINT)),
    batch=folded(0, 2, 3, shared=(1,)),
)

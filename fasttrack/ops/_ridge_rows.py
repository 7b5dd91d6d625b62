"""Launchers of the ridge regression: solve, and adjoint, on batches (B, N, D)."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.errors import RangeError
from fasttrack.ops._rows import kernel_input, wide

__all__ = [
    "Adjoint",
    "Solution",
    "adjoint_cpu",
    "adjoint_meta",
    "adjoint_reference",
    "factorised",
    "solve_cpu",
    "solve_meta",
    "solve_reference",
]

# w (B, D, M), residual y − Xw (B, N, M), factor L of the smaller Gram matrix (B, k, k), k = min(N, D).
# The last two are empty unless they are to be kept for the backward.
Solution = tuple[Tensor, Tensor, Tensor]
# v = (XᵀX + λI)⁻¹g (B, D, M), b = Xv (B, N, M), gradient in X (B, N, D) or empty.
Adjoint = tuple[Tensor, Tensor, Tensor]


def solve_meta(X: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool) -> Solution:
    (batch, n, d), m = X.shape, y.shape[2]
    dtype = torch.float64 if X.dtype == torch.float64 else torch.float32
    k = min(n, d)
    none = X.new_empty(0, dtype=dtype)
    w = X.new_empty((batch, d, m), dtype=dtype)
    if not keep:
        return w, none, torch.empty_like(none)
    return w, X.new_empty((batch, n, m), dtype=dtype), X.new_empty((batch, k, k), dtype=dtype)


def adjoint_meta(
    X: Tensor, lam: Tensor, factor: Tensor, w: Tensor, residual: Tensor, grad: Tensor, refine: bool, dense: bool
) -> Adjoint:
    return torch.empty_like(w), torch.empty_like(residual), w.new_empty(X.shape if dense else 0)


def solve_cpu(X: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool) -> Solution:
    a, b, lams = kernel_input(X), kernel_input(y), lam.detach().contiguous()
    (batch, n, d), m = a.shape, b.shape[2]
    check_lam(lams)
    k = min(n, d)
    w = torch.empty(batch, d, m)
    residual = torch.empty((batch, n, m) if keep else 0)
    factor = torch.empty((batch, k, k) if keep else 0)
    status = torch.empty(batch, dtype=torch.int32)
    kept = (residual.data_ptr(), factor.data_ptr()) if keep else (0, 0)
    native.lib().ridge_solve(
        (batch, n, d, m), a.data_ptr(), b.data_ptr(), lams.data_ptr(), w.data_ptr(), *kept, status.data_ptr(), refine
    )
    if status.any():
        raise_failure(X, y, lams, status != 0)
    return w, residual, factor


def adjoint_cpu(
    X: Tensor, lam: Tensor, factor: Tensor, w: Tensor, residual: Tensor, grad: Tensor, refine: bool, dense: bool
) -> Adjoint:
    a, g, lams = kernel_input(X), kernel_input(grad), lam.detach().contiguous()
    (batch, n, d), m = a.shape, w.shape[2]
    v, b = torch.empty(batch, d, m), torch.empty(batch, n, m)
    grad_X = torch.empty((batch, n, d) if dense else 0)
    inputs = [t.data_ptr() for t in (a, lams, *map(kernel_input, (factor, w, residual)), g)]
    native.lib().ridge_adjoint(
        (batch, n, d, m), *inputs, v.data_ptr(), b.data_ptr(), grad_X.data_ptr() if dense else 0, refine
    )
    return v, b, grad_X


def factorised(X: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Factor of the smaller Gram matrix plus λI, and per system whether there is one (no synchronisation)."""
    gram = X @ X.mT if X.shape[2] > X.shape[1] else X.mT @ X
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    factor, info = torch.linalg.cholesky_ex(gram + lam.to(gram.dtype)[:, None, None] * eye)
    return factor, (info == 0) & (lam > 0) & lam.isfinite()


def solve_reference(X: Tensor, y: Tensor, lam: Tensor, refine: bool, keep: bool) -> Solution:
    """The same in plain PyTorch; ``refine`` computes all of it in float64."""
    dtype = wide(X).dtype
    work = torch.float64 if refine else dtype
    a, b, lams = X.to(work), y.to(work), lam.to(work)
    if X.device.type == "cpu":
        check_lam(lam)
    factor, good = factorised(a, lams)
    if a.shape[2] > a.shape[1]:
        alpha = torch.cholesky_solve(b, factor)
        w, residual = a.mT @ alpha, lams[:, None, None] * alpha
    else:
        w = torch.cholesky_solve(a.mT @ b, factor)
        residual = b - a @ w
    if X.device.type == "cpu":
        failed = ~(good & w.detach().isfinite().flatten(1).all(1))
        if failed.any():
            raise_failure(X, y, lam, failed)
    else:
        w = torch.where(good[:, None, None], w, float("nan"))
    if not keep:
        none = torch.empty(0, dtype=dtype, device=X.device)
        return w.to(dtype), none, torch.empty_like(none)
    return w.to(dtype), residual.detach().to(dtype), factor.detach().to(dtype)


def adjoint_reference(
    X: Tensor, lam: Tensor, factor: Tensor, w: Tensor, residual: Tensor, grad: Tensor, refine: bool, dense: bool
) -> Adjoint:
    a, lams = wide(X), lam.to(w.dtype)[:, None, None]
    if a.shape[2] > a.shape[1]:
        b = torch.cholesky_solve(a @ grad, factor)
        v = (grad - a.mT @ b) / lams
    else:
        v = torch.cholesky_solve(grad, factor)
        b = a @ v
    grad_X = residual @ v.mT - b @ w.mT if dense else torch.empty(0, dtype=w.dtype, device=w.device)
    return v, b, grad_X


def check_lam(lam: Tensor) -> None:
    """Values of λ on the CPU, where looking at them costs nothing."""
    good = (lam > 0) & lam.isfinite()
    if not good.all():
        raise RangeError("ridge_solve", "lam", "finite and > 0", repr(lam[~good][0].item()))


def raise_failure(X: Tensor, y: Tensor, lam: Tensor, failed: Tensor) -> NoReturn:
    """Say why the first system that failed did."""
    at = int(failed.int().argmax())
    where = f" in system {at} of {len(failed)}" if len(failed) > 1 else ""
    for name, value in (("X", X[at]), ("y", y[at])):
        bad = value[~value.isfinite()]
        if bad.numel():
            raise RangeError("ridge_solve", name, "finite", f"{bad.flatten()[0].item()}{where}")
    arithmetic = str(wide(X).dtype).removeprefix("torch.")
    wanted = f"so large that XᵀX + λI is positive definite in {arithmetic}"
    size = X[at].double().square().sum().item()
    got = f"{lam[at].item():.3g} against ‖X‖² = {size:.3g}{where}"
    raise RangeError("ridge_solve", "lam", wanted, got, "raise lam or scale X down, or pass float64")

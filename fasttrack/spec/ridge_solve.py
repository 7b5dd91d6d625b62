"""Ridge regression in closed form, on given features and on the output of a linear layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "ridge_linear", "ridge_solve"]


def ridge_solve(X: Tensor, y: Tensor, lam: float | Tensor, refine: bool = False) -> Tensor:
    """Weights w = (XᵀX + λI)⁻¹ Xᵀy, one system after the other (DCFST eq. 2)."""
    batch, (n, d) = X.shape[:-2], X.shape[-2:]
    vector = y.dim() == X.dim() - 1
    columns = (y.unsqueeze(-1) if vector else y).reshape(batch.numel(), n, -1 if y.numel() else y.shape[-1])
    lams = torch.as_tensor(lam, dtype=X.dtype).expand(batch).reshape(-1)
    solved = [
        torch.linalg.solve(A.mT @ A + one * torch.eye(d, dtype=X.dtype, device=X.device), A.mT @ b)
        for A, b, one in zip(X.reshape(batch.numel(), n, d), columns, lams, strict=True)
    ]
    w = torch.stack(solved) if solved else (X.sum() + y.sum() + lams.sum()) * X.new_zeros(0, d, columns.shape[-1])
    w = w.reshape(*batch, d, columns.shape[-1])
    return w.squeeze(-1) if vector else w


def ridge_linear(P: Tensor, W: Tensor, y: Tensor, lam: float | Tensor, refine: bool = False) -> Tensor:
    """The same with X = P Wᵀ."""
    return ridge_solve(P @ W.mT, y, lam, refine)


def _draw(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _labels(generator: Generator, *shape: int) -> Tensor:
    """Labels of a Gaussian kind: near 0 almost everywhere, 1 at most."""
    return torch.rand(shape, generator=generator, dtype=torch.float64) ** 4


def _system(
    n: int, d: int, m: int | None = 1, batch: tuple[int, ...] = (), lam: float | None = 0.1, refine: bool = False
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    """X (*batch, n, d) with columns of unit length, y (*batch, n, m) or, for m None, (*batch, n)."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        X = _draw(generator, *batch, n, d) / max(n, 1) ** 0.5
        y = _labels(generator, *batch, n, *(() if m is None else (m,)))
        one = 0.05 + torch.rand(batch, generator=generator, dtype=torch.float64) if lam is None else lam
        kept = one.to(dtype) if isinstance(one, Tensor) else one
        return {"X": X.to(dtype), "y": y.to(dtype), "lam": kept, "refine": refine}

    return build


def _layer(
    n: int, f: int, d: int, m: int | None = 1, batch: tuple[int, ...] = (), lam: float | None = 0.1
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    """P (*batch, n, f) and W (d, f) whose product has columns of about unit length."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        P = _draw(generator, *batch, n, f) / max(n, 1) ** 0.5
        W = _draw(generator, d, f) / max(f, 1) ** 0.5
        rest = _system(n, d, m, batch, lam)(generator, dtype)
        return {"P": P.to(dtype), "W": W.to(dtype), **{k: rest[k] for k in ("y", "lam", "refine")}}

    return build


_SOLVE = (
    Case("dual", _system(13, 21, lam=None)),
    Case("primal", _system(21, 13, m=3)),
    Case("vector", _system(9, 11, m=None)),
    Case("square_refined", _system(17, 17, refine=True)),
    Case("batch", _system(11, 14, batch=(3,), lam=None)),
    Case("batch_2x2", _system(7, 5, m=None, batch=(2, 2), lam=None)),
    Case("panels_dual", _system(97, 131, m=2)),
    Case("panels_primal", _system(130, 53, refine=True)),
    Case("one_sample", _system(1, 6)),
    Case("no_samples", _system(0, 6, m=2)),
    Case("no_systems", _system(4, 6, batch=(0,), lam=None)),
    Case("n961_d1024", _system(961, 1024), bench=True, tests=False),
    Case("n961_d512", _system(961, 512), bench=True, tests=False),
)

_LINEAR = (
    Case("dual", _layer(9, 25, 14, lam=None)),
    Case("primal", _layer(16, 12, 7, m=2)),
    Case("batch", _layer(6, 11, 8, batch=(3,), lam=None)),
    Case("vector", _layer(40, 61, 33, m=None)),
    Case("n961_f8192_d1024", _layer(961, 8192, 1024), bench=True, tests=False),
)


def _count(batch: int, n: int, d: int, m: int) -> Cost:
    k, other = min(n, d), max(n, d)
    flops = batch * (k * k * other + k**3 / 3 + m * (2 * k * k + 4 * n * d))
    return Cost(flops=flops, bytes=4 * batch * (n * d + n * m + d * m))


def _solve_cost(arguments: dict[str, Any]) -> Cost:
    X, y = arguments["X"], arguments["y"]
    n, d = X.shape[-2:]
    return _count(X.shape[:-2].numel(), n, d, 1 if y.dim() < X.dim() else y.shape[-1])


def _linear_cost(arguments: dict[str, Any]) -> Cost:
    P, W, y = arguments["P"], arguments["W"], arguments["y"]
    (n, f), d, batch = P.shape[-2:], W.shape[0], P.shape[:-2].numel()
    solve = _count(batch, n, d, 1 if y.dim() < P.dim() else y.shape[-1])
    return Cost(flops=solve.flops + 2 * batch * n * f * d, bytes=solve.bytes + 4 * (batch * n * f + d * f))


# Cases of moderate condition: what the arithmetic loses where κ = ‖X‖²/λ is large is tested by itself.
_TOLERANCE = {
    torch.float32: Tolerance(5e-5, 5e-5, witness="1e-6, 1.1e-6"),
    torch.float64: Tolerance(1e-11, 1e-11, witness="5e-15, 7e-15"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="2.6e-4, 4.1e-4: one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="2.2e-3, 2.8e-3: one rounding of the result"),
}
_GRADIENT = {
    torch.float32: Tolerance(2e-4, 2e-4, witness="4e-6, 4e-6"),
    torch.float64: Tolerance(1e-8, 1e-8, witness="4e-14, 4e-14"),
    torch.float16: Tolerance(5e-3, 5e-3, witness="2.3e-3, 2.3e-3: the gradient of the output arrives rounded"),
    torch.bfloat16: Tolerance(2e-2, 2e-2, witness="1e-2, 1e-2: the gradient of the output arrives rounded"),
}


def _factor_bytes(samples: int, features: int) -> float:
    """A float32 factor, and its lower half in panels of rows."""
    return 1.5 * 4 * min(samples, features) ** 2


SPECS = (
    Spec(
        "ridge_solve",
        "ridge_solve",
        ridge_solve,
        _SOLVE,
        _TOLERANCE,
        ("X", "y", "lam"),
        _GRADIENT,
        cost=_solve_cost,
        caches=lambda arguments: _factor_bytes(*arguments["X"].shape[-2:]),
    ),
    Spec(
        "ridge_solve",
        "ridge_linear",
        ridge_linear,
        _LINEAR,
        _TOLERANCE,
        ("P", "W", "y", "lam"),
        _GRADIENT,
        cost=_linear_cost,
        caches=lambda arguments: _factor_bytes(arguments["P"].shape[-2], arguments["W"].shape[0]),
    ),
)

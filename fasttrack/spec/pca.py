"""Principal components: mean, orthonormal directions of largest variance, projection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.errors import RangeError
from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "finished", "pca_apply", "pca_fit", "refuse_non_finite"]


def refuse_non_finite() -> None:
    """Raise the RangeError of samples whose squares are not finite."""
    raise RangeError("pca_fit", "samples", "finite (their squares too)", "NaN or infinity")


def finished(
    mean: Tensor, basis: Tensor, variances: Tensor, k: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The k leading columns with their sign fixed, and zeros for directions in which nothing varies.

    A variance is nothing below ``n·eps`` of the largest (n = 8, rounding of products, or D in float64), or
    below ``(8·eps)²·Σ mean²``: rounding alone makes a constant vary by that much of itself.

    Args:
        mean: (D,), float64.
        basis: (D, m) orthonormal columns, largest variance first.
        variances: (m,), descending.
        k: columns wanted; those beyond m are zeros.
        dtype: of the samples, which says what rounding is.
    """
    eps, dimension = torch.finfo(dtype).eps, basis.shape[0]
    relative = (8 if dtype == torch.float32 else dimension) * eps
    columns = min(k, basis.shape[1])
    out, kept = basis.new_zeros(dimension, k), variances.new_zeros(k)
    varies = variances[:columns] > torch.clamp(relative * variances[:1], min=(8 * eps) ** 2 * mean.square().sum())
    leading = basis[:, :columns]
    largest = leading.abs().argmax(0, keepdim=True)
    out[:, :columns] = leading * torch.where(varies, leading.gather(0, largest).sign(), 0.0)
    kept[:columns] = torch.where(varies, variances[:columns], 0.0)
    return mean.to(dtype), out.to(dtype), kept.to(dtype)


def pca_fit(samples: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, eigenvectors of the covariance (of few samples: right singular vectors), variances; in float64."""
    x = samples.double()
    if not bool(torch.isfinite(x.square().sum())):
        refuse_non_finite()
    mean = x.mean(0)
    centred = x - mean
    if len(x) < x.shape[1]:
        _, s, vt = torch.linalg.svd(centred, full_matrices=False)
        return finished(mean, vt.T, s.square() / (len(x) - 1), k, samples.dtype)
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(x) - 1))
    return finished(mean, vectors.flip(1), values.flip(0).clamp(min=0.0), k, samples.dtype)


def pca_apply(x: Tensor, model: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(x − mean)·basis per sample (N, D), or per cell of maps (B, D, H, W)."""
    mean, basis = model[0].to(x.dtype), model[1].to(x.dtype)
    if x.dim() == 2:
        return torch.einsum("nd,dk->nk", x - mean, basis)
    return torch.einsum("bdhw,dk->bkhw", x - mean.view(-1, 1, 1), basis)


def _samples(n: int, d: int, generator: Generator) -> Tensor:
    """Correlated channels on a large mean; variances fall by 1.5² from one direction to the next."""
    rank = min(n - 1, d)
    scale = 30 * 1.5 ** -torch.arange(rank, dtype=torch.float64).clamp(max=20)
    mixing = torch.linalg.qr(torch.randn(d, rank, generator=generator, dtype=torch.float64)).Q
    drawn = torch.linalg.qr(torch.randn(n, rank, generator=generator, dtype=torch.float64)).Q * math.sqrt(n)
    mean = 20 * torch.rand(d, generator=generator, dtype=torch.float64)
    out: Tensor = (drawn * scale) @ mixing.T + mean
    return out


def _fit(n: int, d: int, k: int) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    return lambda generator, dtype: {"samples": _samples(n, d, generator).to(dtype), "k": k}


def _wide_maps(n: int, d: int, k: int) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        spread = torch.logspace(1.5, -0.5, d).to(dtype)
        return {"samples": torch.randn(n, d, generator=generator).to(dtype) * spread + 10, "k": k}

    return build


def _apply(shape: tuple[int, ...], k: int) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        d = shape[1]
        mean, basis = torch.randn(d, generator=generator), torch.randn(d, k, generator=generator)
        model = mean, torch.linalg.qr(basis).Q if d >= k else basis, torch.ones(k)
        x = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        return {"x": x.to(dtype), "model": model}

    return build


_FIT = (
    Case("tall", _fit(97, 13, 5)),
    Case("wide", _fit(11, 43, 4)),
    Case("square", _fit(23, 23, 7)),
    Case("all", _fit(40, 6, 6)),
    Case("panels", _fit(410, 61, 6)),
    Case("two_samples", _fit(2, 9, 1)),
    Case("n20160_d512", _wide_maps(20160, 512, 64), bench=True, tests=False),
    Case("n512_d20160", _wide_maps(512, 20160, 64), bench=True, tests=False),
)
_APPLY = (
    Case("samples", _apply((37, 11), 5)),
    Case("maps", _apply((2, 11, 7, 5), 3)),
    Case("one_cell", _apply((1, 9, 1, 1), 9)),
    Case("no_samples", _apply((0, 11), 5)),
    Case("no_maps", _apply((0, 11, 7, 5), 3)),
    Case("t1_512x105x96", _apply((1, 512, 105, 96), 64), bench=True, tests=False),
)


def _fit_cost(arguments: dict[str, Any]) -> Cost:
    n, d = arguments["samples"].shape
    small = min(n, d)
    return Cost(flops=n * d * small + 9 * small**3, bytes=4 * n * d)


def _apply_cost(arguments: dict[str, Any]) -> Cost:
    x, k = arguments["x"], arguments["model"][1].shape[1]
    return Cost(flops=2 * x.numel() * k, bytes=4 * x.numel() * (1 + k / x.shape[1]))


# A direction is as sure as its variance's distance to the next: products rounded to float32 turn it by their
# error over that distance.
_FIT_TOLERANCE = {
    torch.float32: Tolerance(5e-6, 1e-5, witness="7.9e-7, 1.5e-6"),
    torch.float64: Tolerance(1e-12, 1e-12, witness="exact reference"),
}
_APPLY_TOLERANCE = {
    torch.float32: Tolerance(1e-6, 2e-6, witness="7e-8, 1.2e-7"),
    torch.float64: Tolerance(1e-13, 1e-12, witness="exact reference"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="2.5e-4, 3.9e-4: one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="1.8e-3, 3e-3: one rounding of the result"),
}

SPECS = (
    Spec("pca", "pca_fit", pca_fit, _FIT, _FIT_TOLERANCE, cost=_fit_cost, dtypes=(torch.float32, torch.float64)),
    Spec("pca", "pca_apply", pca_apply, _APPLY, _APPLY_TOLERANCE, ("x",), cost=_apply_cost),
)

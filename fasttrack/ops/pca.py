"""Principal component analysis: fit by one symmetric product, apply to samples or maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fasttrack import native
from fasttrack.errors import DtypeError, RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops._batching import folded
from fasttrack.ops._blocks import in_blocks
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._rows import cpu_row, on_cpu, on_gpu, reference_row, triton_row, wide
from fasttrack.spec import pca as spec

__all__ = ["PCAModel", "pca_apply", "pca_fit"]


class PCAModel(NamedTuple):
    """What :func:`pca_fit` learned.

    Attributes:
        mean: (D,) of the samples.
        basis: (D, k), orthonormal columns, largest variance first; a column of zeros where nothing varies.
        variances: (k,) of the samples along the columns (unbiased, over N − 1).
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor


def pca_fit(samples: Tensor, k: int, *, backend: str | None = None) -> PCAModel:
    """The k directions in which samples vary most.

    The columns b of the basis are eigenvectors of the covariance C = Σ (x − μ)(x − μ)ᵀ/(N − 1), largest
    eigenvalue first; of N < D samples they come from the smaller matrix of inner products (x_i − μ)·(x_j − μ).
    The sign of an eigenvector is free: here its entry of largest magnitude (the first of equals) is positive.
    Directions in which the samples do not vary (beyond rounding) are not determined by them: where k asks for
    such, the columns are zeros, the variances 0, and the projections constant 0.

    Args:
        samples: (N, D) float32 or float64, N ≥ 2, any strides: cells of (1, D, H, W) maps are
            ``maps[0].flatten(1).T``, without a copy.
        k: directions, 1 ≤ k ≤ D.
        backend: explicit backend; None chooses.

    Returns:
        ``PCAModel(mean, basis, variances)`` in the dtype and on the device of ``samples``. The float32 kernels
        sum products of some hundred samples in float32, these sums and all that follows in float64. On a GPU the
        host waits for it, as the library's eigenvalues do.

    Raises:
        ShapeError, DtypeError, RangeError: naming the argument, what was wanted and what came; also of samples
            that are not finite.
        ArgumentError: ``samples`` asks for a gradient.

    Examples:
        >>> points = torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]])  # they vary along the diagonal only
        >>> model = pca_fit(points, 1)
        >>> model.mean, model.variances
        (tensor([2., 2.]), tensor([8.]))

    Source: Pearson 1901; Turk & Pentland 1991 (the smaller matrix); used by CRT §4.1.
    """
    op = "pca_fit"
    check.tensor(op, "samples", samples, dims=(2,), dtypes=(torch.float32, torch.float64), layout="(N, D)")
    if samples.shape[0] < 2 or samples.shape[1] < 1:
        check.shape_error(op, "samples", "(N, D) with N ≥ 2 and D ≥ 1", samples)
    if not isinstance(k, int) or not 1 <= k <= samples.shape[1]:
        raise RangeError(op, "k", f"an int from 1 to D = {samples.shape[1]}", repr(k))
    check.no_gradient(op, "samples", samples)
    return PCAModel(*_FIT(samples, k, backend=backend))


def pca_apply(x: Tensor, model: PCAModel, *, backend: str | None = None) -> Tensor:
    """Coordinates along the directions of a fit, y = (x − mean)·basis.

    Args:
        x: (N, D) samples or (B, D, H, W) maps, float; each cell of a map is a sample; N or B may be 0.
        model: what :func:`pca_fit` returned, on the device of ``x``; used in the dtype of ``x``.
        backend: explicit backend; None chooses.

    Returns:
        (N, k) or contiguous (B, k, H, W), dtype of ``x`` (computed in float32 or wider). Differentiable in
        ``x``, ``model.mean`` and ``model.basis``.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.
    """
    op = "pca_apply"
    if not isinstance(model, tuple) or len(model) != 3:
        raise DtypeError(op, "model", "a PCAModel, as pca_fit returns it", type(model).__name__)
    mean, basis = model[0], model[1]
    check.tensor(op, "model.basis", basis, dims=(2,), layout="(D, k)")
    d = basis.shape[0]
    check.tensor(op, "x", x, dims=(2, 4), layout=f"(N, {d}) or (B, {d}, H, W)")
    if x.shape[1] != d:
        check.shape_error(op, "x", f"(N, {d}) or (B, {d}, H, W)", x)
    check.tensor(op, "model.mean", mean, dims=(1,), layout=f"({d},)")
    if mean.shape[0] != d:
        check.shape_error(op, "model.mean", f"({d},)", mean)
    for name, part in (("model.mean", mean), ("model.basis", basis)):
        check.same_device(op, name, part, "x", x)
    out: Tensor = _APPLY(x, mean, basis, backend=backend)
    return out


_PART = 512  # products that are summed in float32


def _fit_why_not(samples: Tensor, *_: Any) -> str | None:
    return on_cpu(samples, "samples")


def _fit_cpu(samples: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    x = samples.detach()
    n, d = x.shape
    mean = x.mean(0)
    few = n < d
    rows = x if few else x.T
    product = torch.empty((rows.shape[0], rows.shape[0]), dtype=torch.float64)
    shifts = (0, mean.data_ptr()) if few else (mean.data_ptr(), 0)
    native.lib().pca_product(x.data_ptr(), *rows.shape, *rows.stride(), *shifts, product.data_ptr())
    return _fitted(x, mean, product, k)


def _fit_gpu_why_not(samples: Tensor, *_: Any) -> str | None:
    return on_gpu(samples, "samples")


def _fit_triton(samples: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The symmetric products of our kernel, part by part of the axis they sum over, and their sums in float64."""
    from fasttrack.kernels import ridge_solve as kernels

    x = samples.detach()
    n, d = x.shape
    mean = x.mean(0)
    # The kernel multiplies along the longer axis of each part; zeros fill the last one up.
    depth, count = max(n, d), min(n, d)
    part = min(depth, max(count + 1, _PART))
    padding = -depth % part
    centred = x - mean
    if n < d:
        parts = functional.pad(centred, (0, padding)).unflatten(1, (-1, part)).transpose(0, 1)
    else:
        parts = functional.pad(centred, (0, 0, 0, padding)).unflatten(0, (-1, part))
    nothing = torch.zeros(len(parts), dtype=torch.float64, device=x.device)
    return _fitted(x, mean, kernels.gram(parts.contiguous(), nothing).sum(0, dtype=torch.float64), k)


def _fitted(x: Tensor, mean: Tensor, product: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The model from the smaller of the two symmetric products of centred samples, in float64."""
    n, few = len(x), len(x) < x.shape[1]
    if not bool(torch.isfinite(product.diagonal().sum())):
        spec.refuse_non_finite()
    values, vectors = torch.linalg.eigh(product)
    values, vectors = values.flip(0)[:k], vectors.flip(1)[:, :k]
    if few:
        # Xᵀu is an eigenvector of the covariance, of length √value; where that is rounding, `finished` drops it.
        narrow = vectors.float()
        vectors = in_blocks(lambda rows, middle: (rows - middle[:, None]) @ narrow, x.T, mean, axes=(0,)).double()
        vectors /= vectors.norm(dim=0).clamp_(min=torch.finfo(torch.float64).tiny)
    return spec.finished(mean.double(), vectors, values.clamp_(min=0.0) / (n - 1), k, x.dtype)


def _fit_reference(samples: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    if samples.is_meta:  # shapes only: there is no variance to look at
        return _fit_meta(samples, k)
    return spec.pca_fit(samples.detach(), k)


def _fit_meta(samples: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    d = samples.shape[1]
    return samples.new_empty(d), samples.new_empty((d, k)), samples.new_empty(k)


def _apply_why_not(x: Tensor, *_: Any) -> str | None:
    return on_cpu(x, "x")


def _apply_cpu(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """One matrix product by torch, which is at the floor; the mean as an offset of its result."""
    values = wide(x)
    weight = basis.to(values.dtype)
    offset = -(mean.double() @ basis.double()).to(values.dtype)
    if x.dim() == 2:
        return torch.addmm(offset, values, weight).to(x.dtype)
    b, _, h, w = x.shape
    k = weight.shape[1]
    if b == 0 or h * w == 0:
        return x.new_empty((b, k, h, w))
    maps = torch.baddbmm(offset[:, None].expand(b, k, h * w), weight.T.expand(b, -1, -1), values.flatten(2))
    return maps.view(b, k, h, w).to(x.dtype)


def _apply_gpu_why_not(x: Tensor, *_: Any) -> str | None:
    return on_gpu(x, "x")


def _apply_triton(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    from fasttrack.kernels import pca as kernels

    return kernels.pca_apply(x, mean, basis)


def _apply_reference(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    values = wide(x)
    return spec.pca_apply(values, (mean, basis, mean)).to(x.dtype).contiguous()


def _apply_meta(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], basis.shape[1], *x.shape[2:]))


def _apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _apply_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, mean, basis = ctx.saved_tensors
    values, needs = wide(x), ctx.needs_input_grad
    g, weight = g.to(values.dtype), basis.to(values.dtype)
    flat = g if x.dim() == 2 else g.permute(0, 2, 3, 1).flatten(0, 2)
    back = flat @ weight.T
    x_grad = mean_grad = basis_grad = None
    if needs[0]:
        shaped = back if x.dim() == 2 else back.view(g.shape[0], *g.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
        x_grad = shaped.to(x.dtype)
    if needs[1]:
        mean_grad = -back.sum(0).to(mean.dtype)
    if needs[2]:
        rows = values if x.dim() == 2 else values.permute(0, 2, 3, 1).flatten(0, 2)
        basis_grad = ((rows - mean.to(values.dtype)).T @ flat).to(basis.dtype)
    return x_grad, mean_grad, basis_grad


_FIT = Op(
    "pca_fit",
    "(Tensor samples, int k) -> (Tensor mean, Tensor basis, Tensor variances)",
    rows=(
        triton_row(_fit_gpu_why_not, _fit_triton),
        cpu_row(_fit_why_not, _fit_cpu),
        reference_row(_fit_reference),
    ),
    meta=_fit_meta,
)
_APPLY = Op(
    "pca_apply",
    "(Tensor x, Tensor mean, Tensor basis) -> Tensor",
    rows=(
        triton_row(_apply_gpu_why_not, _apply_triton),
        cpu_row(_apply_why_not, _apply_cpu),
        reference_row(_apply_reference),
    ),
    meta=_apply_meta,
    gradient=Gradient(_apply_setup, _apply_backward),
    batch=folded(0, shared=(1, 2)),
)

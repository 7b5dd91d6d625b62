"""Local response normalisation of early convolutional networks, alone and fused with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fasttrack import native
from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops._batching import folded
from fasttrack.ops._blocks import in_blocks
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._rows import cpu_row, on_cpu, on_gpu, reference_row, triton_row, wide
from fasttrack.spec import lrn as spec

__all__ = ["lrn", "relu_lrn_maxpool"]


def lrn(
    x: Tensor,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    *,
    backend: str | None = None,
) -> Tensor:
    """Each value divided by a power of the energy of the channels around it.

    y[b, c] = x[b, c] / (k + alpha · Σ_j x[b, j]²)^beta,   j = c − ⌊size/2⌋ … c + ⌊(size−1)/2⌋

    ``alpha`` is **per element**, as in MatConvNet's models (VGG-M) and Krizhevsky et al.; Caffe and
    ``torch.nn.functional.local_response_norm`` divide theirs by ``size``: pass their alpha / size.

    Args:
        x: (B, C, H, W) float, contiguous or channels-last (neither is copied); B may be 0.
        size: channels in a window, ≥ 1; there are no channels beyond the first and the last.
        k: added to the energy, > 0.
        alpha: factor of each square, ≥ 0.
        beta: the power; ¾ is fast.
        backend: explicit backend; None chooses.

    Returns:
        Same shape, dtype and memory format; computed in float32 or wider. NaN spreads over its window.
        Differentiable in ``x``, any number of times.

    Raises:
        ShapeError, DtypeError, RangeError: naming the argument, what was wanted and what came.

    Examples:
        >>> lrn(torch.ones(1, 3, 1, 1), size=3, k=1.0, alpha=1.0, beta=1.0).flatten()  # 1 / (1 + its energy)
        tensor([0.3333, 0.2500, 0.3333])

    Source: Krizhevsky et al. 2012, §3.3; the constants of VGG-M (Chatfield et al. 2014).
    """
    _check("lrn", x, size, k, alpha, beta)
    out: Tensor = _LRN(x, size, float(k), float(alpha), float(beta), backend=backend)
    return out


def relu_lrn_maxpool(
    x: Tensor,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    pool: int = 3,
    stride: int = 2,
    ceil_mode: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """ReLU, local response normalisation and max-pool in one pass: what follows a convolution of VGG-M.

    y = max over pool × pool windows of lrn(max(x, 0)), without padding.

    Args:
        x: (B, C, H, W) float, contiguous or channels-last (neither is copied); H, W ≥ pool; B may be 0.
        size: channels in a window of the normalisation, ≥ 1, as in :func:`lrn`.
        k: added to the energy, > 0.
        alpha: factor of each square, ≥ 0, **per element**.
        beta: the power; ¾ is fast.
        pool: side of a window, ≥ 1.
        stride: step of the windows, ≥ 1.
        ceil_mode: False keeps whole windows only, ⌊(n − pool)/stride⌋ + 1 (PyTorch's default); True also those
            that reach over the far edge, which are cut (Caffe's rule). Equal where stride divides n − pool.
        backend: explicit backend; None chooses.

    Returns:
        (B, C, H', W'), dtype and memory format of ``x``; computed in float32 or wider. Differentiable in
        ``x``, any number of times; of equal values in a window the first gets the gradient.

    Raises:
        ShapeError, DtypeError, RangeError: naming the argument, what was wanted and what came.

    Source: VGG-M (Chatfield et al. 2014), as DRVT §3 and DLST §3 use it.
    """
    op = "relu_lrn_maxpool"
    _check(op, x, size, k, alpha, beta)
    for name, value in (("pool", pool), ("stride", stride)):
        _positive(op, name, value)
    if min(x.shape[2:]) < pool:
        check.shape_error(op, "x", f"(B, C, H, W) with H and W at least pool = {pool}", x)
    out: Tensor = _FUSED(x, size, float(k), float(alpha), float(beta), pool, stride, bool(ceil_mode), backend=backend)
    return out


def _positive(op: str, name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise RangeError(op, name, "an int ≥ 1", repr(value))


def _check(op: str, x: Tensor, size: int, k: float, alpha: float, beta: float) -> None:
    check.tensor(op, "x", x, dims=(4,), layout="(B, C, H, W)")
    if 0 in x.shape[1:]:
        check.shape_error(op, "x", "(B, C, H, W) with C, H, W ≥ 1", x)
    _positive(op, "size", size)
    check.number(op, "k", k, low=0.0, low_open=True)
    check.number(op, "alpha", alpha, low=0.0)
    check.number(op, "beta", beta)


def _format_of(x: Tensor) -> torch.memory_format:
    """Layout of the result: channels-last where x is that and nothing else."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def _why_not(x: Tensor, *_: Any) -> str | None:
    return on_cpu(x, "x")


def _cpu(
    x: Tensor, size: int, k: float, alpha: float, beta: float, pool: int = 0, stride: int = 1, ceil_mode: bool = False
) -> Tensor:
    b, c, h, w = x.shape
    layout = _format_of(x)
    values = x
    if x.dtype != torch.float32 or not x.is_contiguous(memory_format=layout):
        values = wide(x.detach()).contiguous(memory_format=layout)
    out_h, out_w = h, w
    if pool:
        out_h, out_w = (spec.pooled_size(n, pool, stride, ceil_mode) for n in (h, w))
    out = torch.empty((b, c, out_h, out_w), dtype=torch.float32, memory_format=layout)
    native.lib().lrn(
        values.data_ptr(),
        out.data_ptr(),
        (b, c, h, w),
        layout == torch.channels_last,
        size // 2,
        (size - 1) // 2,
        k,
        alpha,
        beta,
        pool,
        stride,
        out_h,
        out_w,
    )
    return out if x.dtype == torch.float32 else out.to(x.dtype)


def _gpu_why_not(x: Tensor, *_: Any) -> str | None:
    return on_gpu(x, "x")


def _triton(
    x: Tensor, size: int, k: float, alpha: float, beta: float, pool: int = 0, stride: int = 1, ceil_mode: bool = False
) -> Tensor:
    from fasttrack.kernels import lrn as kernels

    out_h, out_w = (spec.pooled_size(n, pool, stride, ceil_mode) if pool else n for n in x.shape[2:])
    channels_last = _format_of(x) == torch.channels_last
    return kernels.lrn(x, channels_last, size, k, alpha, beta, pool, stride, out_h, out_w)


def _reference_lrn(x: Tensor, *options: Any) -> Tensor:
    return spec.lrn(wide(x), *options).to(x.dtype).contiguous(memory_format=_format_of(x))


def _reference_fused(x: Tensor, *options: Any) -> Tensor:
    return spec.relu_lrn_maxpool(wide(x), *options).to(x.dtype).contiguous(memory_format=_format_of(x))


def _meta(
    x: Tensor, size: int, k: float, alpha: float, beta: float, pool: int = 0, stride: int = 1, ceil_mode: bool = False
) -> Tensor:
    height, width = (spec.pooled_size(n, pool, stride, ceil_mode) if pool else n for n in x.shape[2:])
    return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=_format_of(x))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.options = inputs
    ctx.save_for_backward(x)


def _lrn_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors

    def gradient(x: Tensor, g: Tensor) -> Tensor:
        return spec.lrn_gradient(wide(x), wide(g), *ctx.options).to(x.dtype)

    # Its dozen temporaries would be as large as x: some images, or rows, at a time.
    return in_blocks(gradient, x, g, axes=(0, 2)), None, None, None, None


def _fused_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """Through the maxima found again (only x is kept), the normalisation in closed form, the ReLU."""
    (x,) = ctx.saved_tensors
    *normalisation, pool, stride, ceil_mode = ctx.options

    def gradient(x: Tensor, g: Tensor) -> Tensor:
        return spec.lrn_gradient(wide(x).relu(), g, *normalisation).masked_fill(x <= 0, 0.0).to(x.dtype)

    at = _maxima(x, normalisation, (pool, stride, ceil_mode))
    scattered = torch.zeros_like(wide(x), memory_format=torch.contiguous_format).flatten(2)
    scattered = scattered.scatter_add(2, at.flatten(2), wide(g).flatten(2)).view(x.shape)
    del at
    return in_blocks(gradient, x, scattered, axes=(0, 2), numbers=1 << 15), None, None, None, None, None, None, None


@torch.no_grad()
def _maxima(x: Tensor, normalisation: Sequence[Any], pooling: tuple[int, int, bool]) -> Tensor:
    """Index in its plane of the largest value of each window."""

    def normal(x: Tensor) -> Tensor:
        return spec.lrn(wide(x).relu(), *normalisation)

    pool, stride, ceil_mode = pooling
    values = in_blocks(normal, x, axes=(0, 2))
    _, at = functional.max_pool2d(values, pool, stride, ceil_mode=ceil_mode, return_indices=True)
    return at


_LRN = Op(
    "lrn",
    "(Tensor x, int size, float k, float alpha, float beta) -> Tensor",
    rows=(triton_row(_gpu_why_not, _triton), cpu_row(_why_not, _cpu), reference_row(_reference_lrn)),
    meta=_meta,
    gradient=Gradient(_setup, _lrn_backward),
    batch=folded(0),
)
_FUSED = Op(
    "relu_lrn_maxpool",
    "(Tensor x, int size, float k, float alpha, float beta, int pool, int stride, bool ceil_mode) -> Tensor",
    rows=(triton_row(_gpu_why_not, _triton), cpu_row(_why_not, _cpu), reference_row(_reference_fused)),
    meta=_meta,
    gradient=Gradient(_setup, _fused_backward),
    batch=folded(0),
)

"""Precise RoI pooling: forward, and the gradients in features and in coordinates.

A program takes one RoI and a block of channels. Per row of cells the columns are summed into bins along x, and that
sum is spread over the bins along y: cells × bins_x + rows × bins products per channel instead of cells × bins.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._prroi_axes import axes_of, padded
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "features_gradient", "forward", "rois_gradient"]

FORWARD = Space("prroi_pool.forward", BLOCK_C=(8, 16, 32, 64), num_warps=(1, 2, 4, 8))
SCATTER = Space("prroi_pool.scatter", BLOCK_C=(8, 16, 32, 64), num_warps=(1, 2, 4, 8))
GATHER = Space("prroi_pool.gather", BLOCK_C=(8, 16, 32), BLOCK_J=(4, 8, 16), num_warps=(1, 2, 4))
EDGES = Space("prroi_pool.edges", BLOCK_C=(8, 16, 32), num_warps=(1, 2, 4))


@triton.jit
def _bins(table, k, cell, size, bins, BINS: tl.constexpr):
    """Weights of all bins at one cell of an axis."""
    q = tl.arange(0, BINS)
    return tl.load(table + (k * size + cell) * bins + q, mask=q < bins, other=0.0)


@triton.jit(do_not_specialize=["channels", "height", "width", "bins_y", "bins_x"])
def _forward(
    features, wy, wx, at_y, at_x, out, stride_n, stride_c, stride_y, stride_x, channels, height, width, bins_y, bins_x,
    BLOCK_C: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    zero = tl.zeros((), tl.int64)  # makes an index of a loop 64 bits wide
    k = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    real = c < channels
    image = tl.load(at_y + 4 * k).to(tl.int64)
    kind = tl.load(at_y + 4 * k + 1)
    top = tl.load(at_y + 4 * k + 2)
    left = tl.load(at_x + 4 * k + 2)
    base = features + image * stride_n + c.to(tl.int64) * stride_c
    total = tl.zeros((BLOCK_C, BY, BX), tl.float32)
    for i in range(top, top + tl.load(at_y + 4 * k + 3)):
        along = tl.zeros((BLOCK_C, BX), tl.float32)
        for j in range(left, left + tl.load(at_x + 4 * k + 3)):
            x = tl.load(base + (zero + i) * stride_y + (zero + j) * stride_x, mask=real, other=0.0)
            along += x.to(tl.float32)[:, None] * _bins(wx, k, j, width, bins_x, BX)[None, :]
        total += _bins(wy, k, i, height, bins_y, BY)[None, :, None] * along[:, None, :]
    total = tl.where(kind == 2, float("nan"), total)
    p = tl.arange(0, BY)[None, :, None]
    q = tl.arange(0, BX)[None, None, :]
    to = ((k * channels + c)[:, None, None] * bins_y + p) * bins_x + q
    tl.store(out + to, total.to(out.dtype.element_ty), mask=real[:, None, None] & (p < bins_y) & (q < bins_x))


@triton.jit
def _gradient_tile(grad, k, c, channels, bins_y, bins_x, BY: tl.constexpr, BX: tl.constexpr):
    p = tl.arange(0, BY)[None, :, None]
    q = tl.arange(0, BX)[None, None, :]
    at = ((k * channels + c)[:, None, None] * bins_y + p) * bins_x + q
    inside = (c < channels)[:, None, None] & (p < bins_y) & (q < bins_x)
    return tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["channels", "height", "width", "bins_y", "bins_x"])
def _scatter(
    grad, wy, wx, at_y, at_x, out, channels, height, width, bins_y, bins_x,
    BLOCK_C: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Each RoI adds its share to the cells it meets (atomically: the order of the sums is not fixed)."""
    zero = tl.zeros((), tl.int64)  # makes an index of a loop 64 bits wide
    k = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    image = tl.load(at_y + 4 * k).to(tl.int64)
    top = tl.load(at_y + 4 * k + 2)
    left = tl.load(at_x + 4 * k + 2)
    rows = tl.load(at_y + 4 * k + 3)
    columns = tl.load(at_x + 4 * k + 3)
    g = _gradient_tile(grad, k, c, channels, bins_y, bins_x, BY, BX)
    base = out + (image * channels + c) * height * width
    for i in range(top, top + rows):
        along = tl.sum(g * _bins(wy, k, i, height, bins_y, BY)[None, :, None], 1)
        for j in range(left, left + columns):
            share = tl.sum(along * _bins(wx, k, j, width, bins_x, BX)[None, :], 1)
            tl.atomic_add(base + (zero + i) * width + j, share, mask=c < channels)


@triton.jit(do_not_specialize=["count", "channels", "height", "width", "bins_y", "bins_x"])
def _gather(
    grad, wy, wx, at_y, at_x, out, count, channels, height, width, bins_y, bins_x,
    BLOCK_C: tl.constexpr, BLOCK_J: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Cells of one row sum the shares of the RoIs that meet them, in the order of the RoIs."""
    zero = tl.zeros((), tl.int64)  # makes an index of a loop 64 bits wide
    across = tl.cdiv(width, BLOCK_J)
    i = tl.program_id(0) // across
    first = tl.program_id(0) % across * BLOCK_J
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    image = tl.program_id(2).to(tl.int64)
    j = first + tl.arange(0, BLOCK_J)
    q = tl.arange(0, BX)
    total = tl.zeros((BLOCK_C, BLOCK_J), tl.float32)
    for roi in range(0, count):
        k = zero + roi
        top = tl.load(at_y + 4 * k + 2)
        left = tl.load(at_x + 4 * k + 2)
        rows = tl.load(at_y + 4 * k + 3)
        columns = tl.load(at_x + 4 * k + 3)
        here = (tl.load(at_y + 4 * k) == image) & (i >= top) & (i < top + rows)
        if here & (left < first + BLOCK_J) & (left + columns > first):
            g = _gradient_tile(grad, k, c, channels, bins_y, bins_x, BY, BX)
            along = tl.sum(g * _bins(wy, k, i, height, bins_y, BY)[None, :, None], 1)
            met = ((j >= left) & (j < left + columns))[:, None] & (q < bins_x)[None, :]
            w = tl.load(wx + (k * width + j)[:, None] * bins_x + q[None, :], mask=met, other=0.0)
            total += tl.sum(along[:, None, :] * w[None, :, :], 2)
    at = ((image * channels + c)[:, None] * height + i) * width + j[None, :]
    tl.store(out + at, total, mask=(c < channels)[:, None] & (j < width)[None, :])


@triton.jit(do_not_specialize=["count", "channels", "height", "width", "bins_y", "bins_x"])
def _edges(
    features, grad, wy, ly, hy, wx, lx, hx, at_y, at_x, out, stride_n, stride_c, stride_y, stride_x,
    count, channels, height, width, bins_y, bins_x,
    BLOCK_C: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Share of a block of channels in the derivatives in x1, y1, x2, y2 (in cells)."""
    zero = tl.zeros((), tl.int64)  # makes an index of a loop 64 bits wide
    k = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    real = c < channels
    image = tl.load(at_y + 4 * k).to(tl.int64)
    top = tl.load(at_y + 4 * k + 2)
    left = tl.load(at_x + 4 * k + 2)
    g = _gradient_tile(grad, k, c, channels, bins_y, bins_x, BY, BX)
    base = features + image * stride_n + c.to(tl.int64) * stride_c
    x1 = tl.zeros((BLOCK_C, BX), tl.float32)
    y1 = tl.zeros((BLOCK_C, BX), tl.float32)
    x2 = tl.zeros((BLOCK_C, BX), tl.float32)
    y2 = tl.zeros((BLOCK_C, BX), tl.float32)
    for i in range(top, top + tl.load(at_y + 4 * k + 3)):
        mean = tl.zeros((BLOCK_C, BX), tl.float32)
        low = tl.zeros((BLOCK_C, BX), tl.float32)
        high = tl.zeros((BLOCK_C, BX), tl.float32)
        for j in range(left, left + tl.load(at_x + 4 * k + 3)):
            x = tl.load(base + (zero + i) * stride_y + (zero + j) * stride_x, mask=real, other=0.0)
            x = x.to(tl.float32)[:, None]
            mean += x * _bins(wx, k, j, width, bins_x, BX)[None, :]
            low += x * _bins(lx, k, j, width, bins_x, BX)[None, :]
            high += x * _bins(hx, k, j, width, bins_x, BX)[None, :]
        along = tl.sum(g * _bins(wy, k, i, height, bins_y, BY)[None, :, None], 1)
        x1 += along * low
        x2 += along * high
        y1 += tl.sum(g * _bins(ly, k, i, height, bins_y, BY)[None, :, None], 1) * mean
        y2 += tl.sum(g * _bins(hy, k, i, height, bins_y, BY)[None, :, None], 1) * mean
    to = out + (tl.program_id(1) * count + k) * 5
    tl.store(to, 0.0)
    tl.store(to + 1, tl.sum(tl.sum(x1.to(tl.float64), 1), 0))
    tl.store(to + 2, tl.sum(tl.sum(y1.to(tl.float64), 1), 0))
    tl.store(to + 3, tl.sum(tl.sum(x2.to(tl.float64), 1), 0))
    tl.store(to + 4, tl.sum(tl.sum(y2.to(tl.float64), 1), 0))


def _block(channels: int, most: int) -> int:
    return min(most, padded(channels))


def forward(features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float) -> Tensor:
    """(K, C, P, Q) in the dtype of ``features`` (N, C, H, W) of any strides, for contiguous rois (K, 5)."""
    images, channels, height, width = features.shape
    count = rois.shape[0]
    out = torch.empty((count, channels, bins_y, bins_x), dtype=features.dtype, device=features.device)
    if out.numel() == 0:
        return out
    y, x = axes_of(rois, images, height, width, bins_y, bins_x, scale, derivatives=False)
    default = {"BLOCK_C": _block(channels, 32), "num_warps": 4}
    config = launch_config(FORWARD, {"rois": count, "channels": channels, "bins": bins_y * bins_x}, default)
    sizes = (*features.stride(), channels, height, width, bins_y, bins_x)
    grid = (count, triton.cdiv(channels, config["BLOCK_C"]))
    tables = (y.weights, x.weights, y.place, x.place)
    _forward[grid](features, *tables, out, *sizes, BY=padded(bins_y), BX=padded(bins_x), **config)
    return out


def features_gradient(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, scale: float, deterministic: bool
) -> Tensor:
    """(N, C, H, W) float32 from contiguous ``grad`` (K, C, P, Q); ``deterministic`` fixes the order of the sums."""
    count, channels, bins_y, bins_x = grad.shape
    out = torch.zeros((images, channels, height, width), device=grad.device)
    if out.numel() == 0 or count == 0:
        return out
    y, x = axes_of(rois, images, height, width, bins_y, bins_x, scale, derivatives=False)
    tables = (y.weights, x.weights, y.place, x.place)
    bins = {"BY": padded(bins_y), "BX": padded(bins_x)}
    shape = {"rois": count, "channels": channels, "bins": bins_y * bins_x}
    if not deterministic:
        config = launch_config(SCATTER, shape, {"BLOCK_C": _block(channels, 32), "num_warps": 4})
        blocks = triton.cdiv(channels, config["BLOCK_C"])
        _scatter[(count, blocks)](grad, *tables, out, channels, height, width, bins_y, bins_x, **bins, **config)
        return out
    config = launch_config(GATHER, shape, {"BLOCK_C": _block(channels, 16), "BLOCK_J": 8, "num_warps": 4})
    grid = (height * triton.cdiv(width, config["BLOCK_J"]), triton.cdiv(channels, config["BLOCK_C"]), images)
    _gather[grid](grad, *tables, out, count, channels, height, width, bins_y, bins_x, **bins, **config)
    return out


def rois_gradient(features: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    """(K, 5) float64; the image index has gradient 0. ``grad`` (K, C, P, Q) and ``rois`` are contiguous."""
    images, channels, height, width = features.shape
    count, _, bins_y, bins_x = grad.shape
    if grad.numel() == 0:
        return torch.zeros((count, 5), dtype=torch.float64, device=grad.device)
    y, x = axes_of(rois, images, height, width, bins_y, bins_x, scale, derivatives=True)
    shape = {"rois": count, "channels": channels, "bins": bins_y * bins_x}
    config = launch_config(EDGES, shape, {"BLOCK_C": _block(channels, 16), "num_warps": 4})
    shares = triton.cdiv(channels, config["BLOCK_C"])
    out = torch.empty((shares, count, 5), dtype=torch.float64, device=grad.device)
    tables = (y.weights, y.by_low, y.by_high, x.weights, x.by_low, x.by_high, y.place, x.place)
    sizes = (*features.stride(), count, channels, height, width, bins_y, bins_x)
    bins = {"BY": padded(bins_y), "BX": padded(bins_x)}
    _edges[(count, shares)](features, grad, *tables, out, *sizes, **bins, **config)
    return out.sum(0) * scale


_TABLES = {"wy": "*fp32", "wx": "*fp32", "at_y": "*i32", "at_x": "*i32"}
_STRIDES = dict.fromkeys(("stride_n", "stride_c", "stride_y", "stride_x"), "i64")
_SIZES = dict.fromkeys(("channels", "height", "width", "bins_y", "bins_x"), "i32")
_SLOPES = dict.fromkeys(("wy", "ly", "hy", "wx", "lx", "hx"), "*fp32")


def _forward_build(dtype: str, bins: int) -> Build:
    signature = {"features": f"*{dtype}", **_TABLES, "out": f"*{dtype}", **_STRIDES, **_SIZES}
    return Build(_forward, signature, {"BLOCK_C": 32, "BY": bins, "BX": bins})


BUILDS: tuple[Build, ...] = (
    _forward_build("fp32", 8),
    _forward_build("fp16", 4),
    _forward_build("bf16", 8),
    Build(_scatter, {"grad": "*fp32", **_TABLES, "out": "*fp32", **_SIZES}, {"BLOCK_C": 32, "BY": 8, "BX": 8}),
    Build(
        _gather,
        {"grad": "*fp32", **_TABLES, "out": "*fp32", "count": "i32", **_SIZES},
        {"BLOCK_C": 16, "BLOCK_J": 8, "BY": 8, "BX": 8},
    ),
    Build(
        _edges,
        {
            **dict.fromkeys(("features", "grad", *_SLOPES), "*fp32"),
            **{"at_y": "*i32", "at_x": "*i32", "out": "*fp64"},
            **_STRIDES,
            **{"count": "i32", **_SIZES},
        },
        {"BLOCK_C": 16, "BY": 8, "BX": 8},
    ),
)

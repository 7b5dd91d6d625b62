"""Sum over the bins of a RoI of the mean of the bin's own map, and its gradients in maps and coordinates.

The maps are (N, H, W, P, Q), so the bins of a cell lie side by side; a program takes one RoI.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._prroi_axes import axes_of, padded
from fasttrack.kernels._tuning import Space, launch_config
from fasttrack.kernels.prroi_pool import _bins

__all__ = ["BUILDS", "bin_sum", "maps_gradient", "rois_gradient"]

SUM = Space("prroi_score.sum", num_warps=(1, 2, 4))
SCATTER = Space("prroi_score.scatter", num_warps=(1, 2, 4))
GATHER = Space("prroi_score.gather", num_warps=(1, 2, 4))
EDGES = Space("prroi_score.edges", num_warps=(1, 2, 4))


@triton.jit
def _cell(image, i, j, height, width, bins_y, bins_x, BY: tl.constexpr, BX: tl.constexpr):
    """Addresses of the bins of a cell, and which of them there are."""
    p = tl.arange(0, BY)[:, None]
    q = tl.arange(0, BX)[None, :]
    at = ((image * height + i) * width + j) * bins_y * bins_x + p * bins_x + q
    return at, (p < bins_y) & (q < bins_x)


@triton.jit(do_not_specialize=["height", "width", "bins_y", "bins_x"])
def _sum(maps, wy, wx, at_y, at_x, out, height, width, bins_y, bins_x, BY: tl.constexpr, BX: tl.constexpr):
    k = tl.program_id(0).to(tl.int64)
    image = tl.load(at_y + 4 * k).to(tl.int64)
    kind = tl.load(at_y + 4 * k + 1)
    top = tl.load(at_y + 4 * k + 2)
    left = tl.load(at_x + 4 * k + 2)
    total = tl.zeros((BY, BX), tl.float32)
    for i in range(top, top + tl.load(at_y + 4 * k + 3)):
        along = tl.zeros((BY, BX), tl.float32)
        for j in range(left, left + tl.load(at_x + 4 * k + 3)):
            at, inside = _cell(image, i, j, height, width, bins_y, bins_x, BY, BX)
            along += tl.load(maps + at, mask=inside, other=0.0) * _bins(wx, k, j, width, bins_x, BX)[None, :]
        total += _bins(wy, k, i, height, bins_y, BY)[:, None] * along
    score = tl.sum(tl.sum(total, 1), 0)
    tl.store(out + k, tl.where(kind == 2, float("nan"), score))


@triton.jit(do_not_specialize=["height", "width", "bins_y", "bins_x"])
def _scatter(grad, wy, wx, at_y, at_x, out, height, width, bins_y, bins_x, BY: tl.constexpr, BX: tl.constexpr):
    """Each RoI adds its share to the maps it meets (atomically: the order of the sums is not fixed)."""
    k = tl.program_id(0).to(tl.int64)
    image = tl.load(at_y + 4 * k).to(tl.int64)
    top = tl.load(at_y + 4 * k + 2)
    left = tl.load(at_x + 4 * k + 2)
    g = tl.load(grad + k)
    columns = tl.load(at_x + 4 * k + 3)
    for i in range(top, top + tl.load(at_y + 4 * k + 3)):
        along = g * _bins(wy, k, i, height, bins_y, BY)[:, None]
        for j in range(left, left + columns):
            at, inside = _cell(image, i, j, height, width, bins_y, bins_x, BY, BX)
            tl.atomic_add(out + at, along * _bins(wx, k, j, width, bins_x, BX)[None, :], mask=inside)


@triton.jit(do_not_specialize=["count", "height", "width", "bins_y", "bins_x"])
def _gather(grad, wy, wx, at_y, at_x, out, count, height, width, bins_y, bins_x, BY: tl.constexpr, BX: tl.constexpr):
    """The maps of one cell sum the shares of the RoIs that meet it, in the order of the RoIs."""
    zero = tl.zeros((), tl.int64)  # makes an index of a loop 64 bits wide
    i = tl.program_id(0) // width
    j = tl.program_id(0) % width
    image = tl.program_id(1).to(tl.int64)
    total = tl.zeros((BY, BX), tl.float32)
    for roi in range(0, count):
        k = zero + roi
        top = tl.load(at_y + 4 * k + 2)
        left = tl.load(at_x + 4 * k + 2)
        rows = tl.load(at_y + 4 * k + 3)
        columns = tl.load(at_x + 4 * k + 3)
        here = (tl.load(at_y + 4 * k) == image) & (i >= top) & (i < top + rows)
        if here & (j >= left) & (j < left + columns):
            along = tl.load(grad + k) * _bins(wy, k, i, height, bins_y, BY)[:, None]
            total += along * _bins(wx, k, j, width, bins_x, BX)[None, :]
    at, inside = _cell(image, i, j, height, width, bins_y, bins_x, BY, BX)
    tl.store(out + at, total, mask=inside)


@triton.jit(do_not_specialize=["height", "width", "bins_y", "bins_x"])
def _edges(
    maps, grad, wy, ly, hy, wx, lx, hx, at_y, at_x, out, height, width, bins_y, bins_x,
    BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Derivatives in x1, y1, x2, y2 (in cells)."""
    k = tl.program_id(0).to(tl.int64)
    image = tl.load(at_y + 4 * k).to(tl.int64)
    top = tl.load(at_y + 4 * k + 2)
    left = tl.load(at_x + 4 * k + 2)
    x1 = tl.zeros((BY, BX), tl.float32)
    y1 = tl.zeros((BY, BX), tl.float32)
    x2 = tl.zeros((BY, BX), tl.float32)
    y2 = tl.zeros((BY, BX), tl.float32)
    for i in range(top, top + tl.load(at_y + 4 * k + 3)):
        mean = tl.zeros((BY, BX), tl.float32)
        low = tl.zeros((BY, BX), tl.float32)
        high = tl.zeros((BY, BX), tl.float32)
        for j in range(left, left + tl.load(at_x + 4 * k + 3)):
            at, inside = _cell(image, i, j, height, width, bins_y, bins_x, BY, BX)
            m = tl.load(maps + at, mask=inside, other=0.0)
            mean += m * _bins(wx, k, j, width, bins_x, BX)[None, :]
            low += m * _bins(lx, k, j, width, bins_x, BX)[None, :]
            high += m * _bins(hx, k, j, width, bins_x, BX)[None, :]
        along = _bins(wy, k, i, height, bins_y, BY)[:, None]
        x1 += along * low
        x2 += along * high
        y1 += _bins(ly, k, i, height, bins_y, BY)[:, None] * mean
        y2 += _bins(hy, k, i, height, bins_y, BY)[:, None] * mean
    g = tl.load(grad + k).to(tl.float64)
    proper = tl.load(at_y + 4 * k + 1) == 0
    to = out + k * 5
    tl.store(to, 0.0)
    tl.store(to + 1, tl.where(proper, g * tl.sum(tl.sum(x1.to(tl.float64), 1), 0), 0.0))
    tl.store(to + 2, tl.where(proper, g * tl.sum(tl.sum(y1.to(tl.float64), 1), 0), 0.0))
    tl.store(to + 3, tl.where(proper, g * tl.sum(tl.sum(x2.to(tl.float64), 1), 0), 0.0))
    tl.store(to + 4, tl.where(proper, g * tl.sum(tl.sum(y2.to(tl.float64), 1), 0), 0.0))


def bin_sum(maps: Tensor, rois: Tensor, scale: float) -> Tensor:
    """(K,) float32 from contiguous float32 ``maps`` (N, H, W, P, Q) and contiguous rois (K, 5)."""
    images, height, width, bins_y, bins_x = maps.shape
    count = rois.shape[0]
    out = torch.empty((count,), device=maps.device)
    if count == 0:
        return out
    y, x = axes_of(rois, images, height, width, bins_y, bins_x, scale, derivatives=False)
    config = launch_config(SUM, {"rois": count, "bins": bins_y * bins_x}, {"num_warps": 1})
    tables = (y.weights, x.weights, y.place, x.place)
    sizes = (height, width, bins_y, bins_x)
    _sum[(count,)](maps, *tables, out, *sizes, BY=padded(bins_y), BX=padded(bins_x), **config)
    return out


def maps_gradient(
    grad: Tensor,
    rois: Tensor,
    size: tuple[int, int, int, int, int],
    scale: float,
    deterministic: bool,
) -> Tensor:
    """``size`` = (N, H, W, P, Q) float32 from ``grad`` (K,); ``deterministic`` fixes the order of the sums."""
    images, height, width, bins_y, bins_x = size
    count = grad.shape[0]
    out = torch.zeros(size, device=grad.device)
    if out.numel() == 0 or count == 0:
        return out
    y, x = axes_of(rois, images, height, width, bins_y, bins_x, scale, derivatives=False)
    tables = (y.weights, x.weights, y.place, x.place)
    shape, bins = {"rois": count, "bins": bins_y * bins_x}, {"BY": padded(bins_y), "BX": padded(bins_x)}
    if deterministic:
        config = launch_config(GATHER, shape, {"num_warps": 1})
        cells = (height * width, images)
        _gather[cells](grad, *tables, out, count, height, width, bins_y, bins_x, **bins, **config)
    else:
        config = launch_config(SCATTER, shape, {"num_warps": 1})
        grid = (count,)
        _scatter[grid](grad, *tables, out, height, width, bins_y, bins_x, **bins, **config)
    return out


def rois_gradient(maps: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    """(K, 5) float64; the image index has gradient 0."""
    images, height, width, bins_y, bins_x = maps.shape
    count = rois.shape[0]
    out = torch.empty((count, 5), dtype=torch.float64, device=maps.device)
    if count == 0:
        return out
    y, x = axes_of(rois, images, height, width, bins_y, bins_x, scale, derivatives=True)
    tables = (y.weights, y.by_low, y.by_high, x.weights, x.by_low, x.by_high, y.place, x.place)
    config = launch_config(EDGES, {"rois": count, "bins": bins_y * bins_x}, {"num_warps": 1})
    sizes = (height, width, bins_y, bins_x)
    _edges[(count,)](maps, grad, *tables, out, *sizes, BY=padded(bins_y), BX=padded(bins_x), **config)
    return out.mul_(scale)


_SIZES = dict.fromkeys(("height", "width", "bins_y", "bins_x"), "i32")
_TABLES = {"wy": "*fp32", "wx": "*fp32", "at_y": "*i32", "at_x": "*i32"}
_SLOPES = dict.fromkeys(("wy", "ly", "hy", "wx", "lx", "hx"), "*fp32")
_BINS = {"BY": 8, "BX": 8}

BUILDS: tuple[Build, ...] = (
    Build(_sum, {"maps": "*fp32", **_TABLES, "out": "*fp32", **_SIZES}, _BINS, num_warps=1),
    Build(_scatter, {"grad": "*fp32", **_TABLES, "out": "*fp32", **_SIZES}, _BINS, num_warps=1),
    Build(_gather, {"grad": "*fp32", **_TABLES, "out": "*fp32", "count": "i32", **_SIZES}, _BINS, num_warps=1),
    Build(
        _edges,
        {
            **dict.fromkeys(("maps", "grad", *_SLOPES), "*fp32"),
            "at_y": "*i32",
            "at_x": "*i32",
            "out": "*fp64",
            **_SIZES,
        },
        _BINS,
        num_warps=1,
    ),
)

"""Weights of the bins of RoIs along one axis, as tables that the pooling kernels read.

The surface is separable, so all that a RoI needs of an axis is w[cell, bin], the mean of the cell's hat over the bin.
The tables are a fraction of what is pooled, and the arithmetic in float64 stays in this one small kernel.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build

__all__ = ["BUILDS", "Axis", "axes_of", "padded"]

_BLOCK = 32  # cells per step


@triton.jit
def _clamp(x, low, high):
    raised = tl.where(x > low, x, low)
    return tl.where(raised < high, raised, high)


@triton.jit
def _hat(u):
    fall = 1.0 - tl.abs(u)
    return tl.where(fall > 0.0, fall, 0.0)


@triton.jit
def _integral(low, high):
    """∫ hat over [low, high]; the slopes apart, so that tiny bins keep their digits."""
    a = _clamp(low, -1.0, 0.0)
    b = _clamp(high, -1.0, 0.0)
    c = _clamp(low, 0.0, 1.0)
    d = _clamp(high, 0.0, 1.0)
    return (b - a) * (1.0 + 0.5 * (a + b)) + (d - c) * (1.0 - 0.5 * (c + d))


@triton.jit
def _cells(low, high, size):
    """First cell that meets the open support of [low, high], and how many do."""
    top = tl.zeros((), tl.float64) + size
    a = _clamp(low, 0.0, top)
    b = _clamp(high, -1.0, top)
    first = tl.floor(a).to(tl.int32)
    last = tl.floor(b + 1.0)
    last = tl.where(last == b + 1.0, last - 1.0, last)  # a whole b ends its cell's support
    last = tl.where(last > top - 1.0, top - 1.0, last).to(tl.int32)
    return first, tl.where(last >= first, last - first + 1, 0)


@triton.jit
def _image(index, images):
    """Image of an index column: the nearest whole number, or −1 where it is none of 0 … images − 1 (to 10⁻³)."""
    inside = (index >= -1e-3) & (index <= images - 1.0 + 1e-3)
    nearest = tl.floor(tl.where(inside, index, 0.0) + 0.5)
    near = tl.abs(tl.where(inside, index, 0.0) - nearest) <= 1e-3
    return tl.where(inside & near, nearest, -1.0).to(tl.int32)


@triton.jit(do_not_specialize=["images", "size", "bins", "scale", "scale_rest", "column"])
def _axis(
    rois, weights, by_low, by_high, place, images, size, bins, scale, scale_rest, column,
    DERIVATIVES: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Tables (K, size, bins) of one axis, and (K, 4) of image, kind, first cell, cells."""
    k = tl.program_id(0).to(tl.int64)
    row = rois + 5 * k
    image = _image(tl.load(row).to(tl.float64), images)
    per_px = tl.zeros((), tl.float64) + scale + scale_rest
    x1 = tl.load(row + 1).to(tl.float64) * per_px
    y1 = tl.load(row + 2).to(tl.float64) * per_px
    x2 = tl.load(row + 3).to(tl.float64) * per_px
    y2 = tl.load(row + 4).to(tl.float64) * per_px
    wide = x2 - x1
    tall = y2 - y1
    # v − v is 0 for finite v and NaN otherwise.
    defined = (image >= 0) & (wide - wide == 0.0) & (tall - tall == 0.0)
    proper = defined & (wide > 0.0) & (tall > 0.0)
    low = tl.where(proper, tl.where(column == 0, x1, y1), 0.0)
    extent = tl.where(proper, tl.where(column == 0, wide, tall), 1.0)
    first, count = _cells(low, low + extent, size)
    count = tl.where(proper, count, 0)
    out = place + 4 * k
    tl.store(out, tl.where(image >= 0, image, 0))
    tl.store(out + 1, tl.where(proper, 0, tl.where(defined, 1, 2)))
    tl.store(out + 2, first)
    tl.store(out + 3, count)
    n = tl.zeros((), tl.float64) + bins
    q = tl.arange(0, BINS)
    here = q.to(tl.float64) / n
    there = (q + 1).to(tl.float64) / n
    per_width = n / extent
    for start in range(0, count, BLOCK):
        cell = first + start + tl.arange(0, BLOCK)
        at = cell.to(tl.float64)[:, None]
        begin = low + extent * here[None, :] - at
        end = low + extent * there[None, :] - at
        mean = _integral(begin, end) * per_width
        to = (k * size + cell.to(tl.int64))[:, None] * bins + q[None, :]
        inside = (cell < first + count)[:, None] & (q < bins)[None, :]
        tl.store(weights + to, mean.to(tl.float32), mask=inside)
        if DERIVATIVES:
            fore = _hat(begin)
            aft = _hat(end)
            low_slope = per_width * (aft * (1.0 - there[None, :]) - fore * (1.0 - here[None, :]) + mean / n)
            high_slope = per_width * (aft * there[None, :] - fore * here[None, :] - mean / n)
            tl.store(by_low + to, low_slope.to(tl.float32), mask=inside)
            tl.store(by_high + to, high_slope.to(tl.float32), mask=inside)


class Axis(NamedTuple):
    """Tables of one axis; only the cells that a RoI meets are written.

    Args:
        weights: (K, size, bins), mean of the cell's hat over the bin.
        by_low: its derivative in the RoI's lower edge, or ``weights`` again where none was asked for.
        by_high: in the upper edge.
        place: (K, 4) int32: image (0 where there is none), kind (0 proper, 1 empty, 2 undefined), first cell, cells.
    """

    weights: Tensor
    by_low: Tensor
    by_high: Tensor
    place: Tensor


def padded(count: int) -> int:
    """The power of two that holds so many."""
    return int(triton.next_power_of_2(count))


def axes_of(
    rois: Tensor, images: int, height: int, width: int, bins_y: int, bins_x: int, scale: float, derivatives: bool
) -> tuple[Axis, Axis]:
    """Tables of y and of x for contiguous rois (K, 5), float32 or float64, K > 0."""
    count = rois.shape[0]
    # A number reaches a kernel as float32: what that loses goes along apart.
    rounded = struct.unpack("f", struct.pack("f", scale))[0]

    def one(size: int, bins: int, column: int) -> Axis:
        tables = [torch.empty((count, size, bins), device=rois.device) for _ in range(3 if derivatives else 1)]
        by_low, by_high = tables[1:] if derivatives else (tables[0], tables[0])
        place = torch.empty((count, 4), dtype=torch.int32, device=rois.device)
        sizes = (images, size, bins, rounded, scale - rounded, column)
        _axis[(count,)](rois, tables[0], by_low, by_high, place, *sizes, derivatives, padded(bins), _BLOCK, num_warps=2)
        return Axis(tables[0], by_low, by_high, place)

    return one(height, bins_y, 1), one(width, bins_x, 0)


def _build(rois: str, derivatives: bool, bins: int) -> Build:
    tables = dict.fromkeys(("weights", "by_low", "by_high"), "*fp32")
    sizes = {"images": "i32", "size": "i32", "bins": "i32", "scale": "fp32", "scale_rest": "fp32", "column": "i32"}
    constants = {"DERIVATIVES": derivatives, "BINS": bins, "BLOCK": _BLOCK}
    return Build(_axis, {"rois": f"*{rois}", **tables, "place": "*i32", **sizes}, constants, num_warps=2)


BUILDS: tuple[Build, ...] = (_build("fp32", False, 8), _build("fp64", True, 8), _build("fp32", True, 4))

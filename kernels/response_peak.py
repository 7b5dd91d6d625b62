"""Peak, sub-cell position and peak-to-sidelobe ratio of response maps: one program per map, one pass over it.

Each lane keeps the first of its largest values; the smallest index among the lanes that hold the maximum is the
first in row-major order. Sums run in float64 over v − v[0], so a flat map has spread exactly 0.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "response_peak"]

SPACE = Space("response_peak.peak", BLOCK=(512, 1024, 2048, 4096), num_warps=(4, 8, 16))


@triton.jit
def _refined(peak, top, at, size, stride):
    """Place ``at`` of the peak along one axis, moved to the top of the parabola through its two neighbours."""
    inner = (at > 0) & (at + 1 < size)
    before = tl.load(peak - stride, mask=inner, other=0.0).to(tl.float64)
    after = tl.load(peak + stride, mask=inner, other=0.0).to(tl.float64)
    bend = before - 2.0 * top + after
    bent = inner & (bend < 0.0) & (bend > -float("inf"))  # else flat, or a neighbour is infinite
    shift = 0.5 * (before - after) / tl.where(bent, bend, -1.0)
    shift = tl.where(shift < -0.5, -0.5, tl.where(shift > 0.5, 0.5, shift))
    return at.to(tl.float64) + tl.where(bent, shift, 0.0)


@triton.jit(do_not_specialize=["height", "width", "stride_map", "stride_row", "stride_column"])
def _peak(
    maps, out, height, width, stride_map, stride_row, stride_column,
    FLAT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    values = maps + t * stride_map
    n = height * width
    origin = tl.load(values).to(tl.float64)
    lanes = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), -float("inf"), tl.float32)
    best_at = tl.zeros((BLOCK,), tl.int32)
    total = tl.zeros((BLOCK,), tl.float64)
    square = tl.zeros((BLOCK,), tl.float64)
    nans = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n, BLOCK):
        at = start + lanes
        inside = at < n
        if FLAT:  # rows follow each other: no division per value
            offset = at.to(tl.int64)
        else:
            offset = (at // width).to(tl.int64) * stride_row + (at % width).to(tl.int64) * stride_column
        v = tl.load(values + offset, mask=inside, other=-float("inf")).to(tl.float32)
        larger = v > best
        best = tl.where(larger, v, best)
        best_at = tl.where(larger, at, best_at)
        nans |= tl.where(v != v, 1, 0)
        d = tl.where(inside, v.to(tl.float64) - origin, 0.0)
        total += d
        square += d * d
    top = tl.max(best, 0)
    first = tl.min(tl.where(best == top, best_at, n), 0)
    i = first // width
    j = first - i * width
    peak = values + i.to(tl.int64) * stride_row + j.to(tl.int64) * stride_column
    high = top.to(tl.float64)
    y = _refined(peak, high, i, height, stride_row)
    x = _refined(peak, high, j, width, stride_column)
    mean = tl.sum(total, 0) / n
    spread = tl.sum(square, 0) / n - mean * mean  # negative only by rounding; NaN when a value is infinite
    ratio = (high - origin - mean) / tl.sqrt(tl.where(spread <= 0.0, 1.0, spread))
    ratio = tl.where(spread <= 0.0, 0.0, ratio)
    broken = tl.max(nans, 0) > 0
    nan = float("nan")
    to = out + 4 * t
    tl.store(to, tl.where(broken, nan, y.to(tl.float32)))
    tl.store(to + 1, tl.where(broken, nan, x.to(tl.float32)))
    tl.store(to + 2, tl.where(broken, nan, top))
    tl.store(to + 3, tl.where(broken, nan, ratio.to(tl.float32)))


def response_peak(maps: Tensor) -> Tensor:
    """(T, 4) rows (row, column, score, psr), float32, of (T, H, W) maps of float32 or a half type, any strides."""
    count, height, width = maps.shape
    out = torch.empty((count, 4), dtype=torch.float32, device=maps.device)
    if count == 0:
        return out
    large = height * width > 4096
    config = launch_config(
        SPACE,
        {"maps": count, "cells": height * width},
        default={"BLOCK": 4096 if large else 1024, "num_warps": 16 if large else 4},
    )
    flat = (width == 1 or maps.stride(2) == 1) and (height == 1 or maps.stride(1) == width)
    _peak[(count,)](maps, out, height, width, *maps.stride(), flat, **config)
    return out


def _build(dtype: str, flat: bool, block: int, warps: int) -> Build:
    sizes = {"height": "i32", "width": "i32", "stride_map": "i64", "stride_row": "i64", "stride_column": "i64"}
    return Build(_peak, {"maps": f"*{dtype}", "out": "*fp32", **sizes}, {"FLAT": flat, "BLOCK": block}, num_warps=warps)


BUILDS: tuple[Build, ...] = (
    _build("fp32", True, 4096, 16),
    _build("fp32", True, 1024, 4),
    _build("fp32", False, 1024, 4),
    _build("fp16", True, 1024, 4),
    _build("bf16", False, 4096, 16),
)

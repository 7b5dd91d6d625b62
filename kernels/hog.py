"""Histograms of oriented gradients (Felzenszwalb et al. 2010): gradients, votes into cells, normalisation.

A cell gathers the votes of the pixels around it, so nothing is added atomically and two runs give the same bits.
Its 18 bins lie in a tile of (half, direction, cell) with the cells across the lanes: one thread holds all bins of
its cell. Gradients have a kernel of their own, because each pixel votes into four cells.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "hog"]

CLIP = tl.constexpr(0.2)
EPSILON = tl.constexpr(1e-4)
ENERGY_GAIN = tl.constexpr(0.2357)
# Tangents of 10°, 30°, 50°, 70°: the borders between the directions 0°, 20°, … 80°.
TAN_10 = tl.constexpr(0.17632698070846498)
TAN_30 = tl.constexpr(0.57735026918962576)
TAN_50 = tl.constexpr(1.19175359259420996)
TAN_70 = tl.constexpr(2.74747741945462228)

GRADIENTS = Space("hog.gradients", BLOCK=(128, 256), num_warps=(4, 8))
VOTES = Space("hog.votes", BLOCK=(32, 64, 128), num_warps=(1, 2, 4))
NORMS = Space("hog.describe", BLOCK=(64, 128, 256), num_warps=(2, 4))


@triton.jit(do_not_specialize=["height", "width", "stride_patch", "stride_c", "stride_y"])
def _gradients(
    patches, magnitudes, directions, height, width, stride_patch, stride_c, stride_y, stride_x,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Magnitude and direction of each pixel's gradient from the channel where it is largest (ties: the first)."""
    t = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    ok = at < height * width
    y = at // width
    x = at - y * width
    pixel = patches + t * stride_patch + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
    above, below = tl.where(y > 0, -stride_y, 0), tl.where(y + 1 < height, stride_y, 0)
    left, right = tl.where(x > 0, -stride_x, 0), tl.where(x + 1 < width, stride_x, 0)
    dx = tl.load(pixel + right, mask=ok, other=0.0) - tl.load(pixel + left, mask=ok, other=0.0)
    dy = tl.load(pixel + below, mask=ok, other=0.0) - tl.load(pixel + above, mask=ok, other=0.0)
    best = dx * dx + dy * dy
    for c in tl.static_range(1, CHANNELS):
        p = pixel + stride_c.to(tl.int64) * c
        u = tl.load(p + right, mask=ok, other=0.0) - tl.load(p + left, mask=ok, other=0.0)
        v = tl.load(p + below, mask=ok, other=0.0) - tl.load(p + above, mask=ok, other=0.0)
        square = u * u + v * v
        larger = square > best
        dx, dy = tl.where(larger, u, dx), tl.where(larger, v, dy)
        best = tl.where(larger, square, best)
    # Opposite directions are 9 apart: a gradient of the lower half is turned into the upper one. There the
    # direction follows from |dx|, |dy| and the side.
    lower = (dy < 0.0) | ((dy == 0.0) & (dx < 0.0))
    across = tl.where(lower, -dx, dx)
    flat, up = tl.abs(dx), tl.abs(dy)
    step = (up > flat * TAN_10).to(tl.int32) + (up > flat * TAN_30).to(tl.int32)
    step += (up > flat * TAN_50).to(tl.int32) + (up > flat * TAN_70).to(tl.int32)
    direction = tl.where(across < 0.0, 9 - step, step) + tl.where(lower, 9, 0)
    direction = tl.where(direction == 18, 0, direction)
    to = t * height * width + at
    tl.store(magnitudes + to, tl.sqrt(best), mask=ok)
    tl.store(directions + to, direction.to(tl.int8), mask=ok)


@triton.jit(do_not_specialize=["count", "height", "width", "rows", "columns"])
def _votes(
    magnitudes, directions, bins, energy, count, height, width, rows, columns,
    CELL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Bins of a cell from the pixels around it, and the energy of its nine unsigned directions."""
    cells = rows * columns
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = index < count.to(tl.int64) * cells
    t = index // cells
    at = (index - t * cells).to(tl.int32)
    i = at // columns
    j = at - i * columns
    half = tl.arange(0, 2)[:, None, None]
    turn = tl.arange(0, 16)[None, :, None]
    label = tl.where(turn < 9, 9 * half + turn, -1)
    votes = tl.zeros((2, 16, BLOCK), tl.float32)
    # Pixels whose bilinear weight in the cell is positive, as many on either side of its centre.
    REACH: tl.constexpr = 2 * CELL - CELL % 2
    top, left = i * CELL - CELL // 2, j * CELL - CELL // 2
    for p in range(0, REACH):
        y = top + p
        y_ok = ok & (y >= 0) & (y < rows * CELL)
        row = t * height * width + y.to(tl.int64) * width
        # 2·CELL times the distance from the cell's centre, in cells: whole numbers, the same for all cells
        weight_y = (2 * CELL - tl.abs(2 * p - (REACH - 1))) * (1.0 / (4.0 * CELL * CELL))
        for q in range(0, REACH):
            x = left + q
            inside = y_ok & (x >= 0) & (x < columns * CELL)
            direction = tl.load(directions + row + x, mask=inside, other=0)
            vote = tl.load(magnitudes + row + x, mask=inside, other=0.0)
            vote *= weight_y * (2 * CELL - tl.abs(2 * q - (REACH - 1)))
            votes += tl.where(label == direction[None, None, :], vote[None, None, :], 0.0)
    to = bins + (t * 18 * cells + at)[None, None, :] + label * cells
    tl.store(to, votes, mask=(label >= 0) & ok[None, None, :])
    unsigned = tl.sum(votes, 0)
    tl.store(energy + index, tl.sum(unsigned * unsigned, 0), mask=ok)


@triton.jit
def _clipped(v):
    return tl.where(v > CLIP, CLIP, v)  # keeps NaN


@triton.jit(do_not_specialize=["count", "rows", "columns"])
def _describe(bins, energy, out, count, rows, columns, BLOCK: tl.constexpr):
    cells = rows * columns
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = index < count.to(tl.int64) * cells
    t = index // cells
    at = (index - t * cells).to(tl.int32)
    i = at // columns
    j = at - i * columns
    up, down = tl.where(i > 0, -columns, 0), tl.where(i + 1 < rows, columns, 0)
    left, right = tl.where(j > 0, -1, 0), tl.where(j + 1 < columns, 1, 0)
    e = energy + index
    here = tl.load(e, mask=ok, other=0.0)
    e_up, e_down = tl.load(e + up, mask=ok, other=0.0), tl.load(e + down, mask=ok, other=0.0)
    e_left, e_right = tl.load(e + left, mask=ok, other=0.0), tl.load(e + right, mask=ok, other=0.0)
    lower_right = here + e_down + e_right + tl.load(e + down + right, mask=ok, other=0.0)
    upper_right = here + e_up + e_right + tl.load(e + up + right, mask=ok, other=0.0)
    lower_left = here + e_down + e_left + tl.load(e + down + left, mask=ok, other=0.0)
    upper_left = here + e_up + e_left + tl.load(e + up + left, mask=ok, other=0.0)
    n0, n1 = 1.0 / tl.sqrt_rn(lower_right + EPSILON), 1.0 / tl.sqrt_rn(upper_right + EPSILON)
    n2, n3 = 1.0 / tl.sqrt_rn(lower_left + EPSILON), 1.0 / tl.sqrt_rn(upper_left + EPSILON)
    t0, t1 = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    t2, t3 = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    from_bins = bins + t * 18 * cells + at
    to = out + t * 31 * cells + at
    for o in range(9):
        v = tl.load(from_bins + o * cells, mask=ok, other=0.0)
        w = tl.load(from_bins + (o + 9) * cells, mask=ok, other=0.0)
        v0, v1, v2, v3 = _clipped(v * n0), _clipped(v * n1), _clipped(v * n2), _clipped(v * n3)
        tl.store(to + o * cells, 0.5 * (v0 + v1 + v2 + v3), mask=ok)
        w0, w1, w2, w3 = _clipped(w * n0), _clipped(w * n1), _clipped(w * n2), _clipped(w * n3)
        tl.store(to + (o + 9) * cells, 0.5 * (w0 + w1 + w2 + w3), mask=ok)
        t0, t1, t2, t3 = t0 + (v0 + w0), t1 + (v1 + w1), t2 + (v2 + w2), t3 + (v3 + w3)
        v += w
        both = _clipped(v * n0) + _clipped(v * n1) + _clipped(v * n2) + _clipped(v * n3)
        tl.store(to + (o + 18) * cells, 0.5 * both, mask=ok)
    tl.store(to + 27 * cells, t0 * ENERGY_GAIN, mask=ok)
    tl.store(to + 28 * cells, t1 * ENERGY_GAIN, mask=ok)
    tl.store(to + 29 * cells, t2 * ENERGY_GAIN, mask=ok)
    tl.store(to + 30 * cells, t3 * ENERGY_GAIN, mask=ok)


def hog(patches: Tensor, cell_size: int) -> Tensor:
    """(T, 31, h // cell_size, w // cell_size) float32 of (T, C, h, w) float32 patches, C = 1 or 3, any strides."""
    count, channels, height, width = patches.shape
    rows, columns = height // cell_size, width // cell_size
    cells, device = rows * columns, patches.device
    out = torch.empty((count, 31, rows, columns), dtype=torch.float32, device=device)
    if count == 0:
        return out
    magnitudes = torch.empty((count, height, width), dtype=torch.float32, device=device)
    directions = torch.empty((count, height, width), dtype=torch.int8, device=device)
    bins = torch.empty((count, 18, rows, columns), dtype=torch.float32, device=device)
    energy = torch.empty((count, rows, columns), dtype=torch.float32, device=device)

    config = launch_config(GRADIENTS, {"pixels": count * height * width}, default={"BLOCK": 256, "num_warps": 4})
    grid = (count, triton.cdiv(height * width, config["BLOCK"]))
    _gradients[grid](patches, magnitudes, directions, height, width, *patches.stride(), channels, **config)

    sizes = {"cells": count * cells}
    config = launch_config(VOTES, {**sizes, "cell_size": cell_size}, default={"BLOCK": 64, "num_warps": 4})
    grid_cells = (triton.cdiv(count * cells, config["BLOCK"]),)
    _votes[grid_cells](magnitudes, directions, bins, energy, count, height, width, rows, columns, cell_size, **config)

    config = launch_config(NORMS, sizes, default={"BLOCK": 128, "num_warps": 4})
    grid_cells = (triton.cdiv(count * cells, config["BLOCK"]),)
    _describe[grid_cells](bins, energy, out, count, rows, columns, **config)
    return out


def _gradients_build(channels: int) -> Build:
    pointers = {"patches": "*fp32", "magnitudes": "*fp32", "directions": "*i8"}
    strides = {"stride_patch": "i64", "stride_c": "i32", "stride_y": "i32", "stride_x": "i32"}
    signature = {**pointers, "height": "i32", "width": "i32", **strides}
    return Build(_gradients, signature, {"CHANNELS": channels, "BLOCK": 256}, num_warps=4)


def _votes_build(cell: int) -> Build:
    pointers = {"magnitudes": "*fp32", "directions": "*i8", "bins": "*fp32", "energy": "*fp32"}
    sizes = dict.fromkeys(("count", "height", "width", "rows", "columns"), "i32")
    return Build(_votes, {**pointers, **sizes}, {"CELL": cell, "BLOCK": 64}, num_warps=4)


_DESCRIBE = {**dict.fromkeys(("bins", "energy", "out"), "*fp32"), **dict.fromkeys(("count", "rows", "columns"), "i32")}

BUILDS: tuple[Build, ...] = (
    *(_gradients_build(channels) for channels in (1, 3)),
    *(_votes_build(cell) for cell in (1, 4, 6, 8)),
    Build(_describe, _DESCRIBE, {"BLOCK": 128}, num_warps=4),
)

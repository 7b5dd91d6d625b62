"""Steps of a trained reduction A of the channels, between the transforms of an iteration.

A target has R regressors w (R·D, kh, kw) on mixtures of the reduced channels, and one matrix A (D, C):

    u[c] = Σ_r m[r, c] Σ_d A[d, c]·w[r, d],   dA[d, c] = Σ_r m[r, c]·w[r, d]·G[c],   dw[r, d] = Σ_c m[r, c]·A[d, c]·G[c]

with u the kernel on the map and G the gradient in it. A single regressor has m = 1. ``mix`` is (R + 1, C): the rows of
m, then what the step size of each column of A is multiplied with. ``rates`` is (R, 2): what that of each regressor is
multiplied with, and its weight decay. All products are in float32; their sums run in one fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fasttrack.kernels._conv_products import DONE, STATE
from fasttrack.kernels._conv_state import SUMS, Param, Slot, adam

__all__ = ["compose", "slope", "step_matrix", "step_weight"]

_STATE, _DONE, _SUMS = tl.constexpr(STATE), tl.constexpr(DONE), tl.constexpr(SUMS)
_STEP_SIZE, _ROOT = tl.constexpr(Slot.STEP_SIZE.value), tl.constexpr(Slot.ROOT.value)
_RATE, _MATRIX_DECAY = tl.constexpr(Param.RATE.value), tl.constexpr(Param.MATRIX_DECAY.value)


@triton.jit
def _place(c, p, kw, tile_h, tile_w):
    """Where tap p of channel c lies among tiles of channels."""
    return c.to(tl.int64) * tile_h * tile_w + (p // kw) * tile_w + p % kw


@triton.jit
def _mixed(matrix, mix, k, c, reduced, inside, channels):
    """m[r, c]·A[d, c] of the rows k = r·D + d."""
    a = tl.load(matrix + (k % reduced).to(tl.int64) * channels + c, mask=inside, other=0.0)
    return a * tl.load(mix + (k // reduced).to(tl.int64) * channels + c, mask=inside, other=0.0)


@triton.jit
def compose(
    weight, matrix, mix, padded, state, reduced, rows, channels, kh, kw, tile_h, tile_w,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The kernel u on the map, in tiles for the next transform."""
    target = tl.program_id(2).to(tl.int64)
    if tl.load(state + target * _STATE + _DONE) != 0:
        return
    taps = kh * kw
    c = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    p = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    weight += target * rows * taps
    matrix += target * reduced * channels
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, rows, DEPTH):
        k = start + tl.arange(0, DEPTH)
        inside = (c < channels)[:, None] & (k < rows)[None, :]
        a = _mixed(matrix, mix, k[None, :], c[:, None], reduced, inside, channels)
        cells = (k < rows)[:, None] & (p < taps)[None, :]
        b = tl.load(weight + k.to(tl.int64)[:, None] * taps + p[None, :], mask=cells, other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    padded += target * channels * tile_h * tile_w
    tl.store(
        padded + _place(c[:, None], p[None, :], kw, tile_h, tile_w), total,
        mask=(c < channels)[:, None] & (p < taps)[None, :],
    )  # fmt: skip


@triton.jit
def slope(
    gradient, matrix, mix, slopes, state, reduced, rows, channels, kh, kw, tile_h, tile_w, scale,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Gradient in the regressors, from the one in the kernel on the map and A as it still is."""
    target = tl.program_id(2).to(tl.int64)
    if tl.load(state + target * _STATE + _DONE) != 0:
        return
    taps = kh * kw
    k = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    p = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    gradient += target * channels * tile_h * tile_w
    matrix += target * reduced * channels
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, channels, DEPTH):
        c = start + tl.arange(0, DEPTH)
        inside = (k < rows)[:, None] & (c < channels)[None, :]
        a = _mixed(matrix, mix, k[:, None], c[None, :], reduced, inside, channels)
        cells = (c < channels)[:, None] & (p < taps)[None, :]
        b = tl.load(gradient + _place(c[:, None], p[None, :], kw, tile_h, tile_w), mask=cells, other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    out = slopes + target * rows * taps + k.to(tl.int64)[:, None] * taps + p[None, :]
    tl.store(out, total * scale, mask=(k < rows)[:, None] & (p < taps)[None, :])


@triton.jit
def _stepped(parameter, moments, at, second, inside, gradient, rate, decay, state, params, sums, ADAM: tl.constexpr):
    """Step of Adam or gradient descent on the parameters at ``at``; their share λp² of the objective is stored."""
    value = tl.load(parameter + at, mask=inside, other=0.0)
    gradient += 2.0 * decay * value
    if ADAM:
        size, root = tl.load(state + _STEP_SIZE).to(tl.float32), tl.load(state + _ROOT).to(tl.float32)
        mean = tl.load(moments + at, mask=inside, other=0.0)
        square = tl.load(moments + second + at, mask=inside, other=0.0)
        value, mean, square = adam(value, gradient, mean, square, size * rate, root)
        tl.store(moments + at, mean, mask=inside)
        tl.store(moments + second + at, square, mask=inside)
    else:
        value -= tl.load(params + _RATE).to(tl.float32) * rate * gradient
    tl.store(parameter + at, value, mask=inside)
    tl.store(sums + 4, tl.sum(tl.where(inside, decay * value * value, 0.0)).to(tl.float64))


@triton.jit
def step_matrix(
    gradient, weight, matrix, moments, mix, partial, blocks, state, params, second, reduced, rows, channels, kh, kw,
    tile_h, tile_w, scale,
    ADAM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Gradient in A from the regressors as they still are, and its step; sums into the last rows of ``partial``."""
    target = tl.program_id(2).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    taps = kh * kw
    d = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    gradient += target * channels * tile_h * tile_w
    weight += target * rows * taps
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for r in range(0, rows // reduced):
        part = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for start in range(0, taps, DEPTH):
            p = start + tl.arange(0, DEPTH)
            cells = (d < reduced)[:, None] & (p < taps)[None, :]
            a = tl.load(weight + (r * reduced + d).to(tl.int64)[:, None] * taps + p[None, :], mask=cells, other=0.0)
            places = _place(c[None, :], p[:, None], kw, tile_h, tile_w)
            b = tl.load(gradient + places, mask=(p < taps)[:, None] & (c < channels)[None, :], other=0.0)
            part = tl.dot(a, b, part, input_precision="ieee")
        total += part * tl.load(mix + r * channels + c, mask=c < channels, other=0.0)[None, :]
    inside = (d < reduced)[:, None] & (c < channels)[None, :]
    at = target * reduced * channels + d.to(tl.int64)[:, None] * channels + c[None, :]
    rate = tl.load(mix + rows // reduced * channels + c, mask=c < channels, other=0.0)[None, :]
    decay = tl.load(params + _MATRIX_DECAY).to(tl.float32)
    count = tl.num_programs(0) * tl.num_programs(1)
    row = (target + 1) * blocks - count + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    sums = partial + row * _SUMS
    _stepped(matrix, moments, at, second, inside, total * scale, rate, decay, state, params, sums, ADAM)


@triton.jit
def step_weight(
    slopes, weight, moments, rates, partial, blocks, state, params, second, count, each,
    ADAM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Step of the regressors, ``each`` weights apiece; sums into the first rows of ``partial``."""
    target = tl.program_id(1).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < count
    own = rates + 2 * (n // each)
    rate, decay = tl.load(own, mask=inside, other=0.0), tl.load(own + 1, mask=inside, other=0.0)
    gradient = tl.load(slopes + target * count + n, mask=inside, other=0.0)
    sums = partial + (target * blocks + tl.program_id(0)) * _SUMS
    _stepped(weight, moments, target * count + n, second, inside, gradient, rate, decay, state, params, sums, ADAM)

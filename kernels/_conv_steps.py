"""Between the transforms of an iteration: the loss on tiles of responses, the updates on blocks of weights.

Tiles lie as (T·tiles, th, tw), weights and their gradients' tiles as (T, C, …). What a tile's cells are is in its row
of the table. The functions without a leading underscore are the same steps for kernels that transform as well.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fasttrack.kernels._conv_products import DONE, STATE, TABLE
from fasttrack.kernels._conv_state import BIAS, SUMS, Param, Slot, adam
from fasttrack.kernels._losses import loss_at, position_weight

__all__ = ["advanced", "curved", "directed", "measured", "placed", "residual_of", "updated"]

_TABLE, _STATE, _DONE = tl.constexpr(TABLE), tl.constexpr(STATE), tl.constexpr(DONE)
_BIAS, _SUMS = tl.constexpr(BIAS), tl.constexpr(SUMS)
_STEP_SIZE, _ROOT = tl.constexpr(Slot.STEP_SIZE.value), tl.constexpr(Slot.ROOT.value)
_STARTED, _ALONG, _KEEP = (tl.constexpr(s.value) for s in (Slot.STARTED, Slot.ALONG, Slot.KEEP))
_RATE, _DECAY = tl.constexpr(Param.RATE.value), tl.constexpr(Param.DECAY.value)
_A, _C = tl.constexpr(Param.A.value), tl.constexpr(Param.C.value)


@triton.jit
def placed(row, i, j, step_h, step_w):
    """Cells (i, j) of the tile of a row: whether they are positions of the map, and their addresses in its targets."""
    y, x = i + tl.load(row + 2), j + tl.load(row + 3)
    columns = tl.load(row + 5)
    inside = (i < step_h) & (j < step_w) & (y < tl.load(row + 4)) & (x < columns)
    return inside, tl.load(row + 1).to(tl.pointer_type(tl.float32)) + y * columns + x


@triton.jit
def _sums(sums, loss, slope, response, inside):
    tl.store(sums, tl.sum(tl.where(inside, loss, 0.0)).to(tl.float64))
    tl.store(sums + 1, tl.sum(tl.where(inside, slope, 0.0)).to(tl.float64))
    tl.store(sums + 2, tl.sum(tl.where(inside, response, 0.0)).to(tl.float64))
    tl.store(sums + 3, tl.max(tl.where(inside, response, float("-inf"))).to(tl.float64))


@triton.jit
def measured(response, inside, targets, params, sums, FORM: tl.constexpr):
    """Loss at a block of positions: its sums stored, its gradient (0 where no position is) returned."""
    y = tl.load(targets, mask=inside, other=0.0)
    a, c = tl.load(params + _A).to(tl.float32), tl.load(params + _C).to(tl.float32)
    value, slope = loss_at(response, y, a, c, FORM)
    _sums(sums, value, slope, response, inside)
    return tl.where(inside, slope, 0.0)


@triton.jit
def curved(image, inside, targets, params, sums, FORM: tl.constexpr):
    """Store Σ W(y)·q² over a block of positions."""
    y = tl.load(targets, mask=inside, other=0.0)
    weight = position_weight(y, tl.load(params + _A).to(tl.float32), FORM)
    tl.store(sums, tl.sum(tl.where(inside, weight * image * image, 0.0)).to(tl.float64))


@triton.jit
def advanced(image, before, inside, targets, state, params, sums, FORM: tl.constexpr):
    """Response after the step along an image, and the residual W(y)·(y − R) there; the sums of the loss stored."""
    along = tl.load(state + _ALONG).to(tl.float32)
    response = tl.where(tl.load(state + _STARTED) != 0, before + along * image, image)
    y = tl.load(targets, mask=inside, other=0.0)
    a, c = tl.load(params + _A).to(tl.float32), tl.load(params + _C).to(tl.float32)
    value, _ = loss_at(response, y, a, c, FORM)
    residual = position_weight(y, a, FORM) * (y - response)
    _sums(sums, value, residual, response, inside)
    return response, tl.where(inside, residual, 0.0)


@triton.jit
def updated(gradient, weight, moments, at, second, inside, state, params, ADAM: tl.constexpr):
    """Step of Adam or gradient descent on the weights at ``at``, moments stored; returns the new weights."""
    value = tl.load(weight + at, mask=inside, other=0.0)
    gradient += 2.0 * tl.load(params + _DECAY).to(tl.float32) * value
    if ADAM:
        size, root = tl.load(state + _STEP_SIZE).to(tl.float32), tl.load(state + _ROOT).to(tl.float32)
        mean = tl.load(moments + at, mask=inside, other=0.0)
        square = tl.load(moments + second + at, mask=inside, other=0.0)
        value, mean, square = adam(value, gradient, mean, square, size, root)
        tl.store(moments + at, mean, mask=inside)
        tl.store(moments + second + at, square, mask=inside)
    else:
        value -= tl.load(params + _RATE).to(tl.float32) * gradient
    tl.store(weight + at, value, mask=inside)
    return tl.where(inside, value, 0.0)


@triton.jit
def residual_of(gradient, weight, moments, at, second, inside, state, params, sums):
    """Step along the direction (second of ``moments``), then the new residual −½∇ (the first), its sums stored."""
    value = tl.load(weight + at, mask=inside, other=0.0)
    if tl.load(state + _STARTED) != 0:
        along = tl.load(state + _ALONG).to(tl.float32)
        value += along * tl.load(moments + second + at, mask=inside, other=0.0)
        tl.store(weight + at, value, mask=inside)
    before = tl.load(moments + at, mask=inside, other=0.0)
    residual = tl.where(inside, gradient - tl.load(params + _DECAY).to(tl.float32) * value, 0.0)
    tl.store(moments + at, residual, mask=inside)
    tl.store(sums, tl.sum(residual * residual).to(tl.float64))
    tl.store(sums + 1, tl.sum(residual * (residual - before)).to(tl.float64))


@triton.jit
def directed(moments, at, second, inside, state, sums):
    """New direction from residual and old direction, its sums stored."""
    residual = tl.load(moments + at, mask=inside, other=0.0)
    keep = tl.load(state + _KEEP).to(tl.float32)
    direction = residual + keep * tl.load(moments + second + at, mask=inside, other=0.0)
    tl.store(moments + second + at, direction, mask=inside)
    tl.store(sums + 2, tl.sum(residual * direction).to(tl.float64))
    tl.store(sums + 3, tl.sum(direction * direction).to(tl.float64))
    return direction


@triton.jit
def _cells(tile_w, BLOCK: tl.constexpr):
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return n, n // tile_w, n % tile_w


@triton.jit
def measure_tiles(
    table, tiles_at, partial, state, params, bias, tiles, tile_h, tile_w, step_h, step_w, scale,
    FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Responses of the tiles, unscaled and without bias, become the gradient of the loss in them."""
    tile = tl.program_id(1).to(tl.int64)
    target = tile // tiles
    if tl.load(state + target * _STATE + _DONE) != 0:
        return
    n, i, j = _cells(tile_w, BLOCK)
    within = n < tile_h * tile_w
    cells = tiles_at + tile * tile_h * tile_w + n
    inside, targets = placed(table + tile * _TABLE, i, j, step_h, step_w)
    response = tl.load(cells, mask=within, other=0.0) * scale + tl.load(bias + target * _BIAS)
    sums = partial + (tile * tl.num_programs(0) + tl.program_id(0)) * _SUMS
    tl.store(cells, measured(response, inside, targets, params, sums, FORM), mask=within)


@triton.jit
def curve_tiles(
    table, tiles_at, partial, state, params, bias, tiles, tile_h, tile_w, step_h, step_w, scale,
    FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Images of the directions, unscaled and without bias, are finished; Σ W·q² is stored."""
    tile = tl.program_id(1).to(tl.int64)
    target = tile // tiles
    if tl.load(state + target * _STATE + _DONE) != 0:
        return
    n, i, j = _cells(tile_w, BLOCK)
    within = n < tile_h * tile_w
    cells = tiles_at + tile * tile_h * tile_w + n
    inside, targets = placed(table + tile * _TABLE, i, j, step_h, step_w)
    image = tl.load(cells, mask=within, other=0.0) * scale + tl.load(bias + target * _BIAS + 3)
    curved(image, inside, targets, params, partial + (tile * tl.num_programs(0) + tl.program_id(0)) * _SUMS, FORM)
    tl.store(cells, image, mask=within)


@triton.jit
def advance_tiles(
    table, tiles_at, responses, partial, state, params, tiles, tile_h, tile_w, step_h, step_w,
    FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Responses go along the images, which become the residuals there."""
    tile = tl.program_id(1).to(tl.int64)
    target = tile // tiles
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    n, i, j = _cells(tile_w, BLOCK)
    within = n < tile_h * tile_w
    cells = tile * tile_h * tile_w + n
    inside, targets = placed(table + tile * _TABLE, i, j, step_h, step_w)
    image = tl.load(tiles_at + cells, mask=within, other=0.0)
    before = tl.load(responses + cells, mask=inside & within, other=0.0)
    sums = partial + (tile * tl.num_programs(0) + tl.program_id(0)) * _SUMS
    response, residual = advanced(image, before, inside, targets, state, params, sums, FORM)
    tl.store(responses + cells, response, mask=inside & within)
    tl.store(tiles_at + cells, residual, mask=within)


@triton.jit
def _taps(count, kh, kw, tile_h, tile_w, BLOCK: tl.constexpr):
    """Weights of a block: their numbers within a target, whether they are, and their places in tiles of channels."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = (n // (kh * kw)).to(tl.int64) * tile_h * tile_w + (n // kw % kh) * tile_w + n % kw
    return n, n < count, place


@triton.jit
def update_weights(
    gradient, weight, moments, padded, state, params, count, second, kh, kw, tile_h, tile_w, tile_count, scale,
    ADAM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of Adam or gradient descent; ``padded`` gets the weights in tiles for the next transform."""
    target = tl.program_id(1).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    n, inside, place = _taps(count, kh, kw, tile_h, tile_w, BLOCK)
    place += target * tile_count
    slope = tl.load(gradient + place, mask=inside, other=0.0) * scale
    value = updated(slope, weight, moments, target * count + n, second, inside, state, params, ADAM)
    tl.store(padded + place, value, mask=inside)


@triton.jit
def update_residual(
    gradient, weight, moments, partial, state, params, count, second, kh, kw, tile_h, tile_w, tile_count, scale,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Conjugate gradient: the step on the weights, and the new residual."""
    target = tl.program_id(1).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    n, inside, place = _taps(count, kh, kw, tile_h, tile_w, BLOCK)
    slope = tl.load(gradient + target * tile_count + place, mask=inside, other=0.0) * scale
    sums = partial + (target * tl.num_programs(0) + tl.program_id(0)) * _SUMS
    residual_of(slope, weight, moments, target * count + n, second, inside, state, params, sums)


@triton.jit
def update_direction(
    moments, padded, partial, state, count, second, kh, kw, tile_h, tile_w, tile_count, BLOCK: tl.constexpr
):  # fmt: skip
    """Conjugate gradient: the new direction; ``padded`` gets it in tiles for the next transform."""
    target = tl.program_id(1).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    n, inside, place = _taps(count, kh, kw, tile_h, tile_w, BLOCK)
    sums = partial + (target * tl.num_programs(0) + tl.program_id(0)) * _SUMS
    direction = directed(moments, target * count + n, second, inside, state, sums)
    tl.store(padded + target * tile_count + place, direction, mask=inside)

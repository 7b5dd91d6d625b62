"""What an optimisation keeps on the device, and the small kernels that decide there.

A target's ``state`` is one row of float64. Everything that the host would decide in a loop of its own (stop or go on,
step sizes, conjugacy) is decided by one program per target that only reads and writes this row; the other kernels
read it and do nothing for a target that is done. So any number of iterations can be started without a look at any.
"""

from __future__ import annotations

from enum import IntEnum

import triton
import triton.language as tl

from fasttrack.kernels._conv_products import DONE, STATE

__all__ = ["BIAS", "PARAMS", "SUMS", "Param", "Slot", "close_descent", "close_direction", "close_measure",
           "close_residual"]  # fmt: skip


class Slot(IntEnum):
    """Columns of ``state``."""

    STEP = 0  # updates made
    DONE = DONE
    ROWS = 2  # rows of history written
    POWER_1 = 3  # 0.9 and 0.999 to the number of Adam's updates so far
    POWER_2 = 4
    STEP_SIZE = 5  # of the update to come: lr/(1 − 0.9ⁿ)
    ROOT = 6  # and √(1 − 0.999ⁿ)
    STARTED = 7  # conjugate gradient: the response of the start is known
    STOP = 8  # conjugate gradient: this update was the last
    ALONG = 9  # length of the step
    KEEP = 10  # share of the old direction in the new one
    SQUARE = 11  # ‖residual‖²
    BIAS_RESIDUAL = 12
    BIAS_TURN = 13  # residual·(residual − the one before) of the bias
    MARK = 14  # objective that a run must fall below to go on
    SINCE = 15  # step at which it was set
    STALLED = 16
    SQUARES = 17  # conjugate gradient: Σ W·(y − R)²


class Param(IntEnum):
    """Entries of ``params``, float64, the same for all targets: numbers that may change without a new capture."""

    RATE = 0
    DECAY = 1
    A = 2
    C = 3
    TOLERANCE = 4  # negative: never stop
    LIMIT = 5  # updates at most
    EVALUATE = 6
    POSITIONS = 7  # of all maps of a target
    PATIENCE = 8  # steps without a thousandth of progress; 0: no end
    BIAS_RATE = 9  # what the step size of the bias is multiplied with
    MATRIX_DECAY = 10  # λ of a reduction
    PENALTY = 11  # what the blocks' last sums are multiplied with in the objective: λ, or 1 where it is in them


PARAMS = len(Param)
# Columns of ``bias``, float32: its value, Adam's two moments, its direction.
BIAS = 4
# Columns of the partial sums of an error, float64: loss, Σ gradient, Σ response, largest response. Those of blocks of
# the weight: ‖residual‖², residual·change, residual·direction, ‖direction‖². Last: Σ W·(y − R)², and ‖weight‖².
SUMS = 5

_STATE, _BIAS, _SUMS = tl.constexpr(STATE), tl.constexpr(BIAS), tl.constexpr(SUMS)
_STEP, _DONE, _ROWS = tl.constexpr(Slot.STEP.value), tl.constexpr(DONE), tl.constexpr(Slot.ROWS.value)
_POWER_1, _POWER_2 = tl.constexpr(Slot.POWER_1.value), tl.constexpr(Slot.POWER_2.value)
_STEP_SIZE, _ROOT = tl.constexpr(Slot.STEP_SIZE.value), tl.constexpr(Slot.ROOT.value)
_STARTED, _STOP = tl.constexpr(Slot.STARTED.value), tl.constexpr(Slot.STOP.value)
_ALONG, _KEEP, _SQUARE = tl.constexpr(Slot.ALONG.value), tl.constexpr(Slot.KEEP.value), tl.constexpr(Slot.SQUARE.value)
_BIAS_RESIDUAL, _BIAS_TURN = tl.constexpr(Slot.BIAS_RESIDUAL.value), tl.constexpr(Slot.BIAS_TURN.value)
_RATE, _DECAY, _TOLERANCE = (tl.constexpr(p.value) for p in (Param.RATE, Param.DECAY, Param.TOLERANCE))
_MARK, _SINCE = tl.constexpr(Slot.MARK.value), tl.constexpr(Slot.SINCE.value)
_STALLED, _SQUARES = tl.constexpr(Slot.STALLED.value), tl.constexpr(Slot.SQUARES.value)
_PATIENCE, _BIAS_RATE = tl.constexpr(Param.PATIENCE.value), tl.constexpr(Param.BIAS_RATE.value)
_PENALTY = tl.constexpr(Param.PENALTY.value)
_LIMIT, _EVALUATE, _POSITIONS = (tl.constexpr(p.value) for p in (Param.LIMIT, Param.EVALUATE, Param.POSITIONS))


@triton.jit
def _total(partial, count, column: tl.constexpr, BLOCK: tl.constexpr):
    """Sum of one column of ``count`` rows of partial sums."""
    total = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        total += tl.load(partial + i.to(tl.int64) * _SUMS + column, mask=i < count, other=0.0)
    return tl.sum(total, 0)


@triton.jit
def _record(partial, count, state, params, history, BLOCK: tl.constexpr):
    """Write loss and SNR into the next row of history; returns the loss."""
    peak = tl.full((BLOCK,), float("-inf"), tl.float64)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        here = tl.load(partial + i.to(tl.int64) * _SUMS + 3, mask=i < count, other=float("-inf"))
        peak = tl.maximum(peak, here)
    loss = _total(partial, count, 0, BLOCK)
    mean = _total(partial, count, 2, BLOCK) / tl.load(params + _POSITIONS)
    rows = tl.load(state + _ROWS)
    at = history + 2 * rows.to(tl.int64)
    tl.store(at, loss)
    tl.store(at + 1, tl.exp((tl.max(peak, 0) - mean).to(tl.float32)).to(tl.float64))
    tl.store(state + _ROWS, rows + 1)
    return loss


@triton.jit
def _below(loss, params):
    """Whether the loss lets the run end."""
    tolerance = tl.load(params + _TOLERANCE)
    return (tolerance >= 0) & (loss < tolerance)


@triton.jit
def _stalls(objective, state, params):
    """Whether the objective has not fallen by a thousandth for too many steps; its mark is kept."""
    step = tl.load(state + _STEP)
    mark, since = tl.load(state + _MARK), tl.load(state + _SINCE)
    falls = objective < 0.999 * mark
    since = tl.where(falls, step, since)
    tl.store(state + _MARK, tl.where(falls, objective, mark))
    tl.store(state + _SINCE, since)
    patience = tl.load(params + _PATIENCE)
    stalled = (patience > 0) & (step - since >= patience)
    tl.store(state + _STALLED, tl.where(stalled, 1.0, 0.0))
    return stalled


@triton.jit
def close_descent(
    partial, count, blocks, block_count, state, params, bias, history, capacity, ADAM: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """After the loss of an iterate: record it, stop or prepare the update, update the bias."""
    target = tl.program_id(0).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    step = tl.load(state + _STEP)
    last = step >= tl.load(params + _LIMIT)
    measured = (tl.load(params + _EVALUATE) != 0) | (step < tl.load(params + _LIMIT))
    partial += target * count * _SUMS
    stop = last
    if measured:
        loss = _record(partial, count, state, params, history + target * capacity * 2, BLOCK)
        stop = last | _below(loss, params)
        if stop == 0:
            square = _total(blocks + target * block_count * _SUMS, block_count, 4, BLOCK)
            stop = _stalls(loss + tl.load(params + _PENALTY) * square, state, params)
    if stop:
        tl.store(state + _DONE, 1.0)
    else:
        tl.store(state + _STEP, step + 1)
        rate, of_bias = tl.load(params + _RATE), tl.load(params + _BIAS_RATE)
        bias += target * _BIAS
        gradient = _total(partial, count, 1, BLOCK).to(tl.float32)
        value = tl.load(bias)
        if ADAM:
            power_1 = tl.load(state + _POWER_1) * 0.9
            power_2 = tl.load(state + _POWER_2) * 0.999
            size = rate / (1.0 - power_1)
            root = tl.sqrt(1.0 - power_2)
            tl.store(state + _POWER_1, power_1)
            tl.store(state + _POWER_2, power_2)
            tl.store(state + _STEP_SIZE, size)
            tl.store(state + _ROOT, root)
            value, mean, square = adam(
                value, gradient, tl.load(bias + 1), tl.load(bias + 2),
                (size * of_bias).to(tl.float32), root.to(tl.float32),
            )  # fmt: skip
            tl.store(bias + 1, mean)
            tl.store(bias + 2, square)
        else:
            value -= (rate * of_bias).to(tl.float32) * gradient
        tl.store(bias, value)


@triton.jit
def adam(value, gradient, mean, square, size, root):
    """``torch.optim.Adam``'s update (betas 0.9 and 0.999, eps 1e-8): value and both moments."""
    mean += (gradient - mean) * 0.1
    square = square * 0.999 + gradient * gradient * 0.001
    return value - size * mean / (tl.sqrt(square) / root + 1e-8), mean, square


@triton.jit
def close_direction(
    partial, count, blocks, block_count, state, params, bias, BLOCK: tl.constexpr
):  # fmt: skip
    """After the image q of a direction d: how far to go along it, r·d / (Σ W·q² + λ‖d‖²)."""
    target = tl.program_id(0).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    if tl.load(state + _STARTED) != 0:
        bias += target * _BIAS
        blocks += target * block_count * _SUMS
        direction = tl.load(bias + 3).to(tl.float64)
        curvature = _total(partial + target * count * _SUMS, count, 0, BLOCK)
        curvature += tl.load(params + _DECAY) * _total(blocks, block_count, 3, BLOCK)
        slope = _total(blocks, block_count, 2, BLOCK) + tl.load(state + _BIAS_RESIDUAL) * direction
        if curvature > 0:
            along = slope / curvature
            tl.store(state + _ALONG, along)
            tl.store(state + _STEP, tl.load(state + _STEP) + 1)
            tl.store(bias, (tl.load(bias) + along * direction).to(tl.float32))
        else:
            tl.store(state + _DONE, 1.0)


@triton.jit
def close_measure(partial, count, state, params, history, capacity, BLOCK: tl.constexpr):
    """After the response moved: record loss and SNR, note whether that was the last update."""
    target = tl.program_id(0).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    step = tl.load(state + _STEP)
    limit = tl.load(params + _LIMIT)
    partial += target * count * _SUMS
    stop = step >= limit
    if (tl.load(params + _EVALUATE) != 0) | (step < limit):
        loss = _record(partial, count, state, params, history + target * capacity * 2, BLOCK)
        stop = stop | _below(loss, params)
    tl.store(state + _STOP, tl.where(stop, 1.0, 0.0))
    tl.store(state + _SQUARES, _total(partial, count, 4, BLOCK))
    before = tl.load(state + _BIAS_RESIDUAL)
    residual = _total(partial, count, 1, BLOCK)
    tl.store(state + _BIAS_RESIDUAL, residual)
    tl.store(state + _BIAS_TURN, residual * (residual - before))


@triton.jit
def close_residual(blocks, block_count, state, params, bias, BLOCK: tl.constexpr):
    """After the new residual: end the run, or how much of the old direction to keep (Polak-Ribière, not negative)."""
    target = tl.program_id(0).to(tl.int64)
    state += target * _STATE
    if tl.load(state + _DONE) != 0:
        return
    blocks += target * block_count * _SUMS
    stop = tl.load(state + _STOP) != 0
    if stop == 0:
        square = _total(blocks, block_count, 4, BLOCK)
        stop = _stalls(tl.load(state + _SQUARES) + tl.load(params + _DECAY) * square, state, params)
    if stop:
        tl.store(state + _DONE, 1.0)
    else:
        bias += target * _BIAS
        residual = tl.load(state + _BIAS_RESIDUAL)
        turn = _total(blocks, block_count, 1, BLOCK) + tl.load(state + _BIAS_TURN)
        started = tl.load(state + _STARTED) != 0
        square = tl.load(state + _SQUARE)
        keep = tl.where(started & (turn > 0), turn / tl.where(started, square, 1.0), 0.0)
        tl.store(state + _KEEP, keep)
        tl.store(state + _SQUARE, _total(blocks, block_count, 0, BLOCK) + residual * residual)
        tl.store(bias + 3, (residual + keep * tl.load(bias + 3)).to(tl.float32))
        tl.store(state + _STARTED, 1.0)

"""The iterations with transforms by matrix products: each pass of tiles or weights is one kernel.

A tile of TH × TW cells (powers of two) has TH × TW/2 bins: the DFT along the height, the frequencies v + ½ along the
width (``_conv_tiles``). With C, S the cosines and sines of both, the unscaled inverse of (re, im) is

    a = C_h·re − S_h·im,  b = C_h·im + S_h·re,  x = a·C_w − b·S_w

and the transform of x is, with c = x·C_wᵀ and d = x·S_wᵀ,  re = C_h·c − S_h·d,  im = −C_h·d − S_h·c.
A program takes its tile ROWS rows at a time, each from the whole spectrum, and adds each one's share to the new
spectrum: so the operands of the products stay small. Rows without positions, or below a kernel, are never formed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fasttrack.kernels._conv_products import DONE, STATE, TABLE
from fasttrack.kernels._conv_state import BIAS, SUMS
from fasttrack.kernels._conv_steps import advanced, curved, directed, measured, placed, residual_of, updated

__all__ = ["advance", "curve", "direction", "inverse_tiles", "measure", "residual", "transform_weights", "update"]

_TABLE, _STATE, _DONE = tl.constexpr(TABLE), tl.constexpr(STATE), tl.constexpr(DONE)
_BIAS, _SUMS = tl.constexpr(BIAS), tl.constexpr(SUMS)


@triton.jit
def _dot(a, b, total, EXACT: tl.constexpr):
    """Sum of ``total`` and a·b in float32: plain, or as three products of tensor cores whose error is about 2⁻²²."""
    if EXACT:
        return tl.dot(a, b, total, input_precision="ieee")
    else:
        return tl.dot(a, b, total, input_precision="tf32x3")


@triton.jit
def _inverse(
    spectrum, im_at, waves, rows, columns,
    TH: tl.constexpr, TW: tl.constexpr, DEPTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Cells ``rows`` × ``columns`` of the tile whose bins lie at ``spectrum``, imaginary parts ``im_at`` further."""
    HALF: tl.constexpr = TW // 2
    v = tl.arange(0, HALF)
    a = tl.zeros((rows.shape[0], HALF), tl.float32)
    b = tl.zeros((rows.shape[0], HALF), tl.float32)
    for start in range(0, TH, DEPTH):
        u = start + tl.arange(0, DEPTH)
        bins = spectrum + u[:, None] * HALF + v[None, :]
        re, im = tl.load(bins), tl.load(bins + im_at)
        high = waves + rows[:, None] * TH + u[None, :]
        cosines, sines = tl.load(high), tl.load(high + TH * TH)
        a = _dot(sines, 0.0 - im, _dot(cosines, re, a, EXACT), EXACT)
        b = _dot(sines, re, _dot(cosines, im, b, EXACT), EXACT)
    wide = waves + 2 * TH * TH + v[:, None] * TW + columns[None, :]
    x = _dot(a, tl.load(wide), tl.zeros((rows.shape[0], columns.shape[0]), tl.float32), EXACT)
    return _dot(0.0 - b, tl.load(wide + HALF * TW), x, EXACT)


@triton.jit
def _transformed(
    cells, re, im, waves, rows, columns, TH: tl.constexpr, TW: tl.constexpr, EXACT: tl.constexpr
):  # fmt: skip
    """Spectrum (re, im) with the share of ``cells`` at ``rows`` × ``columns`` added."""
    HALF: tl.constexpr = TW // 2
    u, v = tl.arange(0, TH), tl.arange(0, HALF)
    wide = waves + 2 * TH * TH + v[None, :] * TW + columns[:, None]
    none = tl.zeros((rows.shape[0], HALF), tl.float32)
    c = _dot(cells, tl.load(wide), none, EXACT)
    d = _dot(0.0 - cells, tl.load(wide + HALF * TW), none, EXACT)
    high = waves + u[:, None] * TH + rows[None, :]
    cosines, sines = tl.load(high), tl.load(high + TH * TH)
    re = _dot(sines, d, _dot(cosines, c, re, EXACT), EXACT)
    im = _dot(sines, 0.0 - c, _dot(cosines, d, im, EXACT), EXACT)
    return re, im


@triton.jit
def _put(spectrum, im_at, re, im, TH: tl.constexpr, TW: tl.constexpr):
    bins = spectrum + tl.arange(0, TH)[:, None] * (TW // 2) + tl.arange(0, TW // 2)[None, :]
    tl.store(bins, re)
    tl.store(bins + im_at, im)


@triton.jit
def measure(
    table, product, error, partial, state, params, bias, waves, tiles, step_h, step_w, scale,
    FORM: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Response of a tile from its spectrum, the loss there, and the spectrum of its gradient."""
    tile = tl.program_id(0).to(tl.int64)
    target = tile // tiles
    if tl.load(state + target * _STATE + _DONE) != 0:
        return
    j = tl.arange(0, TW)
    size: tl.constexpr = TH * (TW // 2)
    sums = partial + tile * tl.cdiv(step_h, ROWS) * _SUMS
    offset = tl.load(bias + target * _BIAS)
    re = tl.zeros((TH, TW // 2), tl.float32)
    im = tl.zeros((TH, TW // 2), tl.float32)
    for start in range(0, step_h, ROWS):
        i = start + tl.arange(0, ROWS)
        response = _inverse(product + tile * size * 2, size, waves, i, j, TH, TW, DEPTH, EXACT) * scale + offset
        inside, targets = placed(table + tile * _TABLE, i[:, None], j[None, :], step_h, step_w)
        slope = measured(response, inside, targets, params, sums + start // ROWS * _SUMS, FORM)
        re, im = _transformed(slope, re, im, waves, i, j, TH, TW, EXACT)
    _put(error + tile * size * 2, size, re, im, TH, TW)


@triton.jit
def curve(
    table, product, images, partial, state, params, bias, waves, tiles, step_h, step_w, scale,
    FORM: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Rows of the image of the direction on a tile from its spectrum, and Σ W·q² there."""
    tile, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    target = tile // tiles
    if tl.load(state + target * _STATE + _DONE) != 0:
        return
    i, j = chunk * ROWS + tl.arange(0, ROWS), tl.arange(0, TW)
    size: tl.constexpr = TH * (TW // 2)
    image = _inverse(product + tile * size * 2, size, waves, i, j, TH, TW, DEPTH, EXACT) * scale
    image += tl.load(bias + target * _BIAS + 3)
    inside, targets = placed(table + tile * _TABLE, i[:, None], j[None, :], step_h, step_w)
    curved(image, inside, targets, params, partial + (tile * tl.num_programs(1) + chunk) * _SUMS, FORM)
    tl.store(images + tile * TH * TW + i[:, None] * TW + j[None, :], image, mask=inside)


@triton.jit
def advance(
    table, images, responses, error, partial, state, params, waves, tiles, step_h, step_w,
    FORM: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, ROWS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Response of a tile after the step along its image, and the spectrum of the residual there."""
    tile = tl.program_id(0).to(tl.int64)
    state += tile // tiles * _STATE
    if tl.load(state + _DONE) != 0:
        return
    j = tl.arange(0, TW)
    size: tl.constexpr = TH * (TW // 2)
    sums = partial + tile * tl.cdiv(step_h, ROWS) * _SUMS
    re = tl.zeros((TH, TW // 2), tl.float32)
    im = tl.zeros((TH, TW // 2), tl.float32)
    for start in range(0, step_h, ROWS):
        i = start + tl.arange(0, ROWS)
        cells = tile * TH * TW + i[:, None] * TW + j[None, :]
        inside, targets = placed(table + tile * _TABLE, i[:, None], j[None, :], step_h, step_w)
        image = tl.load(images + cells, mask=inside, other=0.0)
        before = tl.load(responses + cells, mask=inside, other=0.0)
        here = sums + start // ROWS * _SUMS
        response, residual = advanced(image, before, inside, targets, state, params, here, FORM)
        tl.store(responses + cells, response, mask=inside)
        re, im = _transformed(residual, re, im, waves, i, j, TH, TW, EXACT)
    _put(error + tile * size * 2, size, re, im, TH, TW)


@triton.jit
def inverse_tiles(
    product, images, waves, scale,
    TH: tl.constexpr, TW: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Rows of a tile from its spectrum."""
    tile = tl.program_id(0).to(tl.int64)
    i, j = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, TW)
    size: tl.constexpr = TH * (TW // 2)
    image = _inverse(product + tile * size * 2, size, waves, i, j, TH, TW, DEPTH, EXACT) * scale
    tl.store(images + tile * TH * TW + i[:, None] * TW + j[None, :], image)


@triton.jit
def _cells(start, kh, kw, ROWS: tl.constexpr, KW: tl.constexpr):
    """Cells p × q of this program's channel, their places among those of all, and whether they are."""
    p, q = start + tl.arange(0, ROWS), tl.arange(0, KW)
    channel = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    at = channel * kh * kw + p[:, None] * kw + q[None, :]
    return p, q, at, (p[:, None] < kh) & (q[None, :] < kw)


@triton.jit
def _bins(TH: tl.constexpr, TW: tl.constexpr):
    """Where this program's channel's bins are among those of all, and how far off the imaginary parts are."""
    size: tl.constexpr = TH * (TW // 2)
    channels = tl.num_programs(0)
    first = tl.program_id(1).to(tl.int64) * channels * 2 + tl.program_id(0)
    return first * size, channels * size


@triton.jit
def _sums_of(partial, kh, ROWS: tl.constexpr):
    channel = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    return partial + channel * tl.cdiv(kh, ROWS) * _SUMS


@triton.jit
def update(
    gradient, spectra, weight, moments, partial, state, params, waves, second, kh, kw, scale,
    ADAM: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, KW: tl.constexpr, ROWS: tl.constexpr,
    DEPTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """One channel: gradient from its spectrum, step of Adam or gradient descent, spectrum of the new weights."""
    state += tl.program_id(1).to(tl.int64) * _STATE
    if tl.load(state + _DONE) != 0:
        return
    bins, im_at = _bins(TH, TW)
    sums = _sums_of(partial, kh, ROWS)
    re = tl.zeros((TH, TW // 2), tl.float32)
    im = tl.zeros((TH, TW // 2), tl.float32)
    for start in range(0, kh, ROWS):
        p, q, at, inside = _cells(start, kh, kw, ROWS, KW)
        slope = _inverse(gradient + bins, im_at, waves, p, q, TH, TW, DEPTH, EXACT) * scale
        here = sums + start // ROWS * _SUMS
        value = updated(slope, weight, moments, at, second, inside, state, params, here, ADAM)
        re, im = _transformed(value, re, im, waves, p, q, TH, TW, EXACT)
    _put(spectra + bins, im_at, re, im, TH, TW)


@triton.jit
def residual(
    gradient, weight, moments, partial, state, params, waves, second, kh, kw, scale,
    TH: tl.constexpr, TW: tl.constexpr, KW: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Conjugate gradient, one channel: the step on the weights, and the new residual from its spectrum."""
    state += tl.program_id(1).to(tl.int64) * _STATE
    if tl.load(state + _DONE) != 0:
        return
    bins, im_at = _bins(TH, TW)
    sums = _sums_of(partial, kh, ROWS)
    for start in range(0, kh, ROWS):
        p, q, at, inside = _cells(start, kh, kw, ROWS, KW)
        slope = _inverse(gradient + bins, im_at, waves, p, q, TH, TW, DEPTH, EXACT) * scale
        here = sums + start // ROWS * _SUMS
        residual_of(slope, weight, moments, at, second, inside, state, params, here)


@triton.jit
def direction(
    spectra, moments, partial, state, waves, second, kh, kw,
    TH: tl.constexpr, TW: tl.constexpr, KW: tl.constexpr, ROWS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Conjugate gradient, one channel: the new direction and its spectrum."""
    state += tl.program_id(1).to(tl.int64) * _STATE
    if tl.load(state + _DONE) != 0:
        return
    bins, im_at = _bins(TH, TW)
    sums = _sums_of(partial, kh, ROWS)
    re = tl.zeros((TH, TW // 2), tl.float32)
    im = tl.zeros((TH, TW // 2), tl.float32)
    for start in range(0, kh, ROWS):
        p, q, at, inside = _cells(start, kh, kw, ROWS, KW)
        cells = directed(moments, at, second, inside, state, sums + start // ROWS * _SUMS)
        re, im = _transformed(cells, re, im, waves, p, q, TH, TW, EXACT)
    _put(spectra + bins, im_at, re, im, TH, TW)


@triton.jit
def transform_weights(
    weight, spectra, waves, kh, kw,
    TH: tl.constexpr, TW: tl.constexpr, KW: tl.constexpr, ROWS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Spectrum of one channel."""
    bins, im_at = _bins(TH, TW)
    re = tl.zeros((TH, TW // 2), tl.float32)
    im = tl.zeros((TH, TW // 2), tl.float32)
    for start in range(0, kh, ROWS):
        p, q, at, inside = _cells(start, kh, kw, ROWS, KW)
        re, im = _transformed(tl.load(weight + at, mask=inside, other=0.0), re, im, waves, p, q, TH, TW, EXACT)
    _put(spectra + bins, im_at, re, im, TH, TW)

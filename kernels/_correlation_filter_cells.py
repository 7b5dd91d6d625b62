"""Correlation filters: the kernels that work cell by cell or frequency by frequency, without a sum over channels."""

from __future__ import annotations

import triton
import triton.language as tl

from fasttrack.kernels._aot import Build

__all__ = ["BLOCK_E", "BUILDS", "dual", "filtered", "gaussian", "signature", "update", "window"]

BLOCK_E = 64  # shares of an energy summed at a time


@triton.jit
def window(
    features, factor, out, scales, channels, height, width, stride_t, stride_s, stride_c, stride_y, stride_x, tiles_x,
    WINDOWED: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """One tile of one map, times the window, written with the axes swapped."""
    n, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    y = (tile // tiles_x * BLOCK_Y + tl.arange(0, BLOCK_Y)).to(tl.int64)[:, None]
    x = (tile % tiles_x * BLOCK_X + tl.arange(0, BLOCK_X)).to(tl.int64)[None, :]
    inside = (y < height) & (x < width)
    t, s, c = n // channels // scales, n // channels % scales, n % channels
    at = t * stride_t + s * stride_s + c * stride_c + y * stride_y + x * stride_x
    value = tl.load(features + at, mask=inside, other=0.0).to(tl.float32)
    if WINDOWED:
        value *= tl.load(factor + y * width + x, mask=inside, other=0.0)
    tl.store(out + n * height * width + x * height + y, value, mask=inside)


@triton.jit
def gaussian(
    products, energy, out, cells, blocks, rate,
    OF_TRAINING: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """exp(−max(0, ‖x‖² + ‖z‖² − 2⟨x, z⟩)·rate) of every shift of one map, axes swapped."""
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if OF_TRAINING:
        total = 2.0 * tl.load(products + n * cells)  # ⟨x, x⟩ at no shift
    else:
        parts = tl.zeros((BLOCK_E,), tl.float32)
        for start in range(0, blocks, BLOCK_E):
            e = start + tl.arange(0, BLOCK_E)
            parts += tl.load(energy + n * blocks + e, mask=e < blocks, other=0.0)
        total = tl.sum(parts, 0) / cells
    distance = total - 2.0 * tl.load(products + n * cells + i, mask=i < cells, other=0.0)
    # NaN stays NaN: a comparison keeps it where a maximum may not.
    value = tl.exp(-rate * tl.where(distance < 0.0, 0.0, distance))
    tl.store(out + n * cells + i, value, mask=i < cells)


@triton.jit
def dual(kernel, label, frequencies, stride_label, lam, BLOCK: tl.constexpr):
    """In place k̂ → α̂ = ŷ/(k̂ + λ)."""
    t = tl.program_id(1).to(tl.int64)
    f = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    at, y = kernel + (t * frequencies + f) * 2, label + t * stride_label + f * 2
    re = tl.load(at, mask=f < frequencies, other=1.0) + lam
    im = tl.load(at + 1, mask=f < frequencies, other=0.0)
    y_re, y_im = tl.load(y, mask=f < frequencies, other=0.0), tl.load(y + 1, mask=f < frequencies, other=0.0)
    norm = re * re + im * im
    tl.store(at, (y_re * re + y_im * im) / norm, mask=f < frequencies)
    tl.store(at + 1, (y_im * re - y_re * im) / norm, mask=f < frequencies)


@triton.jit
def filtered(kernel, coefficients, scales, frequencies, BLOCK: tl.constexpr):
    """In place k̂ → k̂·α̂."""
    ts = tl.program_id(1).to(tl.int64)
    f = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    at, a = kernel + (ts * frequencies + f) * 2, coefficients + (ts // scales * frequencies + f) * 2
    re, im = tl.load(at, mask=f < frequencies, other=0.0), tl.load(at + 1, mask=f < frequencies, other=0.0)
    a_re, a_im = tl.load(a, mask=f < frequencies, other=0.0), tl.load(a + 1, mask=f < frequencies, other=0.0)
    tl.store(at, re * a_re - im * a_im, mask=f < frequencies)
    tl.store(at + 1, re * a_im + im * a_re, mask=f < frequencies)


@triton.jit
def update(a0, b0, out0, count0, a1, b1, out1, count1, rate, BLOCK: tl.constexpr):
    """A + rate·(b − a) of two pairs of tensors: blocks of the first, then of the second."""
    first = (count0 + BLOCK - 1) // BLOCK
    block = tl.program_id(0)
    i = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    if block < first:
        a = tl.load(a0 + i, mask=i < count0, other=0.0)
        b = tl.load(b0 + i, mask=i < count0, other=0.0)
        tl.store(out0 + i, a + rate * (b - a), mask=i < count0)
    else:
        i -= first.to(tl.int64) * BLOCK
        a = tl.load(a1 + i, mask=i < count1, other=0.0)
        b = tl.load(b1 + i, mask=i < count1, other=0.0)
        tl.store(out1 + i, a + rate * (b - a), mask=i < count1)


def signature(pointers: str, integers: str, floats: str = "") -> dict[str, str]:
    """Types of arguments by their names: pointers to float32, 32-bit integers, float32."""
    return {**dict.fromkeys(pointers.split(), "*fp32"), **dict.fromkeys(integers.split(), "i32"),
            **dict.fromkeys(floats.split(), "fp32")}  # fmt: skip


_MAPS = signature(
    "features factor out",
    "scales channels height width stride_t stride_s stride_c stride_y stride_x tiles_x",
)
_GAUSSIAN = signature("products energy out", "cells blocks", "rate")
_PAIR = signature("a0 b0 out0", "count0") | signature("a1 b1 out1", "count1", "rate")
BUILDS = (
    *(
        Build(window, _MAPS | {"features": kind}, {"WINDOWED": windowed, "BLOCK_Y": 32, "BLOCK_X": 32})
        for kind, windowed in (("*fp32", True), ("*fp32", False), ("*bf16", True), ("*fp16", True))
    ),
    *(Build(gaussian, _GAUSSIAN, {"OF_TRAINING": t, "BLOCK": 256, "BLOCK_E": BLOCK_E}) for t in (False, True)),
    Build(dual, signature("kernel label", "frequencies stride_label", "lam"), {"BLOCK": 256}),
    Build(filtered, signature("kernel coefficients", "scales frequencies"), {"BLOCK": 256}),
    Build(update, _PAIR, {"BLOCK": 1024}),
)

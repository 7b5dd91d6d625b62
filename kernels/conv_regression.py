"""Correlation of maps with one large kernel, and its two adjoints.

Kernels up to ``DIRECT_UP_TO`` cells are summed directly; larger ones go through torch's FFT of whole maps or tiles
(``_conv_tiles``), with the products of spectra as kernels (``_conv_products``).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._conv_products import accumulate, correlate, spectra_table, spread
from fasttrack.kernels._conv_tiles import Tiling, fft_tiling, smooth, spectra_of
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "DIRECT_UP_TO", "features_gradient", "forward", "response", "weight_gradient"]

# Cells of a kernel: a position reads them all, an FFT of the map costs about as much as 25 to 30.
DIRECT_UP_TO = 25


@triton.jit
def _forward(
    features, weight, bias, out, channels, height, width, kh, kw, rows, columns,
    BIASED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """R[b, i, j] = Σ_{c,p,q} X[b, c, i + p, j + q]·w[c, p, q] + bias, for a block of positions of one map."""
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = n < rows * columns
    position = (n // columns).to(tl.int64) * width + n % columns
    x = features + b * channels * height * width + position[None, :]
    total = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = (start + tl.arange(0, BLOCK_C)).to(tl.int64)[:, None]
        for p in range(0, kh):
            for q in range(0, kw):
                w = tl.load(weight + (c * kh + p) * kw + q, mask=c < channels, other=0.0)
                at = (c * height + p) * width + q
                total += w * tl.load(x + at, mask=(c < channels) & inside[None, :], other=0.0)
    value = tl.sum(total, 0)
    if BIASED:
        value += tl.load(bias)
    tl.store(out + b * rows * columns + n, value, mask=inside)


@triton.jit
def _weight_gradient(
    features, grad, out, batch, channels, height, width, kh, kw, rows, columns,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """G[c, p, q] = Σ_{b,i,j} g[b, i, j]·X[b, c, i + p, j + q], one (p, q) of a block of channels per program."""
    tap = tl.program_id(0)
    p, q = tap // kw, tap % kw
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    total = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    for b in range(0, batch):
        plane = (tl.cast(b, tl.int64) * channels + c) * height * width + p * width + q
        for start in range(0, rows * columns, BLOCK_P):
            n = start + tl.arange(0, BLOCK_P)
            inside = n < rows * columns
            g = tl.load(grad + tl.cast(b, tl.int64) * rows * columns + n, mask=inside, other=0.0)
            at = plane[:, None] + ((n // columns) * width + n % columns)[None, :]
            x = tl.load(features + at, mask=(c < channels)[:, None] & inside[None, :], other=0.0)
            total += g[None, :] * x
    tl.store(out + c * kh * kw + tap, tl.sum(total, 1), mask=c < channels)


@triton.jit
def _features_gradient(
    grad, weight, out, channels, height, width, kh, kw, rows, columns,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Y[b, c, i, j] = Σ_{p,q} g[b, i − p, j − q]·w[c, p, q], for a block of cells and of channels of one map."""
    b = tl.program_id(2).to(tl.int64)
    n = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    i, j = n // width, n % width
    total = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    for p in range(0, kh):
        for q in range(0, kw):
            r, s = i - p, j - q
            inside = (r >= 0) & (r < rows) & (s >= 0) & (s < columns)
            g = tl.load(grad + b * rows * columns + r * columns + s, mask=inside, other=0.0)
            w = tl.load(weight + (c * kh + p) * kw + q, mask=c < channels, other=0.0)
            total += w[:, None] * g[None, :]
    at = (b * channels + c)[:, None] * height * width + n[None, :]
    tl.store(out + at, total, mask=(c < channels)[:, None] & (n < height * width)[None, :])


FORWARD = Space("conv_regression.forward", BLOCK_P=(32, 64, 128, 256), BLOCK_C=(2, 4, 8, 16), num_warps=(2, 4, 8))
WEIGHT_GRADIENT = Space(
    "conv_regression.weight_gradient", BLOCK_P=(128, 256, 512, 1024), BLOCK_C=(1, 2, 4, 8), num_warps=(2, 4, 8)
)
FEATURES_GRADIENT = Space(
    "conv_regression.features_gradient", BLOCK_P=(64, 128, 256, 512), BLOCK_C=(2, 4, 8, 16), num_warps=(2, 4, 8)
)
_FORWARD_BLOCKS = {"BLOCK_P": 64, "BLOCK_C": 8, "num_warps": 4}
_WEIGHT_BLOCKS = {"BLOCK_P": 512, "BLOCK_C": 4, "num_warps": 4}
_FEATURES_BLOCKS = {"BLOCK_P": 128, "BLOCK_C": 8, "num_warps": 4}


def forward(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, C, H, W), (C, kh, kw), (1,) or None, contiguous float32 → (B, H − kh + 1, W − kw + 1)."""
    batch, _, height, width = features.shape
    kh, kw = weight.shape[1:]
    if batch == 0:
        return features.new_empty(0, height - kh + 1, width - kw + 1)
    if kh * kw <= DIRECT_UP_TO:
        return _forward_direct(features, weight, bias)
    tiling = fft_tiling(height, width, kh, kw, once=True)
    return response(spectra_of(features, tiling), tiling, height, width, weight, bias)


def response(spectra: Tensor, tiling: Tiling, height: int, width: int, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Response maps (B, H − kh + 1, W − kw + 1) from the spectra of the tiles of B maps of one size."""
    weight_spectra = torch.fft.rfft2(weight, s=tiling.tile)[None]
    product = spectra.new_empty(len(spectra), *spectra.shape[2:])
    correlate(spectra_table(spectra), weight_spectra, product, tiling)
    tiles: Tensor = torch.fft.irfft2(product, s=tiling.tile)
    joined = tiling.join(tiles, height, width)
    return joined.contiguous() if bias is None else joined + bias


def weight_gradient(features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    """(B, C, H, W), (B, H − kh + 1, W − kw + 1), contiguous float32 → (C, kh, kw)."""
    batch, channels, height, width = features.shape
    if batch == 0:
        return features.new_zeros(channels, kh, kw)
    if kh * kw <= DIRECT_UP_TO:
        out = features.new_empty(channels, kh, kw)
        shape = {"cells": grad[0].numel(), "channels": channels, "batch": batch}
        config = launch_config(WEIGHT_GRADIENT, shape, _WEIGHT_BLOCKS)
        _weight_gradient[(kh * kw, triton.cdiv(channels, config["BLOCK_C"]))](
            features, grad, out, batch, channels, height, width, kh, kw, *grad.shape[1:], **config
        )
        return out
    tiling = fft_tiling(height, width, kh, kw, once=True)
    spectra = spectra_of(features, tiling)
    error = torch.fft.rfft2(tiling.spread(grad, height, width))
    total = spectra.new_empty(1, *spectra.shape[1:])
    accumulate(spectra_table(spectra), error, total, tiling)
    whole: Tensor = torch.fft.irfft2(total[0], s=tiling.tile)
    return whole[:, :kh, :kw].contiguous()


def features_gradient(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    """(B, H − kh + 1, W − kw + 1), (C, kh, kw), contiguous float32 → (B, C, H, W)."""
    batch, (channels, kh, kw) = len(grad), weight.shape
    if batch == 0:
        return grad.new_empty(0, channels, height, width)
    if kh * kw <= DIRECT_UP_TO:
        out = grad.new_empty(batch, channels, height, width)
        shape = {"cells": height * width, "channels": channels, "batch": batch}
        config = launch_config(FEATURES_GRADIENT, shape, _FEATURES_BLOCKS)
        grid = triton.cdiv(height * width, config["BLOCK_P"]), triton.cdiv(channels, config["BLOCK_C"]), batch
        _features_gradient[grid](grad, weight, out, channels, height, width, kh, kw, *grad.shape[1:], **config)
        return out
    # A full convolution is as large as the map: a transform of that size wraps nothing.
    size = smooth(height), smooth(width, even=True)
    product = spread(torch.fft.rfft2(grad, s=size), torch.fft.rfft2(weight, s=size))
    whole: Tensor = torch.fft.irfft2(product, s=size)
    return whole[:, :, :height, :width].contiguous()


def _forward_direct(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    batch, channels, height, width = features.shape
    kh, kw = weight.shape[1:]
    rows, columns = height - kh + 1, width - kw + 1
    out = features.new_empty(batch, rows, columns)
    config = launch_config(FORWARD, {"cells": rows * columns, "channels": channels, "batch": batch}, _FORWARD_BLOCKS)
    _forward[(triton.cdiv(rows * columns, config["BLOCK_P"]), batch)](
        features, weight, features if bias is None else bias, out, channels, height, width, kh, kw, rows, columns,
        BIASED=bias is not None, **config,
    )  # fmt: skip
    return out


def _builds() -> tuple[Build, ...]:
    def types(pointers: str, sizes: str) -> dict[str, str]:
        return dict.fromkeys(pointers.split(), "*fp32") | dict.fromkeys(sizes.split(), "i32")

    map_sizes = "channels height width kh kw rows columns"
    forward_types = types("features weight bias out", map_sizes)
    return (
        Build(_forward, forward_types, {"BIASED": True, "BLOCK_P": 64, "BLOCK_C": 8}),
        Build(_weight_gradient, types("features grad out", f"batch {map_sizes}"), {"BLOCK_P": 512, "BLOCK_C": 4}),
        Build(_features_gradient, types("grad weight out", map_sizes), {"BLOCK_P": 128, "BLOCK_C": 8}),
    )


BUILDS = _builds()

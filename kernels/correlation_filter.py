"""Correlation filters: windows and everything between the transforms; the transforms are torch's FFT.

Maps are transformed with their axes swapped, (W, H) → (W, H//2 + 1): F = W·(H//2 + 1) frequencies, complex numbers
as (re, im). ``features`` are (T, S, C, H, W) with any strides, also half types; everything else is float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels import _correlation_filter_cells as cells
from fasttrack.kernels._aot import Build
from fasttrack.kernels._correlation_filter_cells import signature
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "detect", "train", "update"]


@triton.jit
def _train_linear(
    spectra, label, denominator, channels, frequencies, stride_label, scale, lam,
    BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """In place x̂_c → κ·x̂_c·ŷ*; denominator = κ·Σ|x̂_c|² + λ."""
    t = tl.program_id(1).to(tl.int64)
    f = (tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)).to(tl.int64)
    y = label + t * stride_label + f * 2
    y_re = tl.load(y, mask=f < frequencies, other=0.0)[None, :] * scale
    y_im = tl.load(y + 1, mask=f < frequencies, other=0.0)[None, :] * scale
    power = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (c < channels)[:, None] & (f < frequencies)[None, :]
        at = spectra + ((t * channels + c[:, None]) * frequencies + f[None, :]) * 2
        re, im = tl.load(at, mask=inside, other=0.0), tl.load(at + 1, mask=inside, other=0.0)
        power += re * re + im * im
        tl.store(at, re * y_re + im * y_im, mask=inside)
        tl.store(at + 1, im * y_re - re * y_im, mask=inside)
    tl.store(denominator + t * frequencies + f, tl.sum(power, 0) * scale + lam, mask=f < frequencies)


@triton.jit
def _power(spectra, out, channels, frequencies, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr):
    """Σ|x̂_c|² as a complex number."""
    t = tl.program_id(1).to(tl.int64)
    f = (tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)).to(tl.int64)
    power = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (c < channels)[:, None] & (f < frequencies)[None, :]
        at = spectra + ((t * channels + c[:, None]) * frequencies + f[None, :]) * 2
        re, im = tl.load(at, mask=inside, other=0.0), tl.load(at + 1, mask=inside, other=0.0)
        power += re * re + im * im
    to = out + (t * frequencies + f) * 2
    tl.store(to, tl.sum(power, 0), mask=f < frequencies)
    tl.store(to + 1, tl.zeros((BLOCK_F,), tl.float32), mask=f < frequencies)


@triton.jit
def _products(
    template, denominator, spectra, out, energy, scales, channels, frequencies, half, height, blocks,
    GAUSSIAN: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Σ_c conj(a_c)·ẑ_c of one target and scale: over the denominator (linear), or with the energies (Gaussian).

    ``energy`` gets, per block of frequencies, its share of H·W·(‖x‖² + ‖z‖²).
    """
    block, ts = tl.program_id(0), tl.program_id(1).to(tl.int64)
    t = ts // scales
    f = (block * BLOCK_F + tl.arange(0, BLOCK_F)).to(tl.int64)
    re = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    im = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    power = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (c < channels)[:, None] & (f < frequencies)[None, :]
        a = template + ((t * channels + c[:, None]) * frequencies + f[None, :]) * 2
        z = spectra + ((ts * channels + c[:, None]) * frequencies + f[None, :]) * 2
        a_re, a_im = tl.load(a, mask=inside, other=0.0), tl.load(a + 1, mask=inside, other=0.0)
        z_re, z_im = tl.load(z, mask=inside, other=0.0), tl.load(z + 1, mask=inside, other=0.0)
        re += a_re * z_re + a_im * z_im
        im += a_re * z_im - a_im * z_re
        if GAUSSIAN:
            power += a_re * a_re + a_im * a_im + z_re * z_re + z_im * z_im
    total_re, total_im = tl.sum(re, 0), tl.sum(im, 0)
    if GAUSSIAN:
        row = f % half  # all rows but these two stand for their mirror image, too
        alone = (row == 0) | (2 * row == height)
        tl.store(energy + ts * blocks + block, tl.sum(tl.sum(power, 0) * tl.where(alone, 1.0, 2.0), 0))
    else:
        b = tl.load(denominator + t * frequencies + f, mask=f < frequencies, other=1.0)
        total_re, total_im = total_re / b, total_im / b
    to = out + (ts * frequencies + f) * 2
    tl.store(to, total_re, mask=f < frequencies)
    tl.store(to + 1, total_im, mask=f < frequencies)


WINDOW = Space("correlation_filter.window", BLOCK_Y=(16, 32, 64), BLOCK_X=(16, 32, 64), num_warps=(2, 4, 8))
TRAIN = Space("correlation_filter.train", BLOCK_F=(16, 32, 64, 128), BLOCK_C=(4, 8, 16, 32), num_warps=(2, 4, 8))
PRODUCTS = Space("correlation_filter.products", BLOCK_F=(16, 32, 64, 128), BLOCK_C=(4, 8, 16, 32), num_warps=(2, 4, 8))
CELLS = Space("correlation_filter.cells", BLOCK=(128, 256, 512, 1024), num_warps=(2, 4, 8))
_REDUCE = {"BLOCK_F": 32, "BLOCK_C": 16, "num_warps": 4}


def _spectra(features: Tensor, window: Tensor | None) -> Tensor:
    """(T, S, C, H, W) → the windowed maps' spectra (T, S, C, W, H//2 + 1, 2)."""
    targets, scales, channels, height, width = features.shape
    swapped = torch.empty((targets, scales, channels, width, height), dtype=torch.float32, device=features.device)
    shape = {"height": height, "width": width, "maps": targets * scales * channels}
    config = launch_config(WINDOW, shape, {"BLOCK_Y": 32, "BLOCK_X": 32, "num_warps": 4})
    tiles_y, tiles_x = triton.cdiv(height, config["BLOCK_Y"]), triton.cdiv(width, config["BLOCK_X"])
    cells.window[(targets * scales * channels, tiles_y * tiles_x)](
        features, features if window is None else window, swapped, scales, channels, height, width,
        *features.stride(), tiles_x, WINDOWED=window is not None, **config,
    )  # fmt: skip
    return _transformed(swapped)


def _transformed(swapped: Tensor) -> Tensor:
    """(…, W, H) → (…, W, H//2 + 1, 2)."""
    return torch.view_as_real(torch.fft.rfft2(swapped).contiguous())


def _maps(spectra: Tensor, height: int) -> Tensor:
    """(…, W, H//2 + 1, 2) → maps with swapped axes (…, W, H)."""
    maps: Tensor = torch.fft.irfft2(torch.view_as_complex(spectra), s=(spectra.shape[-3], height))
    return maps.contiguous()


def _kernel_spectra(products: Tensor, energy: Tensor, blocks: int, channels: int, sigma: float) -> Tensor:
    """Products of every shift, (…, W, H) → spectra of the Gaussian kernel; without ``blocks`` of training."""
    size = products.shape[-1] * products.shape[-2]
    count, values = products.numel() // size, torch.empty_like(products)
    config = launch_config(CELLS, {"cells": size, "maps": count}, {"BLOCK": 256, "num_warps": 4})
    rate = 1.0 / (sigma * sigma * channels * size)
    cells.gaussian[(triton.cdiv(size, config["BLOCK"]), count)](
        products, energy, values, size, blocks, rate, OF_TRAINING=blocks == 0, BLOCK_E=cells.BLOCK_E, **config
    )
    return _transformed(values)


def train(
    features: Tensor, label: Tensor, window: Tensor | None, lam: float, sigma: float, gaussian: bool
) -> tuple[Tensor, Tensor]:
    """(T, C, H, W) and labels (T or 1, H, W) → template and coefficients, as the op returns them."""
    targets, channels, height, width = features.shape
    spectra = _spectra(features.unsqueeze(1), window).squeeze(1)
    of_label = _spectra(label[:, None, None], None)
    frequencies = width * (height // 2 + 1)
    stride_label = 0 if label.shape[0] == 1 else 2 * frequencies
    shape = {"channels": channels, "frequencies": frequencies, "targets": targets}
    config = launch_config(TRAIN, shape, _REDUCE)
    grid = (triton.cdiv(frequencies, config["BLOCK_F"]), targets)
    if not gaussian:
        coefficients = torch.empty((targets, *spectra.shape[2:4]), dtype=torch.float32, device=features.device)
        scale = 1.0 / (channels * height * width)
        _train_linear[grid](
            spectra, of_label, coefficients, channels, frequencies, stride_label, scale, lam, **config
        )  # fmt: skip
        return spectra, coefficients
    power = torch.empty((targets, *spectra.shape[2:]), dtype=torch.float32, device=features.device)
    _power[grid](spectra, power, channels, frequencies, **config)
    dual = _kernel_spectra(_maps(power, height), power, 0, channels, sigma)
    config = launch_config(CELLS, {"cells": frequencies, "maps": targets}, {"BLOCK": 256, "num_warps": 4})
    cells.dual[(triton.cdiv(frequencies, config["BLOCK"]), targets)](
        dual, of_label, frequencies, stride_label, lam, **config
    )
    return spectra, dual


def detect(
    template: Tensor, coefficients: Tensor, features: Tensor, window: Tensor | None, sigma: float, gaussian: bool
) -> Tensor:
    """A trained filter and (T, S, C, H, W) → responses (T, S, H, W) in float32."""
    targets, scales, channels, height, width = features.shape
    spectra = _spectra(features, window)
    half, count = height // 2 + 1, targets * scales
    frequencies = width * half
    shape = {"channels": channels, "frequencies": frequencies, "maps": count}
    config = launch_config(PRODUCTS, shape, _REDUCE)
    blocks = triton.cdiv(frequencies, config["BLOCK_F"])
    products = torch.empty((targets, scales, width, half, 2), dtype=torch.float32, device=features.device)
    energy = torch.empty((count, blocks), dtype=torch.float32, device=features.device)
    _products[(blocks, count)](
        template, coefficients, spectra, products, energy, scales, channels, frequencies, half, height, blocks,
        GAUSSIAN=gaussian, **config,
    )  # fmt: skip
    if gaussian:
        products = _kernel_spectra(_maps(products, height), energy, blocks, channels, sigma)
        config = launch_config(CELLS, {"cells": frequencies, "maps": count}, {"BLOCK": 256, "num_warps": 4})
        cells.filtered[(triton.cdiv(frequencies, config["BLOCK"]), count)](
            products, coefficients, scales, frequencies, **config
        )  # fmt: skip
    return _maps(products, height).transpose(-1, -2)


def update(
    template: Tensor, coefficients: Tensor, new_template: Tensor, new_coefficients: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """(1 − rate)·old + rate·new of both tensors in one launch; contiguous float32."""
    results = torch.empty_like(template), torch.empty_like(coefficients)
    config = launch_config(CELLS, {"cells": template.numel(), "maps": 1}, {"BLOCK": 1024, "num_warps": 4})
    programs = sum(triton.cdiv(r.numel(), config["BLOCK"]) for r in results)
    cells.update[(programs,)](
        template, new_template, results[0], template.numel(),
        coefficients, new_coefficients, results[1], coefficients.numel(), rate, **config,
    )  # fmt: skip
    return results


_BLOCKS = {"BLOCK_F": 32, "BLOCK_C": 16}
_PRODUCTS = signature("template denominator spectra out energy", "scales channels frequencies half height blocks")
BUILDS = (
    Build(
        _train_linear,
        signature("spectra label denominator", "channels frequencies stride_label", "scale lam"),
        _BLOCKS,
    ),
    Build(_power, signature("spectra out", "channels frequencies"), _BLOCKS),
    *(Build(_products, _PRODUCTS, {"GAUSSIAN": g, **_BLOCKS}) for g in (False, True)),
)

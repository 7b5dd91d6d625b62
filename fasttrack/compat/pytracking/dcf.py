"""Windows, labels, interpolation and regularisation of discriminative correlation filters.

What depends on sizes alone is computed in float64 and returned in the default dtype, on the CPU unless a device is
asked for. Sizes and widths may be tensors, tuples or lists of two, (height, width); they are read on the host.

Source: behaviour of ``pytracking.libs.dcf``; the papers are named at each function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttrack.compat.pytracking._layout import restored, to_native
from fasttrack.compat.pytracking._pairs import pair, sizes
from fasttrack.compat.pytracking._regularisation import get_reg_filter
from fasttrack.compat.pytracking.complex import exp_imag, is_real, mult_real_cplx
from fasttrack.compat.pytracking.fourier import get_frequency_coord
from fasttrack.errors import DtypeError, RangeError, ShapeError

__all__ = [
    "cubic_spline_fourier",
    "gauss_fourier",
    "gauss_spatial",
    "get_interp_fourier",
    "get_reg_filter",
    "hann1d",
    "hann2d",
    "hann2d_clipped",
    "interpolate_dft",
    "label_function",
    "label_function_spatial",
    "max2d",
]

Pair = Tensor | Sequence[float]


def _count(*ends: int) -> Tensor:
    return torch.arange(*ends, dtype=torch.float64)


def _outer(down: Tensor, across: Tensor) -> Tensor:
    """down(y)·across(x), (1, 1, height, width)."""
    return down.view(1, 1, -1, 1) * across.view(1, 1, 1, -1)


def _default(a: Tensor) -> Tensor:
    return a.to(torch.get_default_dtype())


def hann1d(sz: int, centered: bool = True) -> Tensor:
    """Cosine window of one dimension, without the zeros at its ends.

    Args:
        sz: number of samples n.
        centered: peak in the middle, ½(1 − cos(2πj/(n + 1))), j = 1 … n. Otherwise the peak is the first sample and the
            window periodic about it, ½(1 + cos(2πj/(n + 2))), j = 0 … ⌊n/2⌋, then mirrored: the window for scores
            whose displacement 0 is the first sample.

    Returns:
        (n,) of the default dtype.
    """
    sz = int(sz)
    if centered:
        return _default(0.5 - 0.5 * torch.cos(2 * math.pi / (sz + 1) * _count(1, sz + 1)))
    step = torch.minimum(_count(sz), sz - _count(sz))
    return _default(0.5 + 0.5 * torch.cos(2 * math.pi / (sz + 2) * step))


def hann2d(sz: Pair, centered: bool = True) -> Tensor:
    """Product of ``hann1d`` down and across, (1, 1, height, width) for ``sz`` = (height, width)."""
    height, width = sizes("hann2d", "sz", sz)
    return _outer(hann1d(height, centered), hann1d(width, centered))


def hann2d_clipped(sz: Pair, effective_sz: Pair, centered: bool = True) -> Tensor:
    """Cosine window of an effective size in the middle of a larger one, continued outside by its edge values.

    The effective size, fractions dropped, is raised by 1 where it differs from ``sz`` by an odd number.

    Args:
        sz: (height, width) of the window.
        effective_sz: (height, width) over which the cosine runs; unlike in pytracking it is not changed.
        centered: peak in the middle; otherwise the halves are swapped, so that the middle ⌊sz/2⌋ comes first.

    Returns:
        (1, 1, height, width) of the default dtype.

    Source: ATOM's implementation, ``use_clipped_window``.
    """
    whole = sizes("hann2d_clipped", "sz", sz)
    effective = sizes("hann2d_clipped", "effective_sz", effective_sz)
    return _outer(*(_clipped(n, m + (m - n) % 2, centered) for n, m in zip(whole, effective, strict=True)))


def _clipped(size: int, effective: int, centered: bool) -> Tensor:
    margin = (size - effective) // 2
    window = hann1d(effective)[(torch.arange(size) - margin).clamp(0, effective - 1)]
    return window if centered else window.roll(-(size // 2))


def gauss_fourier(sz: int, sigma: float, half: bool = False) -> Tensor:
    """Fourier coefficients of a periodic Gaussian of ``sz`` samples: (√(2π)·σ/n)·exp(−2(πσk/n)²).

    Args:
        sz: period n, in samples.
        sigma: width σ, in samples.
        half: frequencies k = 0 … ⌊n/2⌋ only; otherwise −⌊(n−1)/2⌋ … ⌊n/2⌋.

    Returns:
        One coefficient per frequency, of the default dtype.

    Source: C-COT §3.4 (desired scores), Poisson's formula.
    """
    sz = int(sz)
    k, width = _count(0 if half else -((sz - 1) // 2), sz // 2 + 1), float(sigma) / sz
    return _default(math.sqrt(2 * math.pi) * width * torch.exp(-2 * (math.pi * width * k) ** 2))


def gauss_spatial(sz: int, sigma: float, center: float | Tensor = 0, end_pad: float = 0) -> Tensor:
    """Gaussian exp(−(x − c)²/2σ²) at the samples x = −(n−1)/2, …, (n−1)/2 (+ ``end_pad`` more).

    Args:
        sz: number of samples n without padding.
        sigma: width σ, in samples.
        center: peak c, in samples from the middle; a tensor of one number gives its device and its gradient.
        end_pad: further samples at the end, as a filter of even size has one more score.

    Returns:
        (⌈n + end_pad⌉,) of the default dtype.
    """
    place = torch.as_tensor(center, dtype=torch.float64)
    x = _count(math.ceil(float(sz) + float(end_pad))).to(place.device) - (float(sz) - 1) / 2
    return _default(torch.exp(-((x - place) ** 2) / (2 * float(sigma) ** 2)))


def label_function(sz: Pair, sigma: Pair) -> Tensor:
    """Half spectrum of the desired scores, a Gaussian about displacement 0.

    Args:
        sz: (height, width) of the series, odd.
        sigma: widths (down, across), in samples.

    Returns:
        (1, 1, height, ⌊width/2⌋ + 1) real: the spectrum of an even function.

    Source: C-COT §3.4 (desired scores).
    """
    (height, width), (down, across) = sizes("label_function", "sz", sz), pair("label_function", "sigma", sigma)
    return _outer(gauss_fourier(height, down), gauss_fourier(width, across, True))


def label_function_spatial(sz: Pair, sigma: Pair, center: Pair = (0.0, 0.0), end_pad: Pair = (0, 0)) -> Tensor:
    """Desired scores, a Gaussian about ``center`` with the origin in the middle of the map.

    Args:
        sz: (height, width) of the map.
        sigma: widths (down, across), in cells.
        center: peak (y, x), in cells from the middle.
        end_pad: further rows and columns at the end.

    Returns:
        (1, 1, height + end_pad, width + end_pad).

    Source: ATOM §3.2, DiMP (the labels of target classification).
    """
    op = "label_function_spatial"
    height, width = pair(op, "sz", sz)
    down, across = pair(op, "sigma", sigma)
    y, x = pair(op, "center", center)
    bottom, right = pair(op, "end_pad", end_pad)
    return _outer(gauss_spatial(height, down, y, bottom), gauss_spatial(width, across, x, right))


def cubic_spline_fourier(f: Tensor, a: float) -> Tensor:
    """Fourier transform of the cubic interpolation kernel with parameter ``a``.

    b̂(f) = 3/(πf)²·(sinc²f − sinc 2f) + 2a/(πf)²·(3 sinc²2f − 2 sinc 2f − sinc 4f), b̂(0) = 1, sinc x = sin(πx)/(πx);
    the kernel is (a+2)|x|³ − (a+3)x² + 1 for |x| ≤ 1, a|x|³ − 5ax² + 8a|x| − 4a for |x| ≤ 2. The differences vanish
    with f², so they are taken in float64, and below |f| = 0.001 b̂ is 1 − (4/15)(1 + 2a)(πf)²; both err below 1e-9.

    Args:
        f: frequencies, in cycles per sample, of any shape.
        a: −½ or −¾ in image resampling; pytracking's default elsewhere is ½.

    Returns:
        Of the shape, dtype and device of ``f``.

    Source: C-COT §3.4 (interpolation function); Keys 1981 (the kernel).
    """
    square = f.double() ** 2
    small = square < 1e-6
    phase = math.pi**2 * torch.where(small, 1.0, square)
    one, two, four = (torch.sinc(n / math.pi * phase.sqrt()) for n in (1, 2, 4))
    exact = (3 * (one**2 - two) + 2 * a * (3 * two**2 - 2 * two - four)) / phase
    return torch.where(small, 1 - 4 * math.pi**2 / 15 * (1 + 2 * a) * square, exact).to(f.dtype)


def get_interp_fourier(
    sz: Pair,
    method: str = "ideal",
    bicubic_param: float = 0.5,
    centering: bool = True,
    windowing: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Fourier coefficients of the functions that interpolate samples down and across.

    (1/n)·b̂(k/n)·exp(−iπk/n) for n samples: b̂ = 1 ("ideal") or ``cubic_spline_fourier``; the exponential moves the
    samples to the centres of their cells.

    Args:
        sz: (height, width), in samples.
        method: "ideal" or "bicubic".
        bicubic_param: parameter of the cubic kernel.
        centering: with the exponential; without it the coefficients are real.
        windowing: must be False: pytracking names the option but has nothing behind it.
        device: of the result.

    Returns:
        (1, 1, height, 1, 2) and (1, 1, 1, ⌊width/2⌋ + 1, 2) in the trailing layout; without ``centering`` real, without
        the last axis.

    Raises:
        RangeError: another method, or ``windowing``.

    Source: C-COT eq. 1 and §3.4 (interpolation function).
    """
    if method not in ("ideal", "bicubic"):
        raise RangeError("get_interp_fourier", "method", "'ideal' or 'bicubic'", repr(method))
    if windowing:
        raise RangeError("get_interp_fourier", "windowing", "False", repr(windowing))
    shape = sizes("get_interp_fourier", "sz", sz)

    def coefficients(k: Tensor, n: int) -> Tensor:
        f = k.double() / n
        weight = (torch.ones_like(f) if method == "ideal" else cubic_spline_fourier(f, bicubic_param)) / n
        return _default(mult_real_cplx(weight, exp_imag(-math.pi * f)) if centering else weight).to(device)

    ky, kx = (coefficients(k, n) for k, n in zip(get_frequency_coord(shape), shape, strict=True))
    return ky, kx


def interpolate_dft(a: Tensor, interp_fs: Any) -> Tensor:
    """Fourier series of interpolated samples: their spectrum times the coefficients of the interpolating function.

    Args:
        a: half spectrum, (N, C, h, w) native or (N, C, h, w, 2).
        interp_fs: coefficients as from ``get_interp_fourier``, one tensor or a pair: with 5 dimensions of the trailing
            layout, with fewer real or native.

    Returns:
        Of the shape, layout and dtype of ``a``.

    Raises:
        ShapeError: ``a`` is not complex.
        DtypeError: ``interp_fs`` is neither a tensor nor a pair of tensors.

    Source: C-COT eq. 1, in the Fourier domain.
    """
    if is_real(a):
        raise ShapeError(
            "interpolate_dft", "a", "a half spectrum, native or (N, C, h, w, 2)", f"shape {tuple(a.shape)}"
        )
    factors = (interp_fs,) if isinstance(interp_fs, Tensor) else interp_fs
    if not isinstance(factors, (tuple, list)) or not all(isinstance(factor, Tensor) for factor in factors):
        raise DtypeError("interpolate_dft", "interp_fs", "a tensor or a pair of tensors", type(interp_fs).__name__)
    result = to_native("interpolate_dft", a)
    for factor in factors:
        result = result * (to_native("interpolate_dft", factor) if factor.dim() == 5 else factor)
    return restored(result, a)


def max2d(a: Tensor) -> tuple[Tensor, Tensor]:
    """Largest value over the last two dimensions and where it is.

    Args:
        a: (…, h, w).

    Returns:
        (…) values and (…, 2) int64 positions (row, column); of equal values the one in the first column, there in the
        first row.

    Raises:
        ShapeError: fewer than 2 dimensions.
    """
    if a.dim() < 2:
        raise ShapeError("max2d", "a", "of at least 2 dimensions", f"shape {tuple(a.shape)}")
    of_column, row = a.max(-2)
    value, column = of_column.max(-1)
    row = row.gather(-1, column.unsqueeze(-1)).squeeze(-1)
    return value, torch.stack((row, column), -1)

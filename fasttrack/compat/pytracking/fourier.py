"""Fourier series of feature maps: the half spectra of C-COT and ECO, of odd size with frequency 0 in the middle row.

A half spectrum â has the rows of the frequencies −⌊(h−1)/2⌋ … ⌊h/2⌋ and the columns of 0 … w−1; the other columns are
the conjugates â(−k, −l) of a real signal's spectrum. It is natively complex, (N, C, h, w), or has the trailing axis
(real, imaginary), (N, C, h, w, 2); results have the layout of what was given. Every function takes tensors or
``TensorList``s.

Source: behaviour of ``pytracking.libs.fourier``; Danelljan et al. 2016 (C-COT) §3, 2017 (ECO).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from fasttrack.compat.pytracking._layout import is_legacy, restored, to_native
from fasttrack.compat.pytracking._pairs import pair, sizes
from fasttrack.compat.pytracking.tensorlist import tensor_operation
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError

__all__ = [
    "cfft2",
    "cifft2",
    "get_frequency_coord",
    "inner_prod_fs",
    "irfftshift2",
    "rfftshift2",
    "sample_fs",
    "shift_fs",
    "sum_fs",
    "sum_fs12",
]

_SPECTRUM = "a half spectrum, (N, C, h, w) of complex dtype or real (N, C, h, w, 2)"


def _spectrum(op: str, argument: str, a: Tensor) -> Tensor:
    """The half spectrum as a native tensor."""
    if not (a.dim() == 4 if a.is_complex() else a.dim() == 5 and a.shape[-1] == 2):
        raise ShapeError(op, argument, _SPECTRUM, f"shape {tuple(a.shape)} of {a.dtype}")
    return to_native(op, a)


def _rows(op: str, a: Tensor) -> int:
    if a.dim() < 3:
        raise ShapeError(op, "a", "of at least 3 dimensions, the rows in the third", f"shape {tuple(a.shape)}")
    return a.shape[2]


@tensor_operation
def rfftshift2(a: Tensor) -> Tensor:
    """Rows in order of frequency, from the order in which a transform returns them (the third dimension).

    h rows of the frequencies 0, 1, …, −1 become −⌊h/2⌋ … ⌊h/2⌋. Of an even h the row of the highest frequency, which
    is its own negative, stands at both ends: the result always has an odd number of rows.

    Args:
        a: at least 3 dimensions, of any layout: only the third matters.

    Raises:
        ShapeError: fewer than 3 dimensions.
    """
    height = _rows("rfftshift2", a)
    first_negative = (height + 1) // 2
    return torch.cat((a[:, :, first_negative:], a[:, :, : height // 2 + 1]), 2)


@tensor_operation
def irfftshift2(a: Tensor) -> Tensor:
    """Rows in the order of a transform, 0, 1, …, −1, from those in order of frequency; inverts ``rfftshift2`` of odd h.

    Raises:
        ShapeError: fewer than 3 dimensions.
    """
    zero = (_rows("irfftshift2", a) - 1) // 2
    return torch.cat((a[:, :, zero:], a[:, :, :zero]), 2)


@tensor_operation
def cfft2(a: Tensor) -> Tensor:
    """Half spectrum of real maps, always of odd size: â(k, l) = Σ_y Σ_x a(y, x)·exp(−2πi(ky/h + lx/w)).

    Args:
        a: (N, C, h, w) real.

    Returns:
        (N, C, 2⌊h/2⌋ + 1, ⌊w/2⌋ + 1, 2) in the trailing layout, of the dtype of ``a``; ``torch.view_as_complex`` makes
        it native without a copy. Of an even h the highest frequency is in the first and the last row.

    Raises:
        ShapeError: ``a`` has not 4 dimensions.
        DtypeError: ``a`` is complex.
    """
    if a.is_complex():
        raise DtypeError("cfft2", "a", "real", str(a.dtype))
    if a.dim() != 4:
        raise ShapeError("cfft2", "a", "(N, C, h, w)", f"shape {tuple(a.shape)}")
    if a.dtype in (torch.float16, torch.bfloat16):
        return torch.view_as_real(rfftshift2(torch.fft.rfft2(a.float()))).to(a.dtype)
    return torch.view_as_real(rfftshift2(torch.fft.rfft2(a)))


@tensor_operation
def cifft2(a: Tensor, signal_sizes: Sequence[int] | Tensor | None = None) -> Tensor:
    """Real maps of half spectra, the inverse of ``cfft2``.

    Args:
        a: half spectrum, (N, C, h, w) native or (N, C, h, w, 2).
        signal_sizes: (height, width) of the maps: height h, width 2w − 1 or 2w − 2. None is (h, 2w − 1).

    Returns:
        (N, C, height, width), real.

    Raises:
        ShapeError: ``a`` is no half spectrum, or these are not the sizes of its maps.
    """
    spectrum = _spectrum("cifft2", "a", a)
    height, width = spectrum.shape[2], 2 * spectrum.shape[3] - 1
    if signal_sizes is not None:
        asked = sizes("cifft2", "signal_sizes", signal_sizes)
        if asked not in ((height, width), (height, width - 1)):
            wanted = f"({height}, {width}) or ({height}, {width - 1})"
            raise ShapeError("cifft2", "signal_sizes", wanted, str(asked), "sample_fs samples a finer grid")
        width = asked[1]
    return _sampled(spectrum, (height, width), "backward").to(_real_dtype(a))


def _real_dtype(a: Tensor) -> torch.dtype:
    return a.real.dtype if a.is_complex() else a.dtype


def _sampled(spectrum: Tensor, grid: tuple[int, int], norm: str) -> Tensor:
    """The series on the grid: one transform along the columns there are, one along the rows of the grid."""
    height, width = grid
    zero = (spectrum.shape[2] - 1) // 2
    between = spectrum.new_zeros(()).expand(*spectrum.shape[:2], height - spectrum.shape[2], spectrum.shape[3])
    ordered = torch.cat((spectrum[:, :, zero:], between, spectrum[:, :, :zero]), 2)
    columns = torch.fft.ifft(ordered, dim=2, norm=norm)
    samples: Tensor = torch.fft.irfft(columns, n=width, dim=3, norm=norm)
    return samples


@tensor_operation
def sample_fs(a: Tensor, grid_sz: Tensor | Sequence[int] | None = None, rescale: bool = True) -> Tensor:
    """Samples of the Fourier series on a regular grid over one period.

    out(y, x) = s·Σ_k Σ_l â(k, l)·exp(2πi(ky/height + lx/width)), over all frequencies of both signs, with s = 1 if
    ``rescale``, else 1/(height·width).

    Args:
        a: half spectrum, (N, C, h, w) native or (N, C, h, w, 2).
        grid_sz: (height, width) of the grid, at least h and 2w − 1. None is (h, 2w − 1).
        rescale: sum the series as it stands; otherwise divide by the number of samples, as ``cifft2`` does.

    Returns:
        (N, C, height, width), real.

    Raises:
        ShapeError: ``a`` is no half spectrum, or ``grid_sz`` is not two sizes.
        RangeError: the grid is coarser than the series is long.

    Source: C-COT §3.3 (scores as a continuous function, sampled on a grid of any fineness).
    """
    spectrum = _spectrum("sample_fs", "a", a)
    least = (spectrum.shape[2], 2 * spectrum.shape[3] - 1)
    grid = least if grid_sz is None else sizes("sample_fs", "grid_sz", grid_sz)
    if grid[0] < least[0] or grid[1] < least[1]:
        raise RangeError("sample_fs", "grid_sz", f"at least the size of the series, {least}", str(grid))
    return _sampled(spectrum, grid, "forward" if rescale else "backward").to(_real_dtype(a))


def get_frequency_coord(
    sz: Tensor | Sequence[float], add_complex_dim: bool = False, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Frequencies of the rows and of the columns of a half spectrum of maps of this size.

    Args:
        sz: (height, width) of the maps.
        add_complex_dim: append the axis of the trailing layout.
        device: of the result.

    Returns:
        k = −⌊(height−1)/2⌋ … ⌊height/2⌋ as (1, 1, height, 1) and l = 0 … ⌊width/2⌋ as (1, 1, 1, ⌊width/2⌋ + 1), with
        one more axis of size 1 each if asked for; float32, as whole numbers are exact in it.

    Raises:
        ShapeError: ``sz`` is not two sizes.
    """
    height, width = sizes("get_frequency_coord", "sz", sz)
    end = (1,) if add_complex_dim else ()
    ky = torch.arange(-((height - 1) // 2), height // 2 + 1, dtype=torch.float32, device=device)
    kx = torch.arange(0, width // 2 + 1, dtype=torch.float32, device=device)
    return ky.view(1, 1, -1, 1, *end), kx.view(1, 1, 1, -1, *end)


@tensor_operation
def shift_fs(a: Tensor, shift: Tensor | Sequence[float]) -> Tensor:
    """Spectrum of the shifted maps: â(k, l)·exp(i(k·shift_y + l·shift_x)), so that out(y) = a(y + shift·h/2π).

    Args:
        a: half spectrum, (N, C, h, w) native or (N, C, h, w, 2).
        shift: (y, x) in radians, a whole period is 2π. Nothing is read back from a tensor on a GPU.

    Returns:
        Of shape, layout and dtype of ``a``; a gradient reaches ``a`` and ``shift``.

    Raises:
        ShapeError: ``a`` is no half spectrum, or ``shift`` is not two numbers.

    Source: ECO, which moves a sample to the target's sub-cell position so; the shift theorem of Fourier series.
    """
    spectrum = _spectrum("shift_fs", "a", a)
    turns = pair("shift_fs", "shift", shift)
    frequencies = get_frequency_coord((spectrum.shape[2], 2 * spectrum.shape[3] - 1), device=a.device)
    angle_y, angle_x = (k.to(spectrum.real.dtype) * turn for k, turn in zip(frequencies, turns, strict=True))
    angle = angle_y + angle_x
    return restored(spectrum * torch.polar(torch.ones_like(angle), angle), a)


def _summed(op: str, parts: Iterable[Tensor], axes: Callable[[Tensor], tuple[int, int]]) -> Tensor:
    """Sum of half spectra; those with fewer rows have the ones about frequency 0, and the first columns."""
    ordered = sorted(parts, key=lambda part: int(part.shape[axes(part)[0]]), reverse=True)
    if not ordered:
        raise ArgumentError(op, "a", "a list of at least one half spectrum", "an empty list")
    total = ordered[0].clone()
    rows, columns = axes(total)
    zero = (total.shape[rows] - 1) // 2
    for part in ordered[1:]:
        if part.is_complex() != total.is_complex():
            raise DtypeError(op, "a", "half spectra of one layout", f"{total.dtype} and {part.dtype}")
        height, width = part.shape[rows], part.shape[columns]
        if width > total.shape[columns]:
            wanted = f"half spectra of which the tallest, {tuple(total.shape)}, is the widest"
            raise ShapeError(op, "a", wanted, f"one of shape {tuple(part.shape)}")
        band = total.narrow(rows, zero - (height - 1) // 2, height).narrow(columns, 0, width)
        band += part
    return total


def sum_fs(a: Iterable[Tensor]) -> Tensor:
    """Sum of Fourier series of different lengths: frequencies that a half spectrum lacks are 0 in it.

    Args:
        a: half spectra, (…, h, w) native or (…, h, w, 2), whose leading dimensions broadcast to the tallest one's.

    Returns:
        A new tensor of the shape of the tallest.

    Raises:
        ArgumentError: the list is empty.
        ShapeError, DtypeError: one is wider than the tallest; the layouts differ.

    Source: C-COT eq. 2 (the sum over feature channels of different resolution).
    """
    return _summed("sum_fs", a, lambda part: (-2, -1) if part.is_complex() else (-3, -2))


def sum_fs12(a: Iterable[Tensor]) -> Tensor:
    """``sum_fs`` of half spectra whose rows and columns are the first two dimensions, (h, w, …)."""
    return _summed("sum_fs12", a, lambda part: (0, 1))


@tensor_operation
def inner_prod_fs(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of real maps by their half spectra: Re Σ_k Σ_l ā·b over all frequencies of both signs.

    = 2·Re Σ_half ā·b − Re Σ_{l=0} ā·b, as every column but that of l = 0 stands for two. By Parseval it is the inner
    product of the maps times their number of samples for spectra of ``cfft2``, and the mean for Fourier series.

    Args:
        a: (N, C, h, w) native, (N, C, h, w, 2), or (N, C, h, w) real for a spectrum without imaginary part.
        b: of the shape and layout of ``a``.

    Returns:
        A scalar tensor, real.

    Raises:
        ShapeError: neither 4 nor 5 dimensions, or the shapes differ (so of a complex and a real one).
        DtypeError: one is natively complex, the other not.

    Source: Parseval's formula; C-COT §3.3 and ECO (the inner products of their conjugate gradients).
    """
    op = "inner_prod_fs"
    if a.is_complex() != b.is_complex():
        raise DtypeError(op, "b", f"of the layout of a, {a.dtype}", str(b.dtype))
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    if a.dim() not in (4, 5) or (a.dim() == 5 and not is_legacy(a)):
        raise ShapeError(op, "a", f"{_SPECTRUM}, or real (N, C, h, w)", f"shape {tuple(a.shape)}")
    if a.shape != b.shape:
        raise ShapeError(op, "b", f"of the shape of a, {tuple(a.shape)}", f"shape {tuple(b.shape)}")
    of_half = torch.dot(a.reshape(-1), b.reshape(-1))
    return 2 * of_half - torch.dot(a[:, :, :, 0].reshape(-1), b[:, :, :, 0].reshape(-1))

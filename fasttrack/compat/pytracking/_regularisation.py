"""The spatial regularisation of correlation filters as a small kernel on their Fourier coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttrack.compat.pytracking._pairs import numbers, sizes
from fasttrack.compat.pytracking.fourier import rfftshift2

__all__ = ["get_reg_filter"]


def get_reg_filter(sz: Tensor | Sequence[float], target_sz: Tensor | Sequence[float], params: Any) -> Tensor:
    """Kernel whose convolution with a filter's Fourier coefficients weights the filter by a window in space.

    The window is w(y, x) = μ + (η − μ)·(|y/½H|^p + |x/½W|^p) for a target of H × W: small on the target, large around
    it. Coefficients of its spectrum below a fraction of the largest are dropped, and the mean is adjusted so that what
    remains has the minimum μ again; the kernel is the real part, as large as what is left.

    Args:
        sz: (height, width) of the filter's support, in px.
        target_sz: (H, W) of the target, in px.
        params: an object with ``use_reg_window``, ``reg_window_min`` (μ), ``reg_window_edge`` (η),
            ``reg_window_power`` (p), ``reg_sparsity_threshold``, and where they are set ``reg_window_square`` (use a
            square target of the same area; False) and ``reg_window_centered`` (origin of the window in its middle, not
            in its corner; True).

    Returns:
        (1, 1, 2r + 1, 2c + 1) of the default dtype; (1, 1, 1, 1) of μ without ``use_reg_window``. How many
        coefficients are left decides its size, so it is computed on the CPU.

    Source: Danelljan et al. 2015 (SRDCF, the window), C-COT, ECO.
    """
    if not params.use_reg_window:
        return torch.full((1, 1, 1, 1), params.reg_window_min, dtype=torch.get_default_dtype())
    shape = sizes("get_reg_filter", "sz", sz)
    height, width = numbers("get_reg_filter", "target_sz", target_sz)
    if getattr(params, "reg_window_square", False):
        height = width = (height * width) ** 0.5
    centered = getattr(params, "reg_window_centered", True)
    power, low = params.reg_window_power, params.reg_window_min
    down, across = (
        (_offsets(n, centered) / (0.5 * extent)) ** power for n, extent in zip(shape, (height, width), strict=True)
    )
    window = low + (params.reg_window_edge - low) * (down[:, None] + across)
    kernel = _sparse_kernel(window[None, None], params.reg_sparsity_threshold, low)
    return kernel.to(torch.get_default_dtype())


def _offsets(count: int, centered: bool) -> Tensor:
    """Distance of each sample from the origin, in px, the period being ``count``."""
    position = torch.arange(count, dtype=torch.float64)
    if centered:
        return (position - (count - 1) // 2).abs()
    return torch.minimum(position, count - position)


def _sparse_kernel(window: Tensor, threshold: float, low: float) -> Tensor:
    """The largest coefficients of the window's spectrum, frequency 0 in the middle, with minimum ``low`` in space."""
    spectrum = torch.fft.rfft2(window, norm="forward")
    size = spectrum.abs()
    spectrum = torch.where(size < threshold * size.max(), 0, spectrum)
    lowest = torch.fft.irfft2(spectrum, s=window.shape[-2:], norm="forward").min()
    spectrum[0, 0, 0, 0] += low - lowest
    half = rfftshift2(spectrum).real
    middle = (half.shape[2] - 1) // 2
    row, column = half[0, 0].nonzero().amax(0).tolist()
    half = half[:, :, 2 * middle - row : row + 1, : column + 1]
    return torch.cat((half[..., 1:].flip((2, 3)), half), -1)

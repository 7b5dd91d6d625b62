"""Regression targets, prior maps and windows over a map of cells."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack.errors import RangeError, ShapeError

__all__ = ["gaussian_map", "hann_window"]


def gaussian_map(size: tuple[int, int], centers: Tensor, sigma: tuple[float, float]) -> Tensor:
    """One 2-D Gaussian of peak 1 per centre.

    y[t, i, j] = exp(−½·((i − r_t)²/σ_r² + (j − c_t)²/σ_c²)),   (r_t, c_t) = centers[t]

    Centres are map indices (the middle of cell 0 is 0) and may lie between cells or outside the map.
    CRT's label has σ = 0.1 of the object's size in cells and its motion map 0.6.

    Args:
        size: (rows, columns) of the map.
        centers: (T, 2) rows (row, column), float.
        sigma: (σ_r, σ_c) in cells, both > 0.

    Returns:
        (T, rows, columns), dtype and device of ``centers``.

    Raises:
        ShapeError, RangeError: naming the argument, what was wanted and what came.

    Source: CRT §5.1; DSLT, DCFST and the correlation filters use the same form.
    """
    if centers.dim() != 2 or centers.shape[1] != 2:
        raise ShapeError("gaussian_map", "centers", "(T, 2), rows (row, column)", f"shape {tuple(centers.shape)}")
    if not (sigma[0] > 0 and sigma[1] > 0):
        raise RangeError("gaussian_map", "sigma", "two numbers > 0, in cells", str(sigma))
    profiles = []
    for axis in (0, 1):
        cells = torch.arange(size[axis], dtype=centers.dtype, device=centers.device)
        profiles.append(torch.exp(-0.5 * ((cells - centers[:, axis, None]) / sigma[axis]) ** 2))
    return profiles[0][:, :, None] * profiles[1][:, None, :]


def hann_window(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Separable cosine window ½(1 − cos 2π(k + ½)/n) per axis: positive everywhere, symmetric, peak at the middle.

    Args:
        size: (rows, columns).
        device: where the map shall lie.

    Returns:
        (rows, columns) float32.
    """
    rows, columns = (
        0.5 * (1 - torch.cos(2 * torch.pi * (torch.arange(n, dtype=torch.float32, device=device) + 0.5) / n))
        for n in size
    )
    return rows[:, None] * columns[None, :]

"""31-channel histograms of oriented gradients (Felzenszwalb et al. 2010)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "hog"]

EPSILON, CLIP, ENERGY_GAIN = 1e-4, 0.2, 0.2357


def _directions() -> list[tuple[float, float]]:
    """Unit vectors at 0°, 20°, … 340°, exactly symmetric so that a vertical gradient is an exact tie."""
    quadrant = [(math.cos(math.radians(20 * o)), math.sin(math.radians(20 * o))) for o in range(5)]
    upper = quadrant + [(-c, s) for c, s in reversed(quadrant[1:])]
    return upper + [(-c, -s) for c, s in upper]


def _gradient(patch: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude and direction index of each pixel, (h, w) each, of a (C, h, w) patch."""
    _, h, w = patch.shape
    rows, columns = torch.arange(h), torch.arange(w)
    dx = patch[:, :, (columns + 1).clamp(max=w - 1)] - patch[:, :, (columns - 1).clamp(min=0)]
    dy = patch[:, (rows + 1).clamp(max=h - 1)] - patch[:, (rows - 1).clamp(min=0)]
    best_x, best_y = dx[0], dy[0]
    for u, v in zip(dx[1:], dy[1:], strict=True):
        larger = u**2 + v**2 > best_x**2 + best_y**2
        best_x, best_y = torch.where(larger, u, best_x), torch.where(larger, v, best_y)
    best, direction = torch.zeros_like(best_x), torch.zeros_like(best_x, dtype=torch.long)
    for o, (c, s) in enumerate(_directions()):
        along = c * best_x + s * best_y
        direction = torch.where(along > best, o, direction)
        best = torch.maximum(along, best)
    return (best_x**2 + best_y**2).sqrt(), direction


def _bins(patch: Tensor, cell: int) -> Tensor:
    """(18, rows, columns): every pixel of the cells votes its magnitude into the four nearest cells."""
    magnitude, direction = _gradient(patch)
    rows, columns = patch.shape[1] // cell, patch.shape[2] // cell
    bins = torch.zeros(18, rows, columns, dtype=patch.dtype)
    y = torch.arange(rows * cell).view(-1, 1).expand(-1, columns * cell)
    x = torch.arange(columns * cell).expand(rows * cell, -1)
    magnitude, direction = magnitude[: rows * cell, : columns * cell], direction[: rows * cell, : columns * cell]
    centre_y, centre_x = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
    for i in (centre_y.floor(), centre_y.floor() + 1):
        for j in (centre_x.floor(), centre_x.floor() + 1):
            weight = (1 - (centre_y - i).abs()) * (1 - (centre_x - j).abs())
            ok = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
            index = (direction[ok], i[ok].long(), j[ok].long())
            bins.index_put_(index, (weight * magnitude)[ok].to(patch.dtype), accumulate=True)
    return bins


def hog(patches: Tensor, cell_size: int) -> Tensor:
    """The definition in ``fasttrack.ops.hog``, patch by patch."""
    described = []
    for patch in patches.double().cpu():
        bins = _bins(patch, cell_size)
        energy = ((bins[:9] + bins[9:]) ** 2).sum(0)

        def shifted(di: int, dj: int, energy: Tensor = energy) -> Tensor:
            i, j = torch.arange(energy.shape[0]) + di, torch.arange(energy.shape[1]) + dj
            return energy[i.clamp(0, energy.shape[0] - 1)][:, j.clamp(0, energy.shape[1] - 1)]

        signed, unsigned, texture = torch.zeros_like(bins), torch.zeros_like(bins[:9]), []
        for di, dj in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
            norm = (shifted(0, 0) + shifted(di, 0) + shifted(0, dj) + shifted(di, dj) + EPSILON).sqrt()
            clipped = (bins / norm).clamp(max=CLIP)
            signed += 0.5 * clipped
            unsigned += 0.5 * ((bins[:9] + bins[9:]) / norm).clamp(max=CLIP)
            texture.append(ENERGY_GAIN * clipped.sum(0))
        described.append(torch.cat([signed, unsigned, torch.stack(texture)]))
    shape = (0, 31, patches.shape[2] // cell_size, patches.shape[3] // cell_size)
    out = torch.stack(described) if described else torch.empty(shape, dtype=torch.float64)
    return out.to(patches.device)


def _patches(
    shape: tuple[int, ...], cell_size: int, kind: str = "noise"
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        # Whole grey levels: gradients are exact in every dtype, so directions never hang on a rounding.
        patches = torch.randint(0, 256, shape, generator=generator).to(dtype)
        if kind == "grey_levels":  # equal channels: the first wins
            patches = patches[:, :1].expand(shape).contiguous()
        if kind == "smooth":
            patches = torch.nn.functional.avg_pool2d(patches.double(), 5, 1, 2).round().to(dtype)
        return {"patches": patches, "cell_size": cell_size}

    return build


_CASES = (
    Case("one", _patches((1, 3, 24, 32), 4)),
    Case("batch", _patches((3, 3, 40, 28), 4)),
    Case("grey", _patches((2, 1, 24, 36), 4)),
    Case("equal_channels", _patches((1, 3, 20, 24), 4, "grey_levels")),
    Case("smooth", _patches((2, 3, 48, 52), 4, "smooth")),
    Case("odd_size", _patches((1, 3, 37, 43), 4)),
    Case("cell_1", _patches((1, 3, 9, 11), 1)),
    Case("cell_3", _patches((1, 3, 31, 47), 3)),
    Case("cell_6", _patches((2, 1, 61, 79), 6)),
    Case("cell_8", _patches((1, 3, 67, 89), 8)),
    Case("one_cell", _patches((1, 3, 4, 4), 4)),
    Case("one_row", _patches((1, 3, 5, 41), 4)),
    Case("none", _patches((0, 3, 16, 24), 4)),
    Case("t1_288x400", _patches((1, 3, 288, 400), 4, "smooth"), bench=True),
    Case("t33_96x96", _patches((33, 3, 96, 96), 4, "smooth"), bench=True, tests=False),
    Case("t1_120x160", _patches((1, 3, 120, 160), 4, "smooth"), bench=True),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    t, c, h, w = arguments["patches"].shape
    cells = t * (h // arguments["cell_size"]) * (w // arguments["cell_size"])
    return Cost(flops=t * h * w * (6 * c + 24) + cells * 31 * 12, bytes=4 * (t * c * h * w + 31 * cells))


_TOLERANCE = {
    torch.float32: Tolerance(1e-6, 2e-6, witness="2.3e-7, 7.6e-7"),
    torch.float64: Tolerance(1e-12, 1e-12, witness="exact reference"),
}

SPECS = (Spec("hog", "hog", hog, _CASES, _TOLERANCE, cost=_cost, dtypes=(torch.float32, torch.float64)),)

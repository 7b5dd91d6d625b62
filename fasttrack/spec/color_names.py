"""Mean of a colour table over the pixels of each cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["BINS", "SPECS", "color_names"]

BINS = 32  # per colour, 8 levels each


def color_names(patches: Tensor, table: Tensor, cell_size: int) -> Tensor:
    """out[t, k, i, j] = mean of table[r + 32·g + 1024·b, k] over a cell's pixels, in bins of 8 levels."""
    count, _, height, width = patches.shape
    rows, columns = height // cell_size, width // cell_size
    pixels = patches[:, :, : rows * cell_size, : columns * cell_size]
    bins = (pixels.nan_to_num(0.0).clamp(0, 255) // 8).long()
    looked_up = table[bins[:, 0] + BINS * bins[:, 1] + BINS**2 * bins[:, 2]]
    looked_up = looked_up.masked_fill(pixels.isnan().any(1)[..., None], float("nan"))
    cells = looked_up.view(count, rows, cell_size, columns, cell_size, table.shape[1])
    return cells.mean((2, 4)).permute(0, 3, 1, 2).contiguous()


def _patches(
    shape: tuple[int, int, int], cell_size: int, terms: int = 11, *, smooth: bool = False
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    count, height, width = shape

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        if smooth:  # as in photographs, neighbouring pixels mostly share their bins
            coarse = torch.rand(count, 3, height // 16 + 1, width // 16 + 1, generator=generator, dtype=torch.float64)
            patches = 255 * functional.interpolate(coarse, (height, width), mode="bilinear")
            patches = patches + 2 * torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)
        else:  # also beyond the range of grey levels
            patches = 300 * torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64) - 20
        table = torch.rand(BINS**3, terms, generator=generator, dtype=torch.float64) ** 3
        return {"patches": patches.to(dtype), "table": table.to(dtype), "cell_size": cell_size}

    return build


_CASES = (
    Case("cell_4", _patches((2, 16, 24), 4)),
    Case("odd_size", _patches((1, 19, 29), 4)),
    Case("cell_1", _patches((1, 5, 7), 1)),
    Case("cell_3", _patches((2, 11, 13), 3)),
    Case("one_cell", _patches((1, 9, 9), 9)),
    Case("ten_terms", _patches((1, 12, 16), 4, 10)),
    Case("three_terms", _patches((1, 12, 16), 4, 3)),
    Case("many_terms", _patches((1, 12, 16), 4, 21)),
    Case("none", _patches((0, 16, 24), 4)),
    Case("t1_288x400", _patches((1, 288, 400), 4, smooth=True), bench=True, tests=False),
    Case("t33_96x96", _patches((33, 96, 96), 4, smooth=True), bench=True, tests=False),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    patches, terms = arguments["patches"], arguments["table"].shape[1]
    pixels = patches.numel() / 3
    return Cost(flops=pixels * (9 + terms), bytes=4 * pixels * (3 + terms / arguments["cell_size"] ** 2))


_TOLERANCE = {
    torch.float32: Tolerance(5e-7, 1e-6, witness="1.6e-7, 2.2e-7"),
    torch.float64: Tolerance(1e-13, 1e-12, witness="exact reference"),
}

SPECS = (
    Spec(
        "color_names",
        "color_names",
        color_names,
        _CASES,
        _TOLERANCE,
        cost=_cost,
        dtypes=tuple(_TOLERANCE),
        tables=("table",),
    ),
)

"""Log brightness of the cells of a patch, brought to mean 0 and deviation 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["FLATTEST", "SPECS", "grey"]

FLATTEST = 1e-5  # deviation of log brightness up to which a patch is flat: less than a hundredth of a grey level


def grey(patches: Tensor, cell_size: int) -> Tensor:
    """(l − mean l) / std l per patch, 0 where it is flat; l = log(1 + mean over channels and pixels of a cell)."""
    logs = torch.log1p(functional.avg_pool2d(patches.mean(1, keepdim=True), cell_size))
    mean = logs.mean((1, 2, 3), keepdim=True)
    deviation = (logs - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    return torch.where(deviation <= FLATTEST, torch.zeros_like(logs), (logs - mean) / deviation)


def _patches(
    shape: tuple[int, ...], cell_size: int, kind: str = "noise"
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        patches = 255 * torch.rand(shape, generator=generator, dtype=torch.float64)
        if kind == "dark":  # some cells are black
            patches = (patches - 200).clamp(min=0) / 50
        if kind == "flat":
            patches[0] = 77.0
        return {"patches": patches.to(dtype), "cell_size": cell_size}

    return build


_CASES = (
    Case("one", _patches((1, 3, 24, 32), 1)),
    Case("batch", _patches((3, 3, 19, 28), 1)),
    Case("one_channel", _patches((2, 1, 24, 37), 1)),
    Case("dark", _patches((2, 3, 20, 24), 1, "dark")),
    Case("flat", _patches((2, 3, 20, 24), 1, "flat")),
    Case("cell_2", _patches((2, 3, 21, 26), 2)),
    Case("cell_5", _patches((1, 1, 31, 47), 5)),
    Case("one_cell", _patches((1, 3, 4, 4), 4)),
    Case("one_row", _patches((1, 3, 1, 41), 1)),
    Case("none", _patches((0, 3, 16, 24), 1)),
    Case("t1_64x64", _patches((1, 3, 64, 64), 1), bench=True),
    Case("t64_64x64", _patches((64, 3, 64, 64), 1), bench=True, tests=False),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    patches = arguments["patches"]
    cells = patches.numel() / patches.shape[1] / arguments["cell_size"] ** 2
    return Cost(flops=patches.numel() + 20 * cells, bytes=4 * (patches.numel() + cells))


_TOLERANCE = {
    torch.float32: Tolerance(5e-6, 1e-5, witness="1.6e-6, 1.7e-6"),
    torch.float64: Tolerance(1e-12, 1e-12, witness="exact reference"),
}

SPECS = (Spec("grey", "grey", grey, _CASES, _TOLERANCE, cost=_cost, dtypes=tuple(_TOLERANCE)),)

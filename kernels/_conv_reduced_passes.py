"""Iterations of a run with a trained reduction: those with torch's FFT, on the kernel that A and w make together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from fasttrack.kernels import _conv_reduction as reduction
from fasttrack.kernels._aot import Build
from fasttrack.kernels._conv_fft import FftPasses, types
from fasttrack.kernels._conv_state import SUMS, Param
from fasttrack.kernels._tuning import Space, launch_config

if TYPE_CHECKING:
    from fasttrack.kernels.conv_problem import Run

__all__ = ["BUILDS", "ReducedPasses"]

PRODUCTS = Space("conv_problem.reduction", BLOCK_M=(16, 32, 64), BLOCK_N=(16, 32, 64), DEPTH=(16, 32, 64),
                 num_warps=(2, 4, 8))  # fmt: skip
_DEFAULT = {"BLOCK_M": 32, "BLOCK_N": 32, "DEPTH": 32, "num_warps": 4}


class ReducedPasses(FftPasses):
    """Four launches more than without: the gradients in w and A, their steps, and the kernel on the map."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        shape, (kh, kw) = run.shape, self.tiling.kernel
        self.rows, self.taps = shape.reduced * shape.regressors, kh * kw
        sizes = {"reduced": shape.reduced, "channels": shape.channels, "taps": self.taps}
        self.products = launch_config(PRODUCTS, sizes, dict(_DEFAULT))
        self.slopes = torch.zeros(shape.targets, self.rows, self.taps, device=run.device)
        self.weight_programs = triton.cdiv(self.rows * self.taps, self.config["BLOCK"])
        down, across, _ = self._grid(shape.reduced, shape.channels)
        count = shape.targets * (self.weight_programs + down * across)
        self.blocks = torch.zeros(count, SUMS, dtype=torch.float64, device=run.device)

    def start(self) -> None:
        """Compose the kernel, and sum the penalties of the start."""
        run = self.run
        weights = run.weight.double().square().unflatten(1, (run.shape.regressors, -1)).sum((2, 3, 4))
        of_matrix = run.params[Param.MATRIX_DECAY] * run.matrix.double().square().sum((1, 2))
        self.blocks.zero_()
        self.blocks.view(run.shape.targets, -1, SUMS)[:, 0, 4] = weights @ run.rates[:, 1].double() + of_matrix
        self._compose()

    def _grid(self, rows: int, columns: int) -> tuple[int, int, int]:
        down, across = triton.cdiv(rows, self.products["BLOCK_M"]), triton.cdiv(columns, self.products["BLOCK_N"])
        return down, across, self.run.shape.targets

    def _sizes(self) -> tuple[int, ...]:
        shape = self.run.shape
        return shape.reduced, self.rows, shape.channels, *self.tiling.kernel, *self.tiling.tile

    def _compose(self) -> None:
        run = self.run
        reduction.compose[self._grid(run.shape.channels, self.taps)](
            run.weight, run.matrix, run.mix, self.padded, run.state, *self._sizes(), **self.products
        )

    def _step(self, gradient: Tensor, adam: bool) -> None:
        run, shape, scale = self.run, self.run.shape, self.tiling.scale
        blocks = len(self.blocks) // shape.targets
        reduction.slope[self._grid(self.rows, self.taps)](
            gradient, run.matrix, run.mix, self.slopes, run.state, *self._sizes(), scale, **self.products
        )
        reduction.step_matrix[self._grid(shape.reduced, shape.channels)](
            gradient, run.weight, run.matrix, run.matrix_moments, run.mix, self.blocks, blocks, run.state, run.params,
            run.matrix.numel(), *self._sizes(), scale, ADAM=adam, **self.products,
        )  # fmt: skip
        reduction.step_weight[(self.weight_programs, shape.targets)](
            self.slopes, run.weight, run.moments, run.rates, self.blocks, blocks, run.state, run.params,
            run.weight.numel(), self.rows * self.taps, shape.reduced * self.taps, ADAM=adam, **self.config,
        )  # fmt: skip
        self._compose()


def _builds() -> tuple[Build, ...]:
    sizes = "reduced rows channels kh kw tile_h tile_w"
    blocks, more = {key: value for key, value in _DEFAULT.items() if key != "num_warps"}, {"ADAM": True}
    own = dict.fromkeys(("matrix", "mix", "slopes", "rates"), "*fp32")

    def signature(names: str) -> dict[str, str]:
        return {name: own.get(name, kind) for name, kind in types(names).items()} | (
            {"blocks": "i32"} if "blocks" in names.split() else {}
        )

    return (
        Build(reduction.compose, signature(f"weight matrix mix padded state {sizes}"), blocks),
        Build(reduction.slope, signature(f"gradient matrix mix slopes state {sizes} scale"), blocks),
        Build(
            reduction.step_matrix,
            signature(f"gradient weight matrix moments mix partial blocks state params second {sizes} scale"),
            more | blocks,
        ),
        Build(
            reduction.step_weight,
            signature("slopes weight moments rates partial blocks state params second count each"),
            more | {"BLOCK": 512},
        ),
    )


BUILDS = _builds()

"""The iterations with torch's FFT: any size of kernel, about twenty launches each.

torch allocates the results of its transforms; in a captured graph they live in the graph's own pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor

from fasttrack.kernels import _conv_state as states
from fasttrack.kernels import _conv_steps as steps
from fasttrack.kernels._aot import Build
from fasttrack.kernels._conv_products import accumulate, correlate
from fasttrack.kernels._conv_state import SUMS
from fasttrack.kernels._tuning import Space, launch_config

if TYPE_CHECKING:
    from fasttrack.kernels.conv_problem import Run

__all__ = ["BUILDS", "FftPasses"]

STEPS = Space("conv_problem.steps", BLOCK=(256, 512, 1024, 2048), num_warps=(2, 4, 8))
CLOSE_BLOCK = 256


class FftPasses:
    """Transforms of tiles by ``torch.fft``, the steps between them as kernels."""

    def __init__(self, run: Run) -> None:
        shape, tiling = run.shape, run.shape.tiling
        self.run, self.tiling = run, tiling
        t, (tile_h, tile_w), device = shape.targets, tiling.tile, run.device
        self.count = shape.channels * tiling.kernel[0] * tiling.kernel[1]
        default = {"BLOCK": 512, "num_warps": 4}
        self.config = launch_config(STEPS, {"cells": tile_h * tile_w, "weights": self.count}, default)
        self.grid = (triton.cdiv(tile_h * tile_w, self.config["BLOCK"]), t * shape.tiles)
        self.weight_grid = (triton.cdiv(self.count, self.config["BLOCK"]), t)

        def sums(rows: int) -> Tensor:
            return torch.zeros(rows, SUMS, dtype=torch.float64, device=device)

        def spectra(*size: int) -> Tensor:
            return torch.zeros(*size, tile_h, tile_w // 2 + 1, dtype=torch.complex64, device=device)

        self.partial, self.blocks = sums(self.grid[0] * self.grid[1]), sums(self.weight_grid[0] * t)
        self.padded = torch.zeros(t, shape.channels, tile_h, tile_w, device=device)
        self.product, self.gradient = spectra(t * shape.tiles), spectra(t, shape.channels)
        if shape.optimizer == "cg":
            self.responses = torch.zeros(t * shape.tiles, tile_h, tile_w, device=device)

    def start(self) -> None:
        """Put the weights into their tiles."""
        kh, kw = self.tiling.kernel
        self.padded[:, :, :kh, :kw] = self.run.weight
        start_squares(self.blocks, self.run.weight)

    def descend(self) -> None:
        """Start one iteration of Adam or gradient descent."""
        run = self.run
        adam = run.shape.optimizer == "adam"
        tiles = self._respond()
        self._on_tiles(steps.measure_tiles, tiles, self.partial, run.state, run.params, run.bias)
        states.close_descent[(run.shape.targets,)](
            self.partial, len(self.partial) // run.shape.targets, self.blocks, len(self.blocks) // run.shape.targets,
            run.state, run.params, run.bias, run.history, run.shape.rows, ADAM=adam, BLOCK=CLOSE_BLOCK,
        )  # fmt: skip
        self._step(self._adjoint(tiles), adam)

    def _step(self, gradient: Tensor, adam: bool) -> None:
        """Move the weights by their unscaled gradient, and put them into their tiles."""
        run = self.run
        steps.update_weights[self.weight_grid](
            gradient, run.weight, run.moments, self.padded, self.blocks, run.state, run.params, *self._weight_sizes(),
            self.tiling.scale, ADAM=adam, **self.config,
        )  # fmt: skip

    def conjugate(self) -> None:
        """Start one iteration of conjugate gradient."""
        run, targets = self.run, (self.run.shape.targets,)
        count, blocks = len(self.partial) // targets[0], self.weight_grid[0]
        tiles = self._respond()
        self._on_tiles(steps.curve_tiles, tiles, self.partial, run.state, run.params, run.bias)
        states.close_direction[targets](
            self.partial, count, self.blocks, blocks, run.state, run.params, run.bias, BLOCK=CLOSE_BLOCK
        )
        self._on_tiles(steps.advance_tiles, tiles, self.responses, self.partial, run.state, run.params)
        states.close_measure[targets](
            self.partial, count, run.state, run.params, run.history, run.shape.rows, BLOCK=CLOSE_BLOCK
        )
        gradient = self._adjoint(tiles)
        steps.update_residual[self.weight_grid](
            gradient, run.weight, run.moments, self.blocks, run.state, run.params, *self._weight_sizes(),
            self.tiling.scale, **self.config,
        )  # fmt: skip
        states.close_residual[targets](self.blocks, blocks, run.state, run.params, run.bias, BLOCK=CLOSE_BLOCK)
        steps.update_direction[self.weight_grid](
            run.moments, self.padded, self.blocks, run.state, *self._weight_sizes(), **self.config
        )

    def _respond(self) -> Tensor:
        """Unscaled responses of ``padded`` on all tiles."""
        correlate(self.run.table, torch.fft.rfft2(self.padded).contiguous(), self.product, self.tiling, self.run.state)
        tiles: Tensor = torch.fft.irfft2(self.product, s=self.tiling.tile, norm="forward")
        return tiles.contiguous()

    def _adjoint(self, tiles: Tensor) -> Tensor:
        """Unscaled gradients in the weights, in tiles."""
        accumulate(self.run.table, torch.fft.rfft2(tiles).contiguous(), self.gradient, self.tiling, self.run.state)
        tiles_of_weights: Tensor = torch.fft.irfft2(self.gradient, s=self.tiling.tile, norm="forward")
        return tiles_of_weights.contiguous()

    def _on_tiles(self, kernel: Any, *tensors: Tensor) -> None:
        run, scale = self.run, () if kernel is steps.advance_tiles else (self.tiling.scale,)
        sizes = run.shape.tiles, *self.tiling.tile, *self.tiling.step
        kernel[self.grid](run.table, *tensors, *sizes, *scale, FORM=run.shape.form, **self.config)

    def _weight_sizes(self) -> tuple[int, ...]:
        tile_h, tile_w = self.tiling.tile
        second, tile_count = self.run.weight.numel(), self.run.shape.channels * tile_h * tile_w
        return self.count, second, *self.tiling.kernel, tile_h, tile_w, tile_count


def start_squares(blocks: Tensor, weight: Tensor) -> None:
    """Make the blocks' sums those of the start: only ‖weight‖² of each target."""
    blocks.zero_()
    blocks.view(len(weight), -1, SUMS)[:, 0, 4] = weight.double().square().sum((1, 2, 3))


def types(names: str) -> dict[str, str]:
    """Types of the arguments that the kernels of an optimisation share, by their names, in order."""
    doubles, longs = "partial blocks state params history", "table"
    pointers = dict.fromkeys(doubles.split(), "*fp64") | dict.fromkeys(longs.split(), "*i64")
    floats = "tiles_at responses bias gradient weight moments padded product error spectra images waves"
    pointers |= dict.fromkeys(floats.split(), "*fp32") | {"scale": "fp32"}
    return {name: pointers.get(name, "i32") for name in names.split()}


def _builds() -> tuple[Build, ...]:
    on_tiles = "tiles tile_h tile_w step_h step_w"
    on_weights = "count second kh kw tile_h tile_w tile_count"
    block, close, form = {"BLOCK": 512}, {"BLOCK": CLOSE_BLOCK}, {"FORM": 1}
    finished = f"table tiles_at partial state params bias {on_tiles} scale"
    moved = f"table tiles_at responses partial state params {on_tiles}"
    stepped = f"gradient weight moments padded partial state params {on_weights} scale"
    residual = f"gradient weight moments partial state params {on_weights} scale"
    return (
        Build(steps.measure_tiles, types(finished), form | block),
        Build(steps.curve_tiles, types(finished), form | block),
        Build(steps.advance_tiles, types(moved), form | block),
        Build(steps.update_weights, types(stepped), {"ADAM": True} | block),
        Build(steps.update_residual, types(residual), block),
        Build(steps.update_direction, types(f"moments padded partial state {on_weights}"), block),
        *closing_builds(close),
    )


def closing_builds(block: dict[str, int]) -> tuple[Build, ...]:
    """Builds of the kernels that decide."""
    return (
        Build(
            states.close_descent,
            types("partial count blocks block_count state params bias history capacity"),
            {"ADAM": True} | block,
        ),
        Build(states.close_direction, types("partial count blocks block_count state params bias"), block),
        Build(states.close_measure, types("partial count state params history capacity"), block),
        Build(states.close_residual, types("blocks block_count state params bias"), block),
    )


BUILDS = _builds()

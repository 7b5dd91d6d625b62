"""Launches of the iterations with transforms by matrix products (``_conv_dft``): five kernels each for Adam."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor

from fasttrack.kernels import _conv_dft as dft
from fasttrack.kernels import _conv_state as states
from fasttrack.kernels._aot import Build
from fasttrack.kernels._conv_fft import CLOSE_BLOCK, start_squares, types
from fasttrack.kernels._conv_products import accumulate, correlate, spectra_table
from fasttrack.kernels._conv_state import SUMS
from fasttrack.kernels._conv_tiles import Tiling, dft_tiling
from fasttrack.kernels._tuning import Space, launch_config

if TYPE_CHECKING:
    from fasttrack.kernels.conv_problem import Run

__all__ = ["BUILDS", "DftPasses", "response_tiles", "tile_blocks", "weight_blocks"]

ON_TILES = Space(
    "conv_problem.dft_tiles", ROWS=(16, 32, 64), DEPTH=(16, 32, 64), EXACT=(0, 1), num_warps=(4, 8), num_stages=(1, 2)
)
ON_WEIGHTS = Space(
    "conv_problem.dft_weights", ROWS=(16, 32, 64), DEPTH=(16, 32, 64), EXACT=(0, 1), num_warps=(4, 8), num_stages=(1, 2)
)
# Kernels that only transform forward have no depth to go through.
_SHALLOW = (dft.advance, dft.direction, dft.transform_weights)


@lru_cache(maxsize=64)
def waves(tile: tuple[int, int], device: torch.device) -> Tensor:
    """Cosines and sines (th, th) of the height's DFT, then (tw/2, tw) of the width's frequencies v + ½, in a row."""
    tile_h, tile_w = tile
    rows = torch.arange(tile_h, dtype=torch.float64)
    columns = torch.arange(tile_w, dtype=torch.float64)
    high = 2 * math.pi / tile_h * (rows[:, None] * rows % tile_h)
    half = columns[: tile_w // 2, None] + 0.5
    wide = 2 * math.pi / tile_w * (half * columns % tile_w)
    parts = [wave.flatten() for angle in (high, wide) for wave in (angle.cos(), angle.sin())]
    return torch.cat(parts).float().to(device)


def tile_blocks(tiling: Tiling, tiles: int) -> dict[str, int]:
    """Constants and options of the kernels on tiles."""
    config = launch_config(ON_TILES, {"cells": tiling.tile[0] * tiling.tile[1], "programs": tiles}, _default(tiling))
    return _tile_blocks(tiling, config)


def weight_blocks(tiling: Tiling, channels: int) -> dict[str, int]:
    """Constants and options of the kernels on weights."""
    shape = {"cells": tiling.tile[0] * tiling.tile[1], "programs": channels}
    return _weight_blocks(tiling, launch_config(ON_WEIGHTS, shape, _default(tiling)))


def _default(tiling: Tiling) -> dict[str, int]:
    rows = 32 if tiling.tile[0] <= 32 else 16
    return {"ROWS": rows, "DEPTH": 16, "EXACT": 0, "num_warps": 8, "num_stages": 1}


def _tile_blocks(tiling: Tiling, config: dict[str, int]) -> dict[str, int]:
    tile_h, tile_w = tiling.tile
    rows, depth = min(config["ROWS"], tile_h), min(config["DEPTH"], tile_h)
    return {"TH": tile_h, "TW": tile_w, **config, "ROWS": rows, "DEPTH": depth}


def _weight_blocks(tiling: Tiling, config: dict[str, int]) -> dict[str, int]:
    """KW and the rows are powers of two of at least 16, as the products need them."""
    side_h, side_w = (max(16, triton.next_power_of_2(side)) for side in tiling.kernel)
    blocks = _tile_blocks(tiling, config)
    return {"KW": side_w, **blocks, "ROWS": min(blocks["ROWS"], side_h)}


def _without_depth(blocks: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in blocks.items() if name != "DEPTH"}


def response_tiles(spectra: Tensor, tiling: Tiling, weight: Tensor) -> Tensor:
    """Response tiles (B·tiles, th, tw) of one weight (C, kh, kw) from the spectra of B maps."""
    channels, (tile_h, tile_w) = len(weight), tiling.tile
    table, wave = spectra_table(spectra), waves(tiling.tile, weight.device)
    weight_spectra = weight.new_empty(1, 2, channels, tile_h, tile_w // 2)
    blocks = _without_depth(weight_blocks(tiling, channels))
    dft.transform_weights[(channels, 1)](weight, weight_spectra, wave, *tiling.kernel, **blocks)
    product = weight.new_empty(len(spectra), 2, tile_h, tile_w // 2)
    correlate(table, weight_spectra, product, tiling)
    tiles = weight.new_empty(len(spectra), tile_h, tile_w)
    blocks = tile_blocks(tiling, len(spectra))
    dft.inverse_tiles[(len(spectra), tile_h // blocks["ROWS"])](product, tiles, wave, tiling.scale, **blocks)
    return tiles


class DftPasses:
    """Transforms within the kernels that measure and update; nothing is allocated after construction."""

    def __init__(self, run: Run) -> None:
        shape, tiling = run.shape, run.shape.tiling
        self.run, self.tiling = run, tiling
        targets, (tile_h, tile_w) = shape.targets, tiling.tile
        tiles = targets * shape.tiles

        def memory(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=run.device)

        self.waves = waves(tiling.tile, run.device)
        self.tile_blocks = tile_blocks(tiling, tiles)
        self.weight_blocks = weight_blocks(tiling, targets * shape.channels)
        # Partial sums of a target: one row for each block of rows of each tile, and of each channel.
        self.chunks = triton.cdiv(tiling.step[0], self.tile_blocks["ROWS"])
        self.count = shape.tiles * self.chunks
        self.block_count = shape.channels * triton.cdiv(tiling.kernel[0], self.weight_blocks["ROWS"])
        self.partial = memory(targets * self.count, SUMS, dtype=torch.float64)
        self.blocks = memory(targets * self.block_count, SUMS, dtype=torch.float64)
        self.product, self.error = (memory(tiles, 2, tile_h, tile_w // 2) for _ in range(2))
        self.spectra, self.gradient = (memory(targets, 2, shape.channels, tile_h, tile_w // 2) for _ in range(2))
        if shape.optimizer == "cg":
            self.images, self.responses = memory(tiles, tile_h, tile_w), memory(tiles, tile_h, tile_w)

    def start(self) -> None:
        """Transform the weights."""
        run = self.run
        start_squares(self.blocks, run.weight)
        self._on_weights(dft.transform_weights, run.weight, self.spectra, self.waves, *self.tiling.kernel)

    def descend(self) -> None:
        """Start one iteration of Adam or gradient descent."""
        run, targets = self.run, self.run.shape.targets
        adam = run.shape.optimizer == "adam"
        correlate(run.table, self.spectra, self.product, self.tiling, run.state)
        memory = self.product, self.error, self.partial, run.state, run.params, run.bias, self.waves
        self._on_tiles(dft.measure, *memory, scale=self.tiling.scale)
        states.close_descent[(targets,)](
            self.partial, self.count, self.blocks, self.block_count, run.state, run.params, run.bias,
            run.history, run.shape.rows, ADAM=adam, BLOCK=CLOSE_BLOCK,
        )  # fmt: skip
        accumulate(run.table, self.error, self.gradient, self.tiling, run.state)
        self._on_weights(
            dft.update, self.gradient, self.spectra, run.weight, run.moments, self.blocks, run.state, run.params,
            self.waves, run.weight.numel(), *self.tiling.kernel, self.tiling.scale, ADAM=adam,
        )  # fmt: skip

    def conjugate(self) -> None:
        """Start one iteration of conjugate gradient."""
        run, targets = self.run, (self.run.shape.targets,)
        count, blocks, second = self.count, self.block_count, run.weight.numel()
        correlate(run.table, self.spectra, self.product, self.tiling, run.state)
        memory = self.product, self.images, self.partial, run.state, run.params, run.bias, self.waves
        self._on_tiles(dft.curve, *memory, scale=self.tiling.scale)
        states.close_direction[targets](
            self.partial, count, self.blocks, blocks, run.state, run.params, run.bias, BLOCK=CLOSE_BLOCK
        )
        moved = self.images, self.responses, self.error, self.partial, run.state, run.params, self.waves
        self._on_tiles(dft.advance, *moved)
        states.close_measure[targets](
            self.partial, count, run.state, run.params, run.history, run.shape.rows, BLOCK=CLOSE_BLOCK
        )
        accumulate(run.table, self.error, self.gradient, self.tiling, run.state)
        self._on_weights(
            dft.residual, self.gradient, run.weight, run.moments, self.blocks, run.state, run.params, self.waves,
            second, *self.tiling.kernel, self.tiling.scale,
        )  # fmt: skip
        states.close_residual[targets](self.blocks, blocks, run.state, run.params, run.bias, BLOCK=CLOSE_BLOCK)
        self._on_weights(
            dft.direction, self.spectra, run.moments, self.blocks, run.state, self.waves, second, *self.tiling.kernel
        )

    def _on_tiles(self, kernel: Any, *memory: Tensor, **scale: float) -> None:
        shape = self.run.shape
        tiles, sizes = shape.targets * shape.tiles, (shape.tiles, *self.tiling.step)
        grid = (tiles, self.chunks) if kernel is dft.curve else (tiles,)
        blocks = _without_depth(self.tile_blocks) if kernel in _SHALLOW else self.tile_blocks
        kernel[grid](self.run.table, *memory, *sizes, **scale, FORM=shape.form, **blocks)

    def _on_weights(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        shape = self.run.shape
        blocks = _without_depth(self.weight_blocks) if kernel in _SHALLOW else self.weight_blocks
        kernel[(shape.channels, shape.targets)](*arguments, **constants, **blocks)


def _builds() -> tuple[Build, ...]:
    finished = types("table product error partial state params bias waves tiles step_h step_w scale")
    curved = types("table product images partial state params bias waves tiles step_h step_w scale")
    moved = types("table images responses error partial state params waves tiles step_h step_w")
    updated = types("gradient spectra weight moments partial state params waves second kh kw scale")
    residual = types("gradient weight moments partial state params waves second kh kw scale")
    builds: list[Build] = []
    # The tiles of the sizes S and M of the design; those of L go through torch's FFT.
    for size in ((64, 100, 72, 20, 8), (64, 160, 126, 32, 14)):
        tiling = dft_tiling(*size)
        assert tiling is not None

        def build(kernel: Any, signature: dict[str, str], blocks: dict[str, int], **more: Any) -> Build:
            blocks = dict(_without_depth(blocks) if kernel in _SHALLOW else blocks)
            options = {name: blocks.pop(name) for name in ("num_warps", "num_stages")}
            return Build(kernel, signature, more | blocks, **options, tensor_cores=True)

        # The defaults: what a table of launch sizes knows is of the device it is on.
        tile, weight = _tile_blocks(tiling, _default(tiling)), _weight_blocks(tiling, _default(tiling))
        builds += [
            build(dft.measure, finished, tile, FORM=1),
            build(dft.curve, curved, tile, FORM=1),
            build(dft.advance, moved, tile, FORM=1),
            build(dft.inverse_tiles, types("product images waves scale"), tile),
            build(dft.update, updated, weight, ADAM=True),
            build(dft.residual, residual, weight),
            build(dft.direction, types("spectra moments partial state waves second kh kw"), weight),
            build(dft.transform_weights, types("weight spectra waves kh kw"), weight),
        ]
    return tuple(builds)


BUILDS = _builds()

"""Log brightness of cells, brought to mean 0 and deviation 1: a program per patch goes over it three times."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "grey"]

SPACE = Space("grey.even_out", BLOCK=(512, 1024, 2048), num_warps=(2, 4, 8))


@triton.jit(do_not_specialize=["rows", "columns", "stride_patch", "stride_c", "stride_y"])
def _even_out(
    patches, out, rows, columns, stride_patch, stride_c, stride_y, stride_x,
    CHANNELS: tl.constexpr, CELL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    cells = rows * columns
    corner = patches + t * stride_patch
    to = out + t * cells
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cells, BLOCK):
        k = start + lane
        ok = k < cells
        i = k // columns
        j = k - i * columns
        pixel = corner + (i * CELL).to(tl.int64) * stride_y + (j * CELL).to(tl.int64) * stride_x
        light = tl.zeros((BLOCK,), tl.float32)
        for p in range(0, CELL * CELL):
            for c in range(0, CHANNELS):
                at = pixel + c * stride_c.to(tl.int64) + (p // CELL) * stride_y + (p % CELL) * stride_x
                light += tl.load(at, mask=ok, other=0.0)
        log = tl.log(1.0 + light * (1.0 / (CHANNELS * CELL * CELL)))
        tl.store(to + k, log, mask=ok)
        total += tl.where(ok, log, 0.0)
    mean = tl.sum(total, 0) / cells
    tl.debug_barrier()
    square = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cells, BLOCK):
        k = start + lane
        off = tl.where(k < cells, tl.load(to + k, mask=k < cells, other=0.0) - mean, 0.0)
        square += off * off
    deviation = tl.sqrt(tl.sum(square, 0) / cells)
    gain = tl.where(deviation <= 1e-5, 0.0, 1.0 / deviation)
    for start in range(0, cells, BLOCK):
        k = start + lane
        tl.store(to + k, (tl.load(to + k, mask=k < cells, other=0.0) - mean) * gain, mask=k < cells)


def grey(patches: Tensor, cell_size: int) -> Tensor:
    """(T, 1, h // cell_size, w // cell_size) float32 of (T, 3 or 1, h, w) float32 patches, any strides.

    Args:
        patches: grey levels 0–255.
        cell_size: side of a cell in px.
    """
    count, channels, height, width = patches.shape
    rows, columns = height // cell_size, width // cell_size
    out = torch.empty((count, 1, rows, columns), dtype=torch.float32, device=patches.device)
    if count == 0:
        return out
    shape = {"cells": rows * columns, "cell_size": cell_size}
    config = launch_config(SPACE, shape, default={"BLOCK": 1024, "num_warps": 4})
    _even_out[(count,)](patches, out, rows, columns, *patches.stride(), channels, cell_size, **config)
    return out


def _build(channels: int, cell: int) -> Build:
    pointers = dict.fromkeys(("patches", "out"), "*fp32")
    sizes = dict.fromkeys(("rows", "columns"), "i32")
    strides = {"stride_patch": "i64", "stride_c": "i32", "stride_y": "i32", "stride_x": "i32"}
    constants = {"CHANNELS": channels, "CELL": cell, "BLOCK": 1024}
    return Build(_even_out, {**pointers, **sizes, **strides}, constants, num_warps=4)


BUILDS: tuple[Build, ...] = (_build(3, 1), _build(1, 1), _build(3, 4))

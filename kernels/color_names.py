"""Colour terms of patches, averaged over cells: lanes lie over cells, each thread holds the terms of its cell."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "color_names"]

SPACE = Space("color_names.average", BLOCK=(32, 64, 128), num_warps=(1, 2, 4))


@triton.jit
def _bin(v):
    """Eight grey levels to a bin; values outside count as the nearest, NaN as 0."""
    v = tl.where(v > 0.0, v, 0.0)
    return (tl.where(v < 255.0, v, 255.0) * 0.125).to(tl.int32)


@triton.jit(do_not_specialize=["count", "rows", "columns", "terms", "stride_patch", "stride_c", "stride_y"])
def _average(
    patches, table, out, count, rows, columns, terms, stride_patch, stride_c, stride_y, stride_x,
    CELL: tl.constexpr, TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    cells = rows * columns
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = index < count.to(tl.int64) * cells
    t = index // cells
    at = (index - t * cells).to(tl.int32)
    i = at // columns
    j = at - i * columns
    term = tl.arange(0, TERMS)[:, None]
    wanted = (term < terms) & ok[None, :]
    corner = patches + t * stride_patch + (i * CELL).to(tl.int64) * stride_y + (j * CELL).to(tl.int64) * stride_x
    plane = stride_c.to(tl.int64)
    total = tl.zeros((TERMS, BLOCK), tl.float32)
    for p in range(0, CELL * CELL):
        pixel = corner + (p // CELL) * stride_y + (p % CELL) * stride_x
        r = tl.load(pixel, mask=ok, other=0.0)
        g = tl.load(pixel + plane, mask=ok, other=0.0)
        b = tl.load(pixel + 2 * plane, mask=ok, other=0.0)
        broken = (r != r) | (g != g) | (b != b)
        color = _bin(r) + 32 * _bin(g) + 1024 * _bin(b)
        share = tl.load(table + color.to(tl.int64)[None, :] * terms + term, mask=wanted, other=0.0)
        total += tl.where(broken[None, :], float("nan"), share)
    to = out + (t * terms * cells + at)[None, :] + term * cells.to(tl.int64)
    tl.store(to, total * (1.0 / (CELL * CELL)), mask=wanted)


def color_names(patches: Tensor, table: Tensor, cell_size: int) -> Tensor:
    """(T, K, h // cell_size, w // cell_size) float32 of (T, 3, h, w) float32 patches, any strides.

    Args:
        patches: RGB, grey levels 0–255.
        table: (32768, K) float32.
        cell_size: side of a cell in px.
    """
    count, _, height, width = patches.shape
    terms, rows, columns = table.shape[1], height // cell_size, width // cell_size
    out = torch.empty((count, terms, rows, columns), dtype=torch.float32, device=patches.device)
    if count == 0:
        return out
    cells = count * rows * columns
    config = launch_config(SPACE, {"cells": cells, "cell_size": cell_size}, default={"BLOCK": 64, "num_warps": 4})
    grid = (triton.cdiv(cells, config["BLOCK"]),)
    wide = triton.next_power_of_2(terms)
    _average[grid](
        patches, table.contiguous(), out, count, rows, columns, terms, *patches.stride(), cell_size, wide, **config
    )  # fmt: skip
    return out


def _build(cell: int, terms: int) -> Build:
    pointers = dict.fromkeys(("patches", "table", "out"), "*fp32")
    sizes = dict.fromkeys(("count", "rows", "columns", "terms"), "i32")
    strides = {"stride_patch": "i64", "stride_c": "i32", "stride_y": "i32", "stride_x": "i32"}
    return Build(_average, {**pointers, **sizes, **strides}, {"CELL": cell, "TERMS": terms, "BLOCK": 64}, num_warps=4)


BUILDS: tuple[Build, ...] = (_build(4, 16), _build(8, 16), _build(4, 4))

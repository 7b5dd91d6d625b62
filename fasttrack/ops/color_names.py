"""Colour terms of patches: a table of colours, averaged over cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops._batching import folded
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, on_cpu, on_gpu, reference_row, triton_row
from fasttrack.spec import color_names as spec

__all__ = ["color_names"]


def color_names(patches: Tensor, table: Tensor, cell_size: int = 4, *, backend: str | None = None) -> Tensor:
    """Mean, over the pixels of each cell, of what a table says of their colours.

    out[t, k, i, j] = 1/s² Σ table[r + 32·g + 1024·b, k] over the s × s pixels of cell (i, j), s = cell_size,
    with r, g, b = ⌊value/8⌋ the bins of a pixel.

    Args:
        patches: (T, 3, h, w) float32 or float64 RGB, grey levels 0–255 (values outside count as the nearest);
            T may be 0.
        table: (32768, K) of the dtype of ``patches``, K ≥ 1: for each colour bin its share of each of K terms.
        cell_size: side of a cell in px, 1 ≤ cell_size ≤ min(h, w); pixels of an incomplete last cell go.
        backend: explicit backend; None chooses.

    Returns:
        (T, K, h // cell_size, w // cell_size), dtype and device of ``patches``; a cell with a NaN pixel is NaN.
        It has no gradient.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        ArgumentError: an argument asks for a gradient.

    Source: van de Weijer et al. 2009 (the layout of the table); Danelljan et al. 2014 (as features).
    """
    op, floats = "color_names", (torch.float32, torch.float64)
    check.tensor(op, "patches", patches, dims=(4,), dtypes=floats, layout="(T, 3, h, w)")
    if patches.shape[1] != 3:
        check.shape_error(op, "patches", "(T, 3, h, w)", patches)
    check.tensor(op, "table", table, dims=(2,), dtypes=floats, layout="(32768, K)")
    if table.shape[0] != spec.BINS**3 or table.shape[1] < 1:
        check.shape_error(op, "table", "(32768, K) with K ≥ 1", table)
    check.same_dtype(op, "table", table, "patches", patches)
    check.same_device(op, "table", table, "patches", patches)
    if not isinstance(cell_size, int) or cell_size < 1:
        raise RangeError(op, "cell_size", "an int ≥ 1", repr(cell_size))
    if min(patches.shape[2:]) < cell_size:
        check.shape_error(op, "patches", f"at least one cell of {cell_size} × {cell_size} px", patches)
    check.no_gradient(op, "patches", patches)
    check.no_gradient(op, "table", table)
    out: Tensor = _OP(patches, table, cell_size, backend=backend)
    return out


def _why_not(patches: Tensor, *_: Any) -> str | None:
    return on_cpu(patches, "patches")


def _cpu(patches: Tensor, table: Tensor, cell_size: int) -> Tensor:
    values, terms = patches.detach(), table.shape[1]
    count, _, height, width = values.shape
    if width > 1 and values.stride(3) != 1:
        values = values.contiguous()
    rows = table.detach().contiguous()
    out = torch.empty((count, terms, height // cell_size, width // cell_size), dtype=torch.float32)
    native.lib().color_names(
        values.data_ptr(),
        count,
        height,
        width,
        values.stride(0),
        values.stride(1),
        values.stride(2),
        cell_size,
        rows.data_ptr(),
        terms,
        out.data_ptr(),
    )
    return out


def _gpu_why_not(patches: Tensor, *_: Any) -> str | None:
    return on_gpu(patches, "patches")


def _triton(patches: Tensor, table: Tensor, cell_size: int) -> Tensor:
    from fasttrack.kernels import color_names as kernels

    return kernels.color_names(patches, table, cell_size)


def _reference(patches: Tensor, table: Tensor, cell_size: int) -> Tensor:
    return spec.color_names(patches.detach(), table.detach(), cell_size)


def _meta(patches: Tensor, table: Tensor, cell_size: int) -> Tensor:
    height, width = patches.shape[2] // cell_size, patches.shape[3] // cell_size
    return patches.new_empty((patches.shape[0], table.shape[1], height, width))


_OP = Op(
    "color_names",
    "(Tensor patches, Tensor table, int cell_size) -> Tensor",
    rows=(triton_row(_gpu_why_not, _triton), cpu_row(_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
    batch=folded(0, shared=(1,)),
)

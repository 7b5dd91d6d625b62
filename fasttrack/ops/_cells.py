"""What the ops on the cells of patches share: their checks, and the call of a C++ kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops._rows import on_cpu, on_gpu

__all__ = ["check_cells", "cpu_why_not", "empty_cells", "gpu_why_not", "run_cpu"]

_FLOATS = (torch.float32, torch.float64)


def check_cells(op: str, patches: Tensor, cell_size: int) -> None:
    """``patches`` must be (T, 3 or 1, h, w) float32 or float64 without gradient, of at least one cell."""
    check.tensor(op, "patches", patches, dims=(4,), dtypes=_FLOATS, layout="(T, 3 or 1, h, w)")
    _, channels, height, width = patches.shape
    if channels not in (1, 3):
        check.shape_error(op, "patches", "(T, 3, h, w) or (T, 1, h, w)", patches)
    if not isinstance(cell_size, int) or cell_size < 1:
        raise RangeError(op, "cell_size", "an int ≥ 1", repr(cell_size))
    if height < cell_size or width < cell_size:
        check.shape_error(op, "patches", f"at least one cell of {cell_size} × {cell_size} px", patches)
    check.no_gradient(op, "patches", patches)


def cpu_why_not(patches: Tensor, *_: Any) -> str | None:
    """Why a C++ kernel cannot read the patches; None when it can."""
    return on_cpu(patches, "patches")


def gpu_why_not(patches: Tensor, *_: Any) -> str | None:
    """Why a Triton kernel cannot read the patches; None when it can."""
    return on_gpu(patches, "patches")


def run_cpu(kernel: Callable[..., None], patches: Tensor, cell_size: int, channels: int) -> Tensor:
    """(T, channels, h // cell_size, w // cell_size) float32, written by a kernel that takes any strides but of rows."""
    count, colours, height, width = patches.shape
    values = patches if width == 1 or patches.stride(3) == 1 else patches.contiguous()
    stride_patch, stride_channel, stride_row, _ = values.stride()
    out = torch.empty((count, channels, height // cell_size, width // cell_size), dtype=torch.float32)
    kernel(
        values.data_ptr(),
        count,
        colours,
        height,
        width,
        stride_patch,
        stride_channel,
        stride_row,
        cell_size,
        out.data_ptr(),
    )
    return out


def empty_cells(patches: Tensor, cell_size: int, channels: int) -> Tensor:
    """An unwritten result, of the dtype and device of the patches."""
    return patches.new_empty((patches.shape[0], channels, patches.shape[2] // cell_size, patches.shape[3] // cell_size))

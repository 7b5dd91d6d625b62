"""Evened-out brightness: what MOSSE sees of a patch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, on_cpu, on_gpu, reference_row, triton_row
from fasttrack.spec import grey as spec

__all__ = ["grey"]

_FLOATS = (torch.float32, torch.float64)


def grey(patches: Tensor, cell_size: int = 1, *, backend: str | None = None) -> Tensor:
    """Log brightness of the cells of patches, each patch brought to mean 0 and deviation 1.

    l[i, j] = log(1 + mean of the cell's pixels over all channels),   out = (l − mean l) / std l

    mean and (population) deviation are those of the patch. Where the deviation is at most 1e-5, the patch shows
    nothing but rounding, and the result is 0. A NaN pixel, or a mean of −1 or less, makes its patch NaN.

    Args:
        patches: (T, 3, h, w) or (T, 1, h, w) float32 or float64, grey levels 0–255; T may be 0.
        cell_size: side of a cell in px, 1 ≤ cell_size ≤ min(h, w); pixels of an incomplete last cell take no part.
        backend: explicit backend; None chooses.

    Returns:
        (T, 1, h // cell_size, w // cell_size), dtype and device of ``patches``. It has no gradient.

    Raises:
        ShapeError, DtypeError, RangeError: naming the argument, what was wanted and what came.
        ArgumentError: ``patches`` asks for a gradient.

    Source: Bolme et al. 2010 (MOSSE), §3.1 (log, mean 0, norm 1; the norm here is that of deviation 1).
    """
    op = "grey"
    check.tensor(op, "patches", patches, dims=(4,), dtypes=_FLOATS, layout="(T, 3 or 1, h, w)")
    _, channels, height, width = patches.shape
    if channels not in (1, 3):
        check.shape_error(op, "patches", "(T, 3, h, w) or (T, 1, h, w)", patches)
    if not isinstance(cell_size, int) or cell_size < 1:
        raise RangeError(op, "cell_size", "an int ≥ 1", repr(cell_size))
    if height < cell_size or width < cell_size:
        check.shape_error(op, "patches", f"at least one cell of {cell_size} × {cell_size} px", patches)
    check.no_gradient(op, "patches", patches)
    out: Tensor = _OP(patches, cell_size, backend=backend)
    return out


def _cpu_why_not(patches: Tensor, *_: Any) -> str | None:
    return on_cpu(patches, "patches")


def _cpu(patches: Tensor, cell_size: int) -> Tensor:
    count, channels, height, width = patches.shape
    values = patches if width == 1 or patches.stride(3) == 1 else patches.contiguous()
    stride_patch, stride_channel, stride_row, _ = values.stride()
    out = torch.empty((count, 1, height // cell_size, width // cell_size), dtype=torch.float32)
    native.lib().grey(
        values.data_ptr(),
        count,
        channels,
        height,
        width,
        stride_patch,
        stride_channel,
        stride_row,
        cell_size,
        out.data_ptr(),
    )
    return out


def _gpu_why_not(patches: Tensor, *_: Any) -> str | None:
    return on_gpu(patches, "patches")


def _triton(patches: Tensor, cell_size: int) -> Tensor:
    from fasttrack.kernels import grey as kernels

    return kernels.grey(patches, cell_size)


def _reference(patches: Tensor, cell_size: int) -> Tensor:
    return spec.grey(patches.detach(), cell_size)


def _meta(patches: Tensor, cell_size: int) -> Tensor:
    return patches.new_empty((patches.shape[0], 1, patches.shape[2] // cell_size, patches.shape[3] // cell_size))


_OP = Op(
    "grey",
    "(Tensor patches, int cell_size) -> Tensor",
    rows=(triton_row(_gpu_why_not, _triton), cpu_row(_cpu_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
)

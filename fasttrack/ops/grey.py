"""Evened-out brightness: what MOSSE sees of a patch."""

from __future__ import annotations

from torch import Tensor

from fasttrack import native
from fasttrack.ops._batching import folded
from fasttrack.ops._cells import check_cells, cpu_why_not, empty_cells, gpu_why_not, run_cpu
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, reference_row, triton_row
from fasttrack.spec import grey as spec

__all__ = ["grey"]


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

    Examples:
        >>> out = grey(torch.rand(2, 3, 32, 32) * 255, cell_size=4)
        >>> out.shape, bool(out.mean(dim=(1, 2, 3)).abs().max() < 1e-5)
        (torch.Size([2, 1, 8, 8]), True)

    Source: Bolme et al. 2010 (MOSSE), §3.1 (log, mean 0, norm 1; the norm here is that of deviation 1).
    """
    check_cells("grey", patches, cell_size)
    out: Tensor = _OP(patches, cell_size, backend=backend)
    return out


def _cpu(patches: Tensor, cell_size: int) -> Tensor:
    return run_cpu(native.lib().grey, patches, cell_size, 1)


def _triton(patches: Tensor, cell_size: int) -> Tensor:
    from fasttrack.kernels import grey as kernels

    return kernels.grey(patches, cell_size)


def _reference(patches: Tensor, cell_size: int) -> Tensor:
    return spec.grey(patches.detach(), cell_size)


def _meta(patches: Tensor, cell_size: int) -> Tensor:
    return empty_cells(patches, cell_size, 1)


_OP = Op(
    "grey",
    "(Tensor patches, int cell_size) -> Tensor",
    rows=(triton_row(gpu_why_not, _triton), cpu_row(cpu_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
    batch=folded(0),
)

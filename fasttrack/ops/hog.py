"""Histograms of oriented gradients: the hand-made features of correlation and regression trackers."""

from __future__ import annotations

from torch import Tensor

from fasttrack import native
from fasttrack.ops._batching import folded
from fasttrack.ops._cells import check_cells, cpu_why_not, empty_cells, gpu_why_not, run_cpu
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, reference_row, triton_row
from fasttrack.spec import hog as spec

__all__ = ["hog"]


def hog(patches: Tensor, cell_size: int = 4, *, backend: str | None = None) -> Tensor:
    """31-channel histograms of oriented gradients (fHOG) of patches, one descriptor per cell.

    1. Gradient of each pixel: dx = I[y, x+1] − I[y, x−1], dy = I[y+1, x] − I[y−1, x], edge pixels
       repeated outside the patch; taken from the channel where dx² + dy² is largest (ties: the first).
    2. Its direction o is the one of 18 unit vectors at 20°·o with the largest dot product (hard binning;
       ties: the smallest o, which concerns only dx = 0; angles run from +x towards +y, which is down).
    3. It votes m = √(dx² + dy²) into bin o of the four nearest cells with bilinear weights: the cell of row
       i has its centre at (i + ½)·cell_size − ½ px. Votes outside the cells are dropped, as are the pixels
       of an incomplete last cell.
    4. With B the bins, E = Σ_{o<9} (B[o] + B[o+9])² and, for each of the four 2 × 2 blocks of cells around a
       cell, n = 1/√(ΣE + 1e-4), cells outside the map being replaced by the nearest inside:
       channels 0–17   ½·Σ_blocks min(n·B[o], 0.2)              contrast-sensitive
       channels 18–26  ½·Σ_blocks min(n·(B[o] + B[o+9]), 0.2)   contrast-insensitive
       channels 27–30  0.2357·Σ_o min(n·B[o], 0.2)              texture energy of the block, in the order
                       lower right, upper right, lower left, upper left

    All cells are kept (the original drops a border of one). A constant patch gives 0; a NaN pixel makes the
    cells around it NaN.

    Args:
        patches: (T, 3, h, w) or (T, 1, h, w) float32 or float64, grey levels 0–255 (the scale matters only
            against the 1e-4 of step 4); T may be 0.
        cell_size: side of a cell in px, 1 ≤ cell_size ≤ min(h, w).
        backend: explicit backend; None chooses.

    Returns:
        (T, 31, h // cell_size, w // cell_size), dtype and device of ``patches``. It has no gradient.

    Raises:
        ShapeError, DtypeError, RangeError: naming the argument, what was wanted and what came.
        ArgumentError: ``patches`` asks for a gradient.

    Examples:
        >>> hog(torch.rand(2, 3, 64, 48)).shape  # cells of 4×4 px
        torch.Size([2, 31, 16, 12])

    Source: Felzenszwalb et al. 2010, §6.2, and their published constants.
    """
    check_cells("hog", patches, cell_size)
    out: Tensor = _OP(patches, cell_size, backend=backend)
    return out


def _cpu(patches: Tensor, cell_size: int) -> Tensor:
    return run_cpu(native.lib().hog, patches, cell_size, 31)


def _triton(patches: Tensor, cell_size: int) -> Tensor:
    from fasttrack.kernels import hog as kernels

    return kernels.hog(patches, cell_size)


def _reference(patches: Tensor, cell_size: int) -> Tensor:
    return spec.hog(patches.detach(), cell_size).to(patches.dtype)


def _meta(patches: Tensor, cell_size: int) -> Tensor:
    return empty_cells(patches, cell_size, 31)


_OP = Op(
    "hog",
    "(Tensor patches, int cell_size) -> Tensor",
    rows=(triton_row(gpu_why_not, _triton), cpu_row(cpu_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
    batch=folded(0),
)

"""Where response maps peak: what every tracker does last."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _checks as check
from fasttrack.ops._batching import folded
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, on_cpu, on_gpu, reference_row, triton_row
from fasttrack.spec import response_peak as spec
from fasttrack.spec.response_peak import ResponsePeak

__all__ = ["ResponsePeak", "response_peak", "response_table"]


def response_peak(maps: Tensor, *, backend: str | None = None) -> ResponsePeak:
    """Peak of each response map: position refined to a fraction of a cell, score, and PSR.

    (i, j) = arg max R (ties: the first in row-major order); per axis the vertex of the parabola through
    the peak and its two neighbours, row = i + ½·(R[i−1] − R[i+1]) / (R[i−1] − 2R[i] + R[i+1]), within ±½;
    no shift at the border of the map or where the three are equal or not finite.
    psr = (max R − mean R) / std R over the whole map, population deviation.

    A map that holds NaN gives NaN in position, score and psr (never a plausible place): callers compare
    ``score >= threshold``, which is false. With infinite values the psr is NaN and the position has no shift
    along an axis whose neighbours are not finite.

    Args:
        maps: (T, H, W) float; half types are widened.
        backend: explicit backend; None chooses.

    Returns:
        ResponsePeak(position (T, 2) as (row, column) in cells with 0 at the centre of the first cell,
        score (T,), psr (T,)), float32 (float64 for float64 maps), on the device of ``maps``: nothing is
        read back. Not differentiable.

    Raises:
        ShapeError, DtypeError: naming the argument, what was wanted and what came (also for H or W of 0);
        ArgumentError: ``maps`` asks for a gradient.

    Examples:
        >>> response = torch.zeros(1, 5, 5)
        >>> response[0, 2, 2:4] = torch.tensor([1.0, 0.5])
        >>> found = response_peak(response)
        >>> found.position, found.score  # row 2, and a sixth of a cell right of column 2
        (tensor([[2.0000, 2.1667]]), tensor([1.]))

    Source: PSR of Bolme et al. 2010 (MOSSE) without the window cut out around the peak.
    """
    table = response_table(maps, backend=backend)
    return ResponsePeak(table[:, :2], table[:, 2], table[:, 3])


def response_table(maps: Tensor, *, backend: str | None = None) -> Tensor:
    """``response_peak`` as one table, for whoever wants its numbers: one transfer from the GPU, or none.

    Args:
        maps: (T, H, W) float; half types are widened.
        backend: explicit backend; None chooses.

    Returns:
        (T, 4) rows (row, column, score, psr), dtype and device as of ``response_peak``.

    Raises:
        ShapeError, DtypeError, ArgumentError: as ``response_peak``.
    """
    check.tensor("response_peak", "maps", maps, dims=(3,), layout="(T, H, W)")
    _, height, width = maps.shape
    if height < 1 or width < 1:
        check.shape_error("response_peak", "maps", "(T, H, W) with H, W ≥ 1", maps)
    check.no_gradient("response_peak", "maps", maps)
    table: Tensor = _OP(maps, backend=backend)
    return table


def _cpu_why_not(maps: Tensor) -> str | None:
    return on_cpu(maps, "maps")


def _cpu(maps: Tensor) -> Tensor:
    values = maps if maps.dtype == torch.float32 else maps.detach().float()
    count, height, width = values.shape
    if width > 1 and values.stride(2) != 1:
        values = values.contiguous()
    stride_map, stride_row, _ = values.stride()
    out = torch.empty((count, 4), dtype=torch.float32)
    native.lib().response_peak(
        values.data_ptr(),
        count,
        height,
        width,
        stride_map,
        stride_row,
        out.data_ptr(),
    )
    return out


def _gpu_why_not(maps: Tensor) -> str | None:
    return on_gpu(maps, "maps")


def _triton(maps: Tensor) -> Tensor:
    from fasttrack.kernels import response_peak as kernels

    return kernels.response_peak(maps)


def _result_dtype(maps: Tensor) -> torch.dtype:
    return torch.float64 if maps.dtype == torch.float64 else torch.float32


def _reference(maps: Tensor) -> Tensor:
    position, score, psr = spec.response_peak(maps.detach())
    return torch.cat((position, score[:, None], psr[:, None]), dim=1).to(_result_dtype(maps))


def _meta(maps: Tensor) -> Tensor:
    return maps.new_empty((maps.shape[0], 4), dtype=_result_dtype(maps))


_OP = Op(
    "response_peak",
    "(Tensor maps) -> Tensor",
    rows=(triton_row(_gpu_why_not, _triton), cpu_row(_cpu_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
    batch=folded(0),
)

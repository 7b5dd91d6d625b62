"""Precise RoI pooling, of single RoIs and of grids of RoIs, with gradients in features and coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _checks as check
from fasttrack.ops import _prroi_batching as batching
from fasttrack.ops import _prroi_pool_cuda as cuda
from fasttrack.ops import _prroi_pool_torch as formulas
from fasttrack.ops import _prroi_triton as triton
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._prroi_checks import check_bins, check_interval, check_rois, is_deterministic
from fasttrack.ops._rows import cpu_row, kernel_input, on_cpu, reference_row
from fasttrack.spec import prroi_pool as spec

__all__ = ["prroi_grid_rois", "prroi_pool", "prroi_pool_grid"]


def prroi_pool(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    deterministic: bool | None = None,
    backend: str | None = None,
) -> Tensor:
    """Average of the bilinear surface over each bin of each RoI (exact integral, no sampling).

    out[k, c, p, q] = 1/|bin| ∬_bin f_c(x, y) dx dy,   f(x, y) = Σ F[i, j] · hat(x − j) · hat(y − i)

    Differentiable twice, in features and in coordinates. RoIs that stand next to each other and share
    y1 and y2 are pooled in y once: a grid costs least with its columns fastest (``prroi_grid_rois``).

    Args:
        features: (N, C, H, W) float tensor; samples sit at integer coordinates, 0 outside the map.
        rois: (K, 5) rows (image index, x1, y1, x2, y2) in px of the input image; float32 or float64
            whatever the dtype of ``features``, K may be 0.
        output_size: bins per side, (P, Q) or one int.
        spatial_scale: feature cells per input px, e.g. 1/16.
        deterministic: whether the gradient in features must have the same bits on every run; None follows
            ``torch.use_deterministic_algorithms``. The CPU kernels always have, on any number of threads.
        backend: explicit backend; None chooses.

    Returns:
        (K, C, P, Q), dtype and device of ``features`` (half types are computed in float32). A bin is divided
        by its whole area also where it leaves the map. An empty or flipped RoI gives 0; one with a coordinate
        that is not finite gives NaN; neither has a gradient.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        RoiIndexError: an image index outside 0…N−1 or not whole (to 10⁻³). On a GPU, where the check would wait for
            the device, such a RoI gives NaN and has no gradient.

    Examples:
        >>> features = torch.arange(16.0).view(1, 1, 4, 4)
        >>> rois = torch.tensor([[0.0, 1.0, 1.0, 3.0, 3.0]])  # image 0, from (1, 1) to (3, 3)
        >>> prroi_pool(features, rois, 1)  # the mean of a plane is its value in the middle, (2, 2)
        tensor([[[[10.]]]])

    Source: Jiang et al. 2018 (PrRoI pooling); used by DCFST §3.1 and ATOM.
    """
    op = "prroi_pool"
    check.tensor(op, "features", features, dims=(4,), layout="(N, C, H, W)")
    check_rois(op, features, rois)
    bins_y, bins_x = check_bins(op, output_size)
    scale = check.number(op, "spatial_scale", spatial_scale, low=0.0, low_open=True)
    out: Tensor = _FORWARD(features, rois, bins_y, bins_x, scale, is_deterministic(deterministic), backend=backend)
    return out


def prroi_grid_rois(boxes_x: Tensor, boxes_y: Tensor) -> Tensor:
    """RoIs of every pair of a column and a row interval, in the order that the kernels share work in.

    Args:
        boxes_x: (N, Gx, 2) or (Gx, 2) float32 or float64 intervals (x1, x2) in px, per image or of one image.
        boxes_y: (N, Gy, 2) or (Gy, 2) intervals (y1, y2) of the same dtype and N.

    Returns:
        (N·Gy·Gx, 5) rows (image index, x1, y1, x2, y2): images slowest, columns fastest.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.

    Examples:
        >>> rows = torch.tensor([[0.0, 8.0], [4.0, 12.0]])
        >>> prroi_grid_rois(rows, rows)[1]  # second column, first row
        tensor([ 0.,  4.,  0., 12.,  8.])

    Source: DCFST §3.1 (961 samples on a 31 × 31 grid).
    """
    op = "prroi_grid_rois"
    check_interval(op, "boxes_x", boxes_x, None)
    check_interval(op, "boxes_y", boxes_y, None)
    check.same_dtype(op, "boxes_y", boxes_y, "boxes_x", boxes_x)
    check.same_device(op, "boxes_y", boxes_y, "boxes_x", boxes_x)
    columns, rows = (b if b.dim() == 3 else b.unsqueeze(0) for b in (boxes_x, boxes_y))
    if columns.shape[0] != rows.shape[0]:
        check.shape_error(op, "boxes_y", f"of {columns.shape[0]} images, as boxes_x", boxes_y)
    return spec.grid_rois(columns, rows)


def prroi_pool_grid(
    features: Tensor,
    boxes_x: Tensor,
    boxes_y: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    deterministic: bool | None = None,
    backend: str | None = None,
) -> Tensor:
    """``prroi_pool`` of RoIs that share rows and columns: every pair of a column and a row interval.

    out[n, gy, gx] = prroi_pool of the box (x1, y1, x2, y2) with (x1, x2) = boxes_x[n, gx], (y1, y2) = boxes_y[n, gy]

    A grid is given by its intervals because the integral is separable: Gy row and Gx column intervals stand
    for Gy·Gx boxes, each row is pooled in y once, and sizes may differ from interval to interval. DCFST's
    31 × 31 samples are 31 intervals each way.

    Args:
        features: (N, C, H, W) float tensor, as in ``prroi_pool``.
        boxes_x: (Gx, 2) intervals (x1, x2) in px, shared by all images, or (N, Gx, 2); float32 or float64.
        boxes_y: (Gy, 2) or (N, Gy, 2) intervals (y1, y2) of the same dtype.
        output_size: bins per side, (P, Q) or one int.
        spatial_scale: feature cells per input px.
        deterministic: as in ``prroi_pool``.
        backend: explicit backend; None chooses.

    Returns:
        (N, Gy, Gx, C, P, Q), dtype and device of ``features``. Gradients in features and intervals.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: DCFST §3.1.
    """
    op = "prroi_pool_grid"
    check.tensor(op, "features", features, dims=(4,), layout="(N, C, H, W)")
    images = features.shape[0]
    for name, boxes in (("boxes_x", boxes_x), ("boxes_y", boxes_y)):
        check_interval(op, name, boxes, images)
        check.same_device(op, name, boxes, "features", features)
    check.same_dtype(op, "boxes_y", boxes_y, "boxes_x", boxes_x)
    columns, rows = (b.expand(images, *b.shape[-2:]) for b in (boxes_x, boxes_y))
    rois = spec.grid_rois(columns, rows)
    pooled = prroi_pool(features, rois, output_size, spatial_scale, deterministic=deterministic, backend=backend)
    return pooled.view(images, rows.shape[1], columns.shape[1], *pooled.shape[1:])


def roi_rows(rois: Tensor) -> tuple[Tensor, int, bool]:
    """Contiguous rows for a kernel to read, their number, and whether they are float64."""
    rows = rois.detach().contiguous()
    return rows, rows.shape[0], rows.dtype == torch.float64


def _strided_input(features: Tensor) -> Tensor:
    """float32 of any strides: the kernels gather what the RoIs touch, whatever the memory format."""
    return features.detach() if features.dtype == torch.float32 else features.detach().float()


def _forward_cpu(features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float, deterministic: bool) -> Tensor:
    x, (rows, count, double) = _strided_input(features), roi_rows(rois)
    images, channels, height, width = x.shape
    out = torch.empty((count, channels, bins_y, bins_x), dtype=torch.float32)
    numbers = (rows.data_ptr(), double, count, scale, bins_y, bins_x, images, height, width)
    bad = native.lib().prroi_pool(numbers, x.data_ptr(), channels, x.stride(), out.data_ptr())
    if bad >= 0:
        spec.refuse_bad_index("prroi_pool", rois, bad, images)
    return out.to(features.dtype)


def _features_gradient_cpu(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, scale: float, deterministic: bool
) -> Tensor:
    g, (rows, count, double) = kernel_input(grad), roi_rows(rois)
    channels, bins_y, bins_x = g.shape[1:]
    out = torch.empty((images, channels, height, width), dtype=torch.float32)
    numbers = (rows.data_ptr(), double, count, scale, bins_y, bins_x, images, height, width)
    native.lib().prroi_features_gradient(numbers, g.data_ptr(), channels, out.data_ptr())
    return out.to(grad.dtype)


def _rois_gradient_cpu(features: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    x, g, (rows, count, double) = _strided_input(features), kernel_input(grad), roi_rows(rois)
    images, channels, height, width = x.shape
    out = torch.empty((count, 5), dtype=torch.float64)
    numbers = (rows.data_ptr(), double, count, scale, g.shape[2], g.shape[3], images, height, width)
    native.lib().prroi_rois_gradient(numbers, x.data_ptr(), channels, x.stride(), g.data_ptr(), out.data_ptr())
    return out.to(rois.dtype)


def _forward_reference(
    features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float, deterministic: bool
) -> Tensor:
    return spec.prroi_pool(features, rois, (bins_y, bins_x), scale)


def _forward_meta(
    features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float, deterministic: bool
) -> Tensor:
    return features.new_empty((rois.shape[0], features.shape[1], bins_y, bins_x))


def _features_gradient_meta(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, scale: float, deterministic: bool
) -> Tensor:
    return grad.new_empty((images, grad.shape[1], height, width))


def _rois_gradient_meta(features: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    return torch.empty_like(rois, memory_format=torch.contiguous_format)


def _forward_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, _, _, ctx.scale, ctx.deterministic = inputs
    ctx.save_for_backward(features, rois)


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    features, rois = ctx.saved_tensors
    images, _, height, width = features.shape
    needs = ctx.needs_input_grad
    by_features = (
        _FEATURES_GRADIENT(grad, rois, images, height, width, ctx.scale, ctx.deterministic) if needs[0] else None
    )
    by_rois = _ROIS_GRADIENT(features, grad, rois, ctx.scale) if needs[1] else None
    return by_features, by_rois, None, None, None, None


def _features_gradient_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, rois, _, _, _, ctx.scale, ctx.deterministic = inputs
    ctx.save_for_backward(grad, rois)


def _features_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    """⟨u, spread(grad)⟩ = ⟨prroi_pool(u), grad⟩: the same trilinear form, seen from its other side."""
    grad, rois = ctx.saved_tensors
    needs = ctx.needs_input_grad
    by_grad = _FORWARD(u, rois, grad.shape[2], grad.shape[3], ctx.scale, ctx.deterministic) if needs[0] else None
    by_rois = _ROIS_GRADIENT(u, grad, rois, ctx.scale) if needs[1] else None
    return by_grad, by_rois, None, None, None, None, None


_FORWARD = Op(
    "prroi_pool",
    "(Tensor features, Tensor rois, int bins_y, int bins_x, float scale, bool deterministic) -> Tensor",
    rows=(
        cuda.FORWARD,
        triton.FORWARD,
        cpu_row(lambda features, *_: on_cpu(features, "features"), _forward_cpu),
        reference_row(_forward_reference),
    ),
    meta=_forward_meta,
    gradient=Gradient(_forward_setup, _forward_backward),
    batch=batching.pool_rule,
)
_FEATURES_GRADIENT = Op(
    "prroi_pool_features_gradient",
    "(Tensor grad, Tensor rois, SymInt images, SymInt height, SymInt width, float scale, bool deterministic) -> Tensor",
    rows=(
        cuda.FEATURES_GRADIENT,
        triton.FEATURES_GRADIENT,
        cpu_row(lambda grad, *_: on_cpu(grad, "grad"), _features_gradient_cpu),
        reference_row(formulas.features_gradient),
    ),
    meta=_features_gradient_meta,
    gradient=Gradient(_features_gradient_setup, _features_gradient_backward),
    batch=batching.pooled_gradient_rule,
)
# No gradient of its own: where one is asked for, the reference runs, which autograd differentiates.
_ROIS_GRADIENT = Op(
    "prroi_pool_rois_gradient",
    "(Tensor features, Tensor grad, Tensor rois, float scale) -> Tensor",
    rows=(
        cuda.ROIS_GRADIENT,
        triton.ROIS_GRADIENT,
        cpu_row(lambda features, *_: on_cpu(features, "features"), _rois_gradient_cpu),
        reference_row(formulas.rois_gradient),
    ),
    meta=_rois_gradient_meta,
    batch=batching.rois_gradient_rule,
)

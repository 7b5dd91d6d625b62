"""Scores of RoIs that are linear in the pooled features: the pooled features are never formed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _checks as check
from fasttrack.ops import _prroi_batching as batching
from fasttrack.ops import _prroi_pool_torch as formulas
from fasttrack.ops import _prroi_triton as triton
from fasttrack.ops._autocast import promoted
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._prroi_checks import check_bins, check_rois, is_deterministic
from fasttrack.ops._rows import cpu_row, kernel_input, on_cpu, reference_row
from fasttrack.ops.prroi_pool import roi_rows
from fasttrack.spec import prroi_pool as spec

__all__ = ["prroi_filter_score", "prroi_linear_score"]


def prroi_filter_score(
    features: Tensor,
    rois: Tensor,
    weight: Tensor,
    spatial_scale: float = 1.0,
    *,
    deterministic: bool | None = None,
    backend: str | None = None,
) -> Tensor:
    """Score of each RoI under one filter on its pooled features, without pooling them.

    score[k] = Σ_cpq weight[c, p, q] · prroi_pool(features, rois)[k, c, p, q]

    Pooling is linear, so the channels are contracted first, at every cell: one small product gives a map per
    bin, and a RoI sums the mean of each bin's own map. Backward runs the same two steps in reverse; the rank-1
    gradient of the pooled features is never formed either. Costs N·P·Q·C·H·W multiplications, whatever K:
    for few RoIs on a large map pool first.

    Args:
        features: (N, C, H, W) float tensor, as in ``prroi_pool``.
        rois: (K, 5) rows (image index, x1, y1, x2, y2) in px; ``prroi_grid_rois`` for a grid.
        weight: (C, P, Q) filter, or (N, C, P, Q) one per image; float, of any dtype.
        spatial_scale: feature cells per input px.
        deterministic: as in ``prroi_pool``.
        backend: explicit backend of the sum over bins; None chooses.

    Returns:
        (K,) scores, dtype and device of ``features``. Gradients in features, rois and weight, of any order.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        RoiIndexError: as in ``prroi_pool``.

    Source: Zheng et al. 2020 (DCFST), §3.1: a linear layer and a ridge regressor behind the pooling.
    """
    op = "prroi_filter_score"
    check.tensor(op, "features", features, dims=(4,), layout="(N, C, H, W)")
    check_rois(op, features, rois)
    check.tensor(op, "weight", weight, dims=(3, 4), layout="(C, P, Q) or (N, C, P, Q)")
    images, channels = features.shape[:2]
    lead = (images, channels) if weight.dim() == 4 else (channels,)
    if tuple(weight.shape[:-2]) != lead or 0 in weight.shape[-2:]:
        check.shape_error(op, "weight", f"{(*lead, 'P', 'Q')} for features of shape {tuple(features.shape)}", weight)
    check.same_device(op, "weight", weight, "features", features)
    scale = check.number(op, "spatial_scale", spatial_scale, low=0.0, low_open=True)
    maps = _bin_maps(features, weight)
    scores: Tensor = _SUM(maps, rois, scale, is_deterministic(deterministic), backend=backend)
    return scores.to(features.dtype)


def prroi_linear_score(
    features: Tensor,
    rois: Tensor,
    weight_fc: Tensor,
    weight_ridge: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    deterministic: bool | None = None,
    backend: str | None = None,
) -> Tensor:
    """Pool → linear layer → ridge score, collapsed: neither pooled features nor the layer's output are formed.

    score[k] = w · (A · flatten(prroi_pool(features, rois)[k])) = ⟨Aᵀw, pooled⟩

    The collapse is exact. A tracker whose w changes rarely keeps ``Aᵀw`` and calls ``prroi_filter_score``;
    a bias b of the layer adds the one number w · b to every score.

    Args:
        features: (N, C, H, W) float tensor, as in ``prroi_pool``.
        rois: (K, 5) rows (image index, x1, y1, x2, y2) in px; ``prroi_grid_rois`` for a grid.
        weight_fc: (D, C·P·Q) weight A of the linear layer on the flattened (C, P, Q); float, of any dtype.
        weight_ridge: (D,) ridge solution w, or (N, D) one per image, of the same dtype.
        output_size: bins per side, (P, Q) or one int.
        spatial_scale: feature cells per input px.
        deterministic: as in ``prroi_pool``.
        backend: explicit backend of the sum over bins; None chooses.

    Returns:
        (K,) scores, dtype and device of ``features``. Gradients in all four tensors, of any order; the one
        in ``weight_fc`` has rank 1 (per image).

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError, RoiIndexError: as in ``prroi_filter_score``.

    Source: Zheng et al. 2020 (DCFST), §3.1, without its normalisation by the RMS over the samples.
    """
    op = "prroi_linear_score"
    check.tensor(op, "features", features, dims=(4,), layout="(N, C, H, W)")
    bins_y, bins_x = check_bins(op, output_size)
    images, channels = features.shape[:2]
    columns = channels * bins_y * bins_x
    check.tensor(op, "weight_fc", weight_fc, dims=(2,), layout="(D, C·P·Q)")
    if weight_fc.shape[1] != columns:
        check.shape_error(op, "weight_fc", f"(D, C·P·Q) with C·P·Q = {channels}·{bins_y}·{bins_x}", weight_fc)
    check.tensor(op, "weight_ridge", weight_ridge, dims=(1, 2), layout="(D,) or (N, D)")
    lead = () if weight_ridge.dim() == 1 else (images,)
    if tuple(weight_ridge.shape) != (*lead, weight_fc.shape[0]):
        check.shape_error(op, "weight_ridge", f"{(*lead, weight_fc.shape[0])}, the D of weight_fc", weight_ridge)
    weight_fc, weight_ridge = promoted(weight_fc, weight_ridge)
    check.same_dtype(op, "weight_ridge", weight_ridge, "weight_fc", weight_fc)
    check.same_device(op, "weight_ridge", weight_ridge, "weight_fc", weight_fc)
    with _full_precision(features):
        wide = torch.promote_types(weight_fc.dtype, torch.float32)
        weight = torch.matmul(weight_ridge.to(wide), weight_fc.to(wide))
    shape = (*lead, channels, bins_y, bins_x)
    return prroi_filter_score(
        features, rois, weight.view(shape), spatial_scale, deterministic=deterministic, backend=backend
    )


def _full_precision(features: Tensor) -> Any:
    """Inside autocast the products of weights would be rounded to half."""
    kind = features.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _bin_maps(features: Tensor, weight: Tensor) -> Tensor:
    """(N, H, W, P, Q): at every cell the channels contracted with each bin's filter column."""
    images, channels, height, width = features.shape
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    with _full_precision(features):
        filters = weight.to(wide).flatten(-2)
        if images == 1 and weight.dim() == 3:
            # What a tracker asks for once per frame: the batched product spends as long on views as a small map takes.
            maps = torch.mm(features.to(wide).reshape(channels, height * width).t(), filters)
        else:
            maps = torch.matmul(features.to(wide).flatten(2).transpose(1, 2), filters)
    return maps.view(images, height, width, *weight.shape[-2:])


def _sum_cpu(maps: Tensor, rois: Tensor, scale: float, deterministic: bool) -> Tensor:
    m, (rows, count, double) = kernel_input(maps), roi_rows(rois)
    images, height, width, bins_y, bins_x = m.shape
    out = torch.empty((count,), dtype=torch.float32)
    numbers = (rows.data_ptr(), double, count, scale, bins_y, bins_x, images, height, width)
    bad = native.lib().prroi_bin_sum(numbers, m.data_ptr(), out.data_ptr())
    if bad >= 0:
        spec.refuse_bad_index("prroi_filter_score", rois, bad, images)
    return out.to(maps.dtype)


def _maps_gradient_cpu(
    grad: Tensor,
    rois: Tensor,
    images: int,
    height: int,
    width: int,
    bins_y: int,
    bins_x: int,
    scale: float,
    deterministic: bool,
) -> Tensor:
    g, (rows, count, double) = kernel_input(grad), roi_rows(rois)
    out = torch.empty((images, height, width, bins_y, bins_x), dtype=torch.float32)
    numbers = (rows.data_ptr(), double, count, scale, bins_y, bins_x, images, height, width)
    native.lib().prroi_bin_sum_maps_gradient(numbers, g.data_ptr(), out.data_ptr())
    return out.to(grad.dtype)


def _rois_gradient_cpu(maps: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    m, g, (rows, count, double) = kernel_input(maps), kernel_input(grad), roi_rows(rois)
    images, height, width, bins_y, bins_x = m.shape
    out = torch.empty((count, 5), dtype=torch.float64)
    numbers = (rows.data_ptr(), double, count, scale, bins_y, bins_x, images, height, width)
    native.lib().prroi_bin_sum_rois_gradient(numbers, m.data_ptr(), g.data_ptr(), out.data_ptr())
    return out.to(rois.dtype)


def _sum_reference(maps: Tensor, rois: Tensor, scale: float, deterministic: bool) -> Tensor:
    return spec.bin_sum(maps, rois, scale)


def _sum_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, rois, ctx.scale, ctx.deterministic = inputs
    ctx.save_for_backward(maps, rois)


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    maps, rois = ctx.saved_tensors
    needs = ctx.needs_input_grad
    by_maps = _MAPS_GRADIENT(grad, rois, *maps.shape, ctx.scale, ctx.deterministic) if needs[0] else None
    by_rois = _ROIS_GRADIENT(maps, grad, rois, ctx.scale) if needs[1] else None
    return by_maps, by_rois, None, None


def _maps_gradient_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, rois, *_, ctx.scale, ctx.deterministic = inputs
    ctx.save_for_backward(grad, rois)


def _maps_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    grad, rois = ctx.saved_tensors
    needs = ctx.needs_input_grad
    by_grad = _SUM(u, rois, ctx.scale, ctx.deterministic) if needs[0] else None
    by_rois = _ROIS_GRADIENT(u, grad, rois, ctx.scale) if needs[1] else None
    return by_grad, by_rois, *(None,) * 7


_SUM = Op(
    "prroi_bin_sum",
    "(Tensor maps, Tensor rois, float scale, bool deterministic) -> Tensor",
    rows=(
        triton.BIN_SUM,
        cpu_row(lambda maps, *_: on_cpu(maps, "features"), _sum_cpu),
        reference_row(_sum_reference),
    ),
    meta=lambda maps, rois, *_: maps.new_empty((rois.shape[0],)),
    gradient=Gradient(_sum_setup, _sum_backward),
    batch=batching.sum_rule,
)
_MAPS_GRADIENT = Op(
    "prroi_bin_sum_maps_gradient",
    "(Tensor grad, Tensor rois, SymInt images, SymInt height, SymInt width, SymInt bins_y, SymInt bins_x,"
    " float scale, bool deterministic) -> Tensor",
    rows=(
        triton.BIN_SUM_MAPS_GRADIENT,
        cpu_row(lambda grad, *_: on_cpu(grad, "grad"), _maps_gradient_cpu),
        reference_row(formulas.maps_gradient),
    ),
    meta=lambda grad, rois, *sizes: grad.new_empty(sizes[:5]),
    gradient=Gradient(_maps_gradient_setup, _maps_gradient_backward),
    batch=batching.maps_gradient_rule,
)
# No gradient of its own: where one is asked for, the reference runs, which autograd differentiates.
_ROIS_GRADIENT = Op(
    "prroi_bin_sum_rois_gradient",
    "(Tensor maps, Tensor grad, Tensor rois, float scale) -> Tensor",
    rows=(
        triton.BIN_SUM_ROIS_GRADIENT,
        cpu_row(lambda maps, *_: on_cpu(maps, "maps"), _rois_gradient_cpu),
        reference_row(formulas.rois_gradient_of_sum),
    ),
    meta=lambda maps, grad, rois, scale: torch.empty_like(rois, memory_format=torch.contiguous_format),
    batch=batching.rois_gradient_rule,
)

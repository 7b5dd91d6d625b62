"""Precise RoI pooling: the exact mean of the bilinear surface over the bins of each RoI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import RoiIndexError
from fasttrack.spec import _prroi_cases as cases
from fasttrack.spec._prroi_cases import grid_rois
from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = [
    "SPECS",
    "axis_edges",
    "axis_weights",
    "bin_sum",
    "grid_rois",
    "pair",
    "prroi_pool",
    "refuse_bad_index",
    "roi_axes",
]


def pair(output_size: int | tuple[int, int]) -> tuple[int, int]:
    """(P, Q) of an output size."""
    return (output_size, output_size) if isinstance(output_size, int) else (output_size[0], output_size[1])


def refuse_bad_index(op: str, rois: Tensor, row: int, images: int) -> None:
    """Raise the RoiIndexError of RoI ``row``."""
    wanted = f"a whole number in 0…{images - 1}, an image of features"
    raise RoiIndexError(op, f"rois[{row}, 0]", wanted, f"{float(rois[row, 0]):g}")


def _hat_primitive(u: Tensor) -> Tensor:
    """∫ hat from −∞ to u: ½(u + 1)² below 0, 1 − ½(1 − u)² above, kept in 0…1."""
    u = u.clamp(-1, 1)
    return torch.where(u < 0, 0.5 * (u + 1) ** 2, 1 - 0.5 * (1 - u) ** 2)


def axis_edges(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """(K, bins + 1) edges of equal bins of [low, high]."""
    return low[:, None] + (high - low)[:, None] * torch.arange(bins + 1, dtype=low.dtype, device=low.device) / bins


def axis_weights(low: Tensor, high: Tensor, bins: int, size: int) -> Tensor:
    """(K, bins, size): mean of the hat of each cell over each bin of [low, high]."""
    cells = torch.arange(size, dtype=low.dtype, device=low.device)
    below = _hat_primitive(axis_edges(low, high, bins)[:, :, None] - cells)
    return (below[:, 1:] - below[:, :-1]) * (bins / (high - low))[:, None, None]


def roi_axes(rois: Tensor, images: int, scale: float) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor]:
    """Image (K), edges x1, y1, x2, y2 in cells (float64), and which RoIs are proper, which undefined.

    Coordinates are never less than float64: at 36 cells float32 resolves 4e-6, more than the tolerance.
    """
    given = rois[:, 0].detach().double()
    index = given.round()
    exists = (index >= 0) & (index < images) & ((given - index).abs() <= 1e-3)
    if rois.device.type == "cpu" and not bool(exists.all()):
        refuse_bad_index("prroi_pool", rois, int((~exists).nonzero()[0]), images)
    x1, y1, x2, y2 = (rois[:, 1:].double() * scale).unbind(1)
    finite = (x2 - x1).isfinite() & (y2 - y1).isfinite() & exists
    proper = finite & (x2 > x1) & (y2 > y1)
    # What is not proper becomes the unit box, so that no gradient of it is NaN; its value is replaced later.
    edges = (torch.where(proper, v, torch.full_like(v, at)) for v, at in ((x1, 0), (y1, 0), (x2, 1), (y2, 1)))
    return torch.where(exists, index, -torch.ones_like(index)).long(), tuple(edges), proper, ~finite


def _per_image(image: Tensor, images: int, like: Tensor, one: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Put together what ``one(image, its RoIs)`` gives for each image."""
    out = like
    for n in range(images):
        rows = (image == n).nonzero().flatten()
        out = out.index_copy(0, rows, one(n, rows))
    return out


def _finished(value: Tensor, proper: Tensor, undefined: Tensor) -> Tensor:
    """0 for an empty RoI, NaN for an undefined one."""
    shape = (-1,) + (1,) * (value.dim() - 1)
    value = torch.where(proper.view(shape), value, torch.zeros_like(value))
    return torch.where(undefined.view(shape), torch.full_like(value, float("nan")), value)


def prroi_pool(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    deterministic: bool | None = None,
) -> Tensor:
    """out[k, c, p, q] = Σ_ij wy[k, p, i]·wx[k, q, j]·F[n_k, c, i, j], w = mean of the cell's hat over the bin."""
    bins_y, bins_x = pair(output_size)
    images, channels, height, width = features.shape
    wide = features if features.dtype == torch.float64 else features.float()
    image, (x1, y1, x2, y2), proper, undefined = roi_axes(rois, images, spatial_scale)
    wy = axis_weights(y1, y2, bins_y, height).to(wide.dtype)
    wx = axis_weights(x1, x2, bins_x, width).to(wide.dtype)
    empty = wide.new_zeros(len(rois), channels, bins_y, bins_x)
    value = _per_image(
        image, images, empty, lambda n, rows: torch.einsum("kpi,cij,kqj->kcpq", wy[rows], wide[n], wx[rows])
    )
    return _finished(value, proper, undefined).to(features.dtype)


def prroi_pool_grid(
    features: Tensor,
    boxes_x: Tensor,
    boxes_y: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    deterministic: bool | None = None,
) -> Tensor:
    """prroi_pool of every pair of a row and a column interval: (N, Gy, Gx, C, P, Q)."""
    images = features.shape[0]
    columns, rows = (b.expand(images, *b.shape[-2:]) for b in (boxes_x, boxes_y))
    pooled = prroi_pool(features, grid_rois(columns, rows), output_size, spatial_scale)
    return pooled.view(images, rows.shape[1], columns.shape[1], *pooled.shape[1:])


def bin_sum(maps: Tensor, rois: Tensor, scale: float) -> Tensor:
    """out[k] = Σ_pq Σ_ij wy[k, p, i]·wx[k, q, j]·maps[n_k, i, j, p, q]."""
    images, height, width, bins_y, bins_x = maps.shape
    wide = maps if maps.dtype == torch.float64 else maps.float()
    image, (x1, y1, x2, y2), proper, undefined = roi_axes(rois, images, scale)
    wy = axis_weights(y1, y2, bins_y, height).to(wide.dtype)
    wx = axis_weights(x1, x2, bins_x, width).to(wide.dtype)

    def one(n: int, rows: Tensor) -> Tensor:
        return torch.einsum("kpi,ijpq,kqj->k", wy[rows], wide[n], wx[rows])

    value = _per_image(image, images, wide.new_zeros(len(rois)), one)
    return _finished(value, proper, undefined).to(maps.dtype)


def prroi_filter_score(
    features: Tensor, rois: Tensor, weight: Tensor, spatial_scale: float = 1.0, deterministic: bool | None = None
) -> Tensor:
    """score[k] = Σ_cpq pooled[k, c, p, q]·weight[c, p, q]; a 4-D weight has one filter per image."""
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    pooled = prroi_pool(features.to(wide), rois, (weight.shape[-2], weight.shape[-1]), spatial_scale)
    filters = weight.to(wide)
    filters = filters.expand(len(rois), *filters.shape) if weight.dim() == 3 else filters[rois[:, 0].detach().long()]
    return torch.einsum("kcpq,kcpq->k", pooled, filters).to(features.dtype)


def prroi_linear_score(
    features: Tensor,
    rois: Tensor,
    weight_fc: Tensor,
    weight_ridge: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    deterministic: bool | None = None,
) -> Tensor:
    """score[k] = Σ_d weight_ridge[(n_k,) d]·Σ_m weight_fc[d, m]·flatten(pooled[k])[m]."""
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    pooled = prroi_pool(features.to(wide), rois, output_size, spatial_scale).flatten(1)
    ridge = weight_ridge.to(wide)
    ridge = ridge.expand(len(rois), -1) if weight_ridge.dim() == 1 else ridge[rois[:, 0].detach().long()]
    return torch.einsum("km,dm,kd->k", pooled, weight_fc.to(wide), ridge).to(features.dtype)


def _cost(arguments: dict[str, Any]) -> Cost:
    """Two products with at least three cells per bin; features are read once, outputs written once."""
    features, rois = arguments["features"], arguments["rois"]
    bins_y, bins_x = pair(arguments["output_size"]) if "output_size" in arguments else arguments["weight"].shape[-2:]
    pooled = len(rois) * features.shape[1] * bins_y * bins_x
    return Cost(flops=2 * 3 * 2 * pooled, bytes=4 * (pooled + features.numel()))


_TOLERANCE = {
    torch.float32: Tolerance(1e-6, 1e-6, witness="2.3e-7, 3.4e-7"),
    torch.float64: Tolerance(1e-10, 1e-10, witness="the reference itself, strided"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="4.4e-4, 7.8e-4: roundings of result and incoming gradient"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="3.6e-3, 4.3e-3: the same"),
}


def _spec(name: str, function: Callable[..., Tensor], tried: tuple[Case, ...], gradients: tuple[str, ...]) -> Spec:
    return Spec("prroi_pool", name, function, tried, _TOLERANCE, ("features", *gradients), cost=_cost)


SPECS = (
    _spec("prroi_pool", prroi_pool, cases.POOL, ("rois",)),
    _spec("prroi_pool_grid", prroi_pool_grid, cases.GRID, ("boxes_x", "boxes_y")),
    _spec("prroi_filter_score", prroi_filter_score, cases.FILTER, ("rois", "weight")),
    _spec("prroi_linear_score", prroi_linear_score, cases.LINEAR, ("rois", "weight_fc", "weight_ridge")),
)

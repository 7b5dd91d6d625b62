"""Ridge regression of RoI-pooled samples on a grid, without forming the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops

__all__ = ["PooledMap", "grid_ridge"]


@dataclass(frozen=True, slots=True)
class PooledMap:
    """A feature map and the grid of RoIs on it.

    Attributes:
        feature: (C, H, W).
        boxes_x: (Gx, 2) intervals in px, where cell 0 lies at 0.
        boxes_y: (Gy, 2).
        bins: pooled size (P, Q).
        stride: px per cell.
        gain: factor on the pooled values.
    """

    feature: Tensor
    boxes_x: Tensor
    boxes_y: Tensor
    bins: tuple[int, int]
    stride: int
    gain: float


def grid_ridge(maps: Sequence[PooledMap], label: Tensor, ridge: float) -> list[Tensor]:
    """Ridge regression where row (gy, gx) of X holds the pooled values of that RoI from all maps.

    w = argmin ‖Xw − y‖² + λ‖w‖²

    The pooling of a grid is separable, X[(gy, gx), (c, p, q)] = Σ_ij U[gy, p, i]·V[gx, q, j]·F[c, i, j], so that with
    Σ_p U[gy, p, i]·U[gy', p, i'] = A, likewise B from V, and the correlation C of the cells over the channels

        XXᵀ[(gy, gx), (gy', gx')] = Σ A[gy, gy', i, i']·B[gx, gx', j, j']·C[i, j, i', j'],   w = Xᵀ(XXᵀ + λI)⁻¹y.

    An interval touches a few cells only, so this costs less than half of forming X (961 × 12288) and its Gram
    matrix in float32, although it is in float64: λ may be 10⁻⁷ of the largest eigenvalue.

    Args:
        maps: on one device, all of one grid.
        label: (Gy·Gx,) wanted scores, columns fastest.
        ridge: λ > 0.

    Returns:
        The filter (C, P, Q) of every map, of its dtype, in units of the values times their gain (as X has them).

    Source: DCFST eq. 1–3; the factored form is ours.
    """
    axes = [_axes(m) for m in maps]
    count = len(label)
    gram = torch.zeros(count, count, dtype=torch.float64, device=label.device)
    for m, (down, across) in zip(maps, axes, strict=True):
        _add_gram_(gram, m, down, across)
    gram.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(gram)  # reads the lower triangle, which is all that is filled
    dual = torch.cholesky_solve(label.to(gram)[:, None], factor)
    return [_filter(m, down, across, dual) for m, (down, across) in zip(maps, axes, strict=True)]


def _axes(m: PooledMap) -> tuple[Tensor, Tensor]:
    """U (Gy, P, H) and V (Gx, Q, W): the share of every cell's row and column in every bin's mean."""
    return (
        _shares(m.boxes_y, m.feature.shape[1], m.bins[0], m.stride),
        _shares(m.boxes_x, m.feature.shape[2], m.bins[1], m.stride),
    )


def _shares(boxes: Tensor, cells: int, bins: int, stride: int) -> Tensor:
    """The pooling along one axis, by the op itself: of maps that are 1 in one row, over intervals inside across."""
    rows = torch.eye(cells, device=boxes.device)[None, :, :, None].expand(1, cells, cells, 3)
    inside = boxes.new_tensor([0.5 * stride, 1.5 * stride]).expand(len(boxes), 2)
    rois = torch.stack([torch.zeros_like(boxes[:, 0]), inside[:, 0], boxes[:, 0], inside[:, 1], boxes[:, 1]], 1)
    return ops.prroi_pool(rows, rois, (bins, 1), 1 / stride)[:, :, :, 0].transpose(1, 2).double()


def _add_gram_(gram: Tensor, m: PooledMap, down: Tensor, across: Tensor) -> None:
    """Add gain²·XXᵀ of one map to the blocks of the lower triangle."""
    _, height, width = m.feature.shape
    rows, columns, starts = len(down), len(across), _offsets(len(down))
    cells = m.feature.double().flatten(1) * m.gain
    # C[(i, i'), (j, j')]: a range of i is a range of rows.
    correlation = (cells.T @ cells).view(height, width, height, width).transpose(1, 2).reshape(height**2, width**2)
    half = gram.new_empty(starts[-1], width**2)  # [(gy, gy' ≥ gy), (j, j')]
    products = _products(down)
    for gy, (low, high) in enumerate(_ranges(down)):
        pairs = products[gy, low:high, gy:].transpose(0, 1).reshape(rows - gy, -1)
        torch.mm(pairs, correlation[low * height : high * height], out=half[starts[gy] : starts[gy + 1]])
    whole = gram.new_empty(columns, columns, starts[-1])  # [gx, gx', (gy, gy' ≥ gy)]
    products = _products(across)
    for gx, (low, high) in enumerate(_ranges(across)):
        pairs = products[gx, low:high].transpose(0, 1).reshape(columns, -1)
        torch.mm(pairs, half[:, low * width : high * width].T, out=whole[gx])
    blocks = gram.view(rows, columns, rows, columns)
    for gy in range(rows):
        blocks[gy:, :, gy, :] += whole[:, :, starts[gy] : starts[gy + 1]].permute(2, 1, 0)


def _products(shares: Tensor) -> Tensor:
    """A[g, i, g', i'] = Σ_p U[g, p, i]·U[g', p, i']."""
    count, bins, cells = shares.shape
    left, right = shares.transpose(1, 2).reshape(-1, bins), shares.transpose(0, 1).reshape(bins, -1)
    return (left @ right).view(count, cells, count, cells)


def _offsets(count: int) -> list[int]:
    """Where the pairs (g, g' ≥ g) of every g begin, and how many there are in all."""
    return [g * count - g * (g - 1) // 2 for g in range(count + 1)]


def _ranges(shares: Tensor) -> list[tuple[int, int]]:
    """First and one past the last cell that every interval touches; (0, 1) where it lies outside the map."""
    touched = (shares != 0).any(1).tolist()
    out = []
    for row in touched:
        found = [k for k, hit in enumerate(row) if hit]
        out.append((found[0], found[-1] + 1) if found else (0, 1))
    return out


def _filter(m: PooledMap, down: Tensor, across: Tensor, dual: Tensor) -> Tensor:
    """(C, P, Q) gain·Xᵀα."""
    weights = dual.view(len(down), len(across))
    cells = torch.einsum("gpi,gx,xqj->pqij", down, weights, across)
    return m.gain * torch.einsum("pqij,cij->cpq", cells.to(m.feature), m.feature)

"""Gradients of the RoI pooling in plain PyTorch that autograd can differentiate again: the truth of second order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fasttrack.ops._rows import wide
from fasttrack.spec.prroi_pool import axis_edges, axis_weights, roi_axes

__all__ = ["features_gradient", "maps_gradient", "rois_gradient", "rois_gradient_of_sum"]


def _axis_derivatives(low: Tensor, high: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """Derivatives of ``axis_weights`` in low and in high, each (K, bins, size).

    edge(q) = low·(1 − q/bins) + high·q/bins, and the mean over a bin moves by (hat(edge) − mean)/width per edge.
    """
    cells = torch.arange(size, dtype=low.dtype, device=low.device)
    distance = axis_edges(low, high, bins)[:, :, None] - cells
    at = (1 - distance.abs()).clamp(min=0)
    along = (torch.arange(bins + 1, dtype=low.dtype, device=low.device) / bins)[:, None]
    mean = axis_weights(low, high, bins, size) / bins
    per_width = (bins / (high - low))[:, None, None]
    far, near = at * along, at * (1 - along)
    return per_width * (near[:, 1:] - near[:, :-1] + mean), per_width * (far[:, 1:] - far[:, :-1] - mean)


def _image_rows(image: Tensor, images: int) -> list[Tensor]:
    return [(image == n).nonzero().flatten() for n in range(images)]


def _proper_only(grad: Tensor, proper: Tensor) -> Tensor:
    return torch.where(proper.view(-1, *(1,) * (grad.dim() - 1)), wide(grad), 0.0)


def features_gradient(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, scale: float, deterministic: bool
) -> Tensor:
    """Σ_kpq grad[k, c, p, q]·wy[k, p, i]·wx[k, q, j] per image: the adjoint of prroi_pool in its features."""
    bins_y, bins_x = grad.shape[2:]
    image, (x1, y1, x2, y2), proper, _ = roi_axes(rois, images, scale)
    g = _proper_only(grad, proper)
    wy, wx = axis_weights(y1, y2, bins_y, height).to(g.dtype), axis_weights(x1, x2, bins_x, width).to(g.dtype)
    parts = [torch.einsum("kcpq,kpi,kqj->cij", g[r], wy[r], wx[r]) for r in _image_rows(image, images)]
    return torch.stack(parts).to(grad.dtype)


def maps_gradient(
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
    """Σ_k grad[k]·wy[k, p, i]·wx[k, q, j] per image: the adjoint of the sum over bins in its maps."""
    image, (x1, y1, x2, y2), proper, _ = roi_axes(rois, images, scale)
    g = _proper_only(grad, proper)
    wy, wx = axis_weights(y1, y2, bins_y, height).to(g.dtype), axis_weights(x1, x2, bins_x, width).to(g.dtype)
    parts = [torch.einsum("k,kpi,kqj->ijpq", g[r], wy[r], wx[r]) for r in _image_rows(image, images)]
    return torch.stack(parts).to(grad.dtype)


Slopes = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _rois_gradient(
    rois: Tensor, size: tuple[int, int, int], bins: tuple[int, int], scale: float, dtype: torch.dtype, slopes: Slopes
) -> Tensor:
    """(K, 5) from ``slopes(image, rows, wy, wx)``: d value/d wy (K, P, H) and d value/d wx (K, Q, W)."""
    images, height, width = size
    image, (x1, y1, x2, y2), proper, _ = roi_axes(rois, images, scale)
    wy, wx = axis_weights(y1, y2, bins[0], height).to(dtype), axis_weights(x1, x2, bins[1], width).to(dtype)
    by_y, by_x = _axis_derivatives(y1, y2, bins[0], height), _axis_derivatives(x1, x2, bins[1], width)
    total = torch.zeros(len(rois), 5, dtype=torch.float64, device=rois.device)
    for n, r in enumerate(_image_rows(image, images)):
        slope_y, slope_x = slopes(n, r, wy[r], wx[r])
        low_x, high_x = ((slope_x.double() * d[r]).sum((1, 2)) for d in by_x)
        low_y, high_y = ((slope_y.double() * d[r]).sum((1, 2)) for d in by_y)
        part = torch.stack([torch.zeros_like(low_x), low_x, low_y, high_x, high_y], 1)
        total = total.index_copy(0, r, part * scale)
    return torch.where(proper[:, None], total, 0.0).to(rois.dtype)


def rois_gradient(features: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    """(K, 5) gradient of ⟨grad, prroi_pool(features, rois)⟩ in the rows of ``rois``; 0 for the image index."""
    f, g = wide(features), wide(grad)
    images, _, height, width = f.shape

    def slopes(n: int, r: Tensor, wy: Tensor, wx: Tensor) -> tuple[Tensor, Tensor]:
        pooled_y = torch.einsum("kpi,cij->kpcj", wy, f[n])
        spread_x = torch.einsum("kcpq,kqj->kpcj", g[r], wx)
        return torch.einsum("kpcj,cij->kpi", spread_x, f[n]), torch.einsum("kcpq,kpcj->kqj", g[r], pooled_y)

    return _rois_gradient(rois, (images, height, width), (g.shape[2], g.shape[3]), scale, f.dtype, slopes)


def rois_gradient_of_sum(maps: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    """(K, 5) gradient of ⟨grad, sum over bins(maps, rois)⟩ in the rows of ``rois``; 0 for the image index."""
    m, g = wide(maps), wide(grad)
    images, height, width, bins_y, bins_x = m.shape

    def slopes(n: int, r: Tensor, wy: Tensor, wx: Tensor) -> tuple[Tensor, Tensor]:
        by_y = torch.einsum("k,kqj,ijpq->kpi", g[r], wx, m[n])
        return by_y, torch.einsum("k,kpi,ijpq->kqj", g[r], wy, m[n])

    return _rois_gradient(rois, (images, height, width), (bins_y, bins_x), scale, m.dtype, slopes)

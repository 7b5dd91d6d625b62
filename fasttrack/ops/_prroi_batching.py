"""``vmap`` of RoI pooling: mapped images stand one after the other in the batch, and their RoIs name them there.

Where only the features are mapped, and the RoIs are the same, the mapped axis joins the channels instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack.ops._batching import spread

__all__ = ["maps_gradient_rule", "pool_rule", "pooled_gradient_rule", "rois_gradient_rule", "sum_rule"]

Along = tuple[bool, ...]


def _moved(rois: Tensor, size: int, mapped: bool, images: int | None) -> Tensor:
    """(V·K, 5) RoIs; with ``images`` each example has so many of its own.

    An index that names no image of its example must not name one of another's: it becomes −1.
    """
    rows = spread(rois, size, mapped)
    if images is None:
        return rows.flatten(0, 1)
    index = rows[..., :1]
    own = torch.arange(size, dtype=rois.dtype, device=rois.device)[:, None, None] * images
    inside = (index.round() >= 0) & (index.round() < images)
    return torch.cat([torch.where(inside, index + own, -1.0), rows[..., 1:]], -1).flatten(0, 1)


def pool_rule(op: Callable[..., Tensor], size: int, along: Along, features: Tensor, rois: Tensor, *options: Any) -> Any:
    """Rule of ``prroi_pool``."""
    count = rois.shape[-2]
    if not along[1]:  # (V, N, C, …) → (N, V·C, …)
        channels = features.shape[2]
        pooled = op(features.movedim(0, 1).flatten(1, 2), rois, *options)
        return pooled.unflatten(1, (size, channels)).movedim(1, 0)
    if along[0]:
        own = _moved(rois, size, True, features.shape[1])
        together = op(features.flatten(0, 1), own, *options)
    else:
        together = op(features, _moved(rois, size, True, None), *options)
    return together.unflatten(0, (size, count))


def pooled_gradient_rule(
    op: Callable[..., Tensor], size: int, along: Along, grad: Tensor, rois: Tensor, images: int, *options: Any
) -> Any:
    """Rule of the gradient of the pooled features in the maps."""
    if not along[1]:  # (V, K, C, …) → (K, V·C, …)
        channels = grad.shape[2]
        back = op(grad.movedim(0, 1).flatten(1, 2), rois, images, *options)
        return back.unflatten(1, (size, channels)).movedim(1, 0)
    grads, own = spread(grad, size, along[0]).flatten(0, 1), _moved(rois, size, True, images)
    together = op(grads, own, images * size, *options)
    return together.unflatten(0, (size, images))


def rois_gradient_rule(
    op: Callable[..., Tensor], size: int, along: Along, features: Tensor, grad: Tensor, rois: Tensor, scale: float
) -> Any:
    """Rule of the gradient in the RoIs, of pooled features and of sums over bins."""
    images = features.shape[1] if along[0] else None
    maps = features.flatten(0, 1) if along[0] else features
    grads, rows = spread(grad, size, along[1]).flatten(0, 1), _moved(rois, size, along[2], images)
    together = op(maps, grads, rows, scale)
    return together.unflatten(0, (size, rois.shape[-2]))


def sum_rule(op: Callable[..., Tensor], size: int, along: Along, maps: Tensor, rois: Tensor, *options: Any) -> Any:
    """Rule of the sum over bins."""
    images = maps.shape[1] if along[0] else None
    rows = _moved(rois, size, along[1], images)
    together = op(maps.flatten(0, 1) if along[0] else maps, rows, *options)
    return together.unflatten(0, (size, rois.shape[-2]))


def maps_gradient_rule(
    op: Callable[..., Tensor], size: int, along: Along, grad: Tensor, rois: Tensor, images: int, *options: Any
) -> Any:
    """Rule of the gradient of the sum over bins in its maps."""
    grads, rows = spread(grad, size, along[0]).flatten(0, 1), _moved(rois, size, along[1], images)
    together = op(grads, rows, images * size, *options)
    return together.unflatten(0, (size, images))

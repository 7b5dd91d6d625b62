"""How far two boxes are apart: overlap and centre distance, for many boxes at once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasttrack.errors import ShapeError

__all__ = ["Floats", "center_error", "columns", "iou", "normalised_center_error"]

Floats: TypeAlias = NDArray[np.float64]


def iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of axis-aligned boxes, ``|a ∩ b| / |a ∪ b|``.

    On boxes of whole pixels this is also what the toolkits compute that count pixels (``right = x + w − 1``, and
    ``+ 1`` in the common part): both ones cancel.

    Args:
        a: (…, 4) x, y, w, h in px, edge coordinates.
        b: the same; leading axes broadcast.

    Returns:
        (…,) in [0, 1]; 0 where a box is empty (a side ≤ 0), NaN where a number of either box is NaN.

    Raises:
        ShapeError: the last axis is not 4, or the leading axes do not broadcast.
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = _pair("iou", a, b)
    with np.errstate(invalid="ignore"):  # inf − inf
        across = np.maximum(np.minimum(ax + aw, bx + bw) - np.maximum(ax, bx), 0)
        common = across * np.maximum(np.minimum(ay + ah, by + bh) - np.maximum(ay, by), 0)
        union = np.maximum(aw, 0) * np.maximum(ah, 0) + np.maximum(bw, 0) * np.maximum(bh, 0) - common
    overlap = np.where(np.isnan(union), np.nan, 0.0)
    np.divide(common, union, out=overlap, where=union > 0)
    return np.minimum(overlap, 1.0)


def center_error(a: ArrayLike, b: ArrayLike) -> Floats:
    """Distance of the centres, ``|a.xy + a.wh/2 − b.xy − b.wh/2|``, in px.

    Toolkits that put the centre at ``x + (w − 1)/2`` get the same distance. Empty boxes have a centre too.

    Args:
        a: (…, 4) x, y, w, h in px.
        b: the same; leading axes broadcast.

    Returns:
        (…,); NaN where a number of either box is NaN.

    Raises:
        ShapeError: the last axis is not 4, or the leading axes do not broadcast.
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = _pair("center_error", a, b)
    dx, dy = ax - bx + (aw - bw) / 2, ay - by + (ah - bh) / 2
    return np.sqrt(dx * dx + dy * dy)  # four times as fast as hypot, whose care for overflow pixels do not need


def normalised_center_error(boxes: ArrayLike, truth: ArrayLike) -> Floats:
    """Distance of the centres in sides of the true box, ``|(Δx / w, Δy / h)|``.

    Args:
        boxes: (…, 4) x, y, w, h in px.
        truth: the same; leading axes broadcast.

    Returns:
        (…,); NaN where a number of either box is NaN or a side of ``truth`` is not positive.

    Raises:
        ShapeError: the last axis is not 4, or the leading axes do not broadcast.

    Source: Müller et al. 2018 (TrackingNet); the LaSOT toolkit divides both centres by the sides, which is the same.
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = _pair("normalised_center_error", boxes, truth)
    w, h = np.where(bw > 0, bw, np.nan), np.where(bh > 0, bh, np.nan)
    dx, dy = (ax - bx + (aw - bw) / 2) / w, (ay - by + (ah - bh) / 2) / h
    return np.sqrt(dx * dx + dy * dy)


def _pair(op: str, a: ArrayLike, b: ArrayLike) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for name, boxes in (("the first argument", first), ("the second argument", second)):
        if boxes.ndim == 0 or boxes.shape[-1] != 4:
            raise ShapeError(op, name, "(…, 4) boxes x, y, w, h", f"shape {boxes.shape}")
    try:
        np.broadcast_shapes(first.shape, second.shape)
    except ValueError as error:
        raise ShapeError(op, "boxes", "two shapes that broadcast", f"{first.shape} and {second.shape}") from error
    return columns(first), columns(second)


def columns(boxes: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The numbers of the last axis, each in one piece: much faster to work on than with gaps between them."""
    return tuple(boxes[..., index].copy() for index in range(boxes.shape[-1]))

"""Results as ``supervision.Detections``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttrack.errors import ArgumentError, BackendUnavailable

if TYPE_CHECKING:
    from fasttrack.trackers import Result

__all__ = ["to_detections"]


def to_detections(
    results: Result | Sequence[Result], *, ids: Sequence[int] | None = None, class_id: int = 0, keep_lost: bool = True
) -> Any:
    """Results of one frame as ``supervision.Detections``, for its annotators, zones and sinks.

    Has no frame and so no order of colours; note that supervision's annotators draw on **BGR** frames, while the
    trackers take **RGB**.

    Args:
        results: what a tracker's ``update`` gave: one ``Result`` or a list of T.
        ids: number of each target, for ``tracker_id``; 1 … T where it is None.
        class_id: class of all of them.
        keep_lost: keep lost targets, at the box where they were last seen (``data["lost"]`` tells); False: leave out.

    Returns:
        ``Detections``: ``xyxy`` (edges in px, float32), ``confidence`` (score, float32; NaN where there is none),
        ``tracker_id``, ``class_id``, and ``data`` with ``lost`` (bool) and ``psr`` (float64).

    Raises:
        ArgumentError: another number of ids than of results.
        BackendUnavailable: supervision is not installed; says what to install.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        message = f"to_detections: needs supervision (pip install 'fasttrack[supervision]'): {error}"
        raise BackendUnavailable(message) from error
    rows = list(results) if isinstance(results, Sequence) else [results]
    numbers = list(range(1, len(rows) + 1)) if ids is None else list(ids)
    if len(numbers) != len(rows):
        raise ArgumentError("to_detections", "ids", f"one for each of {len(rows)} results", f"{len(numbers)}")
    kept = [(row, number) for row, number in zip(rows, numbers, strict=True) if keep_lost or not row.lost]
    return Detections(
        xyxy=np.array([row.box.xyxy for row, _ in kept], np.float32).reshape(-1, 4),
        confidence=np.array([row.score for row, _ in kept], np.float32),
        class_id=np.full(len(kept), class_id),
        tracker_id=np.array([number for _, number in kept], dtype=int),
        data={
            "lost": np.array([row.lost for row, _ in kept], dtype=bool),
            "psr": np.array([row.psr for row, _ in kept], dtype=np.float64),
        },
    )

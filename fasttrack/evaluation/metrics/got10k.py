"""Average overlap and success rates of GOT-10k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasttrack.errors import RangeError, ShapeError
from fasttrack.evaluation.metrics.overlap import iou
from fasttrack.evaluation.metrics.rules import got10k_frames

__all__ = ["GotScores", "got10k_overlaps", "got10k_scores"]


@dataclass(frozen=True)
class GotScores:
    """GOT-10k's measures over a set of sequences.

    Attributes:
        ao: average overlap, the mean over all frames of all sequences together.
        sr50, sr75: fraction of those frames of overlap above 0.5 and above 0.75.
        mao, msr50, msr75: the same per sequence, averaged within each class of objects and then over the classes;
            None where the classes are not known.
    """

    ao: float
    sr50: float
    sr75: float
    mao: float | None = None
    msr50: float | None = None
    msr75: float | None = None


def got10k_overlaps(
    boxes: ArrayLike, truth: ArrayLike, visible: ArrayLike | None = None, size: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Overlaps of the frames that GOT-10k counts in one run over a sequence.

    By ``_got10k`` of ``rules.py``: without the first frame and those in which the target is absent (``cover``
    0), boxes clipped to the frame. A frame without a result is a miss, one of NaN ground truth is not counted.

    Args:
        boxes: (N, 4) x, y, w, h in px.
        truth: the same.
        visible: (N,) bool, False where the target is absent.
        size: width and height of the frames in px; None does not clip.

    Raises:
        ShapeError: not (N, 4), or not of one length.

    Source: ``ExperimentGOT10k.report`` of got-10k/toolkit.
    """
    got, wanted = np.asarray(boxes, np.float64), np.asarray(truth, np.float64)
    if wanted.ndim != 2 or wanted.shape[1] != 4 or got.shape != wanted.shape:
        raise ShapeError("got10k_overlaps", "boxes", "(N, 4) like truth", f"{got.shape} and {wanted.shape}")
    seen = None if visible is None else np.asarray(visible, np.bool_)
    if seen is not None and seen.shape != (len(wanted),):
        raise ShapeError("got10k_overlaps", "visible", f"({len(wanted)},) flags", f"shape {seen.shape}")
    clipped, target, _ = got10k_frames(got, wanted, seen, size)
    return np.nan_to_num(iou(clipped, target), nan=0.0)


def got10k_scores(overlaps: Sequence[NDArray[np.float64]], classes: Sequence[str] | None = None) -> GotScores:
    """Scores of a set of sequences.

    Args:
        overlaps: per sequence what ``got10k_overlaps`` gives; those of repeated runs one after the other.
        classes: per sequence the class of its object, for the balanced measures, which weigh every class alike.

    Raises:
        RangeError: no frame at all. ShapeError: not one class per sequence.

    Source: ``ExperimentGOT10k`` of got-10k/toolkit for the pooled measures (its curve holds 0.75; only 0.5 is printed).
    The balanced ones are after Huang et al. 2019 (GOT-10k); the toolkit does not have them.
    """
    if not sum(len(one) for one in overlaps):
        raise RangeError("got10k_scores", "overlaps", "at least one frame", "none")
    if classes is not None and len(classes) != len(overlaps):
        raise ShapeError("got10k_scores", "classes", f"one per sequence ({len(overlaps)})", f"{len(classes)}")
    pooled = _measures(np.concatenate(overlaps))
    if classes is None:
        return GotScores(*pooled)
    members: dict[str, list[tuple[float, float, float]]] = {}
    for name, one in zip(classes, overlaps, strict=True):
        if len(one):
            members.setdefault(name, []).append(_measures(one))
    balanced = np.mean([np.mean(rows, axis=0) for rows in members.values()], axis=0)
    return GotScores(*pooled, *(float(value) for value in balanced))


def _measures(overlaps: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(overlaps.mean()), float((overlaps > 0.5).mean()), float((overlaps > 0.75).mean())

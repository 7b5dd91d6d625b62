"""Success, precision and normalised precision of one pass over a sequence, by the rules of the toolkits in use.

On the same boxes the toolkits publish different numbers. They share the curves

    success[k]    = |{frames: overlap > k/20}| / frames,          k = 0 … 20
    precision[k]  = |{frames: centre error ≤ k px}| / frames,     k = 0 … 50
    normalised[k] = |{frames: normalised error ≤ k/100}| / frames, k = 0 … 50

and differ in what counts as a frame and in what is put in the place of a measure that is not there; ``rules.py`` says
how, for each of ``RULES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasttrack.errors import RangeError, ShapeError, UnknownName
from fasttrack.evaluation.metrics import rules as toolkits
from fasttrack.evaluation.metrics.overlap import Floats

__all__ = [
    "NORMALISED_THRESHOLDS",
    "PRECISION_THRESHOLDS",
    "RULES",
    "SUCCESS_THRESHOLDS",
    "Scores",
    "mean_scores",
    "pool_scores",
    "score_boxes",
]

RULES: tuple[str, ...] = tuple(toolkits.RULES)

# k/20 and not k·0.05, which is a hair above some twentieths: an overlap of exactly 3/5 is not more than 3/5 either way.
SUCCESS_THRESHOLDS: Floats = np.arange(21) / 20
PRECISION_THRESHOLDS: Floats = np.arange(51.0)
NORMALISED_THRESHOLDS: Floats = np.arange(51) / 100


@dataclass(frozen=True, eq=False)
class Scores:
    """Curves of one sequence, or their mean.

    Attributes:
        success: (21,) fraction of frames of overlap above 0, 0.05 … 1.
        precision: (51,) fraction of frames of centre error up to 0, 1 … 50 px.
        normalised: (51,) fraction of frames of normalised centre error up to 0, 0.01 … 0.5.
        frames: how many frames the fractions are of; 0 (and NaN curves) where the rules leave none.
    """

    success: Floats
    precision: Floats
    normalised: Floats
    frames: int

    @property
    def auc(self) -> float:
        """Area under the success curve, as all toolkits take it: the mean of its 21 values."""
        return float(self.success.mean())

    @property
    def os50(self) -> float:
        """Success at overlap 0.5."""
        return float(self.success[10])

    @property
    def dp20(self) -> float:
        """Precision at 20 px."""
        return float(self.precision[20])

    @property
    def ndp20(self) -> float:
        """Normalised precision at 0.2."""
        return float(self.normalised[20])


def score_boxes(
    boxes: ArrayLike,
    truth: ArrayLike,
    rules: str = "otb",
    visible: ArrayLike | None = None,
    size: tuple[float, float] | None = None,
) -> Scores:
    """Score the boxes of one pass over a sequence.

    Args:
        boxes: (N, 4) x, y, w, h in px, 0-based edge coordinates; NaN rows where the tracker gave none.
        truth: (N, 4) ground truth in the same coordinates; NaN rows where there is no box.
        rules: one of ``RULES``; see ``rules.py`` for all they do.
        visible: (N,) bool, False where the dataset marks the target absent; None where it marks nothing.
        size: width and height of the frames in px; ``got10k`` clips boxes to it, None does not clip.

    Returns:
        The curves.

    Raises:
        ShapeError: not (N, 4), or not as many boxes as ground truth, or no row at all.
        UnknownName: no such rules.
    """
    got, wanted = np.asarray(boxes, np.float64), np.asarray(truth, np.float64)
    if wanted.ndim != 2 or wanted.shape[1] != 4 or not len(wanted):
        raise ShapeError("score_boxes", "truth", "(N, 4) boxes, N ≥ 1", f"shape {wanted.shape}")
    if got.shape != wanted.shape:
        hint = "one box per frame, in the order of the frames"
        raise ShapeError("score_boxes", "boxes", f"of the shape of truth, {wanted.shape}", f"{got.shape}", hint)
    seen = None if visible is None else np.asarray(visible, np.bool_)
    if seen is not None and seen.shape != (len(wanted),):
        raise ShapeError("score_boxes", "visible", f"({len(wanted)},) flags", f"shape {seen.shape}")
    if rules not in RULES:
        raise UnknownName("rules", rules, RULES)
    measured = toolkits.RULES[rules](got, wanted, seen, size)
    return Scores(
        _fractions(_above(measured.overlap, SUCCESS_THRESHOLDS), measured.frames),
        _fractions(_within(measured.error, PRECISION_THRESHOLDS), measured.frames),
        _fractions(_within(measured.normalised, NORMALISED_THRESHOLDS), measured.frames),
        measured.frames,
    )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Mean curve over sequences, each of equal weight: what the toolkits report for a dataset.

    Sequences of which the rules left no frame have no part in it. Raises RangeError where none is left.
    """
    counted = _counted("mean_scores", scores)
    return _combined(counted, [1.0] * len(counted))


def pool_scores(scores: Sequence[Scores]) -> Scores:
    """Curve over all frames of several runs on one sequence: SRE's 12 shifts, TRE's 20 segments.

    The OTB toolkit adds the frames of all runs and divides by their number (``genPerfMat.m``), so that a long segment
    weighs more than a short one. Raises RangeError where no frame is left.
    """
    counted = _counted("pool_scores", scores)
    return _combined(counted, [float(one.frames) for one in counted])


def _counted(op: str, scores: Sequence[Scores]) -> list[Scores]:
    counted = [one for one in scores if one.frames > 0]
    if not counted:
        raise RangeError(op, "scores", "at least one sequence with a frame that counts", f"{len(scores)} without")
    return counted


def _combined(scores: Sequence[Scores], weights: Sequence[float]) -> Scores:
    def mean(name: str) -> Floats:
        return np.average([getattr(one, name) for one in scores], axis=0, weights=weights)

    return Scores(mean("success"), mean("precision"), mean("normalised"), sum(one.frames for one in scores))


def _fractions(counts: NDArray[np.int64], frames: int) -> Floats:
    return counts / frames if frames else np.full(len(counts), np.nan)


def _above(values: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """How many values are above each of the rising thresholds; NaN is above none."""
    # searchsorted gives the number of thresholds below a value: one pass instead of one per threshold.
    below = np.searchsorted(thresholds, np.where(np.isnan(values), -np.inf, values), side="left")
    counts = np.bincount(below, minlength=len(thresholds) + 1)
    return np.cumsum(counts[::-1])[::-1][1:]


def _within(values: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """How many values are at most each of the rising thresholds; NaN, sorted last, is within none."""
    counts = np.bincount(np.searchsorted(thresholds, values, side="left"), minlength=len(thresholds) + 1)
    return np.cumsum(counts)[:-1]

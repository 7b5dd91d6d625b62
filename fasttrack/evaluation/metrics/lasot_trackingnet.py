"""Success, precision and normalised precision as LaSOT and as TrackingNet define them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fasttrack.errors import RangeError, ShapeError
from fasttrack.evaluation.metrics.one_pass import Scores, mean_scores, score_boxes
from fasttrack.evaluation.metrics.overlap import Floats, center_error, iou, normalised_center_error

__all__ = ["LaSotScores", "TrackingNetScores", "lasot", "trackingnet"]


@dataclass(frozen=True)
class LaSotScores:
    """LaSOT's three figures, fractions.

    Attributes:
        success: mean of the success curve.
        precision: precision at 20 px.
        normalised: normalised precision at 0.2.
    """

    success: float
    precision: float
    normalised: float


def lasot(scores: Sequence[Scores]) -> LaSotScores:
    """LaSOT's figures from the scores of its sequences by the rules ``otb`` with ``visible``.

    That is ``score_boxes(boxes, truth, "otb", visible=~absent)``, absent being where the dataset says full occlusion
    or out of view: such frames count as neither success nor hit, and yet are divided by. Frames of empty ground truth
    that are not marked count as hits of both precisions; see ``rules.py``.

    Raises:
        RangeError: no sequence.

    Source: ``calc_seq_err_robust.m``, ``eval_tracker.m``, ``plot_draw_save.m`` and
    ``run_tracker_performance_evaluation.m`` (``rank_idx = 21``) of HengLan/LaSOT_Evaluation_Toolkit.
    """
    mean = mean_scores(scores)
    return LaSotScores(mean.auc, mean.dp20, mean.ndp20)


@dataclass(frozen=True)
class TrackingNetScores:
    """TrackingNet's figures, fractions (the server prints per cent).

    Attributes:
        success: area under the success curve over thresholds 0 … 1, divided by the length of that interval.
        precision: area under the precision curve over 0 … 50 px, likewise.
        normalised: area under the normalised precision curve over 0 … 0.5, likewise.
        dp20: precision at 20 px by the rules ``otb``; what other benchmarks call precision.
    """

    success: float
    precision: float
    normalised: float
    dp20: float


def trackingnet(boxes: Sequence[ArrayLike], truth: Sequence[ArrayLike]) -> TrackingNetScores:
    """TrackingNet's figures for its sequences, as the code of its evaluation server computes them.

    Boxes and ground truth are rounded to whole pixels; the first box is the ground truth; each curve has 21 evenly
    spaced thresholds (``overlap >``, ``error ≤``) and its area is taken by the trapezoidal rule; the curves are
    averaged over the sequences. A NaN result is a miss. The ground truth is never absent in this dataset: here a frame
    of NaN or empty ground truth is a miss as well. (Rounding is half to even and of the 0-based numbers: a coordinate
    that lies on a half pixel may come out one pixel apart if the files are 1-based.)

    Args:
        boxes: per sequence (N, 4) x, y, w, h in px.
        truth: the same.

    Raises:
        RangeError: no sequence. ShapeError: a sequence whose boxes and ground truth differ in shape.

    Source: ``metrics.py`` of SilvioGiancola/TrackingNet-devkit, of which its README says that the server runs it.
    """
    if not len(truth) or len(boxes) != len(truth):
        raise RangeError("trackingnet", "boxes", "as many sequences as truth, and one at least", f"{len(boxes)}")
    curves, at20 = [], []
    for index, (one, other) in enumerate(zip(boxes, truth, strict=True)):
        got, wanted = np.asarray(one, np.float64), np.asarray(other, np.float64)
        if got.shape != wanted.shape or wanted.ndim != 2 or wanted.shape[1] != 4 or not len(wanted):
            raise ShapeError("trackingnet", f"boxes[{index}]", "(N, 4) like truth", f"{got.shape} and {wanted.shape}")
        curves.append(_curves(got, wanted))
        at20.append(score_boxes(got, wanted, "otb").dp20)
    # The trapezoidal rule; numpy's function for it changed its name with 2.0.
    areas = [float((curve.sum() - (curve[0] + curve[-1]) / 2) / 20) for curve in np.mean(curves, axis=0)]
    return TrackingNetScores(areas[0], areas[1], areas[2], float(np.mean(at20)))


def _curves(boxes: Floats, truth: Floats) -> list[Floats]:
    boxes, truth = np.round(boxes), np.round(truth)
    boxes[0] = truth[0]
    thresholds = np.arange(21) / 20
    overlap, error = iou(boxes, truth)[:, None], center_error(boxes, truth)[:, None]
    far = normalised_center_error(boxes, truth)[:, None]
    error[~(truth[:, 2:] > 0).all(1)] = np.nan
    return [
        (overlap > thresholds).mean(0),
        (error <= 50 * thresholds).mean(0),
        (far <= thresholds / 2).mean(0),
    ]

"""Success, precision and normalised precision as LaSOT and as TrackingNet define them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fasttrack.errors import RangeError, ShapeError
from fasttrack.evaluation.metrics.one_pass import Scores, mean_scores
from fasttrack.evaluation.metrics.overlap import Floats
from fasttrack.evaluation.metrics.rules import RULES

__all__ = ["LaSotScores", "TrackingNetScores", "lasot", "trackingnet_frames", "trackingnet_scores"]


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
    """LaSOT's figures from the scores of its sequences by the rules ``lasot``.

    That is ``score_boxes(boxes, truth, "lasot", visible=~absent)``, absent being where the dataset says full occlusion
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
    """

    success: float
    precision: float
    normalised: float


def trackingnet_frames(boxes: ArrayLike, truth: ArrayLike) -> Floats:
    """(N, 3) overlap, centre error in px and normalised centre error of every frame, by the rules ``trackingnet``.

    Args:
        boxes: (N, 4) x, y, w, h in px.
        truth: the same.

    Raises:
        ShapeError: not (N, 4), N ≥ 1, or not of one length.
    """
    got, wanted = np.asarray(boxes, np.float64), np.asarray(truth, np.float64)
    if got.shape != wanted.shape or wanted.ndim != 2 or wanted.shape[1] != 4 or not len(wanted):
        raise ShapeError("trackingnet_frames", "boxes", "(N, 4) like truth", f"{got.shape} and {wanted.shape}")
    measured = RULES["trackingnet"](got, wanted, None, None)
    return np.stack([measured.overlap, measured.error, measured.normalised], axis=1)


def trackingnet_scores(frames: Sequence[Floats]) -> TrackingNetScores:
    """TrackingNet's figures, as the code of its evaluation server computes them.

    Each curve of a sequence has 21 evenly spaced thresholds (overlap above, errors up to and with); the curves are
    averaged over the sequences, and the area is taken by the trapezoidal rule.

    Args:
        frames: per sequence what ``trackingnet_frames`` gives; those of repeated runs one after the other.

    Raises:
        RangeError: no sequence.

    Source: ``metrics.py`` of SilvioGiancola/TrackingNet-devkit, of which its README says that the server runs it.
    """
    if not len(frames):
        raise RangeError("trackingnet_scores", "frames", "one sequence at least", "none")
    curve = np.mean([_curves(one) for one in frames], axis=0)
    # The trapezoidal rule; numpy's function for it changed its name with 2.0.
    areas = (curve.sum(1) - (curve[:, 0] + curve[:, -1]) / 2) / 20
    return TrackingNetScores(*areas.tolist())


def _curves(frames: Floats) -> Floats:
    thresholds = np.arange(21) / 20
    overlap, error, normalised = frames.T[:, :, None]
    hits = [overlap > thresholds, error <= 50 * thresholds, normalised <= thresholds / 2]
    return np.stack([hit.mean(0) for hit in hits])

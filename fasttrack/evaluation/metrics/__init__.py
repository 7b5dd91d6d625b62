"""What boxes are worth: each measure by the definition of the toolkit it comes from, named in its docstring."""

from __future__ import annotations

from fasttrack.evaluation.metrics.one_pass import RULES, Scores, mean_scores, pool_scores, score_boxes
from fasttrack.evaluation.metrics.overlap import center_error, iou, normalised_center_error
from fasttrack.evaluation.metrics.speed import Speed, fps

__all__ = [
    "RULES",
    "Scores",
    "Speed",
    "center_error",
    "fps",
    "iou",
    "mean_scores",
    "normalised_center_error",
    "pool_scores",
    "score_boxes",
]

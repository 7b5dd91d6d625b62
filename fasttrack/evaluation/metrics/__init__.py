"""What boxes are worth: each measure by the definition of the toolkit it comes from, named in its docstring."""

from __future__ import annotations

from fasttrack.evaluation.metrics.attributes import AttributeScores, by_attribute
from fasttrack.evaluation.metrics.got10k import GotScores, got10k_overlaps, got10k_scores
from fasttrack.evaluation.metrics.lasot_trackingnet import (
    LaSotScores,
    TrackingNetScores,
    lasot,
    trackingnet_frames,
    trackingnet_scores,
)
from fasttrack.evaluation.metrics.one_pass import RULES, Scores, mean_scores, pool_scores, score_boxes
from fasttrack.evaluation.metrics.overlap import center_error, iou, normalised_center_error
from fasttrack.evaluation.metrics.polygon import polygon_iou, raster_iou
from fasttrack.evaluation.metrics.speed import Speed, fps
from fasttrack.evaluation.metrics.vot import EAO_INTERVALS, VotScores, supervised, unsupervised

__all__ = [
    "EAO_INTERVALS",
    "RULES",
    "AttributeScores",
    "GotScores",
    "LaSotScores",
    "Scores",
    "Speed",
    "TrackingNetScores",
    "VotScores",
    "by_attribute",
    "center_error",
    "fps",
    "got10k_overlaps",
    "got10k_scores",
    "iou",
    "lasot",
    "mean_scores",
    "normalised_center_error",
    "polygon_iou",
    "pool_scores",
    "raster_iou",
    "score_boxes",
    "supervised",
    "trackingnet_frames",
    "trackingnet_scores",
    "unsupervised",
]

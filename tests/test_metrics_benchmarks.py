"""The figures of GOT-10k, LaSOT and TrackingNet, and scores by attribute, on cases computed by hand."""

import numpy as np
import pytest

from fasttrack.errors import RangeError, ShapeError
from fasttrack.evaluation.metrics import attributes
from fasttrack.evaluation.metrics.got10k import got10k_overlaps, got10k_scores
from fasttrack.evaluation.metrics.lasot_trackingnet import lasot, trackingnet_frames, trackingnet_scores
from fasttrack.evaluation.metrics.one_pass import mean_scores, score_boxes
from fasttrack.evaluation.sequence import Annotations, ImageFrames, Sequence

TRUTH = np.array([[10.0, 10, 20, 20]] * 5)
BOXES = np.array([[10, 10, 20, 20], [10, 10, 20, 20], [10, 10, 20, 12], [10, 10, 10, 20], [90, 90, 5, 5.0]])


def test_got10k_overlaps_leave_out_the_first_frame_and_absent_ones():
    np.testing.assert_allclose(got10k_overlaps(BOXES, TRUTH), [1, 0.6, 0.5, 0], rtol=0, atol=1e-15)
    seen = np.array([True, True, False, True, True])
    np.testing.assert_allclose(got10k_overlaps(BOXES, TRUTH, seen), [1, 0.5, 0], rtol=0, atol=1e-15)
    unusable = BOXES.copy()
    unusable[1] = np.nan
    assert got10k_overlaps(unusable, TRUTH)[0] == 0
    with pytest.raises(ShapeError, match="got10k_overlaps: boxes"):
        got10k_overlaps(BOXES[:3], TRUTH)
    with pytest.raises(ShapeError, match="visible"):
        got10k_overlaps(BOXES, TRUTH, [True])


def test_got10k_pools_frames_and_balances_classes():
    overlaps = [np.array([1.0, 0.6, 0.5, 0.0]), np.array([0.8]), np.array([0.2, 0.4])]
    scores = got10k_scores(overlaps, ["dog", "dog", "car"])
    assert (scores.ao, scores.sr50, scores.sr75) == (pytest.approx(3.5 / 7), 3 / 7, 2 / 7)
    assert scores.mao == pytest.approx(((2.1 / 4 + 0.8) / 2 + 0.3) / 2)
    assert (scores.msr50, scores.msr75) == (pytest.approx(0.375), pytest.approx((0.25 + 1) / 4))
    assert got10k_scores(overlaps).mao is None
    with pytest.raises(RangeError, match="at least one frame"):
        got10k_scores([np.array([])])
    with pytest.raises(ShapeError, match="one per sequence"):
        got10k_scores(overlaps, ["dog"])


def test_lasot_divides_by_absent_frames_too():
    seen = np.array([True, True, True, False, False])
    scores = score_boxes(BOXES, TRUTH, "lasot", visible=seen)
    figures = lasot([scores])
    # Overlaps 1, 1, 0.6 of five frames: 20, 20 and 12 thresholds out of 21.
    assert figures.success == pytest.approx((20 + 20 + 12) / 21 / 5)
    assert figures.precision == 0.6
    assert figures.normalised == 0.6  # the third is 4 px of 20 off: at the threshold
    with pytest.raises(RangeError):
        lasot([])


def trackingnet(boxes, truth):
    return trackingnet_scores([trackingnet_frames(*pair) for pair in zip(boxes, truth, strict=True)])


def test_trackingnet_takes_areas_of_curves():
    figures = trackingnet([BOXES[:2]], [TRUTH[:2]])
    # Full marks but for overlap 1, which is not above 1: the last trapezium is half as large.
    assert figures.success == pytest.approx(1 - 0.5 / 20)
    assert figures.precision == figures.normalised == 1
    far = TRUTH[:2] + np.array([[0, 0, 0, 0], [12, 0, 0, 0]])
    figures = trackingnet([far], [TRUTH[:2]])
    assert figures.precision == pytest.approx(0.5 + 0.5 * (15 + 0.5) / 20)  # 12 px: from 12.5 px on, and half a step
    assert figures.normalised == 0.5  # 0.6 of the width


def test_trackingnet_rounds_to_whole_pixels():
    near = TRUTH[:2] + np.array([0.4, -0.4, 0.3, -0.2])
    assert trackingnet([near], [TRUTH[:2]]) == trackingnet([TRUTH[:2]], [TRUTH[:2]])
    # Canary: more than half a pixel is seen.
    assert trackingnet([near + 0.3], [TRUTH[:2]]).success < 0.95


def test_trackingnet_counts_sequences_alike_and_misses_as_misses():
    both = trackingnet([BOXES[:2], BOXES[[0, 4, 4, 4]]], [TRUTH[:2], TRUTH[:4]])
    # The last of four frames are 80 px off and more.
    assert both.precision == pytest.approx((1 + 0.25) / 2)
    nothing = np.array([BOXES[0], [np.nan] * 4])
    assert trackingnet([nothing], [TRUTH[:2]]).precision == 0.5
    with pytest.raises(RangeError, match="one sequence at least"):
        trackingnet([], [])
    with pytest.raises(ShapeError, match="trackingnet_frames: boxes"):
        trackingnet([BOXES], [TRUTH[:2]])


def sequence(name, *challenges):
    return Sequence(name, lambda: ImageFrames(()), lambda: Annotations(TRUTH), frozenset(challenges))


def test_attributes_are_means_over_their_sequences():
    scores = {"a": score_boxes(TRUTH, TRUTH), "b": score_boxes(BOXES, TRUTH), "d": score_boxes(BOXES, TRUTH)}
    table = attributes.by_attribute(
        scores, [sequence("a", "OCC", "FM"), sequence("b", "OCC"), sequence("c", "IV"), sequence("d")]
    )
    assert list(table) == ["FM", "OCC"]  # nobody scored on c, and d has none
    assert (table["FM"].sequences, table["OCC"].sequences) == (1, 2)
    assert table["FM"].scores.auc == scores["a"].auc
    assert table["OCC"].scores.auc == pytest.approx(mean_scores([scores["a"], scores["b"]]).auc)

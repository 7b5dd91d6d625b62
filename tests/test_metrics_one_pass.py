"""Curves of one pass by every rule: against the dull way, by hand where the toolkits differ, on published boxes."""

import math

import metric_reference as dull
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrack.errors import RangeError, ShapeError, UnknownName
from fasttrack.evaluation.metrics.one_pass import RULES, Scores, mean_scores, pool_scores, score_boxes

NAN = [math.nan] * 4


def number(low, high):
    return st.one_of(st.integers(low, high).map(float), st.floats(low, high, width=32))


BOX = st.tuples(number(-6, 40), number(-6, 40), number(1, 30), number(1, 30)).map(list)
ODD = st.sampled_from([NAN, [0.0] * 4, [5, 5, 0, 3], [-3, 4, 10, 10], [4, -1, 9, 9], [3, 3, -2, 4], [0, 0, 7, 7]])
ROW = st.one_of(BOX, BOX, ODD)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ROW, ROW, st.booleans()), min_size=1, max_size=12),
    st.sampled_from(RULES),
    st.booleans(),
    st.sampled_from([None, (30, 20), (32.5, 40)]),
)
def test_agrees_with_the_dull_way(rows, rules, marked, size):
    boxes, truth = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    visible = np.array([r[2] for r in rows]) if marked else None
    got = score_boxes(boxes, truth, rules, visible, size)
    success, precision, normalised, frames = dull.curves(boxes, truth, rules, visible, size)
    assert got.frames == frames
    np.testing.assert_allclose(got.success, success, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got.precision, precision, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got.normalised, normalised, rtol=0, atol=1e-6)


def walk(n, seed=0):
    generator = np.random.default_rng(seed)
    truth = np.c_[generator.uniform(1, 200, (n, 2)), generator.uniform(10, 80, (n, 2))]
    return truth + generator.normal(0, 8, (n, 4)) * [1, 1, 0.3, 0.3], truth


@pytest.mark.parametrize("rules", RULES)
def test_canaries_of_the_comparison(rules):
    boxes, truth = walk(400)
    success, precision, normalised, _ = dull.curves(boxes, truth, rules)
    for wrong in (boxes * 0, boxes + np.array([2, 0, 0, 0]), boxes * [1, 1, 1.1, 1.1]):
        got = score_boxes(wrong, truth, rules)
        assert abs(got.success - success).max() > 1e-3
        assert abs(got.precision - precision).max() > 1e-3 or abs(got.normalised - normalised).max() > 1e-3


@pytest.mark.parametrize("rules", RULES)
def test_the_ground_truth_scores_full_marks(rules):
    _, truth = walk(50)
    scores = score_boxes(truth, truth, rules)
    np.testing.assert_array_equal(scores.success, [1.0] * 20 + [0.0])  # no overlap is more than 1
    np.testing.assert_array_equal(scores.precision, 1.0)
    np.testing.assert_array_equal(scores.normalised, 1.0)
    assert (scores.auc, scores.os50, scores.dp20, scores.ndp20) == (20 / 21, 1.0, 1.0, 1.0)


def test_overlap_at_a_threshold_is_not_above_it_and_error_at_one_is_within():
    truth = np.array([[1, 1, 10, 10.0]] * 2)
    boxes = np.array([[1, 1, 10, 10], [1, 1, 5, 10.0]])  # overlap ½, centre 2.5 px away: ¼ of the width
    scores = score_boxes(boxes, truth)
    assert scores.success.tolist() == [1.0] * 10 + [0.5] * 10 + [0.0]
    assert scores.precision.tolist() == [0.5] * 3 + [1.0] * 48
    assert scores.normalised.tolist() == [0.5] * 25 + [1.0] * 26


# Frame 0 right, frame 1 right, frame 2 without a target: three frames, of which success can have two.
TRUTH = np.array([[5, 5, 10, 10], [6, 5, 10, 10], [0, 0, 0, 0]], float)
AWAY = np.array([[5, 5, 10, 10], [6, 5, 10, 10], [300, 300, 9, 9]], float)


@pytest.mark.parametrize(
    ("rules", "success", "dp", "ndp", "frames"),
    [
        ("otb", 2 / 3, 1, 1, 3),
        ("pytracking", 1, 1, 1.5, 2),
        ("pysot", 2 / 3, 1, 1, 3),
        ("got10k", 0.5, 0.5, 0.5, 2),
        ("lasot", 2 / 3, 1, 1, 3),
        ("trackingnet", 2 / 3, 2 / 3, 2 / 3, 3),
    ],
)
def test_an_empty_ground_truth(rules, success, dp, ndp, frames):
    scores = score_boxes(AWAY, TRUTH, rules)
    assert (scores.os50, scores.dp20, scores.ndp20, scores.frames) == (success, dp, ndp, frames)


@pytest.mark.parametrize(
    ("rules", "success", "dp", "ndp", "frames"),
    [
        ("otb", 2 / 3, 1, 1, 3),
        ("pytracking", 2 / 3, 1, 1, 3),
        ("pysot", 2 / 3, 1, 1, 3),
        ("got10k", 1, 1, 1, 1),
        ("lasot", 2 / 3, 1, 1, 3),
        ("trackingnet", 2 / 3, 2 / 3, 2 / 3, 3),
    ],
)
def test_a_ground_truth_of_nan(rules, success, dp, ndp, frames):
    scores = score_boxes(AWAY, np.where(TRUTH[:, 2:3] > 0, TRUTH, np.nan), rules)
    assert (scores.os50, scores.dp20, scores.ndp20, scores.frames) == (success, dp, ndp, frames)


@pytest.mark.parametrize(
    ("rules", "success", "dp", "frames"),
    [
        ("otb", 2 / 3, 2 / 3, 3),
        ("pytracking", 2 / 3, 2 / 3, 3),
        ("pysot", 2 / 3, 2 / 3, 3),
        ("got10k", 1, 1, 1),
        ("lasot", 2 / 3, 2 / 3, 3),
        ("trackingnet", 1, 1, 3),
    ],
)
def test_a_frame_marked_absent(rules, success, dp, frames):
    truth = TRUTH + np.array([0, 0, 7, 7])  # annotated all the same, as LaSOT does
    scores = score_boxes(truth, truth, rules, visible=[True, True, False])
    assert (scores.os50, scores.dp20, scores.ndp20, scores.frames) == (success, dp, dp, frames)


def test_otb_leaves_out_what_begins_left_of_the_frame():
    truth = np.array([[5, 5, 10, 10], [-1, 5, 10, 10], [-0.5, 5, 10, 10]], float)  # 1-based x: 6, 0, 0.5
    assert score_boxes(truth, truth, "otb").os50 == 2 / 3
    assert score_boxes(truth, truth, "pysot").os50 == 1


def test_results_that_are_no_boxes():
    truth = np.array([[5, 5, 10, 10.0]] * 4)
    boxes = np.array([[99, 99, 1, 1], [5, 5, 10, 10], NAN, [5, 5, 0, 10]])
    assert score_boxes(boxes, truth, "otb").os50 == 1
    assert score_boxes(boxes, truth, "pytracking").os50 == 1
    assert score_boxes(boxes, truth, "pysot").os50 == 0.25
    assert score_boxes(boxes, truth, "got10k").os50 == 1 / 3
    assert score_boxes(boxes, truth, "lasot").os50 == 1
    assert score_boxes(boxes, truth, "trackingnet").os50 == 0.5
    partly = np.array([[5, 5, 10, 10], [5, 5, math.nan, 10]])
    assert [score_boxes(partly, truth[:2], rules).os50 for rules in ("otb", "lasot")] == [0.5, 1]
    # Nothing usable from the first update on: the tracker's own first box stands in, not the ground truth.
    assert score_boxes(np.array([boxes[0], NAN, NAN, NAN]), truth, "otb").os50 == 0.25


def test_got10k_moves_boxes_into_the_frame_without_shortening_them():
    truth, boxes = np.array([[0, 0, 10, 10], [0, 0, 8, 10.0]]), np.array([[0, 0, 10, 10], [-8, 0, 8, 10.0]])
    assert score_boxes(boxes, truth, "got10k", size=(100, 50)).os50 == 1
    assert score_boxes(boxes, truth, "got10k").os50 == 0


def test_a_sequence_without_a_frame_that_counts():
    nothing = score_boxes(TRUTH[:1], TRUTH[:1], "got10k")
    assert nothing.frames == 0
    assert np.isnan(nothing.success).all()
    full = score_boxes(TRUTH, TRUTH, "got10k")
    np.testing.assert_array_equal(mean_scores([nothing, full]).success, full.success)
    with pytest.raises(RangeError, match="mean_scores: scores must be at least one sequence"):
        mean_scores([nothing])
    with pytest.raises(RangeError, match="pool_scores"):
        pool_scores([])


def test_means_weigh_sequences_and_pools_weigh_frames():
    one, two = (Scores(np.full(21, v), np.full(51, v), np.full(51, v), n) for v, n in ((1.0, 10), (0.0, 30)))
    assert (mean_scores([one, two]).auc, mean_scores([one, two]).frames) == (0.5, 40)
    assert (pool_scores([one, two]).dp20, pool_scores([one, two]).frames) == (0.25, 40)


def test_wrong_arguments_are_refused():
    with pytest.raises(ShapeError, match=r"boxes must be of the shape of truth, \(3, 4\), got \(2, 4\); one box"):
        score_boxes(TRUTH[:2], TRUTH)
    with pytest.raises(ShapeError, match=r"truth must be \(N, 4\) boxes, N ≥ 1, got shape \(0, 4\)"):
        score_boxes(TRUTH[:0], TRUTH[:0])
    with pytest.raises(ShapeError, match="visible must be"):
        score_boxes(TRUTH, TRUTH, visible=[True])
    with pytest.raises(UnknownName, match="one of otb, pytracking, pysot, got10k, lasot, trackingnet, got 'vot'"):
        score_boxes(TRUTH, TRUTH, "vot")


@pytest.mark.parametrize("rules", RULES)
def test_the_boxes_given_stay_as_they_are(rules):
    boxes, truth = walk(20)
    boxes[3] = np.nan
    before = boxes.copy(), truth.copy()
    score_boxes(boxes, truth, rules, size=(50, 50))
    np.testing.assert_array_equal(boxes, before[0])
    np.testing.assert_array_equal(truth, before[1])


PUBLISHED = {  # mean AUC / precision at 20 px / success at 0.5 over the 13 OTB sequences
    "MDNet": (0.681, 0.927, 0.839),
    "MUSTER": (0.545, 0.741, 0.686),
    "SRDCF": (0.543, 0.727, 0.669),
    "MEEM": (0.534, 0.833, 0.647),
    "Struck": (0.471, 0.678, 0.540),
    "SAMF": (0.441, 0.620, 0.543),
    "DSST": (0.358, 0.531, 0.417),
    "TLD": (0.344, 0.458, 0.432),
    "OAB": (0.330, 0.456, 0.353),
    "CSK": (0.301, 0.459, 0.295),
}


def one_based(path):
    rows = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    return np.array(rows, float) - [1, 1, 0, 0]


# Those figures count a box that is NaN or empty as a miss, and so does pysot. Only these two trackers have such boxes:
# the OTB toolkit puts the box of the frame before in their place.
REPLACED = {"TLD": (0.362, 0.480, 0.440), "OAB": (0.332, 0.459, 0.353)}


@pytest.mark.data
@pytest.mark.parametrize("tracker", PUBLISHED)
def test_published_boxes_give_the_published_numbers(data, tracker):
    files = sorted((data / "reference_results" / tracker).glob("*.txt"))
    assert len(files) == 13
    pairs = [(one_based(f), one_based(data / "sequences" / f.stem / "groundtruth_rect.txt")) for f in files]
    for rules, wanted in (("pysot", PUBLISHED[tracker]), ("otb", (PUBLISHED | REPLACED)[tracker])):
        mean = mean_scores([score_boxes(boxes, truth, rules) for boxes, truth in pairs])
        assert (round(mean.auc, 3), round(mean.dp20, 3), round(mean.os50, 3)) == wanted

"""VOT's scores on trajectories whose figures can be computed by hand."""

from functools import partial

import numpy as np
import pytest

from fasttrack.errors import RangeError, ShapeError, UnknownName
from fasttrack.evaluation.metrics.vot import EAO_INTERVALS, supervised, unsupervised
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Outcome, Unit
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence

BOX = [20.0, 20.0, 10.0, 10.0]


class Blank:
    """Frames of one size without a picture on them."""

    def __init__(self, count, size=(100, 80)):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.zeros((self.size[1], self.size[0], 3), np.uint8)


def still(count):
    return Annotations(np.array([BOX] * count))


def dataset(*counts, name="vot2018"):
    sequences = [Sequence(f"s{i}", partial(Blank, n), partial(still, n)) for i, n in enumerate(counts)]
    return Dataset(name, sequences, protocol="vot-supervised")


def outcome(states, overlaps, sequence="s0", run=0, tracker="kcf-0a1b", protocol="vot-supervised"):
    """Boxes that have these overlaps with the still target: the target's with a part of its height, in tenths."""
    boxes = np.array([[20.0, 20.0, 10.0, 10.0 * o] for o in overlaps])
    boxes[np.array(states) > INIT] = np.nan
    n = len(states)
    return Outcome(
        unit=Unit(tracker, "vot2018", sequence, protocol, run),
        first=0,
        boxes=boxes,
        states=np.array(states, np.int8),
        seconds=np.full(n, 0.01),
        scores=np.full(n, np.nan),
        lost=np.zeros(n, bool),
    )


# Start, 14 tracked frames, failure, 4 skipped, start, 19 tracked: 40 frames.
STATES = [INIT] + [TRACKED] * 14 + [FAILURE] + [SKIPPED] * 4 + [INIT] + [TRACKED] * 19
OVERLAPS = [1.0] + [0.2] * 9 + [0.6] * 5 + [0] * 5 + [1.0] + [0.4] * 9 + [0.8] * 10


def test_accuracy_leaves_out_ten_frames_from_each_start():
    scores = supervised([outcome(STATES, OVERLAPS)], dataset(40))
    assert scores.accuracy == pytest.approx((5 * 0.6 + 10 * 0.8) / 15)


def test_failures_are_counted_four_ways():
    smooth = outcome([INIT] + [TRACKED] * 19, [1.0] + [0.5] * 19, "s1")
    scores = supervised([outcome(STATES, OVERLAPS), smooth], dataset(40, 20))
    assert scores.failures == 1
    assert scores.robustness == pytest.approx(40 / 60)  # one in 40 of 60 frames
    assert scores.per_100 == pytest.approx(100 / 60)
    assert scores.reliability == pytest.approx(np.exp(-30 * (40 / 60) / 30))
    assert scores.accuracy == pytest.approx((40 * 11 / 15 + 20 * 0.5) / 60)


def test_runs_of_a_sequence_are_averaged():
    perfect = outcome([INIT] + [TRACKED] * 39, [1.0] * 40, run=1)
    scores = supervised([outcome(STATES, OVERLAPS), perfect], dataset(40))
    assert scores.failures == scores.robustness == 0.5
    assert scores.accuracy == pytest.approx((11 / 15 + 1) / 2)


def test_the_curve_by_hand():
    scores = supervised([outcome(STATES, OVERLAPS)], dataset(40), interval=(1, 2))
    # Two pieces: 15 frames, then failed: zeros to the end; 20 frames to the end of the sequence.
    first = np.array([0.2] * 9 + [0.6] * 5 + [0] * 5)
    second = np.array([0.4] * 9 + [0.8] * 10)
    wanted = [(first[:n].mean() + second[:n].mean()) / 2 for n in range(1, 20)]
    np.testing.assert_allclose(scores.curve, [0, *wanted], rtol=0, atol=1e-12)
    assert scores.eao == pytest.approx(np.mean(wanted[:2]))


def test_a_piece_that_ends_with_the_sequence_counts_as_far_as_it_goes():
    short, long = outcome([INIT, TRACKED, TRACKED], [1, 1, 1]), outcome([INIT] + [TRACKED] * 4, [1] + [0.5] * 4, "s1")
    curve = supervised([short, long], dataset(3, 5)).curve
    np.testing.assert_allclose(curve, [0, 0.75, 0.75, 0.5, 0.5], rtol=0, atol=1e-12)


def test_the_interval_is_the_year_s():
    states, overlaps = [INIT] + [TRACKED] * 399, [1.0] + [0.9] * 200 + [0.1] * 199
    by_year = {}
    for name, (low, high) in EAO_INTERVALS.items():
        scores = supervised([outcome(states, overlaps)], dataset(400, name=name))
        assert scores.eao == pytest.approx(scores.curve[low : high + 1].mean())
        by_year[name] = scores.eao
    assert by_year["vot2015"] == by_year["vot2016"] != by_year["vot2018"] == by_year["vot2017"] != by_year["vot2019"]
    assert supervised([outcome(states, overlaps)], dataset(400, name="mine")).eao is None
    assert supervised([outcome(STATES, OVERLAPS)], dataset(40)).eao is None  # no piece as long as 100 frames


def test_unsupervised_is_the_mean_overlap_behind_the_burn_in():
    states, overlaps = [INIT] + [TRACKED] * 19, [1.0] + [0.2] * 9 + [0.6] * 10
    runs = [outcome(states, overlaps, protocol="vot-unsupervised")]
    assert unsupervised(runs, dataset(20)) == pytest.approx(0.6)
    assert unsupervised(runs, dataset(20), burn_in=1) == pytest.approx((9 * 0.2 + 6) / 19)
    runs.append(outcome([INIT] + [TRACKED] * 39, [1.0] * 40, "s1", protocol="vot-unsupervised"))
    assert unsupervised(runs, dataset(20, 40)) == pytest.approx((20 * 0.6 + 40 * 1) / 60)


def test_tracked_frames_without_a_box_have_no_overlap():
    lost = outcome([INIT] + [TRACKED] * 19, [1.0] + [0.5] * 19, protocol="vot-unsupervised")
    lost.boxes[15:] = np.nan
    assert unsupervised([lost], dataset(20)) == pytest.approx(0.25)


def test_polygons_are_the_ground_truth_where_there_are_any():
    half = np.array([[20, 20, 30, 20, 30, 25, 20, 25.0]] * 20)
    turned = Sequence("s0", partial(Blank, 20), lambda: Annotations(np.array([BOX] * 20), polygons=half))
    runs = [outcome([INIT] + [TRACKED] * 19, [1.0] * 20, protocol="vot-unsupervised")]
    exact = unsupervised(runs, Dataset("d", [turned]), pixels=False)
    assert exact == pytest.approx(0.5)
    # By pixels the polygon has eleven columns and six rows, the box ten and ten.
    assert unsupervised(runs, Dataset("d", [turned])) == pytest.approx(60 / (100 + 6))


def test_wrong_outcomes_are_refused():
    with pytest.raises(RangeError, match="those of one tracker, got none"):
        supervised([], dataset(40))
    with pytest.raises(RangeError, match="one tracker, got kcf-0a1b, mosse-1"):
        supervised([outcome(STATES, OVERLAPS), outcome(STATES, OVERLAPS, tracker="mosse-1")], dataset(40))
    with pytest.raises(ShapeError, match="rows for all 41 frames of s0, got 40 from frame 0 on"):
        supervised([outcome(STATES, OVERLAPS)], dataset(41))
    with pytest.raises(UnknownName, match="'s7'"):
        supervised([outcome(STATES, OVERLAPS, "s7")], dataset(40))

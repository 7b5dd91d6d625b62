"""Protocols against boxes and starts worked out by hand, with trackers that do as they are told."""

import random
import time

import cv2
import numpy as np
import pytest
import torch
from evaluation_doubles import Scripted, make_sequence

from fasttrack.errors import ArgumentError, RangeError, SourceError
from fasttrack.evaluation.contestants import parse_contestant
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Unit, read_outcome, write_outcome
from fasttrack.evaluation.protocols import PROTOCOLS
from fasttrack.evaluation.protocols import base as protocols_base
from fasttrack.evaluation.protocols.one_pass import SHIFTS, segment_start, shifted
from fasttrack.evaluation.protocols.vot import Supervised, overlaps
from fasttrack.geometry import Box

NAN = [np.nan] * 4
BOX = (20.0, 30.0, 10.0, 8.0)


def unit(protocol, run=0, seed=0):
    return Unit("scripted-0", "made", "made", protocol, run, seed)


def execute(protocol, tracker, sequence, run=0, seed=0):
    return PROTOCOLS[protocol].execute(tracker, sequence, unit(protocol, run, seed))


def test_names_and_numbers_of_runs():
    runs = {name: protocol.runs for name, protocol in PROTOCOLS.items()}
    assert runs == {"ope": 1, "sre": 12, "tre": 20, "vot-supervised": 1, "vot-unsupervised": 1}
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())


# --- one pass -------------------------------------------------------------------------------------


def test_one_pass_runs_every_frame_once_and_keeps_what_the_tracker_says(tmp_path):
    tracker = Scripted({2: (1.0, 2.0, 3.0, 4.0)})
    got = execute("ope", tracker, make_sequence([BOX] * 4))
    assert tracker.calls == [("init", 0, BOX), ("update", 1), ("update", 2), ("update", 3)]
    assert got.first == 0
    assert got.boxes.tolist() == [list(BOX), list(BOX), [1, 2, 3, 4], list(BOX)]
    assert got.states.tolist() == [INIT, TRACKED, TRACKED, TRACKED]
    np.testing.assert_array_equal(got.scores, [np.nan, 0.1, 0.2, 0.3])
    assert got.lost.tolist() == [False, True, False, True]
    assert (got.seconds >= 0).all()
    back = read_outcome(write_outcome(tmp_path, got))
    np.testing.assert_array_equal(back.boxes, got.boxes)


@pytest.mark.parametrize("absent", [NAN, [0, 0, 0, 0], [5, 5, 10, 0], [5, np.inf, 10, 10]])
def test_one_pass_starts_on_the_first_frame_with_a_box(absent):
    tracker = Scripted()
    got = execute("ope", tracker, make_sequence([absent, absent, BOX, absent]))
    assert got.first == 2
    assert tracker.calls == [("init", 2, BOX), ("update", 3)]
    assert got.states.tolist() == [INIT, TRACKED]


def test_one_pass_needs_one_box_only_and_goes_on_to_the_last_frame():
    assert len(execute("ope", Scripted(), make_sequence([BOX], count=5)).boxes) == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_sequence_without_a_box_is_refused(protocol):
    with pytest.raises(SourceError, match="sequence made: no frame has a box to start on"):
        execute(protocol, Scripted(), make_sequence([NAN, NAN]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_frame_ends_the_run_by_its_name(protocol):
    tracker = Scripted()
    with pytest.raises(SourceError, match=r"img/0002\.jpg: the JPEG file is cut off"):
        execute(protocol, tracker, make_sequence([BOX] * 30, broken=(2,)))
    assert tracker.calls[-1] == ("update", 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_units_of_others_are_refused(protocol):
    sequence = make_sequence([BOX])
    other = unit("tre" if protocol == "ope" else "ope")
    with pytest.raises(ArgumentError, match=f"{protocol}: unit must be one of protocol {protocol}, got one of"):
        PROTOCOLS[protocol].execute(Scripted(), sequence, other)
    for run in (-1, PROTOCOLS[protocol].runs):
        with pytest.raises(RangeError, match=f"unit.run must be 0..{PROTOCOLS[protocol].runs - 1}, got {run}"):
            execute(protocol, Scripted(), sequence, run=run)


# --- time and seeds -------------------------------------------------------------------------------


def test_only_the_tracker_is_timed():
    class Slow(Scripted):
        def init(self, frame, box):
            super().init(frame, box)
            time.sleep(0.03)

        def update(self, frame):
            time.sleep(0.01)
            return super().update(frame)

    class SlowFrames:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            time.sleep(0.2)
            return np.full((40, 50, 3), index, np.uint8)

    sequence = make_sequence([BOX] * 3)
    sequence.__dict__["frames"] = SlowFrames()
    seconds = execute("ope", Slow(), sequence).seconds
    assert 0.03 <= seconds[0] < 0.2
    assert (seconds[1:] >= 0.01).all() and (seconds[1:] < 0.2).all()


def test_the_clock_waits_for_the_gpu(monkeypatch):
    events = []

    class Tracker(Scripted):
        def update(self, frame):
            events.append("update")
            return super().update(frame)

    monkeypatch.setattr(protocols_base, "seed_everything", lambda seed: None)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("wait"))
    execute("ope", Tracker(), make_sequence([BOX] * 2))
    assert events == ["wait", "wait", "wait", "update", "wait"]


class Dice(Scripted):
    """Draws its boxes from every global generator."""

    def update(self, frame):
        height = cv2.randu(np.zeros((1, 1)), 1, 9)[0, 0]
        return (
            super()
            .update(frame)
            .__class__(
                Box(random.random(), np.random.rand(), float(torch.rand(())) + 1, float(height)), 0.0, 0.0, False, 0.0
            )
        )


def test_the_same_seed_gives_the_same_boxes():
    sequence = make_sequence([BOX] * 4)
    first, again, other = (execute("ope", Dice(), sequence, seed=seed).boxes for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first[1:] != other[1:]).all()


@pytest.mark.parametrize("seed", [0, 2**31, 2**32, 2**40 + 1])
def test_large_seeds(seed):
    protocols_base.seed_everything(seed)


# --- SRE ------------------------------------------------------------------------------------------

# By hand from the toolkit's formulas. 1-based: box (31, 21, 45, 25) in 200 × 150, so right 75, bottom 45, centre
# (53.5, 33.5); 0.1·45 = 4.5 and 0.1·25 = 2.5, of which ceil gives 5 and 3, round (31 − 4.5 = 26.5) = 27,
# round(21 − 2.5 = 18.5) = 19, round(79.5) = 80, round(47.5) = 48. Below: minus 1 in x and y.
BY_HAND = {
    "left": (25, 20, 45, 25),
    "right": (35, 20, 45, 25),
    "up": (30, 17, 45, 25),
    "down": (30, 23, 45, 25),
    "topLeft": (26, 18, 49, 27),
    "topRight": (30, 18, 50, 27),
    "bottomLeft": (26, 20, 49, 28),
    "bottomRight": (30, 20, 50, 28),
    "scale_8": (35, 23, 36, 20),  # R(53.5 − 18 = 35.5) = 36, R(33.5 − 10 = 23.5) = 24
    "scale_9": (32, 21, 41, 23),  # sides 40.5 and 22.5 → 41 and 23; R(33.25) = 33, R(22.25) = 22
    "scale_11": (28, 19, 50, 28),  # sides 49.5 and 27.5 → 50 and 28; R(28.75) = 29, R(19.75) = 20
    "scale_12": (26, 18, 54, 30),  # sides 54 and 30; R(26.5) = 27, R(18.5) = 19
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_shifts_by_hand(shift):
    assert shifted(np.array([30.0, 20, 45, 25]), shift, 200, 150).tolist() == list(BY_HAND[shift])


@pytest.mark.parametrize(
    ("box", "shift", "wanted"),
    [
        ((2, 3, 40, 30), "left", (0, 3, 40, 30)),  # the corner is moved in, the size stays
        ((2, 1, 40, 30), "up", (2, 0, 40, 30)),
        ((58, 3, 40, 30), "right", (62, 3, 38, 30)),  # cut at the right edge
        ((2, 48, 40, 30), "down", (2, 51, 40, 29)),
        ((1, 1, 40, 30), "topLeft", (0, 0, 44, 33)),  # grown by what lies outside too
        ((58, 48, 40, 30), "bottomRight", (58, 48, 42, 32)),
        ((0, 0, 100, 80), "scale_12", (0, 0, 100, 80)),
        ((98, 10, 20, 10), "right", (100, 10, 0, 10)),  # nothing left, as in the toolkit
    ],
)
def test_shifts_at_the_edges_of_the_frame(box, shift, wanted):
    assert shifted(np.array(box, float), shift, 100, 80).tolist() == list(wanted)


def test_every_run_of_sre_starts_on_its_box_in_the_first_frame_with_one():
    sequence = make_sequence([NAN, (30, 20, 45, 25), (31, 21, 45, 25)], size=(200, 150))
    for run, shift in enumerate(SHIFTS):
        tracker = Scripted()
        got = execute("sre", tracker, sequence, run=run)
        assert tracker.calls == [("init", 1, tuple(map(float, BY_HAND[shift]))), ("update", 2)]
        assert got.first == 1 and got.boxes[0].tolist() == list(BY_HAND[shift])


# --- TRE ------------------------------------------------------------------------------------------


def starts(sequence):
    return [segment_start(sequence, run) for run in range(20)]


def test_segments_by_hand():
    # 100 frames: frame 81 (from 1) is the last with 20 left, so the step is 81/19 = 4.263…
    wanted = [1, 5, 9, 13, 18, 22, 26, 30, 35, 39, 43, 47, 52, 56, 60, 64, 69, 73, 77, 81]
    assert starts(make_sequence([BOX] * 100)) == [n - 1 for n in wanted]
    # 57 frames: 38 have 20 left, step 2.
    assert starts(make_sequence([BOX] * 57)) == [*range(0, 38, 2), 37]


def test_segments_start_on_frames_with_a_box_only():
    # Every third of 120 frames is absent in one of the ways there are: 80 candidates. The last with 20 left is frame
    # 101 (from 1), a candidate: 68 up to it, step 68/19 = 3.579.
    boxes = np.tile(BOX, (120, 1))
    boxes[2::12], boxes[5::12], boxes[8::12] = NAN, [0, 0, 0, 0], [-1, 5, 10, 10]
    visible = np.ones(120, bool)
    visible[11::12] = False
    candidates = [k for k in range(120) if k % 3 != 2]
    numbers = [1, 4, 8, 11, 15, 18, 22, 26, 29, 33, 36, 40, 43, 47, 51, 54, 58, 61, 65, 68]
    assert starts(make_sequence(boxes, visible=visible)) == [candidates[n - 1] for n in numbers]


def test_segments_of_short_sequences():
    # 29 frames: 10 have 20 left; the toolkit's 1:10/19:10 has 18 elements, and 10 once more at the end.
    wanted = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10]
    assert starts(make_sequence([BOX] * 29)) == [n - 1 for n in wanted]
    assert starts(make_sequence([NAN, *[BOX] * 10])) == [1] * 20


def test_a_run_of_tre_goes_from_its_start_to_the_end():
    tracker = Scripted()
    got = execute("tre", tracker, make_sequence([(k, k, 9, 9) for k in range(57)]), run=19)
    assert got.first == 37 and len(got.boxes) == 20
    assert tracker.calls[0] == ("init", 37, (37.0, 37.0, 9.0, 9.0)) and tracker.calls[-1] == ("update", 56)


# --- VOT ------------------------------------------------------------------------------------------

AWAY = (80.0, 70.0, 5.0, 5.0)


def test_restarts_by_hand():
    tracker = Scripted({3: AWAY, 9: AWAY, 19: AWAY})
    boxes = [(20 + k, 30, 10, 8) for k in range(22)]
    got = execute("vot-supervised", tracker, make_sequence(boxes))
    i, t, f, s = INIT, TRACKED, FAILURE, SKIPPED
    wanted = [i, t, t, f, s, s, s, s, i, f, s, s, s, s, i, t, t, t, t, f, s, s]
    assert got.states.tolist() == wanted
    assert [call for call in tracker.calls if call[0] == "init"] == [
        ("init", 0, (20.0, 30.0, 10.0, 8.0)),
        ("init", 8, (28.0, 30.0, 10.0, 8.0)),
        ("init", 14, (34.0, 30.0, 10.0, 8.0)),
    ]
    skipped = np.array(wanted) == s
    assert np.isnan(got.boxes[skipped]).all() and np.isfinite(got.boxes[~skipped]).all()
    assert np.isnan(got.seconds[skipped]).all() and np.isfinite(got.seconds[~skipped]).all()
    assert got.boxes[3].tolist() == list(AWAY)
    assert ("update", 4) not in tracker.calls


def test_a_start_is_on_the_upright_box_around_the_polygon():
    polygon = [[30, 10, 50, 20, 40, 40, 20, 30]]
    for protocol in ("vot-supervised", "vot-unsupervised"):
        tracker = Scripted()
        execute(protocol, tracker, make_sequence([(25, 15, 20, 20)] * 2, polygons=np.array(polygon * 2, float)))
        assert tracker.calls[0] == ("init", 0, (20.0, 10.0, 30.0, 30.0))


def test_failure_is_judged_on_the_polygon_and_within_the_frame():
    diamond = np.array([30, 10, 50, 30, 30, 50, 10, 30], float)
    # In the corner of the box around it, where the polygon is not: there x + y < 40.
    assert not overlaps(Box(10, 10, 9, 9), diamond, 100, 80)
    assert overlaps(Box(10, 10, 13, 13), diamond, 100, 80)
    assert overlaps(Box(25, 25, 2, 2), diamond, 100, 80) and overlaps(Box(0, 0, 100, 80), diamond, 100, 80)
    assert not overlaps(Box(51, 0, 10, 80), diamond, 100, 80)
    # Both reach over the right edge at 40, and meet only beyond it.
    assert overlaps(Box(39, 28, 20, 4), diamond, 40, 80)
    assert not overlaps(Box(40, 28, 20, 4), diamond, 40, 80)
    assert not overlaps(Box(10, 10, 30, 30), diamond * np.nan, 100, 80)
    assert not overlaps(Box(20, 20, 5, 5), np.array([26.0, 20, 9, 9]), 100, 80)  # boxes without polygons
    assert overlaps(Box(20, 20, 5, 5), np.array([24.0, 20, 9, 9]), 100, 80)


def test_a_tracker_in_the_corner_of_the_box_around_the_polygon_has_failed():
    polygons = np.tile([30, 10, 50, 30, 30, 50, 10, 30], (3, 1)).astype(float)
    polygons[2] = np.nan  # then the box counts
    boxes = [(10, 10, 40, 40)] * 3
    corner = (10.0, 10.0, 9.0, 9.0)
    got = execute("vot-supervised", Scripted({1: corner, 2: corner}), make_sequence(boxes, polygons=polygons))
    assert got.states.tolist() == [INIT, FAILURE, SKIPPED]
    got = execute("vot-supervised", Scripted({2: corner}), make_sequence(boxes, polygons=polygons))
    assert got.states.tolist() == [INIT, TRACKED, TRACKED]


def test_absent_frames_fail_and_are_no_starts():
    boxes = [BOX] * 20
    boxes[0] = boxes[4] = boxes[9] = boxes[10] = NAN
    tracker = Scripted()
    got = execute("vot-supervised", tracker, make_sequence(boxes))
    assert got.first == 1
    # Frame 4 fails, 9 and 10 are absent, so 11 is the next start.
    assert got.states.tolist() == [INIT, TRACKED, TRACKED, FAILURE, *[SKIPPED] * 6, INIT, *[TRACKED] * 8]


def test_tagged_frames_are_no_starts_where_asked():
    tag = np.zeros(14, bool)
    tag[6:9] = True
    sequence = make_sequence([BOX] * 14, tags={"occlusion": tag})
    script = {1: AWAY}
    asked = Supervised(skip_tags=("occlusion", "unknown")).execute(Scripted(script), sequence, unit("vot-supervised"))
    assert np.flatnonzero(asked.states == INIT).tolist() == [0, 9]
    plain = execute("vot-supervised", Scripted(script), sequence)
    assert np.flatnonzero(plain.states == INIT).tolist() == [0, 6]


def test_supervision_needs_all_of_the_ground_truth():
    with pytest.raises(SourceError, match="sequence made: vot-supervised needs ground truth for every frame, has 3 of"):
        execute("vot-supervised", Scripted(), make_sequence([BOX] * 3, count=9))


def test_without_supervision_nothing_is_restarted():
    got = execute("vot-unsupervised", Scripted({3: AWAY}), make_sequence([BOX] * 6))
    assert got.states.tolist() == [INIT] + [TRACKED] * 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_identity_fails_where_the_target_leaves_its_box(protocol):
    boxes = [(3 * k, 30, 10, 8) for k in range(25)]
    got = execute(protocol, parse_contestant("identity").make(), make_sequence(boxes))
    assert np.isnan(got.scores).all() and not got.lost.any()
    # 10 px wide and 3 px a frame: the fourth frame after a start has no common part any more.
    failures = np.flatnonzero(got.states == FAILURE).tolist()
    assert failures == ([4, 13, 22] if protocol == "vot-supervised" else [])

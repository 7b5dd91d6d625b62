"""The frame loop: what it takes, what it refuses, what it does with a lost target, and the registry."""

import numpy as np
import pytest
import torch

import fasttrack
from fasttrack.errors import ArgumentError, BoxError, FrameError, UnknownTracker
from fasttrack.geometry import Box
from fasttrack.trackers.base import Result, Tracker, checked_frame, clamped
from fasttrack.trackers.registry import create_tracker, list_trackers
from fasttrack.vision.localise import Found

FRAME = np.zeros((60, 80, 3), np.uint8)


class Script(Tracker):
    """Finds what it is told to, and notes what it may learn."""

    name = "script"
    lost_threshold = 0.5

    def __init__(self, *found):
        super().__init__()
        self.found, self.learnt, self.seen = list(found), [], []

    def _start(self, scene, boxes):
        self.started = boxes

    def _locate(self, scene, boxes):
        self.seen.append(boxes)
        return [Found(box, score, 7.0, 0, (0.0, 0.0)) for box, score in self.found.pop(0)]

    def _learn(self, scene, boxes, found, lost):
        self.learnt.append(lost)

    def _keep(self, targets):
        self.kept = targets


def test_result_of_one_target():
    tracker = Script([(Box(3, 4, 12, 14), 0.9)])
    tracker.init(FRAME, (1, 2, 12, 14))
    result = tracker.update(FRAME)
    assert isinstance(result, Result)
    assert (result.box, result.score, result.psr, result.lost) == (Box(3, 4, 12, 14), 0.9, 7.0, False)
    assert result.seconds > 0
    assert tracker.learnt == [[False]]


@pytest.mark.parametrize("score", [0.49, float("nan"), -1.0])
def test_lost_target_keeps_its_box_and_comes_back(score):
    tracker = Script([(Box(30, 30, 20, 20), score)], [(Box(4, 4, 12, 14), 0.6)])
    tracker.init(FRAME, (1, 2, 12, 14))
    gone = tracker.update(FRAME)
    assert gone.lost and gone.box == Box(1, 2, 12, 14)
    assert tracker.update(FRAME) == Result(Box(4, 4, 12, 14), 0.6, 7.0, False, pytest.approx(0, abs=1))
    assert tracker.seen == [[Box(1, 2, 12, 14)]] * 2
    assert tracker.learnt == [[True], [False]]


def test_many_targets_come_back_as_a_list():
    rows = np.array([[1, 2, 12, 14], [20, 20, 11, 11]])
    tracker = Script([(Box(2, 2, 12, 14), 0.9), (Box(0, 0, 11, 11), 0.1)])
    tracker.init(FRAME, rows)
    results = tracker.update(FRAME)
    assert [r.lost for r in results] == [False, True]
    assert [r.box for r in results] == [Box(2, 2, 12, 14), Box(20, 20, 11, 11)]
    single = Script([(Box(2, 2, 12, 14), 0.9)])
    single.init(FRAME, rows[:1])
    assert isinstance(single.update(FRAME), list)


@pytest.mark.parametrize(
    "box",
    [
        Box(1, 2, 12, 14),
        [1, 2, 12, 14],
        (1.0, 2.0, 12.0, 14.0),
        np.array([1, 2, 12, 14]),
        torch.tensor([1.0, 2.0, 12.0, 14.0]),
    ],
)
def test_boxes_of_every_kind(box):
    tracker = Script([(Box(2, 2, 12, 14), 0.9)])
    tracker.init(FRAME, box)
    assert tracker.started == [Box(1, 2, 12, 14)]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, float("nan"), 4), "four finite numbers"),
        ((float("inf"), 2, 3, 4), "four finite numbers"),
        ((1, 2, 0, 4), "positive width and height"),
        ((1, 2, 3, -4), "positive width and height"),
        ((80, 2, 10, 10), "overlaps the frame of 80×60 px"),
        ((-10, 2, 10, 10), "overlaps the frame"),
        ((1, 2, 3), "four numbers"),
        (np.zeros((0, 4)), r"\(T, 4\) array"),
        (np.zeros((2, 3)), r"\(T, 4\) array"),
        ([[1, 2, 3, 4], [1, 2, 3, 0]], "positive width"),
    ],
)
def test_bad_boxes(box, message):
    with pytest.raises(BoxError, match=message):
        Script().init(FRAME, box)


def test_box_partly_outside_is_allowed():
    Script().init(FRAME, (-5, -5, 20, 20))
    Script().init(FRAME, (75, 55, 20, 20))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "NoneType"),
        ([[1, 2]], "list"),
        (FRAME.astype(np.float32), "float32 array"),
        (FRAME.astype(np.uint16), "uint16 array"),
        (np.zeros((60, 80, 4), np.uint8), r"\(60, 80, 4\)"),
        (np.zeros((2, 60, 80, 3), np.uint8), r"\(2, 60, 80, 3\)"),
        (np.zeros((0, 80, 3), np.uint8), "image with pixels"),
    ],
)
def test_bad_frames(frame, message):
    with pytest.raises(FrameError, match=message):
        Script().init(frame, (1, 2, 12, 14))
    tracker = Script()
    tracker.init(FRAME, (1, 2, 12, 14))
    with pytest.raises(FrameError, match=r"script\.update: frame must be"):
        tracker.update(frame)


def test_frames_of_every_kind_show_their_pixels():
    rgb = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    for view in (rgb, rgb[:, ::-1], rgb[::2], rgb.transpose(1, 0, 2)):
        assert np.array_equal(checked_frame("t", view).numpy(), view)
    locked = rgb.copy()
    locked.flags.writeable = False
    assert np.array_equal(checked_frame("t", locked).numpy(), rgb)
    grey = rgb[:, :, 0]
    for view in (grey, grey[:, :, None]):
        image = checked_frame("t", view)
        assert image.shape == (6, 8, 3)
        assert all(np.array_equal(image[:, :, c].numpy(), grey) for c in range(3))


def test_update_before_init():
    with pytest.raises(ArgumentError, match="started by init"):
        Script().update(FRAME)


def test_run_yields_a_result_per_further_frame():
    tracker = Script(*[[(Box(k, 4, 12, 14), 0.9)] for k in range(3)])
    assert [r.box.x for r in tracker.run(iter([FRAME] * 4), (1, 2, 12, 14))] == [0, 1, 2]
    with pytest.raises(FrameError, match="at least one frame"):
        list(Script().run([], (1, 2, 12, 14)))


@pytest.mark.parametrize(
    ("found", "last", "want"),
    [
        (Box(5, 5, 20, 20), Box(5, 5, 20, 20), Box(5, 5, 20, 20)),
        (Box(20, 20, 8, 16), Box(20, 20, 12, 24), Box.from_center(24, 28, 10, 20)),  # not under 10 px
        (Box(20, 20, 4, 8), Box(20, 20, 5, 10), Box.from_center(22, 24, 5, 10)),  # was smaller: no further
        (Box(20, 20, 6, 12), Box(20, 20, 5, 10), Box(20, 20, 6, 12)),  # may grow again
        (Box(0, 0, 120, 60), Box(0, 0, 70, 35), Box.from_center(60, 30, 80, 40)),  # not over the frame
        (Box(0, 0, 120, 60), Box(0, 0, 110, 55), Box.from_center(60, 30, 110, 55)),  # was larger: no further
        (Box(-50, 90, 20, 20), Box(0, 40, 20, 20), Box.from_center(0, 60, 20, 20)),  # centre stays inside
    ],
)
def test_clamped(found, last, want):
    got = clamped(found, last, torch.zeros(60, 80, 3, dtype=torch.uint8))
    assert got.as_tuple() == pytest.approx(want.as_tuple())


def test_registry():
    assert "crt" in list_trackers()
    assert fasttrack.list_trackers() == list_trackers()
    with pytest.raises(UnknownTracker, match="one of crt"):
        create_tracker("ctr")
    with pytest.raises(ArgumentError, match=r"option must be one of features, .*'feature'"):
        create_tracker("crt", feature="hog")

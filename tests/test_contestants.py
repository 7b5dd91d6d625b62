"""Contestants: what texts mean, that their hashes are stable, and that a tracker made once serves every sequence."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import Clip, line
from evaluation_doubles import make_sequence

from fasttrack.errors import ArgumentError, BackendUnavailable, RangeError, UnknownName, WeightsError
from fasttrack.evaluation.contestants import list_contestants, parse_contestant, parse_contestants
from fasttrack.evaluation.contestants import opencv as opencv_contestants
from fasttrack.evaluation.contestants.base import digest, plain
from fasttrack.evaluation.contestants.opencv import OPENCV_TRACKERS, OpenCVTracker, whole_box
from fasttrack.evaluation.contestants.own import OwnTracker
from fasttrack.evaluation.outcome import Unit
from fasttrack.evaluation.protocols import PROTOCOLS
from fasttrack.geometry import Box
from fasttrack.trackers import create_tracker, list_trackers
from fasttrack.trackers.options import parse_options, parse_value, split_list

ROOT = Path(__file__).parent.parent


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-8", 2e-8), ("5", 5), ("true", True), ("FALSE", False), ("none", "none"), ("None", None), ("adam", "adam"),
        ("conv-4", "conv-4"), ("hog+cn", "hog+cn"), ("(9, 5)", (9, 5)), ("{'a': 1}", {"a": 1}), ("", ""),
    ],
)  # fmt: skip
def test_values(text, value):
    got = parse_value(text)
    assert got == value and type(got) is type(value)


def test_options():
    assert parse_options(["a=1", " b = x=y "], "op", "arg") == {"a": 1, "b": "x=y"}
    for wrong, part in ((["a"], "KEY=VALUE, got 'a'"), (["1=2"], "KEY=VALUE"), (["a=1", "a=2"], "each KEY once")):
        with pytest.raises(ArgumentError, match=f"op: arg must be .*{part}"):
            parse_options(wrong, "op", "arg")


def test_lists():
    assert split_list("a, b[c=1,d=(2,3)] ,e", "op", "arg") == ["a", "b[c=1,d=(2,3)]", "e"]
    for wrong in ("a[b", "a]b", "a[b)", "(]"):
        with pytest.raises(ArgumentError, match="brackets match"):
            split_list(wrong, "op", "arg")
    for wrong in ("", "a,,b", "a,"):
        with pytest.raises(ArgumentError, match="parts between commas"):
            split_list(wrong, "op", "arg")


def test_own_trackers():
    plain_one = parse_contestant("crt")
    assert (plain_one.name, plain_one.stem, plain_one.tracker) == ("crt", "crt", "crt")
    assert plain_one.config["threshold"] == 0.1 and plain_one.config["features"] == "hog"
    other = parse_contestant("crt[features=grey, threshold=0.2]")
    assert other.name == "crt[features=grey, threshold=0.2]" and other.stem == "crt"
    assert other.config == {**plain_one.config, "features": "grey", "threshold": 0.2}
    assert other.make().config.threshold == 0.2 and other.make().config.features == "grey"
    nested = parse_contestant("kcf[features=hog+cn,feature_options={'cell': 4}]")
    assert nested.config["feature_options"] == {"cell": 4}
    assert [c.name for c in parse_contestants("crt,kcf[rate=0.03,ridge=1e-3],identity")] == [
        "crt", "kcf[rate=0.03,ridge=1e-3]", "identity",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("nothing", UnknownName, "one of crt, .*cv2:CSRT.*identity, boxes:NAME=DIR"),
        ("crt=file", UnknownName, "one of crt"),
        ("identity[a=1]", UnknownName, "one of crt"),
        ("crt[threshold=0.1", ArgumentError, "NAME, NAME"),
        ("", ArgumentError, "NAME, NAME"),
        ("crt[thres=0.1]", ArgumentError, "option must be one of features, .*, got 'thres'"),
        ("crt[threshold=-1]", RangeError, "threshold must be a finite number ≥ 0"),
        ("crt[threshold]", ArgumentError, "KEY=VALUE, got 'threshold'"),
        ("crt[feature_options={1,2}]", ArgumentError, "option must be a number, text"),
        ("cv2:Boosting", UnknownName, "one of CSRT, KCF, MIL, MOSSE, Nano"),
        ("cv2:MIL=a.onnx", ArgumentError, "of the form cv2:MIL, got"),
        ("cv2:Nano", ArgumentError, "of the form cv2:Nano=backbone.onnx;neckhead.onnx"),
        ("cv2:Nano=a.onnx;b.onnx", WeightsError, "a.onnx: cannot be read"),
    ],
)
def test_wrong_texts(text, error, part):
    with pytest.raises(error, match=part):
        parse_contestant(text)


def test_two_that_are_the_same_are_refused():
    with pytest.raises(ArgumentError, match=r"contestants that differ, got crt and crt\[threshold=0.1\]"):
        parse_contestants("crt,kcf,crt[threshold=0.1]")


def test_every_form_is_listed():
    assert {*list_trackers(), "identity", "boxes:NAME=DIR", "cv2:MIL"} <= set(list_contestants())


# --- hashes ---------------------------------------------------------------------------------------


def test_hashes_stay_what_they_are():
    # Results on disk are found again by these: a change here makes all of them strangers.
    assert parse_contestant("identity").ident == "identity-8776298d"
    values = {"b": (1, 2.5, None), "a": {"y": True, "x": "σ"}, "rate": 2e-8, "path": Path("w/x.pth")}
    assert digest(values) == "7263fc4a"


def test_hashes_follow_the_values():
    base = {"rate": 1.0, "on": True}
    assert digest({"on": True, "rate": 1}) == digest(base)
    for other in ({"rate": 1.0000001, "on": True}, {"rate": 1.0, "on": 1}, {"rate": 1.0}, {"rate": "1", "on": True}):
        assert digest(other) != digest(base)
    assert parse_contestant("crt[threshold=0.1]").ident == parse_contestant("crt").ident
    assert parse_contestant("crt[threshold=0.1000001]").ident != parse_contestant("crt").ident
    assert len({parse_contestant(name).ident.rpartition("-")[2] for name in list_trackers()}) == len(list_trackers())


def test_a_changed_default_changes_the_hash(monkeypatch):
    from fasttrack.trackers import kcf

    before = parse_contestant("kcf").ident

    @dataclass(frozen=True)
    class Config(kcf.Config):
        rate: float = 0.03

    monkeypatch.setattr(kcf.KCF, "config_class", Config)
    assert parse_contestant("kcf").ident != before


def test_hashes_are_the_same_in_other_processes():
    code = (
        "from fasttrack.evaluation.contestants import parse_contestants as p; print(*(c.ident for c in p('crt,dslt')))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    got = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert got.split() == [c.ident for c in parse_contestants("crt,dslt")]


def test_configs_are_what_json_can_hold():
    assert plain({"a": (1, [2.0, None]), "p": Path("x/y"), 3: float("inf")}) == {
        "a": [1, [2.0, None]], "p": "x/y", "3": "inf",
    }  # fmt: skip
    with pytest.raises(ArgumentError, match="option must be a number, text, tuple, list or dict, got b'x'"):
        plain({"a": b"x"})


@pytest.mark.parametrize("text", ["crt[threshold=0.2]", "cv2:MIL", "identity"])
def test_contestants_travel(text):
    there = parse_contestant(text)
    back = pickle.loads(pickle.dumps(there))
    assert back == there and back.ident == there.ident and back.name == text
    assert hash(back) == hash(there)
    assert all(char.isalnum() or char in "_.+-" for char in there.ident)
    back.make()


# --- trackers of ours -----------------------------------------------------------------------------


def test_a_tracker_is_made_once_per_process():
    assert parse_contestant("crt[a=1.5]").make() is parse_contestant("crt[a=1.5]").make()
    assert parse_contestant("crt[a=1.5]").make() is not parse_contestant("crt[a=1.25]").make()


def test_weights_are_read_once_and_named(small, monkeypatch):
    from fasttrack.vision.features import backbone

    loads = []
    load = backbone.load_weights
    monkeypatch.setattr(backbone, "load_weights", lambda *args: loads.append(args) or load(*args))
    contestant = OwnTracker.of("drvt", "drvt", {**small["drvt"], "seed": 12345})
    assert "resnet18" in contestant.note()
    for _ in range(3):
        pickle.loads(pickle.dumps(contestant)).make()
    assert len(loads) == 1
    assert parse_contestant("identity").note() == ""


def ious(boxes, truth):
    return np.array([Box(*a).iou(Box(*b)) for a, b in zip(boxes, truth, strict=True)])


def play(tracker, clip):
    tracker.init(clip.frame(0), clip.box(0))
    return [tracker.update(clip.frame(k)) for k in range(1, len(clip))]


@pytest.mark.parametrize("name", list_trackers())
def test_a_tracker_that_ran_before_gives_the_same_boxes(name, small):
    before = Clip(line((90, 70), (-4, -3), 3), size=(30, 44), seed=5)
    clip = Clip(line((20, 20), (3, 2), 4))
    used = create_tracker(name, **small[name])
    play(used, before)
    again, fresh = play(used, clip), play(create_tracker(name, **small[name]), clip)
    assert [(r.box, r.score, r.psr, r.lost) for r in again] == [(r.box, r.score, r.psr, r.lost) for r in fresh]


@pytest.mark.parametrize("name", ["crt", "kcf"])
def test_own_trackers_run_under_protocols(name):
    contestant = parse_contestant(name)
    clip = Clip(line((20, 20), (3, 2), 8))
    sequence = make_sequence([clip.box(k) for k in range(len(clip))])
    sequence.__dict__["frames"] = clip.frames()
    runs = [
        PROTOCOLS[protocol].execute(contestant.make(), sequence, Unit(contestant.ident, "made", "made", protocol))
        for protocol in ("ope", "vot-supervised", "ope")
    ]
    assert ious(runs[0].boxes, sequence.boxes).min() > 0.6
    np.testing.assert_array_equal(runs[0].boxes, runs[1].boxes)
    np.testing.assert_array_equal(runs[0].boxes, runs[2].boxes)


# --- OpenCV's -------------------------------------------------------------------------------------


def test_mil_follows_and_repeats():
    contestant = parse_contestant("cv2:MIL")
    assert contestant.note() == f"OpenCV {cv2.__version__}"
    clip = Clip(line((60, 50), (2, 1), 8))
    sequence = make_sequence([clip.box(k) for k in range(len(clip))])
    sequence.__dict__["frames"] = clip.frames()
    unit = Unit(contestant.ident, "made", "made", "ope", seed=3)
    first, again = (PROTOCOLS["ope"].execute(contestant.make(), sequence, unit) for _ in range(2))
    assert ious(first.boxes, sequence.boxes).min() > 0.5
    assert ious(first.boxes[:1].repeat(8, 0), sequence.boxes).min() < 0.5  # standing still would not do
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert np.isnan(first.scores).all() and (first.seconds > 0).all()


@pytest.mark.parametrize("size", [(2, 11), (3, 6), (4, 5), (5, 4), (11, 2)])
def test_mil_starts_on_the_smallest_targets_it_can(size):
    frame = Clip(line((60, 50), (2, 1), 1)).frame(0)
    tracker = parse_contestant("cv2:MIL").make()
    tracker.init(frame, Box(50, 50, *size))
    assert tracker.update(frame).box.area == size[0] * size[1]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [(1, 1), (1, 20), (2, 10), (3, 5), (4, 4), (10, 2), (0.3, 40)])
def test_mil_never_ends_on_smaller_ones(size):
    frame = Clip(line((60, 50), (2, 1), 1)).frame(0)
    with pytest.raises(ArgumentError, match="larger: OpenCV's MIL would look for its features for ever"):
        parse_contestant("cv2:MIL").make().init(frame, Box(50, 50, *size))


class Peer:
    """One of OpenCV's, as its binding behaves."""

    def __init__(self, returns, answers):
        self.returns, self.answers, self.seen = returns, list(answers), []

    def init(self, frame, box):
        self.seen.append((frame[0, 0].tolist(), box))
        return self.returns

    def update(self, frame):
        return self.answers.pop(0)


@pytest.mark.parametrize("returns", [None, True])
def test_colours_boxes_and_losses(returns):
    peer = Peer(returns, [(True, (5, 6, 7, 8)), (False, (0, 0, 0, 0)), (True, (9.5, 9, 9, 9))])
    tracker = OpenCVTracker(lambda: peer)
    frame = np.full((40, 60, 3), (10, 20, 30), np.uint8)
    tracker.init(frame, Box(4.5, 3.4, 10.5, 0.2))
    assert peer.seen == [([30, 20, 10], (5, 3, 11, 1))]
    results = [tracker.update(frame) for _ in range(3)]
    assert [r.box.as_tuple() for r in results] == [(5, 6, 7, 8), (5, 6, 7, 8), (9.5, 9, 9, 9)]
    assert [r.lost for r in results] == [False, True, False]
    assert all(np.isnan(r.score) and np.isnan(r.psr) for r in results)


def test_a_loss_in_the_first_update_keeps_the_box_given():
    tracker = OpenCVTracker(lambda: Peer(None, [(False, (0, 0, 0, 0))]))
    frame = np.zeros((40, 60, 3), np.uint8)
    tracker.init(frame, Box(4.5, 3.4, 10.5, 6.0))
    assert tracker.update(frame).box == Box(4.5, 3.4, 10.5, 6.0)


def test_a_start_that_opencv_refuses():
    with pytest.raises(ArgumentError, match="one that OpenCV can start on"):
        OpenCVTracker(lambda: Peer(False, [])).init(np.zeros((40, 60, 3), np.uint8), Box(1, 1, 5, 5))


def test_scores_of_those_that_have_them():
    class Scored(Peer):
        def getTrackingScore(self):
            return 0.75

    tracker = OpenCVTracker(lambda: Scored(None, [(True, (1, 2, 3, 4))]), scored=True)
    frame = np.zeros((40, 60, 3), np.uint8)
    tracker.init(frame, Box(1, 1, 5, 5))
    assert tracker.update(frame).score == 0.75


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((-3.2, 2.5, 10, 10), (0, 3, 7, 10)),
        ((55, 35, 10, 10), (55, 35, 5, 5)),
        ((0, 0, 60, 40), (0, 0, 60, 40)),
        ((-9, -9, 99, 99), (0, 0, 60, 40)),
    ],
)
def test_boxes_in_whole_pixels_of_the_frame(box, wanted):
    assert whole_box(Box(*box), 60, 40) == wanted


@pytest.mark.parametrize("box", [(60, 5, 5, 5), (-9, 5, 9, 5), (5, 39.5, 5, 5)])
def test_boxes_outside_of_the_frame_are_refused(box):
    with pytest.raises(ArgumentError, match="inside the 60×40 frame"):
        whole_box(Box(*box), 60, 40)


def test_a_tracker_that_this_opencv_lacks(monkeypatch):
    class Without:
        __version__ = "9.9"

    monkeypatch.setattr(opencv_contestants, "opencv", Without)
    with pytest.raises(
        BackendUnavailable, match=r"cv2:CSRT: the installed OpenCV 9\.9 is built without this tracker: pip"
    ):
        parse_contestant("cv2:CSRT")


def test_legacy_trackers_are_found(monkeypatch):
    class Legacy:
        @staticmethod
        def TrackerMOSSE_create():
            return Peer(True, [])

    class Contrib:
        __version__, legacy = "4.10", Legacy

    monkeypatch.setattr(opencv_contestants, "opencv", lambda: Contrib)
    assert isinstance(parse_contestant("cv2:MOSSE").make()._create(), Peer)


def test_model_files_are_part_of_the_hash_and_reach_the_tracker(tmp_path, monkeypatch):
    backbone, head, other = (tmp_path / name for name in ("b.onnx", "h.onnx", "o.onnx"))
    backbone.write_bytes(b"backbone"), head.write_bytes(b"head"), other.write_bytes(b"backbone")
    contestant = parse_contestant(f"cv2:Nano={backbone};{head}")
    assert contestant.ident.startswith("cv2-Nano-") and contestant.note().endswith(": b.onnx, h.onnx")
    assert parse_contestant(f"cv2:Nano={other};{head}").ident == contestant.ident
    assert parse_contestant(f"cv2:Nano={head};{backbone}").ident != contestant.ident
    got = []
    monkeypatch.setattr(opencv_contestants, "_factory", lambda name: lambda params: got.append((name, params)))
    contestant.make()._create()
    assert got[0][0] == "Nano" and (got[0][1].backbone, got[0][1].neckhead) == (str(backbone), str(head))


@pytest.mark.parametrize("name", [name for name, files in OPENCV_TRACKERS.items() if files])
def test_parameters_exist_in_this_opencv(name):
    params = getattr(cv2, f"Tracker{name}_Params")()
    assert all(isinstance(getattr(params, part), str) for part in OPENCV_TRACKERS[name])

"""Trackers behind the interfaces of OpenCV, GOT-10k, pytracking and supervision: colours, numbers, errors."""

import functools
import math
import subprocess
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
from clips import Clip, line
from PIL import Image

from fasttrack.compat import adapters
from fasttrack.compat.adapters import as_cv2, as_got10k, as_pytracking, as_vot, to_detections
from fasttrack.errors import ArgumentError, BackendUnavailable, BoxError, FrameError, UnknownTracker
from fasttrack.geometry import Box
from fasttrack.trackers import Result, create_tracker

CLIP = Clip(line((60, 50), (2, 1), 8))
FRAMES = CLIP.frames()
BOX = tuple(int(side) for side in CLIP.box(0))


class Still:
    """Says that every target is where it was; score: the mean of the first channel, lost if that is over 200."""

    name = "still"

    def init(self, frame, box):
        self.frame, self.many = frame, np.ndim(box.as_tuple() if isinstance(box, Box) else box) == 2
        self.boxes = [Box.parse(row) for row in (box if self.many else [box.as_tuple() if hasattr(box, "h") else box])]

    def update(self, frame):
        score = float(frame[..., 0].mean())
        found = [Result(box, score, math.nan, score > 200, 0.0) for box in self.boxes]
        return found if self.many else found[0]


class ToolkitTracker:
    """What the GOT-10k toolkit's base class does, without its pictures of plots."""

    def __init__(self, name, is_deterministic=False):
        self.name, self.is_deterministic = name, is_deterministic


@pytest.fixture
def toolkit(monkeypatch):
    """Stands for got10k, so that what does not depend on it is tested without it."""
    for name in ("got10k", "got10k.trackers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["got10k.trackers"].Tracker = ToolkitTracker


def by_cv2(frames):
    tracker = as_cv2("kcf", features="cn")
    assert tracker.init(frames[0], BOX) is None
    for frame in frames[1:]:
        tracker.update(frame)
        yield tracker.result.box.as_tuple()


def by_got10k(frames):
    tracker = as_got10k("kcf", features="cn")
    tracker.init(Image.fromarray(frames[0]), np.add(BOX, [1, 1, 0, 0]))
    for frame in frames[1:]:
        yield tuple(tracker.update(Image.fromarray(frame)) - [1, 1, 0, 0])


def by_pytracking(frames):
    tracker = as_pytracking("kcf", features="cn")
    tracker.initialize(frames[0], {"init_bbox": list(BOX)})
    for frame in frames[1:]:
        yield tuple(tracker.track(frame)["target_bbox"])


def by_vot(frames):
    tracker = as_vot("kcf", features="cn")
    tracker.initialize(frames[0], [Box(*BOX)])
    for frame in frames[1:]:
        yield tracker.update(frame)[0].box.as_tuple()


@pytest.mark.parametrize(
    ("run", "bgr"),
    [(by_cv2, True), (by_got10k, False), (by_pytracking, False), (by_vot, False)],
    ids=["cv2", "got10k", "pytracking", "vot"],
)
def test_every_adapter_takes_its_order_of_colours_and_gives_the_same_boxes(run, bgr, toolkit):
    native = np.array([r.box.as_tuple() for r in create_tracker("kcf", features="cn").run(FRAMES, BOX)])
    swapped = [np.ascontiguousarray(frame[..., ::-1]) for frame in FRAMES]
    right, wrong = (swapped, FRAMES) if bgr else (FRAMES, swapped)
    np.testing.assert_allclose(list(run(right)), native, rtol=0, atol=1e-9)
    assert np.abs(np.array(list(run(wrong))) - native).max() > 0.1  # px
    assert np.abs(native - BOX).max() > 5  # it moves


def test_names_load_at_first_use():
    code = "import sys, fasttrack.compat.adapters as a; print('torch' in sys.modules, set(a.__all__) <= set(dir(a)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False True"
    assert all(callable(getattr(adapters, name)) for name in adapters.__all__)
    with pytest.raises(AttributeError, match="no attribute 'as_nothing'"):
        adapters.as_nothing


@pytest.mark.parametrize("adapt", [as_cv2, as_pytracking, as_vot, as_got10k])
def test_what_is_no_tracker_is_refused(adapt, toolkit):
    with pytest.raises(UnknownTracker, match="one of crt, "):
        adapt("nothing")
    with pytest.raises(ArgumentError, match=r"option must be one of .*, got 'colour'"):
        adapt("mosse", colour=1)
    with pytest.raises(ArgumentError, match=r"tracker must be a name.*, got int"):
        adapt(3)
    made = functools.partial(create_tracker, "mosse") if adapt is as_vot else create_tracker("mosse")
    with pytest.raises(ArgumentError, match=r"options must be none beside a .*, got rate; give the tracker's name"):
        adapt(made, rate=0.1)


# --- OpenCV -------------------------------------------------------------------------------------


def test_cv2_numbers():
    tracker = as_cv2(Still())
    assert tracker.getTrackingScore() == -1.0
    blue = np.zeros((90, 120, 3), np.uint8)
    blue[..., 0] = 250  # BGR
    assert tracker.init(blue, (10.5, 20.49, 30.2, 0.2)) is None
    assert (tracker.tracker.frame[..., 2] == 250).all()  # which the tracker sees last: RGB
    found, box = tracker.update(blue)
    assert found is True and box == (11, 20, 30, 1) and all(type(side) is int for side in box)
    assert tracker.getTrackingScore() == 0.0
    found, box = tracker.update(np.ascontiguousarray(blue[..., ::-1]))
    assert found is False and box == (11, 20, 30, 1) and tracker.getTrackingScore() == 250.0
    assert tracker.result.box == Box(10.5, 20.49, 30.2, 0.2)


def test_cv2_takes_grey_frames():
    grey = [frame[..., 1].copy() for frame in FRAMES]
    tracker, native = as_cv2("kcf"), create_tracker("kcf")
    tracker.init(grey[0], BOX)
    native.init(grey[0], BOX)
    for frame in grey[1:]:
        assert tracker.update(frame)[0] is True
        assert tracker.result.box == native.update(frame).box
        assert tracker.update(frame[..., None])[0] is True
        native.update(frame)


def test_cv2_errors():
    tracker = as_cv2("mosse")
    with pytest.raises(ArgumentError, match=r"as_cv2\('mosse'\).update: tracker must be started by init"):
        tracker.update(FRAMES[0])
    wanted = r"image must be a uint8 numpy array, H×W×3 \(BGR\) or H×W \(grey\), got "
    for image, got in [
        (None, "NoneType"),  # what cv2.imread and VideoCapture give where there is no picture
        (FRAMES[0].astype(np.float32), r"float32 array of shape \(150, 200, 3\)"),
        (np.zeros((20, 20, 4), np.uint8), r"uint8 array of shape \(20, 20, 4\)"),
        (np.zeros((0, 20, 3), np.uint8), r"uint8 array of shape \(0, 20, 3\)"),
    ]:
        with pytest.raises(FrameError, match=wanted + got):
            tracker.init(image, BOX)
    with pytest.raises(BoxError, match=r"overlaps the frame of 200×150 px, got .500"):
        tracker.init(FRAMES[0], (500, 10, 20, 20))
    with pytest.raises(BoxError, match="positive width and height"):
        tracker.init(FRAMES[0], (0, 0, 0, 0))  # what cv2.selectROI gives when it is left
    with pytest.raises(BoxError, match=r"boundingBox must be four numbers x, y, w, h, got shape \(1, 4\)"):
        tracker.init(FRAMES[0], [BOX])
    with pytest.raises(ArgumentError, match="started by init"):
        tracker.update(FRAMES[0])
    tracker.init(FRAMES[0], BOX)
    with pytest.raises(FrameError, match="got NoneType"):
        tracker.update(None)


# --- GOT-10k ------------------------------------------------------------------------------------


def test_got10k_counts_from_one(toolkit):
    seen = Still()
    tracker = as_got10k(seen)
    assert isinstance(tracker, ToolkitTracker) and (tracker.name, tracker.is_deterministic) == ("still", True)
    red = Image.new("RGB", (40, 30), (9, 0, 0))
    tracker.init(red, np.array([1.0, 1.0, 10.5, 8.0]))
    assert seen.boxes == [Box(0.0, 0.0, 10.5, 8.0)] and (seen.frame[..., 0] == 9).all()
    box = tracker.update(red)
    assert box.dtype == np.float64 and box.tolist() == [1.0, 1.0, 10.5, 8.0]
    other = as_got10k(Still(), label="mine", one_based=False)
    other.init(red, [3, 4, 5, 6])
    assert other.name == "mine" and other.tracker.boxes == [Box(3.0, 4.0, 5.0, 6.0)]
    tracker.init(Image.new("L", (40, 30), 7), [1, 1, 5, 5])  # other modes become RGB
    assert seen.frame.shape == (30, 40, 3) and (seen.frame == 7).all()


def test_got10k_errors(toolkit, monkeypatch):
    tracker = as_got10k("mosse")
    with pytest.raises(ArgumentError, match=r"as_got10k.update: tracker must be started by init\(image, box\)"):
        tracker.update(Image.fromarray(FRAMES[0]))
    with pytest.raises(FrameError, match=r"mosse.init: frame must be a uint8 numpy array.*got str"):
        tracker.init("00000001.jpg", BOX)
    with pytest.raises(BoxError, match="four numbers x, y, w, h, got 8 numbers"):
        tracker.init(Image.fromarray(FRAMES[0]), np.arange(8))
    with pytest.raises(BoxError, match="overlaps the frame"):
        tracker.init(Image.fromarray(FRAMES[0]), [900, 1, 5, 5])
    monkeypatch.setitem(sys.modules, "got10k.trackers", None)
    with pytest.raises(BackendUnavailable, match=r"as_got10k: needs the GOT-10k toolkit \(pip install got10k\)"):
        as_got10k("mosse")


# --- pytracking ---------------------------------------------------------------------------------


def test_pytracking_as_its_evaluation_drives_it():
    make = functools.partial(as_pytracking, "mosse")  # what get_tracker_class() gives
    params = types.SimpleNamespace(visualization=False, debug=0)
    tracker = make(params)
    assert tracker.params is params and tracker.visdom is None and tracker.multiobj_mode == "default"
    out = tracker.initialize(FRAMES[0], {"init_bbox": list(BOX), "init_mask": None})
    assert out["target_bbox"] == list(BOX) and out["time"] > 0
    native = create_tracker("mosse")
    native.init(FRAMES[0], BOX)
    for frame in FRAMES[1:]:
        out, wanted = tracker.track(frame, {"previous_output": OrderedDict(out)}), native.update(frame)
        assert out["target_bbox"] == pytest.approx(list(wanted.box.as_tuple()), abs=1e-9)
        assert out["object_presence_score"] == pytest.approx(wanted.score, abs=1e-9)
        assert set(out) == {"target_bbox", "object_presence_score", "time"} and out["time"] > 0
    own = as_pytracking("mosse").params
    assert (own.visualization, own.debug, own.visdom_info, own.tracker_name) == (False, 0, {}, "mosse")
    assert own.get("object_presence_score_threshold", 0.55) == 0.55 and own.has("debug") and not own.has("none")
    with pytest.raises(AttributeError, match="none"):
        own.get("none")


def test_pytracking_takes_several_objects_and_such_as_join():
    box = list(BOX)
    other = [20.0, 30.0, 40.0, 30.0]
    info = {"init_bbox": OrderedDict({"a": box, "b": other}), "init_object_ids": ["a", "b"]}
    tracker, native = as_pytracking("mosse"), create_tracker("mosse")
    tracker.initialize(FRAMES[0], info)
    native.init(FRAMES[0], np.array([box, other]))
    third = [100.0, 20.0, 30.0, 40.0]
    late = create_tracker("mosse")
    for k, frame in enumerate(FRAMES[1:]):
        new = {"init_bbox": OrderedDict({"c": third})} if k == 2 else {}
        boxes = tracker.track(frame, new)["target_bbox"]
        wanted = [list(r.box.as_tuple()) for r in native.update(frame)]
        if k == 2:
            late.init(frame, third)
            wanted.append(third)
        elif k > 2:
            wanted.append(list(late.update(frame).box.as_tuple()))
        assert list(boxes) == ["a", "b", "c"][: len(wanted)] and isinstance(boxes, OrderedDict)
        np.testing.assert_allclose(list(boxes.values()), wanted, rtol=0, atol=1e-9)
    with pytest.raises(ArgumentError, match=r"init_bbox must be of objects that are not there yet, got \['a'\]"):
        tracker.track(FRAMES[0], {"init_bbox": {"a": box}})
    tracker.initialize(FRAMES[0], {"init_bbox": {7: box}})  # anew, with one
    assert list(tracker.track(FRAMES[1])["target_bbox"]) == [7]
    ready = as_pytracking(create_tracker("mosse"))
    ready.initialize(FRAMES[0], {"init_bbox": {1: box}})
    with pytest.raises(ArgumentError, match=r"tracker must be given by name where objects join later.*\(MOSSE\)"):
        ready.track(FRAMES[1], {"init_bbox": {2: other}})


def test_pytracking_shows_boxes_in_visdom():
    tracker, shown = as_pytracking("mosse"), []
    tracker.visdom_draw_tracking(FRAMES[0], [1, 2, 3, 4])
    tracker.visdom = types.SimpleNamespace(register=lambda *what: shown.append(what))
    tracker.visdom_draw_tracking(FRAMES[0], [1, 2, 3, 4])
    tracker.visdom_draw_tracking(FRAMES[0], OrderedDict({1: [1, 2, 3, 4], 2: [5, 6, 7, 8]}), None)
    assert [len(data) for data, *_ in shown] == [2, 3] and shown[0][1:] == ("Tracking", 1, "Tracking")


def test_pytracking_errors():
    tracker = as_pytracking("mosse")
    with pytest.raises(ArgumentError, match=r"as_pytracking.track: tracker must be started by initialize"):
        tracker.track(FRAMES[0])
    with pytest.raises(ArgumentError, match="info must be a mapping with init_bbox, got the keys init_mask"):
        tracker.initialize(FRAMES[0], {"init_mask": None})
    with pytest.raises(FrameError, match="got float32 array"):
        tracker.initialize(FRAMES[0].astype(np.float32), {"init_bbox": BOX})
    for box, message in [
        ([1, 2, 3], "got 3 numbers"),
        ([900, 0, 5, 5], "overlaps the frame"),
        ([1, 2, 3, math.nan], "finite"),
    ]:
        with pytest.raises(BoxError, match=message):
            tracker.initialize(FRAMES[0], {"init_bbox": box})
    with pytest.raises(ArgumentError, match="started by initialize"):
        tracker.track(FRAMES[0])


# --- supervision --------------------------------------------------------------------------------


@pytest.fixture
def supervision(monkeypatch):
    module = types.ModuleType("supervision")
    module.Detections = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "supervision", module)


A, B = Result(Box(1.5, 2, 30, 40), 0.75, 8.0, False, 0.1), Result(Box(5, 6, 7, 8), math.nan, math.nan, True, 0.1)


def test_detections(supervision):
    made = to_detections([A, B], class_id=3)
    np.testing.assert_array_equal(made.xyxy, np.float32([[1.5, 2, 31.5, 42], [5, 6, 12, 14]]))
    np.testing.assert_array_equal(made.confidence, np.float32([0.75, np.nan]))
    assert made.tracker_id.tolist() == [1, 2] and made.class_id.tolist() == [3, 3]
    assert made.data["lost"].tolist() == [False, True] and made.data["psr"][0] == 8.0
    kept = to_detections([B, A], ids=[7, 9], keep_lost=False)
    assert kept.tracker_id.tolist() == [9] and kept.xyxy.shape == (1, 4) and kept.data["lost"].tolist() == [False]
    assert to_detections(A).tracker_id.tolist() == [1]
    none = to_detections([B], keep_lost=False)
    assert none.xyxy.shape == (0, 4) and len(none.tracker_id) == len(none.confidence) == len(none.data["psr"]) == 0


def test_detections_errors(supervision, monkeypatch):
    with pytest.raises(ArgumentError, match="ids must be one for each of 2 results, got 1"):
        to_detections([A, B], ids=[1])
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'fasttrack\[supervision\]'"):
        to_detections(A)

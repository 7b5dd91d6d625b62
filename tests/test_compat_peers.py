"""The toolkits themselves run the trackers: GOT-10k, vot-toolkit and supervision (``pip install fasttrack[peer]``)."""

import argparse
import logging
import tempfile

import cv2
import numpy as np
import pytest
from clips import Clip, line

from fasttrack.compat import vot as program
from fasttrack.compat.adapters import as_got10k, to_detections
from fasttrack.trackers import create_tracker

pytestmark = pytest.mark.peer

COUNT = 8
# Two targets of one scene: the second is drawn over the frames of the first.
FIRST = Clip(line((60, 50), (2, 1), COUNT))
SECOND = Clip(line((20, 100), (1, -1), COUNT), size=(24, 24), seed=7)
JOINS = 3  # frame in which the second object is first annotated


def scene(k, both):
    frame = FIRST.frame(k)
    if both:
        (x, y), (w, h) = SECOND.path[k], SECOND.size
        frame[y : y + h, x : x + w] = SECOND.target.round()
    return frame


def pictures(folder, both=False):
    """PNG files: what the toolkits read is then what the tracker here gets."""
    folder.mkdir(parents=True)
    files = [folder / f"{k + 1:08d}.png" for k in range(COUNT)]
    for k, file in enumerate(files):
        assert cv2.imwrite(str(file), scene(k, both)[..., ::-1])
    return [str(file) for file in files]


def rows(boxes):
    return "".join(",".join(f"{side:.4f}" for side in box) + "\n" for box in boxes)


def native(name, both=False, boxes=None, start=0, **options):
    frames = [scene(k, both) for k in range(start, COUNT)]
    return list(create_tracker(name, **options).run(frames, FIRST.box(0) if boxes is None else boxes))


# --- GOT-10k ------------------------------------------------------------------------------------

ONE_BASED = np.add([FIRST.box(k) for k in range(COUNT)], [1, 1, 0, 0])


def check_recorded(file):
    recorded = np.loadtxt(file, delimiter=",")
    wanted = np.add([r.box.as_tuple() for r in native("kcf", features="cn")], [1, 1, 0, 0])
    np.testing.assert_allclose(recorded[0], ONE_BASED[0], atol=1e-3)
    np.testing.assert_allclose(recorded[1:], wanted, atol=1e-3)  # the files have three places


def test_the_got10k_toolkit_runs_and_scores_a_tracker(tmp_path, monkeypatch):
    toolkit = pytest.importorskip("got10k.experiments", reason="needs fasttrack[peer]")
    folder = tmp_path / "data" / "val" / "GOT-10k_Val_000001"
    for file in pictures(folder):  # the toolkit looks for .jpg: these stay PNG inside
        (folder / file).rename((folder / file).with_suffix(".jpg"))
    (folder / "groundtruth.txt").write_text(rows(ONE_BASED))
    (folder / "meta_info.ini").write_text("[METAINFO]\nresolution: (200, 150)\nobject_class: texture\n")
    for label, flag in (("cover", 8), ("absence", 0), ("cut_by_image", 0)):
        (folder / f"{label}.label").write_text(f"{flag}\n" * COUNT)
    (folder.parent / "list.txt").write_text(f"{folder.name}\n")
    places = {"result_dir": str(tmp_path / "results"), "report_dir": str(tmp_path / "reports")}
    experiment = toolkit.ExperimentGOT10k(str(tmp_path / "data"), "val", **places)
    experiment.plot_curves = lambda *_, **__: None
    experiment.run(as_got10k("kcf", features="cn", label="ours"))
    scores = experiment.report(["ours"])["ours"]["overall"]
    print(f"\ngot10k: AO {scores['ao']:.3f} at {scores['speed_fps']:.0f} FPS")
    assert scores["ao"] > 0.9
    results = tmp_path / "results" / "GOT-10k" / "ours" / folder.name
    # One repetition: the tracker says that it is deterministic.
    assert sorted(file.name for file in results.iterdir()) == [f"{folder.name}_001.txt", f"{folder.name}_time.txt"]
    check_recorded(results / f"{folder.name}_001.txt")


class Sequences:
    """What the OTB experiment asks of its dataset, without the download of OTB."""

    def __init__(self, files):
        self.files, self.seq_names = files, ["one"]

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([self[0]])

    def __getitem__(self, key):
        return self.files, ONE_BASED


def test_the_otb_experiment_runs_and_scores_a_tracker(tmp_path):
    toolkit = pytest.importorskip("got10k.experiments", reason="needs fasttrack[peer]")
    experiment = object.__new__(toolkit.ExperimentOTB)
    experiment.dataset = Sequences(pictures(tmp_path / "one"))
    experiment.result_dir, experiment.report_dir = str(tmp_path / "results"), str(tmp_path / "reports")
    experiment.nbins_iou, experiment.nbins_ce = 21, 51
    experiment.plot_curves = lambda *_, **__: None
    experiment.run(as_got10k("kcf", features="cn", label="ours"))
    scores = experiment.report(["ours"])["ours"]["overall"]
    assert scores["precision_score"] == 1.0 and scores["success_score"] > 0.85
    check_recorded(tmp_path / "results" / "ours" / "one.txt")


# --- vot-toolkit --------------------------------------------------------------------------------


@pytest.fixture
def vot(tmp_path, monkeypatch):
    """The toolkit's commands, with its folders and caches in ``tmp_path``, and a workspace with three trackers."""
    cli = pytest.importorskip("vot.utilities.cli", reason="needs fasttrack[peer]")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, words in {
        "mosse": ["mosse"],
        "kcf": ["kcf", "--set", "features=cn", "--set", "scale_levels=1"],
        "single": ["kcf", "--set", "features=cn", "--set", "scale_levels=1", "--single"],
    }.items():
        own = ["--name", name, "--write-ini", str(tmp_path / "trackers.ini")]
        assert program.main([*words, *own]) == 0
    return cli


def sequence(folder, objects):
    pictures(folder / "color", both=len(objects) > 1)
    (folder / "sequence").write_text(f"name={folder.name}\nfps=30\nchannels.color=color/%08d.png\n")
    for name, lines in objects.items():
        (folder / f"groundtruth{name}.txt").write_text("".join(text + "\n" for text in lines))


def around(box):
    """The polygon of a box, as VOT's older annotations are."""
    x, y, w, h = box
    return ",".join(f"{v:g}" for v in (x, y, x + w, y, x + w, y + h, x, y + h))


def mask(box):
    """The mask of a box in VOT's text form: m, offset, size, then the lengths of runs of 0 and 1."""
    x, y, w, h = map(int, box)
    return f"m{x},{y},{w},{h},0,{w * h}"


def evaluated(vot, folder, sequences, experiment, tracker):
    """Run ``vot evaluate`` in a workspace; the trajectories by name."""
    from vot.tracker import Trajectory
    from vot.workspace import Workspace

    stack = folder / "stack.yaml"
    stack.write_text("title: made\nexperiments:\n  made:\n" + "".join(f"    {text}\n" for text in experiment))
    (folder / "sequences" / "list.txt").write_text("".join(f"{name}\n" for name in sequences))
    (folder / "config.yaml").write_text(f"stack: {stack}\nregistry:\n- ./trackers.ini\n")
    given = {"workspace": str(folder), "trackers": [tracker], "experiments": None, "force": False, "persist": False}
    vot.do_evaluate(argparse.Namespace(**given))
    workspace = Workspace.load(str(folder))
    found = {}
    for one in workspace.dataset:
        results = workspace.stack.experiments["made"].results(workspace.registry[tracker], one)
        for file in results.find("*.bin"):
            found[file.removesuffix(".bin")] = Trajectory.read(results, file.removesuffix(".bin"))
    return found


def boxes_of(trajectory, start):
    regions = trajectory.regions()[start:]
    return np.array([(r.x, r.y, r.width, r.height) for r in regions])


def test_vot_evaluates_single_objects(vot, tmp_path):
    for name, form in (("corners", around), ("pixels", mask)):
        sequence(tmp_path / "sequences" / name, {"": [form(FIRST.box(k)) for k in range(COUNT)]})
    experiment = ["type: unsupervised", "repetitions: 1"]
    found = evaluated(vot, tmp_path, ["corners", "pixels"], experiment, "single")
    results = native("kcf", features="cn", scale_levels=1)
    wanted = np.array([r.box.as_tuple() for r in results])
    assert np.abs(wanted[-1] - FIRST.box(0)).max() > 10 and sorted(found) == ["corners_001", "pixels_001"]
    for trajectory in found.values():
        # The binary files hold single precision.
        np.testing.assert_allclose(boxes_of(trajectory, 1), wanted, rtol=0, atol=1e-4)
        confidences = [trajectory.properties(k)["confidence"] for k in range(1, COUNT)]
        assert confidences == pytest.approx([r.score for r in results], abs=1e-4)


def test_vot_starts_a_tracker_again_after_a_failure(vot, tmp_path):
    """The annotation jumps away from the target in frame 3, so that the toolkit sees a failure and starts anew."""
    truth = [FIRST.box(k) for k in range(COUNT)]
    truth[3] = (5.0, 5.0, 40.0, 30.0)
    sequence(tmp_path / "sequences" / "one", {"": [around(box) for box in truth]})
    experiment = ["type: supervised", "repetitions: 1", "skip_initialize: 2"]
    found = evaluated(vot, tmp_path, ["one"], experiment, "kcf")["one_001"]
    codes = [getattr(region, "code", None) for region in found.regions()]
    assert codes == [1, None, None, 2, 0, 1, None, None]
    again = native("kcf", boxes=FIRST.box(5), start=5, features="cn", scale_levels=1)
    np.testing.assert_allclose(boxes_of(found, 6), [r.box.as_tuple() for r in again], rtol=0, atol=1e-4)


TWO = {"_a": [",".join(map(str, FIRST.box(k))) for k in range(COUNT)]}
TWO["_b"] = [",".join(map(str, SECOND.box(k))) for k in range(COUNT)]


def test_vot_evaluates_several_objects(vot, tmp_path):
    sequence(tmp_path / "sequences" / "two", TWO)
    experiment = ["type: unsupervised", "repetitions: 1", "multiobject: True"]
    found = evaluated(vot, tmp_path, ["two"], experiment, "kcf")
    boxes = np.array([FIRST.box(0), SECOND.box(0)])
    results = native("kcf", True, boxes, features="cn", scale_levels=1)
    for target, name in enumerate(["two_a_001", "two_b_001"]):
        wanted = [r[target].box.as_tuple() for r in results]
        np.testing.assert_allclose(boxes_of(found[name], 1), wanted, rtol=0, atol=1e-4)


def conversation(vot, folder, caplog, capfd, monkeypatch, tracker, sequence):
    """What the toolkit and the tracker said to one another in ``vot test``, frame by frame."""
    monkeypatch.setattr(__import__("vot").config, "registry", [str(folder)])
    monkeypatch.setattr(logging.getLogger("vot"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="vot"):
        vot.do_test(argparse.Namespace(tracker=tracker, sequence=sequence, ignore=None, visualize=False))
    said = capfd.readouterr().out
    return said.split("@@TRAX:frame")[1:]


def test_vot_test_passes_with_its_own_three_objects(vot, tmp_path, caplog, capfd, monkeypatch):
    parts = conversation(vot, tmp_path, caplog, capfd, monkeypatch, "mosse", None)
    assert [part.count("@@TRAX:state") for part in parts] == [3] * 50
    assert "Test concluded" in caplog.messages[-1]


def test_vot_test_passes_where_an_object_joins(vot, tmp_path, caplog, capfd, monkeypatch):
    """The experiments of vot-toolkit 0.7.4 cannot do this: they start such an object on its region of frame 0."""
    late = ["0"] * JOINS + TWO["_b"][JOINS:]
    sequence(tmp_path / "two", {**TWO, "_b": late})
    parts = conversation(vot, tmp_path, caplog, capfd, monkeypatch, "kcf", str(tmp_path / "two"))
    assert "Test concluded" in caplog.messages[-1], caplog.text
    assert [part.count("@@TRAX:state") for part in parts] == [1] * JOINS + [2] * (COUNT - JOINS)
    states = [line.split('"')[1] for line in parts[-1].splitlines() if line.startswith("@@TRAX:state")]
    wanted = [
        native("kcf", True, box, start, features="cn", scale_levels=1)[-1].box.as_tuple()
        for box, start in ((FIRST.box(0), 0), (SECOND.box(JOINS), JOINS))
    ]
    np.testing.assert_allclose([[float(v) for v in state.split(",")] for state in states], wanted, rtol=0, atol=1e-3)


def test_vot_is_told_why_a_session_ends(vot, tmp_path, caplog, capfd, monkeypatch):
    sequence(tmp_path / "out", {"": ["900,900,10,10"] * COUNT})
    conversation(vot, tmp_path, caplog, capfd, monkeypatch, "mosse", str(tmp_path / "out"))
    # The message has a sign that TraX would stumble over.
    assert "session: mosse.init: box must be a box that overlaps the frame of 200x150 px" in caplog.messages[-1]


# --- supervision --------------------------------------------------------------------------------


def test_supervision_draws_and_filters_our_detections():
    sv = pytest.importorskip("supervision", reason="needs fasttrack[supervision]")
    boxes = np.array([FIRST.box(0), SECOND.box(0)])
    tracker = create_tracker("kcf", features="cn")
    tracker.init(scene(0, True), boxes)
    results = tracker.update(scene(1, True))
    made = to_detections(results, ids=[4, 9], class_id=2)
    assert isinstance(made, sv.Detections) and len(made) == 2
    np.testing.assert_allclose(made.xyxy, [r.box.xyxy for r in results], rtol=1e-6)
    np.testing.assert_allclose(made.confidence, [r.score for r in results], rtol=1e-6)
    assert made.tracker_id.tolist() == [4, 9] and made.class_id.tolist() == [2, 2]
    np.testing.assert_allclose(made.data["psr"], [r.psr for r in results])
    (second,) = made[made.tracker_id == 9].xyxy  # every array goes along
    assert second == pytest.approx(made.xyxy[1]) and made[[True, False]].data["lost"].tolist() == [False]

    bgr = np.ascontiguousarray(scene(1, True)[..., ::-1])
    colours = sv.ColorPalette([sv.Color(255, 0, 0), sv.Color(0, 255, 0)])
    drawn = sv.BoxAnnotator(color=colours, thickness=1, color_lookup=sv.ColorLookup.INDEX).annotate(bgr.copy(), made)
    rows, columns = np.nonzero((drawn == (0, 0, 255)).all(axis=2) & (bgr != (0, 0, 255)).any(axis=2))
    edges = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
    assert np.abs(edges - made.xyxy[0]).max() <= 1  # red in BGR, around the first target
    smooth = sv.DetectionsSmoother(length=2)
    smooth.update_with_detections(made)
    assert smooth.update_with_detections(made).tracker_id.tolist() == [4, 9]
    none = to_detections([], ids=[])
    assert isinstance(none, sv.Detections) and len(none) == 0 and none.is_empty()

"""The toolkits themselves read what we write, and we read what they write."""

import importlib

import numpy as np
import pytest

from fasttrack.evaluation.formats import FORMATS, make_track
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED

pytestmark = pytest.mark.peer

TRUTH = np.array([[10.0, 20, 30, 40], [12.5, 21.25, 31, 41], [14.0, 22, 32.125, 42]])  # 0-based


def peer(name):
    """A module of another toolkit; the test is skipped where it is not installed."""
    return pytest.importorskip(name, reason=f"the toolkit with {name} is not installed")


class ToolkitData(list):
    """What the experiments of the GOT-10k toolkit ask of a dataset: image files and 1-based boxes by number or name."""

    seq_names = ("a", "b")
    return_meta = False

    def __getitem__(self, key):
        meta = {"cover": np.full(len(TRUTH), 8), "resolution": "(640, 480)"}
        sample = (["1.jpg"] * len(TRUTH), TRUTH + np.array([1, 1, 0, 0]))
        return (*sample, meta) if self.return_meta else sample

    def __len__(self):
        return len(self.seq_names)

    def __iter__(self):
        return (self[name] for name in self.seq_names)


def experiment(name, folder):
    """An experiment of the GOT-10k toolkit on our data, without its download."""
    made = object.__new__(getattr(peer("got10k.experiments"), name))
    made.dataset, made.subset = ToolkitData(), "val"
    made.result_dir, made.report_dir = str(folder), str(folder / "report")
    made.nbins_iou, made.nbins_ce = (21, 51) if name == "ExperimentOTB" else (101, None)
    made._plot_curves = made.plot_curves = lambda *_, **__: None
    return made


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_the_got10k_toolkit_scores_our_files(tmp_path, off):
    boxes = TRUTH + np.array([off, 0, 0, 0])
    tracks = [make_track(name, boxes, seconds=np.full(3, 0.1)) for name in ("a", "b")]
    FORMATS["got10k"].write(tmp_path / "mine", tracks)
    told = experiment("ExperimentGOT10k", tmp_path).report(["mine"])["mine"]["overall"]
    width = TRUTH[1:, 2]
    assert told["ao"] == pytest.approx(np.mean((width - off) / (width + off)), abs=1e-4)
    assert told["speed_fps"] == pytest.approx(10.0)


def test_the_got10k_toolkit_scores_our_otb_files(tmp_path):
    tracks = [make_track(name, TRUTH, seconds=np.full(3, 0.1)) for name in ("a", "b")]
    FORMATS["otb"].write(tmp_path / "mine", tracks)
    told = experiment("ExperimentOTB", tmp_path).report(["mine"])["mine"]["overall"]
    assert told["success_curve"] == [1.0] * 20 + [0.0]  # overlap 1 is not above 1
    assert told["speed_fps"] == pytest.approx(10.0)


@pytest.mark.parametrize(("experiment_name", "ours"), [("ExperimentGOT10k", "got10k"), ("ExperimentOTB", "otb")])
def test_we_read_what_the_got10k_toolkit_records(tmp_path, experiment_name, ours):
    recorder = experiment(experiment_name, tmp_path)
    files = ["a/a_001.txt", "a/a_002.txt"] if ours == "got10k" else ["a.txt"]
    for run, file in enumerate(files):
        recorder._record(str(tmp_path / "it" / file), TRUTH + np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.3]) + run)
    tracks = FORMATS[ours].read(tmp_path / "it")
    assert len(tracks) == len(files)
    for run, track in enumerate(tracks):
        np.testing.assert_allclose(track.boxes, TRUTH, rtol=0, atol=1e-3)
        np.testing.assert_allclose(track.seconds, np.array([0.1, 0.2, 0.3]) + run)


POLYGON = np.array([[1.5, 2], [4, 3], [2, 5], [0, 4.25]])


def vot_run():
    states = np.array([INIT, TRACKED, FAILURE, SKIPPED, INIT, TRACKED], np.int8)
    boxes = np.full((6, 4), np.nan)
    boxes[1], boxes[5] = TRUTH[1], [0, 2, 4, 3]
    seconds = np.array([0.5, 0.25, 0.125, np.nan, 0.5, 1])
    return make_track("bag", boxes, states, seconds, polygons={5: POLYGON})


def vot_results(folder):
    results, storage = peer("vot.tracker.results"), importlib.import_module("vot.workspace.storage")
    return results.Trajectory, results.Results(storage.LocalStorage(str(folder)))


def test_the_vot_toolkit_reads_our_trajectories(tmp_path):
    trajectory, results = vot_results(tmp_path / "baseline/bag")
    FORMATS["vot"].write(tmp_path, [vot_run()])
    read = trajectory.read(results, "bag_001")
    region = importlib.import_module("vot.region")
    codes = [r.code if isinstance(r, region.Special) else None for r in read.regions()]
    assert codes == [1, None, 2, 0, 1, None]
    box = read.region(1)
    assert (box.x, box.y, box.width, box.height) == tuple(TRUTH[1])
    assert [tuple(map(float, point)) for point in read.region(5).points()] == [tuple(p) for p in POLYGON.tolist()]
    assert [read.properties(row).get("time") for row in range(6)] == [0.5, 0.25, 0.125, None, 0.5, 1.0]


@pytest.mark.parametrize("binary", [False, True])
def test_we_read_what_the_vot_toolkit_writes(tmp_path, binary):
    trajectory, results = vot_results(tmp_path / "baseline/bag")
    region = importlib.import_module("vot.region")
    shapes = importlib.import_module("vot.region.shapes")
    there, run = trajectory(6), vot_run()
    pixels = np.zeros((4, 5), np.uint8)
    pixels[1:3, 2:5] = 1
    for row, state in enumerate(run.states.tolist()):
        if row == 1:
            what = shapes.Mask(pixels, (10, 20))
        elif state == TRACKED:
            what = shapes.Polygon(POLYGON.tolist())
        else:
            what = region.Special({INIT: 1, FAILURE: 2, SKIPPED: 0}[state])
        seconds = run.seconds[row]
        there.set(row, what, {} if np.isnan(seconds) else {"time": float(seconds)})
    there.set(4, shapes.Rectangle(*TRUTH[1]))
    importlib.import_module("vot").config.results_binary = binary
    there.write(results, "bag_001")
    assert (tmp_path / f"baseline/bag/bag_001.{'bin' if binary else 'txt'}").is_file()
    (back,) = FORMATS["vot"].read(tmp_path)
    assert back.states.tolist() == [INIT, TRACKED, FAILURE, SKIPPED, TRACKED, TRACKED]
    np.testing.assert_allclose(back.boxes[[1, 4, 5]], [[12, 21, 3, 2], TRUTH[1], run.boxes[5]], atol=1e-4)
    np.testing.assert_allclose(back.polygons[5], POLYGON, atol=1e-4)
    np.testing.assert_array_equal(back.seconds, run.seconds)

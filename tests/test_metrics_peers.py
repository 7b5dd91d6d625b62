"""The same boxes through vot-toolkit and the GOT-10k toolkit themselves: ``pip install fasttrack[peer]``."""

import json

import cv2
import numpy as np
import pytest

from fasttrack.evaluation.datasets import load_dataset
from fasttrack.evaluation.metrics.got10k import got10k_overlaps, got10k_scores
from fasttrack.evaluation.metrics.polygon import corners, raster_iou
from fasttrack.evaluation.metrics.vot import supervised, unsupervised
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Outcome, Unit

pytestmark = pytest.mark.peer

SIZE = (160, 120)


def walk(generator, count):
    """A target that wanders and goes out of the frame now and then."""
    steps = generator.normal(0, 2, (count, 4)) * [1, 1, 0.3, 0.3]
    boxes = np.array([50, 40, 30, 24]) + np.cumsum(steps, axis=0)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 6)
    return boxes.round(2)


def tilted(boxes, generator):
    angles = generator.uniform(-1, 1, (len(boxes), 1, 1))
    points = corners(boxes)
    center = points.mean(1, keepdims=True)
    x, y = np.split(points - center, 2, axis=2)
    turned = np.concatenate([x * np.cos(angles) - y * np.sin(angles), x * np.sin(angles) + y * np.cos(angles)], axis=2)
    return (turned + center).reshape(-1, 8).round(2)


def outcomes_of(name, truth, generator, runs, protocol):
    for run in range(runs):
        states = np.full(len(truth), TRACKED, np.int8)
        states[0] = INIT
        # Failures at the beginning only: EAO wants pieces of more than a hundred frames.
        failures = np.arange(10, 75, 16) if protocol == "vot-supervised" else []
        for fail in generator.choice(failures, min(len(failures), 3 - run), replace=False):
            states[fail] = FAILURE
            states[fail + 1 : fail + 5] = SKIPPED
            states[fail + 5] = INIT
        boxes = (truth + generator.normal(0, 4, truth.shape)).round(2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
        empty = np.full(len(truth), np.nan)
        lost = np.zeros(len(truth), bool)
        yield Outcome(Unit("mine", "vot2018", name, protocol, run), 0, boxes, states, empty, empty, lost)


def images(folder, count, digits=8):
    folder.mkdir(parents=True)
    for index in range(1, count + 1):
        cv2.imwrite(str(folder / f"{index:0{digits}d}.jpg"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))


def lines(rows):
    return "".join(",".join(f"{v:.2f}" for v in row) + "\n" for row in rows)


@pytest.fixture
def workspace(tmp_path):
    """Workspace of vot-toolkit with two sequences of 160 and 230 frames, and the outcomes of a tracker on them."""
    vot = pytest.importorskip("vot.workspace", reason="needs fasttrack[peer]")
    generator, outcomes = np.random.default_rng(5), []
    sequences = tmp_path / "sequences"
    for name, count, runs in (("one", 160, 3), ("two", 230, 1)):
        images(sequences / name / "color", count)
        truth = walk(generator, count)
        (sequences / name / "groundtruth.txt").write_text(lines(tilted(truth, generator)))
        (sequences / name / "sequence").write_text(f"name={name}\nfps=30\nchannels.color=color/%08d.jpg\n")
        for protocol in ("vot-supervised", "vot-unsupervised"):
            outcomes += outcomes_of(name, truth, generator, runs if protocol == "vot-supervised" else 1, protocol)
    (sequences / "list.txt").write_text("one\ntwo\n")
    (tmp_path / "trackers.ini").write_text("[mine]\nlabel=Mine\nprotocol=traxpython\ncommand=none\n")
    (tmp_path / "config.yaml").write_text("stack: vot2018/shortterm\nregistry:\n- ./trackers.ini\n")
    return vot.Workspace.load(str(tmp_path)), load_dataset(f"vot2018={sequences}"), outcomes


def hand_over(workspace, outcomes):
    """Write the outcomes as results of the toolkit's experiments."""
    from vot.region import Rectangle, Special
    from vot.tracker import Trajectory

    codes = {INIT: Trajectory.INITIALIZATION, FAILURE: Trajectory.FAILURE, SKIPPED: Trajectory.UNKNOWN}
    sequences = {sequence.name: sequence for sequence in workspace.dataset}
    tracker = workspace.registry["mine"]
    for outcome in outcomes:
        kind = "baseline" if outcome.unit.protocol == "vot-supervised" else "unsupervised"
        results = workspace.stack.experiments[kind].results(tracker, sequences[outcome.unit.sequence])
        trajectory = Trajectory(len(outcome.states))
        for frame, (state, box) in enumerate(zip(outcome.states.tolist(), outcome.boxes.tolist(), strict=True)):
            trajectory.set(frame, Special(codes[state]) if state in codes else Rectangle(*box))
        trajectory.write(results, f"{outcome.unit.sequence}_{outcome.unit.run + 1:03d}")
    return tracker, list(sequences.values())


def grid(values):
    from vot.utilities.data import Grid

    made = Grid(len(values), 1)
    for row, value in enumerate(values):
        made[row, 0] = value
    return made


def test_vot_toolkit_gives_the_same_scores(workspace):
    space, dataset, outcomes = workspace
    tracker, sequences = hand_over(space, outcomes)
    baseline = space.stack.experiments["baseline"]
    average, eao, _ = baseline.analyses
    parts = [average.analysis.subcompute(baseline, tracker, sequence, []) for sequence in sequences]
    accuracy, robustness, (reliability, _), _ = average.aggregate(tracker, sequences, grid(parts))
    (curve,) = eao.eaocurve.subcompute(baseline, tracker, sequences, [])
    (score,) = eao.compute(baseline, [tracker], sequences, [grid([(curve,)])])[0, 0]

    runs = [one for one in outcomes if one.unit.protocol == "vot-supervised"]
    mine, exact = supervised(runs, dataset), supervised(runs, dataset, pixels=False)
    print(f"\nvot-toolkit: accuracy {accuracy:.6f} robustness {robustness:.6f} reliability {reliability:.6f}", end=" ")
    print(f"EAO {score:.6f}; here: {mine.accuracy:.6f} {mine.robustness:.6f} {mine.reliability:.6f} {mine.eao:.6f}")
    assert 0.2 < accuracy < 0.9
    assert (mine.accuracy, mine.robustness) == (pytest.approx(accuracy, abs=1e-6), pytest.approx(robustness, abs=1e-6))
    assert mine.reliability == pytest.approx(reliability, abs=1e-6)
    # The toolkit works the curve out in single precision.
    np.testing.assert_allclose(mine.curve, curve, rtol=0, atol=1e-6)
    assert mine.eao == pytest.approx(score, abs=1e-6)
    # Canary: exact areas are something else.
    assert min(abs(exact.accuracy - accuracy), abs(exact.eao - score)) > 1e-5


def test_vot_toolkit_gives_the_same_average_overlap(workspace):
    space, dataset, outcomes = workspace
    tracker, sequences = hand_over(space, outcomes)
    experiment = space.stack.experiments["unsupervised"]
    (average,) = experiment.analyses
    parts = [average.analysis.subcompute(experiment, tracker, sequence, []) for sequence in sequences]
    (theirs,) = average.aggregate(tracker, sequences, grid(parts))
    mine = unsupervised([one for one in outcomes if one.unit.protocol == "vot-unsupervised"], dataset)
    print(f"\nvot-toolkit: average overlap {theirs:.6f}; here: {mine:.6f}")
    assert mine == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("bounds", [SIZE, None])
def test_vot_toolkit_counts_the_same_pixels(bounds):
    raster = pytest.importorskip("vot.region.raster", reason="needs fasttrack[peer]")
    from vot.region.shapes import Polygon, Rectangle

    generator = np.random.default_rng(3)
    a, b = walk(generator, 400), walk(generator, 400)
    if bounds is None:  # it goes wrong at negative coordinates when it has no frame
        a, b = a + np.array([200, 200, 0, 0]), b + np.array([200, 200, 0, 0])

    def theirs(first, second):
        shapes = [
            [Polygon(list(map(tuple, row.reshape(4, 2)))) if len(row) == 8 else Rectangle(*row) for row in rows]
            for rows in (first, second)
        ]
        return raster.calculate_overlaps(*shapes, bounds)

    for first, second in ((a, b), (tilted(a, generator), b), (tilted(a, generator), tilted(b, generator))):
        wanted = theirs(first, second)
        assert np.std(wanted) > 0.05
        np.testing.assert_allclose(raster_iou(first, second, bounds), wanted, rtol=0, atol=1e-12)


def test_got10k_toolkit_gives_the_same_scores(tmp_path):
    toolkit = pytest.importorskip("got10k.experiments", reason="needs fasttrack[peer]")
    import matplotlib

    matplotlib.use("Agg")
    generator, overlaps, names = np.random.default_rng(8), [], []
    for index, count in enumerate((40, 75)):
        name = f"GOT-10k_Val_{index + 1:06d}"
        names.append(name)
        folder = tmp_path / "data" / "val" / name
        images(folder, count)
        truth = walk(generator, count) * np.array([2, 2, 1, 1])  # so that some hangs over the edges
        boxes = (truth + generator.normal(0, 4, truth.shape)).round(3)
        boxes[:, 2:], boxes[0] = np.maximum(boxes[:, 2:], 1), truth[0]
        cover = generator.integers(0, 9, count)
        (folder / "groundtruth.txt").write_text("".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in truth))
        (folder / "meta_info.ini").write_text(f"[METAINFO]\nresolution: {SIZE}\nobject_class: dog\n")
        for label, flags in (("cover", cover), ("absence", cover * 0), ("cut_by_image", cover * 0)):
            (folder / f"{label}.label").write_text("".join(f"{flag}\n" for flag in flags))
        results = tmp_path / "results" / "GOT-10k" / "mine" / name
        results.mkdir(parents=True)
        (results / f"{name}_001.txt").write_text("".join(",".join(f"{v:.3f}" for v in row) + "\n" for row in boxes))
        (results / f"{name}_time.txt").write_text("0.01\n" * count)
        base = np.array([1, 1, 0, 0])
        overlaps.append(got10k_overlaps(boxes - base, truth - base, cover > 0, SIZE))
    (tmp_path / "data" / "val" / "list.txt").write_text("".join(f"{name}\n" for name in names))

    experiment = toolkit.ExperimentGOT10k(
        str(tmp_path / "data"), "val", result_dir=str(tmp_path / "results"), report_dir=str(tmp_path / "reports")
    )
    experiment.plot_curves = lambda *_: None
    experiment.report(["mine"])
    (report,) = (tmp_path / "reports").rglob("performance.json")
    theirs = json.loads(report.read_text())["mine"]["overall"]
    mine = got10k_scores(overlaps)
    print(f"\ngot10k: AO {theirs['ao']:.6f} SR.50 {theirs['sr']:.6f}; here: {mine.ao:.6f} {mine.sr50:.6f}")
    assert 0.2 < theirs["ao"] < 0.9
    assert (mine.ao, mine.sr50) == (pytest.approx(theirs["ao"], abs=1e-6), pytest.approx(theirs["sr"], abs=1e-6))
    assert mine.sr75 == pytest.approx(theirs["succ_curve"][75], abs=1e-6)

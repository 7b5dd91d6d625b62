"""DLST: the location network finds a place, the tracker follows made clips, many targets are as one, ablations run."""

import functools

import clips
import numpy as np
import pytest
import torch
from clips import Clip, ious, line, standing

from fasttrack.errors import RangeError, ShapeError, WeightsError
from fasttrack.geometry import Box, Window
from fasttrack.models import ClassifierConfig, LocationNetwork
from fasttrack.trackers import create_tracker
from fasttrack.trackers.dlst import Config
from fasttrack.vision.crop import Scene
from fasttrack.vision.features.networks import NETWORKS

TAP = NETWORKS["vgg-m"].tap("conv1")


@pytest.fixture
def quick(small):
    """Options of a small DLST on made VGG-M weights: the paper's networks."""
    return small["dlst"]


@pytest.fixture(scope="module")
def real(data):
    """Options of a smaller DLST on the given weights: made ones see too little to be followed by."""
    folder = data / "weights"
    return {
        "first_samples": (80, 300), "samples": (12, 40), "regression_samples": 100, "regions": (10, 2),
        "candidates": 96, "batch_candidates": 128, "batch_regions": 4, "steps": 4,
        "class_options": {"weights": folder / "squeezenet1_1.safetensors"},
        "place_options": {"weights": folder / "resnet18_conv1-layer3.safetensors"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    return Clip(np.concatenate([line((20, 20), (6, 4), 6), line((50, 40), (6, -4), 3)]))


follow = functools.partial(clips.follow, "dlst")


def test_follows_a_moving_target(clip, real):
    results = follow(clip, real)
    assert ious(results, clip).min() > 0.5 and ious(results, clip).mean() > 0.65
    assert standing(results, clip).mean() < 0.4  # canary: a tracker that stands still fails
    assert not any(r.lost for r in results)
    assert all(r.psr > 1 for r in results)


def test_two_centres_follow_a_jump_that_one_loses(real):
    """The target jumps farther than candidates around its last place reach; the location network sees it."""
    clip = Clip([(30, 60), (70, 60)])
    clip.target = 0.3 * clip.target + np.array([170.0, 0.0, 0.0])  # by colour: the network sees 7 px
    both = follow(clip, {**real, "threshold": 0.3})
    one = follow(clip, {**real, "threshold": 0.3, "ablation": "no-localisation"})
    assert ious(both, clip)[-1] > ious(one, clip)[-1] + 0.1
    assert ious(both, clip)[-1] > 0.7


def test_says_which_weights(quick, real):
    note = create_tracker("dlst", **quick).weights_note
    assert "paper's network" in note and "vgg-m.pth" in note
    note = create_tracker("dlst", **real).weights_note
    assert "stand-in for VGG-M" in note and "squeezenet" in note and "resnet18" in note


def test_the_papers_networks_have_the_papers_sizes(quick):
    tracker = create_tracker("dlst", **quick)
    clip = Clip(line((60, 50), (1, 0), 2))
    tracker.init(clip.frame(0), clip.box(0))
    target = tracker._targets[0]
    assert target.locator.cells == (51, 51)
    shapes = [tuple(p.shape) for p in target.locator.network.parameters() if p.dim() > 1]
    assert shapes == [(256, 96, 1, 1), (2, 256, 1, 1)]
    shapes = [tuple(p.shape) for p in target.classifier.network.parameters() if p.dim() > 1]
    assert shapes == [(512, 512, 1, 1), (128, 512, 1, 1), (2, 128, 1, 1)]
    parameters = sum(p.numel() for p in target.classifier.network.parameters())
    assert 0.3e6 < parameters < 0.4e6  # §3.3: 0.35M
    scene = Scene([torch.from_numpy(clip.frame(0))])
    (features,) = tracker._features(scene, [torch.tensor([clip.box(0)])], [0])
    assert features.shape == (1, 512, 3, 3)


def test_missing_weights_say_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"imagenet-vgg-m.mat"):
        create_tracker("dlst", network="vgg-m")


def test_repeats_itself_and_many_targets_are_as_separate_runs(clip, quick):
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together = follow(clip, quick, rows, 4)
    for k, row in enumerate(rows):
        alone = follow(clip, quick, row, 4)
        for both, one in zip(together, alone, strict=True):
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-2)
            assert both[k].score == pytest.approx(one.score, abs=1e-3)


def test_lost_when_it_disappears(real):
    clip = Clip(line((60, 50), (2, 0), 8), seen=[True] * 4 + [False] * 2 + [True] * 2)
    results = follow(clip, real)
    assert [r.lost for r in results] == [False] * 3 + [True] * 2 + [False] * 2
    assert all(r.box == results[2].box for r in results[3:5])


def test_searches_wider_while_lost(quick):
    clip = Clip(line((60, 50), (1, 0), 8))
    tracker = create_tracker("dlst", **{**quick, "threshold": 1.5})  # no score is so high
    frames = clip.frames()
    tracker.init(frames[0], clip.box(0))
    target, ranges = tracker._targets[0], []
    for frame in frames[1:4]:
        assert tracker.update(frame).lost
        ranges.append(target._range)
    assert ranges == pytest.approx([0.6 * 1.1**k for k in (1, 2, 3)])
    for _ in range(12):
        target._range = min(1.5, target._range * 1.1)
    assert target._range == 1.5
    assert target.box == Box(*clip.box(0)) and len(target._positives) == 1


@pytest.mark.parametrize("ablation", ["no-localisation", "fully-connected", "only-estimated-location"])
def test_ablations_change_what_is_found(clip, quick, ablation):
    full, other = (follow(clip, {**quick, "ablation": name}, count=3) for name in ("", ablation))
    assert all(np.isfinite(r.box.as_tuple()).all() for r in other)
    assert [r.score for r in full] != [r.score for r in other]


def test_released_takes_the_mean_of_five_and_one_rate(clip, quick):
    assert Config().best == 1 and Config(variant="released").best == 5
    rates = []
    for variant in ("paper", "released"):
        tracker = create_tracker("dlst", **quick, variant=variant)
        tracker.init(clip.frame(0), clip.box(0))
        target = tracker._targets[0]
        rates.append((target.classifier.config.last_layer_rate, target.locator.config.last_layer_rate))
    assert rates == [(10.0, 10.0), (1.0, 1.0)]


def test_memories_are_rings(quick):
    clip = Clip(line((60, 50), (0, 0), 8))
    tracker = create_tracker("dlst", **{**quick, "long_frames": 4, "short_frames": 2, "threshold": 0.0})
    list(tracker.run(clip.frames(), clip.box(0)))
    target = tracker._targets[0]
    assert [len(m) for m in (target._positives, target._negatives, target._regions, target._centres)] == [4, 2, 4, 4]
    assert target._positives.last().shape == (4 * 4, 512, 3, 3)


def test_wrong_numbers():
    for option, value in (("ridge", 0.0), ("network", "vgg16"), ("variant", "new"), ("candidates", 1)):
        with pytest.raises(RangeError, match=rf"Config.*{option}"):
            create_tracker("dlst", **{option: value})


# --- the location network -----------------------------------------------------------------------------------


def network(cells=(20, 24), radius=3.0, disc=True):
    return LocationNetwork(ClassifierConfig(positives=4, last_layer_rate=10.0), TAP, cells, radius, disc=disc)


def test_labels_are_a_disc_around_the_centre():
    labels = network().labels(torch.tensor([[12.0, 10.0], [-9.0, 3.0]]))
    assert labels.shape == (2, 20, 24) and int(labels[1].sum()) == 0
    rows, columns = labels[0].nonzero().double().add(0.5).unbind(1)
    assert float(torch.hypot(rows - 10, columns - 12).max()) <= 3
    assert float(rows.mean()) == pytest.approx(10) and float(columns.mean()) == pytest.approx(12)
    assert len(rows) == pytest.approx(np.pi * 9, rel=0.15)


def test_classes_weigh_the_same():
    model = network()
    outputs = torch.randn(2, 2, 20, 24, generator=torch.Generator().manual_seed(0))
    labels = model.labels(torch.tensor([[12.0, 10.0], [5.0, 5.0]]))
    logs = outputs.log_softmax(1)
    want = -(logs[:, 1][labels == 1].mean() + logs[:, 0][labels == 0].mean()) / 2
    assert float(model._loss(outputs, labels)) == pytest.approx(float(want), rel=1e-5)
    plain = torch.nn.functional.cross_entropy(outputs, labels)
    assert abs(float(plain - want)) > 1e-3  # canary


def test_learns_and_finds_the_place_in_the_frame():
    random = torch.Generator().manual_seed(0)
    kind = torch.randn(96, generator=random)

    def made_map(column, row):
        maps = torch.randn(1, 96, 20, 24, generator=random).relu()
        maps[0] += 2 * kind.relu()[:, None, None] * network().labels(torch.tensor([[column, row]]))[0]
        return maps

    centres = torch.tensor([[12.0, 10.0], [9.0, 8.0], [15.0, 12.0], [12.0, 6.0]], dtype=torch.float64)
    maps = torch.cat([made_map(*c) for c in centres.tolist()])
    model = network()
    model.normalise(maps[:1])
    losses = model.learn(lambda at: maps[at], centres, 40, 0.003)
    assert losses[-1] < 0.5 * losses[0]
    window = Window.around(100.0, 80.0, 240.0, 200.0, 48, 40)
    heat = model.heat(made_map(8.0, 11.0))[0]
    assert heat.shape == (40, 48)
    x, y, score = model.place(heat, window)
    assert score > 0.5
    assert np.hypot(*np.subtract(model.cell(window, x, y), (8.0, 11.0))) < 3.5
    wanted = "(N, 96, 20, 24)".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ShapeError, match=wanted):
        model.heat(torch.zeros(1, 96, 24, 20))


def test_the_disc_finds_the_middle_of_a_plateau(monkeypatch):
    """All cells near the target are labelled alike: the highest of them may be at the plateau's edge."""
    plateau = network().labels(torch.tensor([[14.5, 8.5]])).float()
    plateau[0, 6, 13] = 1.2
    window = Window.around(100.0, 80.0, 240.0, 200.0, 48, 40)
    away = []
    for disc in (True, False):
        model = network(disc=disc)
        monkeypatch.setattr(model, "scores", lambda maps: plateau)
        heat = model.heat(torch.zeros(1, 96, 20, 24))[0]
        x, y, _ = model.place(heat, window)
        away.append(np.hypot(*np.subtract(model.cell(window, x, y), (14.5, 8.5))))
    assert away[0] < 0.6 and away[1] > 2


def test_place_and_cell_are_inverse():
    model, window = network(), Window.around(31.0, 47.0, 96.0, 60.0, 48, 40)
    heat = torch.zeros(40, 48)
    heat[11, 30] = 0.9
    x, y, score = model.place(heat, window)
    assert model.cell(window, x, y) == pytest.approx((15.25, 5.75)) and score == pytest.approx(0.9)
    # VGG-M's conv1 looks at 7 px with stride 2: cell 0 has its centre 3.5 px into the patch.
    assert model.cell(window, *window.to_frame(3.5, 3.5)) == pytest.approx((0.5, 0.5))

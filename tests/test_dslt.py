"""DSLT: maps on one grid, regressors and reductions that learn together, and the tracker on made clips."""

import dataclasses
import functools

import clips
import numpy as np
import pytest
import torch
from clips import Clip, ious, line, standing
from made_weights import INPUT, made, noise
from torch.nn.functional import avg_pool2d, conv2d

from fasttrack.errors import RangeError, ShapeError
from fasttrack.geometry import Box
from fasttrack.models import FusedConfig, FusedRegressor
from fasttrack.models.fused_regressor import LOSSES, learn
from fasttrack.trackers import create_tracker, run_lockstep
from fasttrack.trackers.dslt import Config
from fasttrack.vision.architectures import RESNET18, VGG16
from fasttrack.vision.features import Backbone, LayerStack
from fasttrack.vision.labels import gaussian_map

QUICK = {"region_width": 5, "region_height": 3, "object_cells": 25.0, "fit_steps": 40, "reduced": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of made weights."""
    path = tmp_path_factory.mktemp("weights")
    for arch in (RESNET18, VGG16):
        torch.save(made(arch), path / f"{arch.name}.pth")
    return path


@pytest.fixture
def quick(small):
    """Options of a small DSLT on made weights."""
    return small["dslt"]


@pytest.fixture(scope="module")
def real(data):
    """Options of DSLT on the given weights: made ones see too little to be followed by."""
    return {"backbone_options": {"weights": data / "weights" / "resnet18_conv1-layer3.safetensors"}, **QUICK}


@pytest.fixture(scope="module")
def clip():
    return Clip(np.concatenate([line((20, 20), (3, 2), 8), line((41, 34), (2, -1), 4)]))


follow = functools.partial(clips.follow, "dslt")


# --- the tracker ----------------------------------------------------------------------------------


def test_follows_a_moving_target(clip, real):
    results = follow(clip, real)
    assert ious(results, clip).min() > 0.7
    assert standing(results, clip).mean() < 0.6  # canary: a tracker that stands still fails
    assert not any(r.lost for r in results)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "shrinkage-original"])
def test_follows_with_every_loss(clip, real, loss):
    assert ious(follow(clip, {**real, "loss": loss}, count=5), clip).min() > 0.6


def test_the_loss_as_printed_does_not_lift_the_peak(clip, real):
    """Eq. 7 has the error with its sign: a response far below its label counts as easy, and stays there."""
    tracker = create_tracker("dslt", **{**real, "loss": "shrinkage-original"})
    results = list(tracker.run(clip.frames()[:3], clip.box(0)))
    assert all(r.lost and np.isfinite(r.box.as_tuple()).all() for r in results)


def test_follows_as_released(clip, real):
    assert ious(follow(clip, {**real, "variant": "released"}, count=5), clip).min() > 0.6


def test_follows_a_growing_target(real):
    cv2 = pytest.importorskip("cv2")
    still = Clip(line((60, 50), (0, 0), 1))
    frames = [
        cv2.warpAffine(still.frame(0), np.float32([[s, 0, 80 - 80 * s], [0, s, 65 - 65 * s]]), (200, 150))
        for s in 1.015 ** np.arange(12)
    ]
    last = list(create_tracker("dslt", **real).run(frames, still.box(0)))[-1].box
    assert 40 * 1.05 < last.w < 40 * 1.3
    assert last.w / last.h == pytest.approx(40 / 30)
    assert last.center == pytest.approx((80, 65), abs=3)


def test_repeats_itself_and_many_targets_are_as_separate_runs(clip, quick):
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together = follow(clip, quick, rows, 4)
    for k, row in enumerate(rows):
        alone = follow(clip, quick, row, 4)
        assert [r.box for r in alone] == [r.box for r in follow(clip, quick, row, 4)] or k > 0
        for both, one in zip(together, alone, strict=True):
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-2)
            assert both[k].score == pytest.approx(one.score, abs=1e-3)


def test_videos_in_lock_step_and_targets_that_are_kept(clip, quick):
    other = Clip(line((60, 50), (-2, 1), 3), frame=(180, 140), seed=3)
    videos = [(c.frames()[:4], c.box(0)) for c in (clip, other)]
    together = list(run_lockstep(videos, create_tracker("dslt", **quick)))
    assert [row[1] is None for row in together] == [False, False, True]
    for v, (frames, box) in enumerate(videos):
        for row, one in zip(together, create_tracker("dslt", **quick).run(frames, box), strict=False):
            assert row[v].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-2)


def test_lost_when_it_disappears(real):
    clip = Clip(line((60, 50), (1, 0), 8), seen=[True] * 4 + [False] * 2 + [True] * 2)
    tracker = create_tracker("dslt", **{**real, "lost_score": 0.3})
    frames, flags, kept = clip.frames(), [], []
    tracker.init(frames[0], clip.box(0))
    for frame in frames[1:]:
        flags.append(tracker.update(frame).lost)
        kept.append(len(tracker._targets[0].model.problem))
    assert flags == [False] * 3 + [True] * 2 + [False] * 2
    assert kept == [2, 3, 4, 4, 4, 5, 6]  # a lost target teaches nothing


def test_history_is_bounded(clip, quick):
    tracker = create_tracker("dslt", **{**quick, "history": 3})
    list(tracker.run(clip.frames()[:6], clip.box(0)))
    assert len(tracker._targets[0].model.problem) == 3


@pytest.mark.parametrize("backbone", ["vgg16", "vgg16-pools"])
def test_the_papers_maps_on_made_weights(clip, folder, backbone):
    """conv4_3 and conv5_3: of one stride as released, or the deep one upsampled as the paper draws it."""
    options = {
        "backbone_options": {"weights": folder / "vgg16.pth", "convention": INPUT},
        "backbone": backbone,
        "outputs": ("conv-10", "conv-13"),
        "object_cells": None,
        "region_width": 4,
        "region_height": 3,
        "crop_px": 96.0,
        "fit_steps": 10,
    }
    tracker = create_tracker("dslt", **options)
    assert "as in the paper" in tracker.weights_note and "vgg16.pth" in tracker.weights_note
    results = list(tracker.run(clip.frames()[:3], clip.box(0)))
    assert tracker.fits[0].steps in (0, 2) and all(np.isfinite(r.box.as_tuple()).all() for r in results)
    stride = 4 if backbone == "vgg16" else 8
    assert tracker._targets[0].kernel == (round(30 / stride), round(40 / stride))  # as large as in the frame
    assert tracker._targets[0].model._reduction.shape == (128, 1024)


def test_crops_have_the_least_area(quick):
    tracker = create_tracker("dslt", **{**quick, "object_cells": None, "crop_px": 200.0})
    window = tracker._window(Box(0, 0, 10, 12), tracker._kernel(Box(0, 0, 10, 12)))
    assert window.out_w * window.out_h > 0.9 * 200**2


def test_says_that_the_maps_are_a_stand_in(quick):
    note = create_tracker("dslt", **quick).weights_note
    assert "resnet18.pth" in note and "stand-in for VGG-16's conv4_3 and conv5_3" in note


def test_variants_and_frozen_config():
    assert Config().label_sigma == 0.1 and Config().shares == (1.0, 1.0)
    released = Config(variant="released")
    assert released.label_sigma == 0.08 and released.shares == (0.8, 0.2)
    assert Config(variant="released", label_sigma=0.2).label_sigma == 0.2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("variant", "mine"), ("loss", "huber"), ("scale_levels", 2), ("fit_lr", (1e-8,)), ("update_lr", (1e-8, 0.0)),
     ("history", 0), ("c", -0.1), ("label_sigma", 0.0), ("object_cells", float("nan")), ("region_width", 2.5),
     ("shares", (1.0, "1")), ("stride", -4)],
)  # fmt: skip
def test_config_refuses(field, value):
    with pytest.raises(RangeError, match=f"Config: {field} must be"):
        create_tracker("dslt", **{field: value})


# --- its parts ------------------------------------------------------------------------------------


def test_layers_lie_on_one_grid(folder):
    """Every layer's cells come to lie where those of the grid are: a ramp over the patch stays one."""
    stack = LayerStack("resnet18", ("layer2", "layer3"), weights=folder / "resnet18.pth", convention=INPUT)
    assert stack.stride == 8 and stack.sizes == (128, 256)
    for tap in stack.taps:
        cells = torch.arange(12) + 0.5
        ramp = (tap.offset_px + cells * tap.stride)[None, None, None, :].expand(1, 1, 9, 12).contiguous()
        placed = stack._placed(ramp, tap, 9, 10)
        inside = slice(1, 9)
        assert torch.allclose(placed[0, 0, 4, inside], 8 * (torch.arange(10) + 0.5)[inside], atol=1e-3)
        assert not torch.allclose(ramp[0, 0, 4, inside], 8 * (torch.arange(10) + 0.5)[inside], atol=1.0)  # canary


def test_layers_of_one_stride_are_the_networks_own(folder):
    options = {"weights": folder / "vgg16.pth", "convention": INPUT}
    patches, names = noise(2, 3, 41, 52), ("conv-6", "conv-7")
    maps = LayerStack("vgg16", names, **options)(patches)
    assert maps.shape == (2, 512, 10, 13) and maps.is_contiguous()
    assert torch.equal(maps, torch.cat(Backbone("vgg16", names, **options)(patches), 1))
    coarse = LayerStack("vgg16", names, stride=8, **options)(patches)
    assert torch.allclose(coarse, avg_pool2d(maps, 2)[:, :, :5, :6], rtol=1e-4, atol=1e-3)
    with pytest.raises(ShapeError, match="at least 4 px"):
        LayerStack("vgg16", names, **options)(noise(1, 3, 3, 60))
    with pytest.raises(RangeError, match="stride must be at least 1 px"):
        LayerStack("vgg16", names, stride=0, **options)
    for side in (0, 2):
        with pytest.raises(RangeError, match="side"):
            LayerStack("vgg16", names, side=side, **options)


def test_neighbourhoods_make_a_larger_reduction(folder):
    """A 1×1 reduction of what a cell's neighbourhood has is a 3×3 one with a border of zeros, as the authors' is."""
    options = {"weights": folder / "vgg16.pth", "convention": INPUT}
    patches, names = noise(2, 3, 41, 52), ("conv-6", "conv-7")
    alone, stack = LayerStack("vgg16", names, **options), LayerStack("vgg16", names, side=3, **options)
    assert stack.sizes == tuple(9 * n for n in alone.sizes)
    for own, maps, channels in zip(
        stack(patches).split(stack.sizes, 1), alone(patches).split(alone.sizes, 1), alone.sizes, strict=True
    ):
        kernel = noise(5, channels, 3, 3)
        wanted = conv2d(maps, kernel, padding=1)
        reduced = torch.einsum("dk,nkhw->ndhw", kernel.flatten(1), own)
        assert torch.allclose(reduced, wanted, atol=1e-4 * float(wanted.abs().max()))
        turned = torch.einsum("dk,nkhw->ndhw", kernel.transpose(2, 3).flatten(1), own)
        assert not torch.allclose(turned, wanted, atol=1e-2 * float(wanted.abs().max()))  # canary


LEARNING = FusedConfig(
    mixing=((1.0, 0.0), (1.0, 1.0)),
    reduced=8,
    loss="shrinkage",
    a=10.0,
    c=0.2,
    weight_decay=0.0,
    fit_lr=(3e-4, 3e-4),
    fit_steps=150,
    fit_loss=1e-3,
    update_lr=(1e-4, 1e-4),
    update_steps=2,
    history=4,
    init_std=1e-4,
    seed=0,
)


def scene(seed=0, gain=(1.0, 1.0)):
    """Two maps of noise in which the object is where the labels say, and the labels."""
    random = torch.Generator().manual_seed(seed)
    maps = avg_pool2d(torch.randn(1, 20, 26, 32, generator=random), 3, 1).abs()
    labels = gaussian_map((20, 25), torch.tensor([[9.0, 12.0]]), (1.0, 1.2))[0]
    return maps * torch.tensor([gain[0]] * 12 + [gain[1]] * 8)[:, None, None], labels


def fitted(**changes):
    model = FusedRegressor((12, 8), (5, 6), dataclasses.replace(LEARNING, **changes))
    maps, labels = scene()
    return model, model.fit(maps, labels), maps, labels


def test_every_part_is_trained():
    model, _, maps, labels = fitted(fit_steps=1)
    before = model._weight.clone(), model._reduction.clone()
    learn([model])
    for old, new in zip(before, (model._weight, model._reduction), strict=True):
        assert (new - old).flatten(1).abs().mean(1).min() > 1e-5
    assert (model.respond(model.spectra(maps[0])) - labels).abs().sum() > 0


def test_the_scale_of_the_maps_does_not_matter():
    maps, labels = scene()
    loud, _ = scene(gain=(300.0, 0.01))
    models = [FusedRegressor((12, 8), (5, 6), LEARNING) for _ in range(2)]
    for model, x in zip(models, (maps, loud), strict=True):
        model.fit(x, labels)
    one, other = (m.respond(m.spectra(x[0])) for m, x in zip(models, (maps, loud), strict=True))
    assert torch.allclose(one, other, atol=2e-3)
    assert one.argmax() == labels.argmax() and float(one.max()) > 0.5


def test_models_learn_together_as_alone():
    frames = [scene(seed) for seed in (1, 2)]
    alone, together = ([fitted(seed=seed)[0] for seed in (0, 1)] for _ in range(2))
    for group in (alone, together):
        for model, (maps, labels) in zip(group, frames, strict=True):
            model.keep(model.spectra(maps[0]), labels)
    for model in alone:
        learn([model])
    learn(together)
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a._weight, b._weight) and torch.equal(a._reduction, b._reduction)


def test_shrinkage_needs_fewer_iterations_than_the_square():
    """To one summed absolute error at the object (fig. 11), on one made problem, with the same rates.

    The square spends its steps on the many places of small error around it, whose sum it brings down faster.
    """
    steps = {}
    for loss in ("shrinkage", "square"):
        for count in range(5, 200, 5):
            model, _, maps, labels = fitted(loss=loss, fit_steps=count, fit_loss=0.0)
            error = (model.respond(model.spectra(maps[0])) - labels).abs()
            if float(error[labels > 0.1].sum()) < 0.4 * float(labels[labels > 0.1].sum()):
                steps[loss] = count
                break
    assert 2 * steps["shrinkage"] < steps["square"]


def test_a_model_at_rest_is_refused():
    model = FusedRegressor((12, 8), (5, 6), LEARNING)
    with pytest.raises(RangeError, match="fit on the first frame"):
        learn([model])

"""DRVT: the fusion by hand, its classifier and filter, made clips in every mode, and the paper's configuration."""

import dataclasses
import functools
import math

import clips
import cv2
import numpy as np
import pytest
import torch
from clips import Clip, ious, line, standing
from made_weights import INPUT, made

from fasttrack.errors import RangeError, ShapeError
from fasttrack.geometry import Box, Window
from fasttrack.models import DenseClassifier, DenseConfig, FilterConfig, WindowFilter
from fasttrack.trackers import create_tracker
from fasttrack.vision import fusion
from fasttrack.vision.architectures import VGG_M
from fasttrack.vision.features.networks import NETWORKS

MODES = ["dual", "cf", "cnn"]


@pytest.fixture
def quick(small):
    """Options of a DRVT with few channels on made weights."""
    return small["drvt"]


@pytest.fixture(scope="module")
def real(data):
    """Options of DRVT on the given weights: made ones see too little to be followed by."""
    weights = data / "weights" / "resnet18_conv1-layer3.safetensors"
    return {"backbone_options": {"weights": weights}, "augment": False}


@pytest.fixture(scope="module")
def clip():
    return Clip(np.concatenate([line((20, 20), (3, 2), 6), line((35, 30), (2, -1), 4)]))


follow = functools.partial(clips.follow, "drvt")


# --- on clips -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "least"),
    [({}, 0.7), ({"mode": "cf"}, 0.7), ({"mode": "cf", "kernel": "linear"}, 0.7), ({"mode": "cnn"}, 0.6)],
    ids=["dual", "cf", "cf-linear", "cnn"],
)
def test_follows_a_moving_target(options, least, clip, real):
    results = follow(clip, {**real, **options})
    assert ious(results, clip).min() > least
    assert standing(results, clip).mean() < 0.5  # canary: a tracker that stands still fails
    assert not any(r.lost for r in results)


def test_the_filter_places_more_finely_than_the_classifier(clip, real):
    dual, coarse = (ious(follow(clip, {**real, "mode": mode}), clip).mean() for mode in ("dual", "cnn"))
    assert dual > coarse + 0.05


def test_the_crop_of_a_small_target_has_a_least_side(quick):
    tracker = create_tracker("drvt", **quick)
    assert tracker._crop(Box(50, 40, 14, 40)).box == pytest.approx((50 + 7 - 32, 40 + 20 - 60, 64, 120))
    paper = create_tracker("drvt", **quick, least_region_px=0.0)
    assert paper._crop(Box(50, 40, 14, 40)).box == pytest.approx((50 + 7 - 21, 40 + 20 - 60, 42, 120))


def test_the_penalty_on_another_size_is_the_papers_for_its_network(quick):
    config = create_tracker("drvt", **quick).config
    assert config.scale_penalty == 0.98
    assert dataclasses.replace(config, backbone="vgg-m", scale_penalty=None).scale_penalty == 0.93
    assert dataclasses.replace(config, scale_penalty=0.9).scale_penalty == 0.9


def test_follows_a_growing_target(real):
    clip = Clip(line((60, 50), (0, 0), 12))
    frames = [
        cv2.warpAffine(clip.frame(0), np.float32([[s, 0, 80 - 80 * s], [0, s, 65 - 65 * s]]), (200, 150))
        for s in 1.03 ** np.arange(12)
    ]
    last = list(create_tracker("drvt", **real).run(frames, clip.box(0)))[-1].box
    assert 40 * 1.15 < last.w < 40 * 1.55
    fixed = list(create_tracker("drvt", **real, scales=(1.0,)).run(frames, clip.box(0)))[-1].box
    assert fixed.w == pytest.approx(40)


def test_an_unbelieved_filter_leaves_cell_and_size(clip, real):
    unbelieved = follow(clip, {**real, "psr": 1e6}, count=3)
    coarse = follow(clip, {**real, "mode": "cnn"}, count=3)
    assert [r.box.as_tuple() for r in unbelieved] == [pytest.approx(r.box.as_tuple()) for r in coarse]


@pytest.mark.parametrize("mode", MODES)
def test_repeats_itself_and_many_targets_are_as_separate_runs(mode, clip, quick):
    options = {**quick, "mode": mode, "lost_score": 0.0, "interval": 2}
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together = follow(clip, options, rows, 4)
    for k, row in enumerate(rows):
        alone = follow(clip, options, row, 4)
        for both, one in zip(together, alone, strict=True):
            # A batch of another size rounds otherwise, and training goes on from there.
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=0.1)
            assert both[k].score == pytest.approx(one.score, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_may_start_again(mode, clip, quick):
    tracker = create_tracker("drvt", **quick, mode=mode, lost_score=0.0, interval=2)
    first, second = ([r.box for r in tracker.run(clip.frames()[:4], clip.box(0))] for _ in range(2))
    assert first == second


def test_lost_when_it_disappears(real):
    clip = Clip(line((60, 50), (1, 0), 8), seen=[True] * 4 + [False] * 2 + [True] * 2)
    results = follow(clip, {**real, "lost_score": 0.5})
    assert [r.lost for r in results] == [False] * 3 + [True] * 2 + [False] * 2
    assert all(r.box == results[2].box for r in results[3:5])


@pytest.mark.parametrize("mode", ["cf", "cnn"])
def test_huge_tiny_border_and_flat_targets(mode, clip, quick):
    for box in ((0.0, 0.0, 400.0, 300.0), (10.0, 10.0, 1.0, 1.0), (190.0, 140.0, 40.0, 40.0)):
        for result in follow(clip, {**quick, "mode": mode}, box, 3):
            assert all(np.isfinite(result.box.as_tuple())) and result.box.w > 0
    flat = [np.full((60, 80), 90, np.uint8)] * 3
    results = list(create_tracker("drvt", **quick, mode=mode).run(flat, (20, 20, 16, 12)))
    assert all(np.isfinite(r.box.as_tuple()).all() for r in results)


def test_the_papers_configuration(clip, tmp_path):
    path = tmp_path / "vgg-m.pth"
    torch.save(made(VGG_M), path)
    options = {"backbone_options": {"weights": path, "convention": INPUT}}
    tracker = create_tracker("drvt", backbone="vgg-m", augment=False, fit_iterations=2, **options)
    list(tracker.run(clip.frames()[:2], clip.box(0)))
    crops, shallow, deep, coarse = tracker._seen
    assert (crops[0].out_w, crops[0].w) == (331, 120.0)
    assert shallow.shape == (1, 96, 163, 163) and deep.shape == (1, 512, 17, 17) and coarse[0].shape == (15, 15)
    head = tracker._classifiers[0]._classifier.network
    assert [tuple(p.shape) for p in head.parameters() if p.dim() == 4] == [
        (512, 512, 3, 3),
        (512, 512, 1, 1),
        (2, 512, 1, 1),
    ]
    assert "stand-in" not in tracker.weights_note and "vgg-m.pth" in tracker.weights_note


def test_the_middle_of_every_patch_is_the_middle_of_a_score(quick, data):
    weights = {
        "resnet18": quick["backbone_options"],
        "squeezenet": {"weights": data / "weights" / "squeezenet1_1.safetensors"},
    }
    for name, options in weights.items():
        tracker = create_tracker("drvt", backbone=name, backbone_options=options)
        grid = tracker._grid(tracker._crop(Box.from_center(50, 40, 30, 20)))
        assert grid.cell_to_frame(7.5, 7.5, 1) == pytest.approx((50, 40), abs=1e-9)
        assert (grid.out_w, grid.out_h) == (15, 15)
        assert "stand-in" in tracker.weights_note


def test_wrong_numbers(quick):
    with pytest.raises(RangeError, match=r"Config.*mode.*cnn"):
        create_tracker("drvt", mode="both")
    with pytest.raises(RangeError, match=r"Config.*scales.*1\.0 among"):
        create_tracker("drvt", scales=(0.9, 1.1))
    with pytest.raises(RangeError, match=r"Config.*interval"):
        create_tracker("drvt", interval=0)


# --- fusion, by hand ------------------------------------------------------------------------------


def test_fusion_by_hand():
    """A 5 × 5 filter response whose highest peak lies outside the coarse cell."""
    window = Window(10.0, 20.0, 50.0, 50.0, 5, 5)  # 10 frame px per cell
    response = torch.zeros(1, 1, 5, 5)
    response[0, 0, 0, 4] = 0.9  # the distractor
    response[0, 0, 3, 1], response[0, 0, 3, 2] = 0.6, 0.3
    area = Box(20.0, 50.0, 10.0, 10.0)  # the coarse cell lies over cell (3, 1)
    masks = fusion.area_masks([area], [[window]])
    assert masks[0, 0].nonzero().tolist() == [[3, 1]]
    found = fusion.fuse(response, masks, [[window]], [1.0])[0]
    shift = 0.5 * (0.0 - 0.3) / (0.0 - 1.2 + 0.3)  # of the parabola through 0, 0.6, 0.3
    assert found.peak == pytest.approx((3.0, 1 + shift))
    assert found.box.center == pytest.approx((10 + (1.5 + shift) * 10, 55.0))
    assert found.score == pytest.approx(0.6)
    mean = (0.9 + 0.6 + 0.3) / 25
    std = math.sqrt((0.81 + 0.36 + 0.09) / 25 - mean**2)
    assert found.psr == pytest.approx((0.9 - mean) / std, rel=1e-5)  # of the whole response
    everywhere = fusion.fuse(response, torch.ones_like(masks), [[window]], [1.0])[0]
    assert everywhere.peak == (0.0, 4.0)  # canary: without the mask the distractor wins
    with pytest.raises(ShapeError, match="masks"):
        fusion.fuse(response, masks[:, :, :4], [[window]], [1.0])


def test_sizes_are_held_back_and_negative_responses_found():
    windows = [[Window(0, 0, s, s, 5, 5) for s in (38.0, 40.0, 42.0)]]
    response = torch.full((1, 3, 5, 5), -0.5)
    response[0, :, 2, 2] = torch.tensor([0.5, 0.96, 1.0])
    masks = torch.ones(1, 3, 5, 5, dtype=torch.bool)
    assert fusion.fuse(response, masks, windows, [0.93, 1.0, 0.93])[0].level == 1
    assert fusion.fuse(response, masks, windows, [0.99, 1.0, 0.99])[0].level == 2
    masks[:, :, 2, 2] = False
    masks[:, :, 1:] = False
    assert fusion.fuse(response, masks, windows, [1.0, 1.0, 1.0])[0].score == -0.5


def test_masks_always_hold_a_cell():
    window = Window(0.0, 0.0, 50.0, 50.0, 5, 5)
    areas = [Box(21.0, 21.0, 2.0, 2.0), Box(-90.0, 70.0, 10.0, 10.0), Box(4.0, 4.0, 20.0, 12.0)]
    masks = fusion.area_masks(areas, [[window]] * 3)
    assert [m[0].nonzero().tolist() for m in masks] == [[[2, 2]], [[4, 0]], [[0, 0], [0, 1], [1, 0], [1, 1]]]


def test_overlaps_of_the_moved_box():
    window = Window(0.0, 0.0, 30.0, 30.0, 3, 3)
    box = Box.from_center(15.0, 15.0, 20.0, 40.0)
    overlaps = fusion.moved_overlaps(window, box)
    for i in range(3):
        for j in range(3):
            moved = Box.from_center(5 + 10 * j, 5 + 10 * i, 20.0, 40.0)
            assert float(overlaps[i, j]) == pytest.approx(box.iou(moved), rel=1e-6)


def test_pooled_windows_see_what_is_under_them():
    """A map that is linear in x and y: every pooled cell is its value at the cell's centre."""
    tap = NETWORKS["resnet18"].tap("conv1")
    crop = Window(100.0, 50.0, 60.0, 30.0, 161, 161)
    k = torch.arange(81.0)
    x = 100 + (tap.offset_px + (k + 0.5) * tap.stride) * crop.scale[0]
    y = 50 + (tap.offset_px + (k + 0.5) * tap.stride) * crop.scale[1]
    maps = torch.stack([x.expand(81, 81), y[:, None].expand(81, 81)])[None]
    window = Window(112.0, 53.0, 24.0, 18.0, 6, 3)
    pooled = fusion.pooled_windows(maps, tap, [crop], [[window, window]])
    assert pooled.shape == (1, 2, 2, 3, 6)
    want_x = torch.tensor([112.0 + 4 * (j + 0.5) for j in range(6)])
    want_y = torch.tensor([53.0 + 6 * (i + 0.5) for i in range(3)])
    assert torch.allclose(pooled[0, 1, 0], want_x.expand(3, 6), atol=1e-3)
    assert torch.allclose(pooled[0, 0, 1], want_y[:, None].expand(3, 6), atol=1e-3)
    cells = fusion.cell_window(crop, tap, 2, 4)
    assert cells.cell_to_frame(1.5, 2.5, 1) == pytest.approx((float(x[3]), float(y[4])), abs=1e-4)


# --- models ---------------------------------------------------------------------------------------


def scene(seed, place=(4, 4)):
    """Noise of 9 × 9 cells with a mark of the target's own around one cell, and IoUs for it."""
    random = torch.Generator().manual_seed(seed)
    feature = torch.rand(8, 9, 9, generator=random)
    i, j = place
    feature[:3, i - 1 : i + 2, j - 1 : j + 2] += 2.0
    overlaps = torch.zeros(7, 7)
    overlaps[i - 1, j - 1] = 1.0
    return feature, overlaps


def test_the_dense_classifier_learns_and_its_memory_is_bounded():
    config = DenseConfig(width=24, fit_iterations=60, fit_rate=0.03, positive_frames=3, negative_frames=2, interval=3)
    model = DenseClassifier(config, 8)
    feature, overlaps = scene(0)
    losses = model.fit(feature[None], overlaps)
    assert len(losses) == 60 and losses[-1] < 0.3 * losses[0]
    other, moved = scene(1, (6, 3))
    scores = model.respond(other)
    assert scores.shape == (7, 7) and int(scores.argmax()) == int(moved.argmax())
    alone = model._classifier.scores(other[None, :, 5:8, 2:5] * model._gain)
    assert float(alone) == pytest.approx(float(scores[5, 2]), abs=1e-5)  # dense = sample by sample
    calm = moved  # sure of the target, nothing elsewhere
    trained = [bool(model.update(other, calm, moved)) for _ in range(6)]
    assert trained == [False, False, True, False, False, True]
    assert model.update(other, torch.full((7, 7), 0.9), moved)  # a distractor brings it forward
    assert model.update(other, 0.4 * moved, moved)  # so does doubt
    assert len(model._positives) == 3 and len(model._negatives) == 2
    assert len(model._negatives.last()) == 2 * 48


def test_collected_negatives_are_the_hardest():
    model = DenseClassifier(DenseConfig(width=16, negatives=10), 8)
    feature, overlaps = scene(0)
    model.fit(feature[None], overlaps)
    samples = torch.rand(60, 8, 3, 3)
    got = model._hardest(samples, 10, 60)
    scores = model._classifier.scores(samples)
    want = samples[scores.topk(10).indices]
    assert torch.equal(got.flatten(1).sum(1).sort().values, want.flatten(1).sum(1).sort().values)


def test_without_positives_nothing_is_learnt():
    model = DenseClassifier(DenseConfig(width=16), 8)
    feature, overlaps = scene(0)
    assert model.fit(feature[None], torch.zeros_like(overlaps)) == []
    assert model.respond(feature).shape == (7, 7)


def test_the_window_filter_must_be_fitted():
    tap = NETWORKS["resnet18"].tap("conv1")
    model = WindowFilter(FilterConfig(), tap, 2.5, 49, 0.1, 0.2)
    assert model.cells == 50
    box = Box(10, 10, 20, 20)
    with pytest.raises(RangeError, match="fit on the first frame"):
        crop = Window.around(20, 20, 60, 60, 161, 161)
        model.respond(torch.rand(1, 64, 81, 81), [crop], model.windows([box], (1.0,)))

"""CRT on made clips: it follows, repeats itself, runs many targets, and meets hard frames without failing."""

import dataclasses
import os

import clips
import cv2
import numpy as np
import pytest
import torch
from clips import Clip, ious, line, standing

from fasttrack.errors import RangeError
from fasttrack.geometry import Box
from fasttrack.trackers import create_tracker
from fasttrack.trackers.crt import Config

QUICK = {"object_cells": 64.0}


def follow(clip, box=None, count=None, **options):
    return clips.follow("crt", clip, {**QUICK, **options}, box, count)


@pytest.fixture(scope="module")
def clip():
    path = np.concatenate([line((20, 20), (3, 2), 12), line((53, 42), (2, -1), 8)])
    return Clip(path)


@pytest.mark.parametrize("options", [{}, {"solver": "cg"}, {"features": "rgb"}, {"features": "hog+cn"}])
def test_follows_a_moving_target(clip, options):
    results = follow(clip, **options)
    overlap = ious(results, clip)
    assert overlap.min() > 0.75 and overlap.mean() > 0.85
    assert standing(results, clip).mean() < 0.5  # canary: a tracker that stands still fails
    assert not any(r.lost for r in results)
    assert all(r.seconds > 0 and r.psr > 3 for r in results)


@pytest.mark.parametrize("patch", [(9, 5), (7, 5), (5, 3), (3, 3)])
def test_every_patch_of_table_3_runs(clip, patch):
    results = follow(clip, patch_width=patch[0], patch_height=patch[1], count=8)
    assert ious(results, clip).min() > 0.6


def test_table_2_runs(clip):
    assert ious(follow(clip, threshold=0.0, a=0.0, fit_steps=300, count=8), clip).min() > 0.6


def test_follows_a_growing_target():
    clip = Clip(line((60, 50), (0, 0), 16))
    frames = [
        cv2.warpAffine(clip.frame(0), np.float32([[s, 0, 80 - 80 * s], [0, s, 65 - 65 * s]]), (200, 150))
        for s in 1.015 ** np.arange(16)
    ]
    results = list(create_tracker("crt", **QUICK).run(frames, clip.box(0)))
    last = results[-1].box
    assert last.w > 40 * 1.12 and last.w < 40 * 1.35
    assert last.center == pytest.approx((80, 65), abs=3)


def test_repeats_itself_and_may_start_again(clip):
    frames = clip.frames()[:6]
    tracker = create_tracker("crt", **QUICK)
    first = [r.box for r in tracker.run(frames, clip.box(0))]
    again = [r.box for r in tracker.run(frames, clip.box(0))]
    other = [r.box for r in create_tracker("crt", **QUICK).run(frames, clip.box(0))]
    assert first == again == other


def test_two_targets_are_as_two_runs(clip):
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    together = follow(clip, box=rows, count=6)
    for k, row in enumerate(rows):
        alone = follow(clip, box=row, count=6)
        for both, one in zip(together, alone, strict=True):
            assert both[k].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-3)
            assert both[k].score == pytest.approx(one.score, abs=1e-5)


def test_lost_when_it_disappears_and_found_when_it_returns():
    clip = Clip(line((60, 50), (1, 0), 14), seen=[True] * 6 + [False] * 4 + [True] * 4)
    tracker = create_tracker("crt", **QUICK, lost_score=0.3)
    results = list(tracker.run(clip.frames(), clip.box(0)))
    assert [r.lost for r in results] == [False] * 5 + [True] * 4 + [False] * 4
    last_seen = results[4].box
    assert all(r.box == last_seen for r in results[5:9])
    assert ious(results, clip)[-3:].min() > 0.7


def test_grey_frames(clip):
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in clip.frames()[:8]]
    results = list(create_tracker("crt", **QUICK).run(grey, clip.box(0)))
    assert ious(results, clip).min() > 0.7


def test_tiny_target():
    clip = Clip(line((60, 50), (1, 1), 8), size=(4, 5))
    results = follow(clip)
    assert all(r.box.w >= 3.99 and r.box.h >= 4.99 for r in results)
    assert np.hypot(*(np.array(results[-1].box.center) - np.array([69.0, 59.5]))) < 4


def test_snr_is_reported(clip):
    tracker = create_tracker("crt", **QUICK)
    tracker.init(clip.frame(0), clip.box(0))
    fit = tracker.fits[0]
    assert fit.loss < 0.02 and 10 < fit.steps < 4000
    assert fit.snr[-1] > 2 > fit.snr[0]
    tracker.update(clip.frame(1))
    assert tracker.fits[0].steps == Config().update_steps


@pytest.mark.parametrize(
    ("field", "value"),
    [("solver", "lbfgs"), ("patch_width", 0), ("label_sigma", 0.0), ("scale_levels", 2), ("fit_lr", -1.0),
     ("object_cells", float("nan")), ("history", 0), ("threshold", -0.1), ("update_steps", 0), ("seed", 0.5),
     ("lost_score", "low")],
)  # fmt: skip
def test_config_refuses(field, value):
    with pytest.raises(RangeError, match=f"Config: {field} must be"):
        create_tracker("crt", **{field: value})


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


@pytest.mark.data
def test_a_real_sequence(data):
    folder = data / "sequences" / "Crossing"
    truth = np.loadtxt(folder / "groundtruth_rect.txt", delimiter=",")
    truth[:, :2] -= 1  # the file counts from 1
    names = sorted(os.listdir(folder / "img"))[:60]
    frames = [cv2.imread(str(folder / "img" / n))[:, :, ::-1] for n in names]
    results = list(create_tracker("crt").run(frames, truth[0]))
    overlap = [r.box.iou(Box(*row)) for r, row in zip(results, truth[1:60], strict=True)]
    assert np.mean(overlap) > 0.65


def test_one_thread_and_two_give_the_same_boxes(clip):
    threads = torch.get_num_threads()
    try:
        boxes = []
        for n in (1, 2):
            torch.set_num_threads(n)
            boxes.append([r.box.as_tuple() for r in follow(clip, count=5)])
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-2)

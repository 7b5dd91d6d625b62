"""The filter over sizes: it finds a made change of size, for each of many targets, and learns what it is told."""

import cv2
import numpy as np
import pytest
import torch
from clips import Clip, line

from fasttrack.errors import RangeError
from fasttrack.geometry import Box
from fasttrack.models import ScaleFilter, ScaleFilterConfig
from fasttrack.vision.crop import Scene

CLIP = Clip(line((60, 50), (0, 0), 1))
BOX = Box(*CLIP.box(0))
OTHER = Box(120.0, 30.0, 26.0, 40.0)


def scene(zoom, about=BOX):
    """The clip's frame, zoomed around the middle of a box."""
    x, y = about.center
    matrix = np.float32([[zoom, 0, x * (1 - zoom)], [0, zoom, y * (1 - zoom)]])
    return Scene([torch.from_numpy(cv2.warpAffine(CLIP.frame(0), matrix, (200, 150)))])


@pytest.fixture
def fitted():
    model = ScaleFilter(ScaleFilterConfig())
    model.fit(scene(1.0), [BOX, OTHER])
    return model


@pytest.mark.parametrize("zoom", [0.92, 0.97, 1.0, 1.03, 1.08])
def test_finds_the_size(fitted, zoom):
    first, _ = fitted.factors(scene(zoom), [BOX, OTHER])
    assert first == pytest.approx(zoom, abs=0.012)


def test_every_target_has_its_own_size(fitted):
    frames = Scene([scene(1.06).images[0], scene(0.95, OTHER).images[0]])
    assert fitted.factors(frames, [BOX, OTHER]) == pytest.approx([1.06, 0.95], abs=0.02)
    fitted.keep([1])
    assert fitted.factors(scene(0.95, OTHER), [OTHER]) == pytest.approx([0.95], abs=0.02)


def test_learns_the_targets_it_is_told_to(fitted):
    """After many frames of 1.06 times the size in the same box, that is the size: factor 1; the other's stays."""
    larger = scene(1.06)
    for _ in range(200):
        fitted.update(larger, [BOX], [0])
    both = Scene([larger.images[0], scene(1.0).images[0]])
    assert fitted.factors(both, [BOX, OTHER]) == pytest.approx([1.0, 1.0], abs=0.01)


def test_boxes_that_leave_the_frame_and_flat_frames():
    flat = Scene([torch.full((40, 50, 3), 90, dtype=torch.uint8)])
    model = ScaleFilter(ScaleFilterConfig())
    boxes = [Box(-20, -20, 90, 90), Box(45, 35, 10, 10), Box(10, 10, 1, 1)]
    model.fit(flat, boxes)
    assert all(0.5 < factor < 2 for factor in model.factors(flat, boxes))


def test_wrong_numbers_and_use():
    for levels in (26, 7, 0):
        with pytest.raises(RangeError, match="levels must be an odd product of 3s and 5s"):
            ScaleFilter(ScaleFilterConfig(levels=levels))
    with pytest.raises(RangeError, match="step must be a number over 1"):
        ScaleFilter(ScaleFilterConfig(step=1.0))
    with pytest.raises(RangeError, match="call fit"):
        ScaleFilter(ScaleFilterConfig()).factors(scene(1.0), [BOX])

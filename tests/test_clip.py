"""The built-in clip: repeatable, and its boxes are the extent of what is drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fasttrack.errors import RangeError
from fasttrack.geometry import Box
from fasttrack.video import clip
from fasttrack.video.clip import make_clip


def test_shape_count_and_box_inside_the_frame() -> None:
    for size, seed in (((480, 270), 0), ((200, 300), 3), ((321, 77), 4)):
        seen = list(make_clip(230 if seed == 0 else 60, size, seed))
        assert len(seen) == (230 if seed == 0 else 60)
        for image, box in seen:
            assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
            assert box.x >= 0 and box.y >= 0 and box.x + box.w <= size[0] and box.y + box.h <= size[1]


def test_same_seed_same_clip_and_a_short_one_begins_a_long_one() -> None:
    long = list(make_clip(8, (160, 90), 5))
    short = list(make_clip(3, (160, 90), 5))
    for (a, box_a), (b, box_b) in zip(long, short, strict=False):
        assert np.array_equal(a, b) and box_a == box_b
    other = next(make_clip(1, (160, 90), 6))[0]
    assert not np.array_equal(other, long[0][0])


def _extent(alpha: np.ndarray) -> tuple[float, float, float, float]:
    """Edges of a soft mask to a fraction of a pixel: whole pixels plus the coverage of the rim."""
    cols, rows = alpha.max(axis=0), alpha.max(axis=1)
    x, y = np.flatnonzero(cols), np.flatnonzero(rows)
    return x[0] + 1 - cols[x[0]], y[0] + 1 - rows[y[0]], x[-1] + cols[x[-1]], y[-1] + rows[y[-1]]


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.75])
def test_a_pasted_sprite_fills_its_box_to_a_fraction_of_a_pixel(shift: float) -> None:
    sprite = np.ones((50, 40, 4), np.float32)
    box = Box(10 + shift, 7 + shift / 2, 21.5, 30.25)
    canvas = np.zeros((60, 60, 3), np.float32)
    clip._paste(canvas, sprite, box)
    assert _extent(canvas[..., 0]) == pytest.approx(box.xyxy, abs=0.15)
    # Canary: half a pixel of displacement, the classic fault, is outside the tolerance.
    moved = (box.x + 0.5, *box.xyxy[1:])
    assert _extent(canvas[..., 0]) != pytest.approx(moved, abs=0.15)


def test_a_drawn_balloon_touches_all_four_edges_of_its_sprite() -> None:
    alpha = clip._balloon(((1, 0, 0), (0, 1, 0), (0, 0, 1)))[..., 3]
    assert alpha[:2].any() and alpha[-1].any() and alpha[:, :2].any() and alpha[:, -2:].any()


def test_what_the_clip_promises_happens() -> None:
    frames = list(itertools.islice(make_clip(), 151))
    boxes = [box for _, box in frames]
    heights = [box.h for box in boxes]
    assert max(heights) / min(heights) > 1.5  # scale
    assert max(b.x for b in boxes) - min(b.x for b in boxes) > 150  # translation
    assert frames[100][0].mean() < 0.7 * frames[40][0].mean()  # light
    width, height = clip.CLIP_SIZE
    tower = clip._tower_box(150, width, height, 0.0)
    hidden = clip._target_box(150, width, height, 0.0)
    assert 0.4 < tower.intersection(hidden) / hidden.area < 0.6  # partial occlusion
    rival = clip._distractor_box(55, width, height, 0.0)
    assert rival.iou(clip._target_box(55, width, height, 0.0)) > 0.3  # distractor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": (63, 100)}, "size must be at least 64 × 64 px, got 63 × 100"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments: dict, message: str) -> None:
    with pytest.raises(RangeError, match=message):
        make_clip(**arguments)

"""What holds for every window of crop_resize: far out of the frame, of one pixel or of thousands, and hostile ones."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fasttrack import ops
from fasttrack.errors import BoxError
from fasttrack.spec.crop_resize import SPECS

HEIGHT, WIDTH = 23, 34
BOUND = SPECS[0].tolerance[torch.float32]
FRAME = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)

# Extents from a 256th of a pixel to a hundred thousand of them, corners to ten thousand frames away.
extents = st.floats(-8, 17).map(lambda power: 2.0**power)
near, far = st.floats(-40, 40), st.floats(-2e5, 2e5)
windows = st.tuples(near | far, near | far, extents, extents)
sizes = st.tuples(st.integers(1, 19), st.integers(1, 19))
borders = st.sampled_from(["replicate", "constant"])
# Sixteenths of a pixel: sums of them are exact.
steps = st.integers(-160, 160).map(lambda n: n / 16)


def crop(windows, size, border="replicate", frame=FRAME, dtype=torch.float64, backend="cpu"):
    return ops.crop_resize(frame, torch.tensor(windows, dtype=dtype), size, border, backend=backend)


@settings(deadline=None, max_examples=150)
@given(st.lists(windows, min_size=1, max_size=4), sizes, borders, st.sampled_from([torch.float32, torch.float64]))
def test_any_windows_against_the_reference(rows, size, border, dtype):
    boxes = torch.tensor(rows, dtype=dtype)
    truth = SPECS[0].reference(FRAME, boxes, size, border)
    got = ops.crop_resize(FRAME, boxes, size, border, backend="cpu")
    assert BOUND.admits(got, truth)
    if truth.any() and truth.std() > 1:  # the canary: a window a tenth of its sample beside
        moved = boxes + torch.tensor([0.1 / size[1], 0, 0, 0], dtype=dtype) * boxes[:, 2:3]
        other = SPECS[0].reference(FRAME, moved, size, border)
        if (other - truth).abs().max() > 0.01:
            assert not BOUND.admits(got, other)


@settings(deadline=None, max_examples=60)
@given(steps, steps, st.integers(1, 300), st.integers(1, 300), st.integers(0, 9), st.integers(0, 9), sizes, borders)
def test_frame_and_window_moved_together(x, y, w, h, down, right, size, border):
    """More frame above and to the left moves the coordinates; what the window sees stays where no border is met."""
    w, h = w / 16, h / 16
    x, y = abs(x), abs(y)
    assume(x + w < WIDTH - 1 and y + h < HEIGHT - 1 and x >= 1 and y >= 1)
    larger = torch.full((HEIGHT + down, WIDTH + right, 3), 255, dtype=torch.uint8)
    larger[down:, right:] = FRAME
    got = crop([(x + right, y + down, w, h)], size, border, larger)
    assert torch.allclose(got, crop([(x, y, w, h)], size, border), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(steps, steps, extents, extents, sizes, borders)
def test_halves_of_a_window_at_the_same_scale(x, y, w, h, size, border):
    """A window of twice the samples is its two halves, side by side or one above the other."""
    assume(w < 1000 and h < 1000)
    rows, columns = size
    wide = crop([(x, y, w, h)], (rows, 2 * columns), border)
    left, right = crop([(x, y, w / 2, h), (x + w / 2, y, w / 2, h)], size, border)
    assert torch.allclose(wide[0], torch.cat([left, right], 2), atol=2e-3)
    tall = crop([(x, y, w, h)], (2 * rows, columns), border)
    upper, lower = crop([(x, y, w, h / 2), (x, y + h / 2, w, h / 2)], size, border)
    assert torch.allclose(tall[0], torch.cat([upper, lower], 1), atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(0, 20), st.integers(0, 12), st.integers(1, 14), st.integers(1, 11))
def test_scale_of_one_is_the_pixels_and_shrinking_by_odd_numbers_skips(scale, x, y, columns, rows):
    """At 2s − 1 px per sample every sample sits on the middle pixel of its 2s − 1, whatever the scale."""
    step = 2 * scale - 1
    columns, rows = min(columns, (WIDTH - x) // step), min(rows, (HEIGHT - y) // step)
    got = crop([(x, y, columns * step, rows * step)], (rows, columns))
    middle = FRAME[y + scale - 1 :: step, x + scale - 1 :: step][:rows, :columns].permute(2, 0, 1)
    assert torch.allclose(got[0], middle.float(), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(steps, steps, st.integers(1, 400), st.integers(1, 400), sizes)
def test_replicated_border_is_a_frame_whose_border_is_repeated(x, y, w, h, size):
    margin = 40
    rows = torch.arange(-margin, HEIGHT + margin).clamp(0, HEIGHT - 1)
    columns = torch.arange(-margin, WIDTH + margin).clamp(0, WIDTH - 1)
    padded = FRAME[rows][:, columns].contiguous()
    got = crop([(x, y, w / 16, h / 16)], size)
    assert torch.allclose(got, crop([(x + margin, y + margin, w / 16, h / 16)], size, frame=padded), atol=1e-4)
    black = torch.zeros_like(padded)
    black[margin : margin + HEIGHT, margin : margin + WIDTH] = FRAME
    got = crop([(x, y, w / 16, h / 16)], size, "constant")
    assert torch.allclose(got, crop([(x + margin, y + margin, w / 16, h / 16)], size, frame=black), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.floats(1.5, 2e5), st.floats(-1e5, 1e5), extents, extents, sizes)
def test_far_outside_there_is_only_border(beyond, y, w, h, size):
    x = WIDTH + w + beyond
    assert not crop([(x, y, w, h)], size, "constant").any()
    got = crop([(x, y, w, h)], size)
    assert torch.equal(got, got[..., :1].expand_as(got))  # the last column, at every sample


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(windows, min_size=1, max_size=4),
    at=st.integers(0, 3),
    column=st.integers(0, 3),
    bad=st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]) | st.floats(-1e6, -1e-6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_hostile_windows_are_refused(backend, rows, at, column, bad, dtype):
    """NaN and infinity anywhere, sides of nothing, and flips; the message names the row."""
    if math.isfinite(bad):
        column = 2 + column % 2  # a negative corner is none
    at %= len(rows)
    rows[at] = tuple(bad if k == column else v for k, v in enumerate(rows[at]))
    with pytest.raises(BoxError, match=rf"boxes\[{at}\] must be finite x, y, w, h with w > 0 and h > 0"):
        crop(rows, (5, 4), dtype=dtype, backend=backend)

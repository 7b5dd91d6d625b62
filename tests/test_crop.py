"""Windows as patches: geometry, and no aliasing where a window is shrunk."""

import cv2
import numpy as np
import pytest
import torch

from fasttrack.errors import ShapeError
from fasttrack.geometry import Window
from fasttrack.vision.crop import Scene, sample


def ramp(height, width):
    """A frame whose colours are its own coordinates, (column, row, 7)."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = np.arange(width), np.arange(height)[:, None], 7
    return torch.from_numpy(image)


def test_a_window_of_whole_pixels_is_the_frame():
    frame = ramp(40, 60)
    got = sample(frame, [Window(10, 5, 20, 15, 20, 15)])
    assert torch.equal(got[0], frame[5:20, 10:30].permute(2, 0, 1).float())


@pytest.mark.parametrize("shrink", [1.5, 2.0, 2.7, 4.0, 4.9])
def test_shrunk_windows_keep_the_geometry(shrink):
    window = Window.around(100.25, 90.5, 40 * shrink, 30 * shrink, 40, 30)
    got = sample(ramp(180, 220), [window])[0]
    for j in (0, 11, 39):
        assert got[0, 4, j].item() == pytest.approx(window.to_frame(j + 0.5, 0)[0] - 0.5, abs=0.6)
    for i in (0, 13, 29):
        assert got[1, i, 5].item() == pytest.approx(window.to_frame(0, i + 0.5)[1] - 0.5, abs=0.6)
    assert torch.all(got[2] == 7)


def test_shrinking_averages():
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[:, ::2] = 200
    got = sample(torch.from_numpy(stripes), [Window(0, 0, 80, 80, 20, 20)])
    assert got.min() > 95 and got.max() < 105  # canary: point samples would be 0 or 200


def test_windows_of_unequal_shrink_come_back_in_order():
    frame = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    windows = [Window(3, 4, 20 * s, 10 * s, 20, 10) for s in (3.4, 1.0, 2.2, 1.7)]
    together = sample(frame, windows)
    for k, window in enumerate(windows):
        assert torch.equal(together[k : k + 1], sample(frame, [window]))


def test_a_window_larger_than_the_frame():
    got = sample(ramp(3, 2), [Window(-50, -50, 100, 100, 5, 5)])
    assert torch.isfinite(got).all() and got[0, 2].min() >= 0


def test_unequal_sizes_are_refused():
    with pytest.raises(ShapeError, match="sample: windows must be at least one window, all of one patch size"):
        sample(ramp(9, 9), [Window(0, 0, 5, 5, 5, 5), Window(0, 0, 5, 5, 6, 5)])
    with pytest.raises(ShapeError, match="at least one window"):
        sample(ramp(9, 9), [])


def test_a_scene_gives_every_target_its_own_frame():
    one, two = ramp(40, 60), ramp(50, 30)
    windows = [[Window(1, 2, 9, 9, 8, 8), Window(3, 4, 9, 9, 8, 8)], [Window(5, 6, 9, 9, 8, 8)]]
    got = Scene([one, two]).sample(windows, [0, 1])
    assert torch.equal(got, torch.cat([sample(one, windows[0]), sample(two, windows[1])]))
    assert torch.equal(Scene([one, two]).sample(windows[1:], [0]), sample(one, windows[1]))
    assert torch.equal(Scene([two]).sample(windows, [0, 1]), sample(two, [*windows[0], *windows[1]]))


@pytest.mark.parametrize("shrink", [2, 3])
@pytest.mark.parametrize(
    "place", [(30, 20), (-45, 8), (150, 110), (-500, -500), (900, 30), (10, 700)], ids=lambda p: f"{p[0]},{p[1]}"
)
def test_only_what_is_seen_is_averaged_with_the_same_result(shrink, place):
    random = torch.Generator().manual_seed(0)
    frame = torch.randint(0, 256, (125, 187, 3), generator=random, dtype=torch.uint8)
    window = Window(*place, 24.0 * shrink + 1, 16.0 * shrink + 1, 24, 16)
    height, width = 125 // shrink, 187 // shrink
    whole = frame[: height * shrink, : width * shrink].numpy()
    small = torch.from_numpy(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))
    want = sample(small, [Window(*(v / shrink for v in window.box), 24, 16)])
    assert torch.allclose(sample(frame, [window]), want, atol=1e-3)

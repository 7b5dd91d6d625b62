"""Labels and windows: values by hand, sub-cell centres, refusals."""

import math

import pytest
import torch

from fasttrack.errors import RangeError, ShapeError
from fasttrack.vision.labels import gaussian_map, hann_window


def test_gaussian_by_hand():
    got = gaussian_map((3, 4), torch.tensor([[1.0, 2.0], [0.5, 0.0]]), (0.5, 2.0))
    want = torch.empty(2, 3, 4)
    for t, (r, c) in enumerate([(1.0, 2.0), (0.5, 0.0)]):
        for i in range(3):
            for j in range(4):
                want[t, i, j] = math.exp(-0.5 * (((i - r) / 0.5) ** 2 + ((j - c) / 2.0) ** 2))
    torch.testing.assert_close(got, want)
    assert got[0, 1, 2] == 1.0
    assert (got.roll(1, 2) - want).abs().max() > 0.01


def test_gaussian_between_cells_is_symmetric_and_keeps_its_mass():
    even = gaussian_map((40, 40), torch.tensor([[19.5, 19.5]]), (2.0, 3.0))[0]
    torch.testing.assert_close(even, even.flip(0, 1))
    assert even.sum().item() == pytest.approx(2 * math.pi * 2.0 * 3.0, rel=1e-4)


def test_gaussian_outside_the_map_is_allowed():
    assert gaussian_map((4, 4), torch.tensor([[-50.0, 2.0]]), (1.0, 1.0)).max() == 0.0


def test_gaussian_refuses():
    with pytest.raises(ShapeError, match=r"gaussian_map: centers must be \(T, 2\)"):
        gaussian_map((4, 4), torch.zeros(2), (1.0, 1.0))
    with pytest.raises(RangeError, match="sigma must be two numbers > 0"):
        gaussian_map((4, 4), torch.zeros(1, 2), (1.0, 0.0))
    with pytest.raises(RangeError, match="sigma"):
        gaussian_map((4, 4), torch.zeros(1, 2), (1.0, float("nan")))


def test_hann_window():
    window = hann_window((5, 8))
    assert window.shape == (5, 8)
    assert window[2].max() == window.max()
    assert window[2, 3].item() == pytest.approx(0.5 * (1 - math.cos(2 * math.pi * 3.5 / 8)), rel=1e-6)
    assert window.min() > 0
    torch.testing.assert_close(window, window.flip(0, 1))

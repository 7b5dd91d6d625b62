"""Copies of patches: turned about the middle, blurred without a change of brightness."""

import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from fasttrack.vision.augment import augmented, blurred, turned

PATCHES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 255


def test_a_quarter_turn_is_exact():
    square = PATCHES[:, :, :, 4:28]
    assert torch.allclose(turned(square, 90), torch.rot90(square, 1, (2, 3)), atol=1e-2)
    assert torch.allclose(turned(square, -90), torch.rot90(square, -1, (2, 3)), atol=1e-2)
    assert not torch.allclose(turned(square, 90), torch.rot90(square, -1, (2, 3)), atol=1)  # canary


def test_a_half_turn_keeps_the_aspect_and_zoom_magnifies():
    assert torch.allclose(turned(PATCHES, 180), PATCHES.flip(2, 3), atol=1e-2)
    assert torch.allclose(turned(PATCHES, 0), PATCHES, atol=1e-2)
    # Magnified twice: the middle half fills the patch; a ramp gets half as steep.
    ramp = torch.arange(32.0).expand(1, 1, 24, 32)
    assert turned(ramp, 0, zoom=2)[0, 0, 12, 8:24].diff().mean() == pytest.approx(0.5, abs=1e-4)


def test_blur_is_a_gaussian():
    for sigma in ((2.0, 0.0), (0.0, 1.5), (1.0, 3.0)):
        want = PATCHES.numpy()
        for axis, width in zip((2, 3), sigma, strict=True):
            if width:
                reach = torch.tensor(3 * width).ceil().item()
                want = gaussian_filter1d(want, width, axis, mode="nearest", radius=int(reach))
        got = blurred(PATCHES, sigma)
        assert torch.allclose(got, torch.from_numpy(want), atol=1e-2)
        assert not torch.allclose(got, PATCHES, atol=1)
    flat = torch.full((1, 3, 9, 9), 70.0)
    assert torch.allclose(blurred(flat, (3.0, 3.0)), flat, atol=1e-4)


def test_thirteen_copies_of_one_shape():
    copies = augmented(PATCHES)
    assert len(copies) == 13 and all(c.shape == PATCHES.shape for c in copies)
    assert torch.equal(copies[1], PATCHES.flip(3))

"""From response to box: the footprint of the kernel, the scale search, the prior, SNR."""

import math

import pytest
import torch

from fasttrack.errors import ShapeError
from fasttrack.geometry import Box, Window
from fasttrack.vision.labels import gaussian_map
from fasttrack.vision.localise import footprint, home, localise, snr

KERNEL, STRIDE = (4, 6), 4
FEATURES = (KERNEL[0] * 5, KERNEL[1] * 9)
SIZE = FEATURES[0] - KERNEL[0] + 1, FEATURES[1] - KERNEL[1] + 1


def around(box: Box, scale: float = 1.0) -> Window:
    return Window.around(*box.center, box.w * 9 * scale, box.h * 5 * scale, FEATURES[1] * STRIDE, FEATURES[0] * STRIDE)


def bump(row: float, column: float, height: float = 1.0) -> torch.Tensor:
    return height * gaussian_map(SIZE, torch.tensor([[row, column]]), (1.5, 1.5))[0]


def test_footprint_at_home_is_the_box_itself():
    box = Box(13.25, -4.5, 31.0, 17.0)
    middle = home(FEATURES, KERNEL)
    assert middle == (8.0, 24.0)
    assert footprint(middle, KERNEL, around(box), STRIDE).as_tuple() == pytest.approx(box.as_tuple())


def test_footprint_moves_by_cells():
    box = Box(0.0, 0.0, 12.0, 8.0)
    moved = footprint((8.0 + 1, 24.0 - 2), KERNEL, around(box), STRIDE)
    # A cell is 12/6 px wide and 8/4 px high here.
    assert moved.as_tuple() == pytest.approx((-4.0, 2.0, 12.0, 8.0))


def test_localise_picks_place_scale_and_keeps_targets_apart():
    boxes = [Box(20, 30, 60, 40), Box(100, 10, 30, 50)]
    scales = (1 / 1.1, 1.0, 1.1)
    windows = [[around(b, s) for s in scales] for b in boxes]
    responses = torch.stack(
        [
            torch.stack([bump(8, 24, 0.5), bump(8, 24, 0.6), bump(9.3, 25.7, 0.9)]),
            torch.stack([bump(7, 20, 0.4), bump(8, 24, 0.3), bump(8, 24, 0.2)]),
        ]
    )
    first, second = localise(responses, windows, KERNEL, STRIDE)
    assert (first.level, second.level) == (2, 0)
    assert first.peak == pytest.approx((9.3, 25.7), abs=0.05)
    assert first.box.w == pytest.approx(66.0) and first.box.h == pytest.approx(44.0)
    assert first.box.center == pytest.approx((50 + 1.7 * 66 / 6, 50 + 1.3 * 44 / 4), abs=0.6)
    assert first.box.center != pytest.approx((50, 50), abs=0.6)
    assert first.score == pytest.approx(0.9, abs=0.05)
    assert second.score == pytest.approx(0.4)
    maps = responses[1, 0]
    assert second.psr == pytest.approx(((maps.max() - maps.mean()) / maps.std(correction=0)).item(), rel=1e-4)


def test_penalty_and_prior():
    box = Box(20, 30, 60, 40)
    windows = [[around(box, s) for s in (0.9, 1.0)]]
    responses = torch.stack([bump(8, 24, 0.51), bump(8, 24, 0.5)])[None]
    assert localise(responses, windows, KERNEL, STRIDE)[0].level == 0
    assert localise(responses, windows, KERNEL, STRIDE, penalties=(0.9, 1.0))[0].level == 1
    two = torch.maximum(bump(8, 24, 0.5), bump(14, 40, 0.8))[None, None]
    prior = gaussian_map(SIZE, torch.tensor([home(FEATURES, KERNEL)]), (2.0, 3.0))[0]
    far = localise(two, [windows[0][1:]], KERNEL, STRIDE)[0]
    near = localise(two, [windows[0][1:]], KERNEL, STRIDE, prior)[0]
    assert far.peak == pytest.approx((14, 40), abs=0.1)
    assert near.peak == pytest.approx((8, 24), abs=0.1)
    assert near.score == pytest.approx(0.5, rel=1e-3)  # the response itself, not its product with the prior


def test_localise_refuses_shapes_that_do_not_belong_together():
    windows = [[around(Box(0, 0, 10, 10))]]
    with pytest.raises(ShapeError, match="localise: responses must be"):
        localise(torch.zeros(1, 2, *SIZE), windows, KERNEL, STRIDE)


def test_nan_gives_nan_not_a_place():
    windows = [[around(Box(0, 0, 10, 10))]]
    found = localise(torch.full((1, 1, *SIZE), float("nan")), windows, KERNEL, STRIDE)[0]
    assert math.isnan(found.score)


def test_snr_by_hand():
    maps = torch.tensor([[[0.0, 1.0], [0.5, 0.5]], [[2.0, 2.0], [2.0, 2.0]]])
    torch.testing.assert_close(snr(maps), torch.tensor([math.exp(0.5), 1.0]))

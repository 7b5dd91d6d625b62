"""Boxes drawn around a box: their statistics, their overlaps, what happens at the border and to odd targets."""

import math

import pytest
import torch

from fasttrack.errors import RangeError, ShapeError
from fasttrack.geometry import Box
from fasttrack.vision.sampling import Spread, as_tensor, draw, draw_by_overlap, overlaps

FRAME = (400, 300)
BOX = Box(150.0, 100.0, 60.0, 40.0)
POSITIVE, FAR = Spread(0.1, 5.0, gaussian=True), Spread(1.0, 10.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_overlaps_are_those_of_the_boxes():
    boxes = draw(BOX, 200, FAR, FRAME, seeded())
    want = [BOX.iou(Box(*row)) for row in boxes.tolist()]
    assert overlaps(boxes, BOX).tolist() == pytest.approx(want, abs=1e-12)
    assert overlaps(boxes + 5, BOX).tolist() != pytest.approx(want, abs=1e-2)
    assert overlaps(as_tensor([Box(0, 0, 5, 5), BOX]), BOX).tolist() == [0.0, 1.0]
    with pytest.raises(ShapeError, match=r"boxes.*\(N, 4\)"):
        overlaps(torch.zeros(3), BOX)


def test_gaussian_candidates_have_the_papers_spread():
    boxes = draw(BOX, 20000, Spread(0.6, 1.0, gaussian=True), FRAME, seeded())
    away = boxes[:, :2] + boxes[:, 2:] / 2 - torch.tensor(BOX.center)
    r = 50.0
    assert float(away.abs().max()) == pytest.approx(0.6 * r)
    cut = (0.5 * torch.randn(100000, generator=seeded(1))).clamp(-1, 1)
    assert away.std(0).tolist() == pytest.approx([0.6 * r * float(cut.std())] * 2, rel=0.03)
    assert away.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.5)
    powers = (boxes[:, 2] / BOX.w).log() / math.log(1.05)
    assert float(powers.abs().max()) == pytest.approx(1.0) and 0.4 < float(powers.std()) < 0.5
    assert torch.allclose(boxes[:, 2] / boxes[:, 3], torch.tensor(1.5, dtype=torch.float64))  # no change of aspect


def test_uniform_aspect_and_whole_frame():
    boxes = draw(BOX, 5000, Spread(math.inf, 0.0, aspect=2.0), FRAME, seeded())
    aspects = (boxes[:, 2] / boxes[:, 3] / 1.5).log() / math.log(1.05)
    assert 3.8 < float(aspects.max()) <= 4.0 and -4.0 <= float(aspects.min()) < -3.8
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    assert centres.amin(0).tolist() == pytest.approx([30, 20], abs=3)
    assert centres.amax(0).tolist() == pytest.approx([370, 280], abs=3)


def test_same_seed_same_boxes():
    assert torch.equal(draw(BOX, 50, FAR, FRAME, seeded(3)), draw(BOX, 50, FAR, FRAME, seeded(3)))
    assert not torch.equal(draw(BOX, 50, FAR, FRAME, seeded(3)), draw(BOX, 50, FAR, FRAME, seeded(4)))
    assert draw(BOX, 0, FAR, FRAME, seeded()).shape == (0, 4)
    with pytest.raises(RangeError, match="count"):
        draw(BOX, -1, FAR, FRAME, seeded())


@pytest.mark.parametrize("limits", [(0.7, 1.0), (0.6, 1.0), (0.0, 0.5), (0.0, 0.3)])
@pytest.mark.parametrize(
    "box",
    [
        BOX,
        Box(0, 0, 400, 300),  # the whole frame
        Box(-50, -50, 500, 400),  # larger than the frame
        Box(10, 10, 1, 1),
        Box(380, 290, 40, 40),  # half outside
        Box(0, 100, 400, 3),  # a line
    ],
)
def test_every_target_has_samples_of_every_kind(box, limits):
    spread = POSITIVE if limits[1] == 1 else FAR
    boxes = draw_by_overlap(box, 100, spread, limits, FRAME, seeded())
    iou = overlaps(boxes, box)
    assert len(boxes) == 100
    assert float(iou.min()) >= limits[0] and float(iou.max()) <= limits[1]
    assert bool((boxes[:, 2:] > 0).all())


def test_clipped_to_the_frame_but_for_targets_beyond_it():
    boxes = draw(Box(0, 0, 60, 40), 500, FAR, FRAME, seeded())
    assert float(boxes[:, :2].min()) >= 0
    assert float((boxes[:, 0] + boxes[:, 2]).max()) <= 400 and float((boxes[:, 1] + boxes[:, 3]).max()) <= 300
    beyond = draw(Box(-20, 5, 60, 40), 500, FAR, FRAME, seeded())
    assert -20 <= float(beyond[:, 0].min()) < -10 and float(beyond[:, 1].min()) >= 0


def test_no_box_in_a_frame_of_one_pixel_is_refused_but_limits_are():
    assert torch.isfinite(draw(Box(0, 0, 1, 1), 10, FAR, (1, 1), seeded())).all()
    assert draw_by_overlap(BOX, 0, FAR, (0.0, 0.3), FRAME, seeded()).shape == (0, 4)
    with pytest.raises(RangeError, match="limits"):
        draw_by_overlap(BOX, 5, FAR, (0.8, 0.3), FRAME, seeded())

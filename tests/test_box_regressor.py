"""Box regression: learns a linear law, against a solution written out, and says what is wrong."""

import numpy as np
import pytest
import torch

from fasttrack.errors import RangeError, ShapeError
from fasttrack.geometry import Box
from fasttrack.models import BoxRegressor
from fasttrack.vision.sampling import Spread, draw, overlaps

TARGET = Box(80.0, 60.0, 50.0, 30.0)


def samples(count, seed):
    """Boxes around the target and features that tell, with noise, where it lies from them."""
    random = torch.Generator().manual_seed(seed)
    boxes = draw(TARGET, count, Spread(0.3, 8.0, 2.0), (300, 200), random)
    centre, sides = torch.tensor(TARGET.center), torch.tensor([TARGET.w, TARGET.h])
    moves = torch.cat([(centre - boxes[:, :2] - boxes[:, 2:] / 2) / boxes[:, 2:], (sides / boxes[:, 2:]).log()], 1)
    mixed = moves.float() @ torch.randn(4, 64, generator=torch.Generator().manual_seed(9)) + 0.3
    return (mixed + 0.01 * torch.randn(count, 64, generator=random)).view(count, 16, 2, 2), boxes, moves


def test_moves_boxes_onto_the_target():
    model = BoxRegressor(ridge=0.1)
    features, boxes, _ = samples(400, 0)
    model.fit(features, boxes, TARGET)
    features, boxes, _ = samples(100, 1)
    before = overlaps(boxes, TARGET)
    after = overlaps(model.boxes(features, boxes), TARGET)
    assert float(after.min()) > 0.9
    assert float(before.mean()) < 0.6  # canary: boxes left where they are fail
    assert float(overlaps(model.boxes(features.flip(0), boxes), TARGET).mean()) < 0.75  # and so do others' features


@pytest.mark.parametrize("count", [40, 300])  # fewer and more samples than columns
def test_is_the_ridge_solution_with_whitened_targets(count):
    features, boxes, moves = samples(count, 2)
    model = BoxRegressor(ridge=5.0)
    model.fit(features, boxes, TARGET)
    rows = np.concatenate([features.flatten(1).double().numpy(), np.ones((count, 1))], 1)
    y = moves.numpy()
    centred = y - y.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred / count)
    root = (axes * np.sqrt(values + 1e-3)) @ axes.T
    weight = np.linalg.solve(rows.T @ rows + 5.0 * np.eye(65), rows.T @ centred @ np.linalg.inv(root))
    want = rows @ weight @ root + y.mean(0)
    got = model.boxes(features, boxes)
    sides = (got[:, 2:] / boxes[:, 2:]).log().numpy()
    shift = (got[:, :2] + got[:, 2:] / 2 - boxes[:, :2] - boxes[:, 2:] / 2).numpy() / boxes[:, 2:].numpy()
    assert np.concatenate([shift, sides], 1) == pytest.approx(want, abs=1e-4)
    assert np.abs(want).max() > 0.05  # canary: no moves at all fail


def test_a_target_that_never_varies_and_wrong_arguments():
    model = BoxRegressor()
    with pytest.raises(RangeError, match="fit on the first frame"):
        model.boxes(torch.zeros(1, 4), torch.ones(1, 4))
    boxes = torch.tensor([TARGET.as_tuple()] * 5, dtype=torch.float64)
    model.fit(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), boxes, TARGET)
    assert torch.allclose(model.boxes(torch.ones(1, 4), boxes[:1]), boxes[:1])
    with pytest.raises(ShapeError, match=r"features.*one row per box \(5\)"):
        model.fit(torch.zeros(4, 4), boxes, TARGET)
    with pytest.raises(RangeError, match="ridge"):
        BoxRegressor(0.0)

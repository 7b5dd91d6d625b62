"""Overlap and centre distance against the dull way, hand-computed cases, and boxes that are none."""

import math

import metric_reference as dull
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrack.errors import ShapeError
from fasttrack.evaluation.metrics.overlap import center_error, iou, normalised_center_error

NUMBER = st.one_of(st.integers(-20, 60).map(float), st.floats(-20, 60, width=32), st.sampled_from([0.0, math.nan]))
BOX = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(BOX, BOX), min_size=1, max_size=8))
def test_agrees_with_the_dull_way(pairs):
    a, b = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    wanted = [[f(x, y) for x, y in pairs] for f in (dull.overlap, dull.distance, dull.relative)]
    for got, want in zip((iou(a, b), center_error(a, b), normalised_center_error(a, b)), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_hand_computed_overlaps():
    box = [10, 20, 4, 6]
    others = [[10, 20, 4, 6], [12, 20, 4, 6], [12, 23, 4, 6], [14, 20, 4, 6], [10, 20, 0, 6], [11, 21, 2, 2]]
    np.testing.assert_allclose(iou(box, others), [1, 12 / 36, 6 / 42, 0, 0, 4 / 24], rtol=0, atol=1e-15)
    # Canary: a shift of a tenth of a pixel is seen.
    assert abs(iou(box, [12.1, 20, 4, 6]) - 12 / 36) > 1e-3


def test_hand_computed_distances():
    assert center_error([0, 0, 2, 2], [3, 4, 2, 2]) == 5
    assert center_error([0, 0, 4, 2], [0, 0, 2, 2]) == 1
    assert normalised_center_error([0, 0, 10, 20], [3, 8, 10, 20]) == 0.5
    assert math.isnan(normalised_center_error([0, 0, 1, 1], [0, 0, 0, 1]))


def test_nan_and_empty_boxes_warn_of_nothing(recwarn):
    boxes = np.array([[np.nan] * 4, [0, 0, 0, 0], [1, 1, -3, 4], [np.inf, 0, 1, 1], [0, 0, np.inf, 1]])
    assert np.isnan(iou(boxes[0], boxes)).all()
    np.testing.assert_array_equal(iou(boxes[1], boxes[1:3]), [0, 0])
    np.testing.assert_array_equal(iou(boxes[2], boxes[2]), 0)
    assert len(recwarn) == 0


def test_leading_axes_broadcast():
    a, b = np.ones((5, 1, 4)), np.ones((3, 4))
    assert iou(a, b).shape == center_error(a, b).shape == normalised_center_error(a, b).shape == (5, 3)


@pytest.mark.parametrize("measure", [iou, center_error, normalised_center_error])
def test_wrong_shapes_are_refused(measure):
    with pytest.raises(ShapeError, match=rf"{measure.__name__}: the second argument must be \(…, 4\)"):
        measure(np.ones((2, 4)), np.ones((2, 5)))
    with pytest.raises(ShapeError, match=r"two shapes that broadcast, got \(2, 4\) and \(3, 4\)"):
        measure(np.ones((2, 4)), np.ones((3, 4)))

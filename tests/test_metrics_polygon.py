"""Overlap of polygons: by hand, against OpenCV, against pixels filled one by one."""

import cv2
import numpy as np
import pytest

from fasttrack.errors import RangeError, ShapeError
from fasttrack.evaluation.metrics.overlap import iou
from fasttrack.evaluation.metrics.polygon import corners, polygon_iou, raster_iou

SQUARE = [0, 0, 4, 4]
DIAMOND = [2, -1, 5, 2, 2, 5, -1, 2]  # area 18, a corner of area ½ beyond … cut off at each side of the square


def turned(boxes, degrees):
    """The boxes as polygons, turned around their centres."""
    angle = np.deg2rad(degrees)
    points = corners(boxes)
    center = points.mean(1, keepdims=True)
    spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return ((points - center) @ spin + center).reshape(-1, 8)


def random_boxes(n, seed=0):
    generator = np.random.default_rng(seed)
    return np.c_[generator.uniform(10, 60, (n, 2)), generator.uniform(8, 50, (n, 2))]


@pytest.mark.parametrize(
    ("a", "b", "common", "union"),
    [
        (SQUARE, [0, 0, 4, 0, 4, 4, 0, 4], 16, 16),
        (SQUARE, [0, 4, 4, 4, 4, 0, 0, 0], 16, 16),  # the other way round
        (SQUARE, DIAMOND, 14, 20),  # four corners of legs 1 and 1 are cut off the square
        (SQUARE, [0, 0, 4, 0, 0, 4, 0, 4], 8, 16),  # half of it
        (SQUARE, [4, 0, 8, 0, 8, 4, 4, 4], 0, 32),  # a common side
        (SQUARE, [10, 10, 12, 10, 12, 12, 10, 12], 0, 20),
        (SQUARE, [1, 1, 2, 1, 2, 2, 1, 2], 1, 16),
        (DIAMOND, [2, 0, 4, 2, 2, 4, 0, 2], 8, 18),
        (SQUARE, [0, 0, 4, 0, 1, 1, 0, 4], 4, 16),  # hollow: two triangles of area 2
        ([0, 0, 0, 0], DIAMOND, 0, 18),
        (SQUARE, [1, 1, 3, 3, 1, 1, 3, 3], 0, 16),
    ],
)
def test_hand_computed_areas(a, b, common, union):
    np.testing.assert_allclose(polygon_iou([a], [b]), common / union, rtol=0, atol=1e-12)
    np.testing.assert_allclose(polygon_iou([b], [a]), common / union, rtol=0, atol=1e-12)


def test_upright_polygons_are_boxes():
    a, b = random_boxes(200), random_boxes(200, 1)
    for p, q in ((a, b), (turned(a, 0), b), (a, turned(b, 180)), (turned(a, 90)[:, [2, 3, 4, 5, 6, 7, 0, 1]], b)):
        wanted = iou(a, b) if p is not None and p.shape[1] == 4 else iou(_bounds(p), b)
        np.testing.assert_allclose(polygon_iou(p, q), wanted, rtol=0, atol=1e-9)


def _bounds(polygons):
    points = polygons.reshape(-1, 4, 2)
    return np.hstack([points.min(1), points.max(1) - points.min(1)])


def opencv(a, b):
    results = []
    for p, q in zip(corners(a).astype(np.float32), corners(b).astype(np.float32), strict=True):
        common, _ = cv2.intersectConvexConvex(p, q)
        results.append(common / (cv2.contourArea(p) + cv2.contourArea(q) - common))
    return np.array(results)


def test_turned_boxes_as_opencv_cuts_them():
    a = turned(random_boxes(300), 25)
    wanted = opencv(a, random_boxes(300, 1))
    assert (wanted > 0.01).sum() > 100
    np.testing.assert_allclose(polygon_iou(a, random_boxes(300, 1)), wanted, rtol=0, atol=1e-4)
    np.testing.assert_allclose(polygon_iou(a, turned(a, 40)), opencv(a, turned(a, 40)), rtol=0, atol=1e-4)
    # Canaries: another angle, a shift.
    assert abs(polygon_iou(turned(random_boxes(300), 24), random_boxes(300, 1)) - wanted).max() > 1e-3
    assert abs(polygon_iou(a, random_boxes(300, 1) + np.array([0.2, 0, 0, 0])) - wanted).max() > 1e-3


def test_regions_of_nan_and_wrong_ones():
    assert np.isnan(polygon_iou([[np.nan] * 8, DIAMOND], [SQUARE, [np.nan] * 4])).all()
    assert len(polygon_iou(np.zeros((0, 8)), np.zeros((0, 4)))) == 0
    hollow = [0, 0, 4, 0, 1, 1, 0, 4]
    with pytest.raises(RangeError, match="convex in every pair, got neither in row 1"):
        polygon_iou([DIAMOND, hollow], [DIAMOND, hollow])
    with pytest.raises(ShapeError, match=r"\(N, 4\) boxes or \(N, 8\) polygons, got shape \(1, 6\)"):
        polygon_iou([[1] * 6], [SQUARE])
    with pytest.raises(ShapeError, match="as many regions of each, got 1 and 2"):
        raster_iou([DIAMOND], [SQUARE, SQUARE], None)


def pixels(region, width, height):
    """The pixels of a region the dull way: one row and one side at a time."""
    rounded = [float(np.round(np.float32(v))) for v in region]
    mask = np.zeros((height, width), bool)
    if len(region) == 4:
        x, y, w, h = (int(v) for v in rounded)
        for row in range(max(y, 0), min(y + h, height)):
            for column in range(max(x, 0), min(x + w, width)):
                mask[row, column] = True
        return mask
    points = [(rounded[2 * i], rounded[2 * i + 1]) for i in range(4)]
    for row in range(height):
        places = []
        for i in range(4):
            (x, y), (u, v) = points[i], points[i - 1]
            if min(y, v) <= row <= max(y, v):
                places.append(int(x + ((row - y) / (v - y) * (u - x) if v != y else 0)))
        for column in range(width):
            # Convex: from the first crossing to the last.
            mask[row, column] = bool(places) and min(places) <= column <= max(places)
    return mask


@pytest.mark.parametrize("degrees", [0, 10, 30, 43, 77])
def test_pixels_are_counted_as_one_by_one(degrees):
    a, b = random_boxes(25), random_boxes(25, 1)
    for first, second in ((turned(a, degrees), b), (a, b), (turned(a, degrees), turned(b, 5))):
        wanted = []
        for p, q in zip(first, second, strict=True):
            one, other = pixels(p, 120, 110), pixels(q, 120, 110)
            wanted.append((one & other).sum() / (one | other).sum())
        np.testing.assert_allclose(raster_iou(first, second, (120, 110)), wanted, rtol=0, atol=1e-12)
        assert abs(raster_iou(first + 1.0, second, (120, 110)) - wanted).max() > 1e-3


def test_pixels_outside_the_frame_do_not_count():
    assert raster_iou([[-10, 0, 20, 10]], [[0, 0, 20, 10]], (100, 100)) == 0.5
    assert raster_iou([[-10, 0, 20, 10]], [[0, 0, 20, 10]], None) == 10 / 30
    assert raster_iou([[-20, 0, 10, 10]], [[-20, 0, 10, 10]], (100, 100)) == 0


def test_whole_boxes_inside_the_frame_agree_with_areas():
    a, b = np.round(random_boxes(100)), np.round(random_boxes(100, 1))
    np.testing.assert_allclose(raster_iou(a, b, (200, 200)), iou(a, b), rtol=0, atol=1e-12)


def test_regions_that_are_thin_or_none():
    assert raster_iou([[3, 3, 1, 9]], [[3, 3, 1, 2]], (50, 50)) == 1  # one column together
    assert raster_iou([[np.nan] * 4, SQUARE], [SQUARE, SQUARE], (50, 50)).tolist() == [0, 1]
    assert raster_iou([[np.nan] * 8], [SQUARE], (50, 50)) == 0


def test_pixels_and_areas_differ_as_documented():
    a, b = turned(random_boxes(2000), 30), random_boxes(2000)
    apart = raster_iou(a, b, (300, 300)) - polygon_iou(a, b)
    assert np.percentile(abs(apart), 95) < 0.02 < abs(apart).max() < 0.095
    assert abs(apart.mean() + 0.0015) < 1e-4

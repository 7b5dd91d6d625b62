"""31-channel HOG: NumPy and PyTorch formulations without loops over pixels, and the kernel."""

import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sides import DEVICE, OURS, make, on_backend

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.hog import SPECS

SPEC = SPECS[0]
ROWS = [pytest.param(case, id=case.name) for case in SPEC.cases if case.bench]
LOOSE = Tolerance(1e-5, 2e-5)
ANGLES = np.deg2rad(20.0 * np.arange(9))


def votes_of(length, cell):
    """The two cells of every pixel of an axis, and the weight of the later one; cell −1 and the last drop out."""
    position = (np.arange(length) + 0.5) / cell - 0.5
    first = np.floor(position).astype(np.int64)
    return first, (position - first).astype(np.float32)


def numpy_hog(patches, cell_size):
    """NumPy: directions by the arc tangent, votes by bincount."""
    return torch.from_numpy(np.stack([numpy_one(patch, cell_size) for patch in patches.numpy()]))


def numpy_one(patch, cell):
    _, height, width = patch.shape
    rows, columns = height // cell, width // cell
    edge = np.pad(patch, ((0, 0), (1, 1), (1, 1)), "edge")
    dx, dy = edge[:, 1:-1, 2:] - edge[:, 1:-1, :-2], edge[:, 2:, 1:-1] - edge[:, :-2, 1:-1]
    square = dx * dx + dy * dy
    best = square.argmax(0)[None]
    dx, dy, square = (np.take_along_axis(a, best, 0)[0, : rows * cell, : columns * cell] for a in (dx, dy, square))
    # A hair less than the angle: straight up and down belong to the smaller of two directions.
    turn = np.arctan2(dy, dx) * np.float32(9 / np.pi) - np.float32(1e-5) * (dx == 0)
    direction = np.rint(turn).astype(np.int64) % 18
    magnitude = np.sqrt(square)
    (top, below), (left, after) = votes_of(rows * cell, cell), votes_of(columns * cell, cell)
    bins = np.zeros(18 * (rows + 2) * (columns + 2), dtype=np.float32)
    for i, wy in ((top + 1, 1 - below), (top + 2, below)):
        for j, wx in ((left + 1, 1 - after), (left + 2, after)):
            index = (direction * (rows + 2) + i[:, None]) * (columns + 2) + j
            bins += np.bincount(index.ravel(), (magnitude * wy[:, None] * wx).ravel(), len(bins)).astype(np.float32)
    bins = bins.reshape(18, rows + 2, columns + 2)[:, 1:-1, 1:-1]
    unsigned = bins[:9] + bins[9:]
    energy = np.pad((unsigned**2).sum(0), 1, "edge")
    norm = 1 / np.sqrt(energy[:-1, :-1] + energy[1:, :-1] + energy[:-1, 1:] + energy[1:, 1:] + 1e-4)
    around = norm[1:, 1:], norm[:-1, 1:], norm[1:, :-1], norm[:-1, :-1]
    clipped = [np.minimum(bins * n, 0.2) for n in around]
    out = [0.5 * sum(clipped), 0.5 * sum(np.minimum(unsigned * n, 0.2) for n in around)]
    return np.concatenate([*out, 0.2357 * np.stack([c.sum(0) for c in clipped])]).astype(np.float32)


def torch_hog(patches, cell_size):
    """PyTorch: direction by comparisons, one scatter into planes, votes by a pooling that is a convolution."""
    edge = F.pad(patches, (1, 1, 1, 1), mode="replicate")
    dx, dy = edge[:, :, 1:-1, 2:] - edge[:, :, 1:-1, :-2], edge[:, :, 2:, 1:-1] - edge[:, :, :-2, 1:-1]
    square, best = (dx * dx + dy * dy).max(1, keepdim=True)
    dx, dy = dx.gather(1, best), dy.gather(1, best)
    lower = (dy < 0) | ((dy == 0) & (dx < 0))
    dx, dy = torch.where(lower, -dx, dx), dy.abs()
    step = sum((dy > math.tan(math.radians(border)) * dx.abs()).int() for border in (10, 30, 50, 70))
    direction = (torch.where(dx < 0, 9 - step, step) + 9 * lower) % 18
    return describe(torch_bins(square.sqrt(), direction.long(), cell_size))


def torch_bins(magnitude, direction, cell):
    """Separable triangle of two cells' width, once per cell, over 18 sparse planes."""
    count, _, height, width = magnitude.shape
    rows, columns = height // cell, width // cell
    planes = magnitude.new_zeros(count, 18, rows * cell, columns * cell)
    crop = (slice(None), slice(None), slice(rows * cell), slice(columns * cell))
    planes.scatter_(1, direction[crop], magnitude[crop])
    return triangle(rows, cell, planes.device).T @ (planes @ triangle(columns, cell, planes.device))


@cache
def triangle(cells, cell, device):
    """(pixels, cells) weights of the votes along an axis; made once, as a user would for maps of one size."""
    first, later = (torch.from_numpy(a) for a in votes_of(cells * cell, cell))
    weights = torch.zeros(cells * cell, cells + 2)
    at = torch.arange(cells * cell)
    weights[at, first + 1], weights[at, first + 2] = 1 - later, later
    return weights[:, 1:-1].to(device)


def describe(bins):
    unsigned = bins[:, :9] + bins[:, 9:]
    energy = F.pad((unsigned**2).sum(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    norm = (F.avg_pool2d(energy, 2, 1, divisor_override=1) + 1e-4).rsqrt()
    around = norm[:, :, 1:, 1:], norm[:, :, :-1, 1:], norm[:, :, 1:, :-1], norm[:, :, :-1, :-1]
    clipped = [(bins * n).clamp_(max=0.2) for n in around]
    plain = sum((unsigned * n).clamp_(max=0.2) for n in around)
    return torch.cat([0.5 * sum(clipped), 0.5 * plain, *(0.2357 * c.sum(1, keepdim=True) for c in clipped)], 1)


RIVALS = {"numpy": numpy_hog, "best_torch": torch_hog} if DEVICE == "cpu" else {"best_torch": torch_hog}
SIDES = {**RIVALS, **{name: on_backend(ops.hog, name) for name in OURS}}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ROWS)
def test_hog(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"hog {case.name}"
    tolerance = SPEC.tolerance_of(torch.float32) if side in OURS else LOOSE
    checked(
        benchmark, lambda: SIDES[side](**arguments), SPEC.truth(arguments), tolerance, SPEC.cost(arguments), side=side
    )

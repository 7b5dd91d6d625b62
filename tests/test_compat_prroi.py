"""PreciseRoIPooling's and mmcv's names against four nested loops over an exact integral."""

import copy
import pickle

import pytest
import torch

from fasttrack import ops
from fasttrack.compat import mmcv, prroi, prroi_extension
from fasttrack.errors import ArgumentError, RangeError, RoiIndexError, ShapeError
from fasttrack.spec.base import Tolerance

# Worst seen: 7e-8 of the largest value, forward; 9e-8 in the gradients.
BOUND = Tolerance(2e-6, 4e-6)


def hat_integral(low, high, cell):
    """∫ of max(0, 1 − |t − cell|) over [low, high], by its two straight pieces."""
    total = 0.0
    for start, stop, sign in ((cell - 1, cell, 1.0), (cell, cell + 1, -1.0)):
        a, b = max(low, start), min(high, stop)
        if b > a:
            total = total + (b - a) * (1 + sign * ((a + b) / 2 - cell))
    return total


def slow_pool(features, rois, bins_y, bins_x, scale):
    """The definition in float64, one bin after the other; autograd goes through the coordinates."""
    features, rois = features.double(), rois.double()
    rows = []
    for index, x1, y1, x2, y2 in (row * torch.tensor([1.0] + [scale] * 4).double() for row in rois):
        width, height = (x2 - x1) / bins_x, (y2 - y1) / bins_y
        cells = []
        for p in range(bins_y):
            for q in range(bins_x):
                total = features.new_zeros(features.shape[1])
                for i in range(features.shape[2]):
                    wy = hat_integral(y1 + p * height, y1 + (p + 1) * height, i)
                    for j in range(features.shape[3]):
                        wx = hat_integral(x1 + q * width, x1 + (q + 1) * width, j)
                        total = total + features[int(index), :, i, j] * (wy * wx)
                cells.append(total / (width * height))
        rows.append(torch.stack(cells, 1).view(-1, bins_y, bins_x))
    return torch.stack(rows)


def arguments(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 3, 5, 6, generator=generator).to(dtype)
    rois = torch.tensor([[0, 1.3, 2.1, 8.2, 7.7], [1, -2.0, 0.4, 5.5, 9.9], [1, 3.2, 3.3, 4.9, 6.1]], dtype=dtype)
    return features, rois


CALLS = {
    "function": lambda f, r: prroi.prroi_pool2d(f, r, 3, 2, 0.5),
    "apply": lambda f, r: prroi.PrRoIPool2DFunction.apply(f, r, 3, 2, 0.5),
    "keywords": lambda f, r: prroi.prroi_pool2d(
        features=f, rois=r, pooled_height=3, pooled_width=2, spatial_scale=torch.tensor(0.5)
    ),
    "module": lambda f, r: prroi.PrRoIPool2D(3, 2, 0.5)(f, r),
    "module keywords": lambda f, r: prroi.PrRoIPool2D(spatial_scale=0.5, pooled_width=2, pooled_height=3)(
        rois=r, features=f
    ),
    "mmcv": lambda f, r: mmcv.prroi_pool(f, r, (3, 2), 0.5),
    "mmcv module": lambda f, r: mmcv.PrRoIPool(output_size=(3, 2), spatial_scale=0.5)(f, r),
    "extension": lambda f, r: prroi_extension.prroi_pooling_forward_cuda(f, r, 3, 2, 0.5),
}


@pytest.fixture(scope="module")
def truth():
    features, rois = (t.double().requires_grad_() for t in arguments())
    out = slow_pool(features, rois, 3, 2, 0.5)
    grad = torch.cos(torch.arange(out.numel())).view(out.shape).double()
    return out.detach(), grad, *torch.autograd.grad(out, (features, rois), grad)


def refuses(tolerance, true):
    """Canaries: an output of zeros, a shifted, a scaled and a transposed one must not pass."""
    wrong = (torch.zeros_like(true), true.roll(1, -1), true * 1.001, true + 1e-3 * true.abs().max())
    return not any(tolerance.admits(w.float(), true) for w in wrong)


@pytest.mark.parametrize("call", CALLS)
def test_values_and_gradients(call, truth):
    out, grad, by_features, by_rois = truth
    features, rois = (t.requires_grad_() for t in arguments())
    got = CALLS[call](features, rois)
    assert got.shape == (3, 3, 3, 2) and got.dtype == torch.float32
    assert BOUND.admits(got.detach(), out) and refuses(BOUND, out)
    if call == "extension":
        assert not got.requires_grad
        return
    found = torch.autograd.grad(got, (features, rois), grad.float())
    for g, true in zip(found, (by_features, by_rois), strict=True):
        assert BOUND.admits(g, true) and refuses(BOUND, true)


def test_extension_gradients(truth):
    """They return what autograd gives, whether or not gradients are on, and need no graph."""
    out, grad, by_features, by_rois = truth
    features, rois = arguments()
    numbers = (3, 2, 0.5)
    with torch.no_grad():
        g = grad.float()
        found = prroi_extension.prroi_pooling_backward_cuda(features, rois, out.float(), g, *numbers)
        coordinates = prroi_extension.prroi_pooling_coor_backward_cuda(features, rois, out.float(), g, *numbers)
    assert BOUND.admits(found, by_features) and BOUND.admits(coordinates, by_rois)
    assert (coordinates[:, 0] == 0).all() and not features.requires_grad and not found.requires_grad


def test_golden():
    # On [0, 1]² the surface is 1 + x + 2y; the mean of a linear surface over a bin is its value in the middle.
    quad, roi = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[0.0, 0, 0, 1, 1]])
    assert prroi.PrRoIPool2D(2, 2, 1.0)(quad, roi).tolist() == [[[[1.75, 2.25], [2.75, 3.25]]]]
    assert mmcv.PrRoIPool(2, 1.0)(quad, roi).tolist() == [[[[1.75, 2.25], [2.75, 3.25]]]]


def test_second_order():
    features, rois = (t.requires_grad_() for t in arguments(torch.float64))
    assert torch.autograd.gradgradcheck(lambda f: prroi.prroi_pool2d(f, rois.detach(), 2, 2, 0.5), (features,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_more_types_than_the_original(dtype):
    features, rois = arguments()
    got = prroi.PrRoIPool2D(3, 2, 0.5)(features.to(dtype), rois)
    assert got.dtype == dtype and torch.equal(got, ops.prroi_pool(features.to(dtype), rois, (3, 2), 0.5))


@pytest.mark.parametrize("layer", [prroi.PrRoIPool2D("3", 2.0, "0.5"), mmcv.PrRoIPool((3, 2), "0.5")])
def test_modules_hold_no_state(layer):
    """An old checkpoint of a network with the layer loads strictly, and layers can be copied and pickled."""
    net = torch.nn.Sequential(layer, torch.nn.Flatten())
    assert not net.state_dict() and net.load_state_dict({}, strict=True)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(*arguments()), layer(*arguments()))


def test_attributes():
    layer = prroi.PrRoIPool2D(3, 2, 0.5)
    assert (layer.pooled_height, layer.pooled_width, layer.spatial_scale) == (3, 2, 0.5)
    layer.spatial_scale = 1.0  # changed by trackers after the network was built
    assert torch.equal(layer(*arguments()), ops.prroi_pool(*arguments(), (3, 2), 1.0))
    other = mmcv.PrRoIPool(7, 0.25)
    assert other.output_size == (7, 7) and repr(other) == "PrRoIPool(output_size=(7, 7), spatial_scale=0.25)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, r: prroi.prroi_pool2d(f, r[:, 1:], 3, 2, 0.5), ShapeError, r"rois must be .*\(3, 4\)"),
        (lambda f, r: prroi.prroi_pool2d(f, r, 0, 2, 0.5), RangeError, "output_size"),
        (lambda f, r: prroi.prroi_pool2d(f, r + 5, 3, 2, 0.5), RoiIndexError, "rois"),
        (
            lambda f, r: prroi_extension.prroi_pooling_forward_cuda(f, r, f, 3, 2),
            ArgumentError,
            r"prroi_pooling_forward_cuda: pooled_height must be a number of bins, got a tensor of shape "
            r"\(2, 3, 5, 6\); the form .*torch 0\.4.* is not served",
        ),
        (
            lambda f, r: prroi_extension.prroi_pooling_backward_cuda(f, r, f, f, 3, r, 2),
            ArgumentError,
            "pooled_width must be a number of bins, got a tensor",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call(*arguments())

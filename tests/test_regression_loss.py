"""Hand-computed truths, kinks, overflow and messages of the regression losses."""

import math

import pytest
import torch

from fasttrack import nn, ops
from fasttrack.errors import DtypeError, RangeError, ShapeError

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


def value_and_gradient(function, p, y, **options):
    prediction = torch.tensor(p, requires_grad=True)
    loss = function(prediction, torch.tensor(y), reduction="sum", **options)
    return loss.item(), torch.autograd.grad(loss, prediction)[0].tolist()


@BOTH
def test_truncated_by_hand(backend):
    # e = 0.5 at y = 1: (e¹·0.5)² = 0.25e², gradient 2e²·0.5; e = −0.05 is easy.
    value, gradient = value_and_gradient(ops.truncated_loss, [1.5, 0.15], [1.0, 0.2], backend=backend)
    assert value == pytest.approx(0.25 * math.e**2, rel=1e-6)
    assert gradient == pytest.approx([math.e**2, 0.0], rel=1e-6)


@BOTH
def test_shrinkage_by_hand(backend):
    # e = ±0.2 = ±c: half of the squared error is left, times exp(y).
    s = 0.5
    value, gradient = value_and_gradient(ops.shrinkage_loss, [0.2, -0.2], [0.0, 0.0], backend=backend)
    assert value == pytest.approx(2 * 0.04 * s, rel=1e-6)
    slope = 2 * 0.2 * s + 0.04 * 10 * s * (1 - s)
    assert gradient == pytest.approx([slope, -slope], rel=1e-6)
    # The original form reads the sign: at e = −0.2 it is far down the slope.
    s = 1 / (1 + math.exp(4))
    value, gradient = value_and_gradient(ops.shrinkage_loss, [-0.2], [0.0], form="original", backend=backend)
    assert value == pytest.approx(0.04 * s, rel=1e-5)
    assert gradient == pytest.approx([2 * -0.2 * s + 0.04 * 10 * s * (1 - s)], rel=1e-5)


@BOTH
def test_kinks(backend):
    """|e| = threshold is easy; e = 0 has value and gradient 0."""
    value, gradient = value_and_gradient(
        ops.truncated_loss, [0.25, -0.25, 0.0], [0.0, 0.0, 0.0], threshold=0.25, backend=backend
    )
    assert (value, gradient) == (0.0, [0.0, 0.0, 0.0])
    for function in (ops.shrinkage_loss, ops.focal_regression_loss, ops.square_loss):
        assert value_and_gradient(function, [0.5], [0.5], backend=backend) == (0.0, [0.0])


@BOTH
def test_large_errors_do_not_overflow(backend):
    value, gradient = value_and_gradient(ops.shrinkage_loss, [1e4, -1e4], [0.0, 0.0], backend=backend)
    assert value == pytest.approx(2e8)
    assert gradient == pytest.approx([2e4, -2e4])
    value, gradient = value_and_gradient(ops.shrinkage_loss, [1e4, -1e4], [0.0, 0.0], form="original", backend=backend)
    assert value == pytest.approx(1e8)
    assert gradient == pytest.approx([2e4, 0.0])


@BOTH
def test_nan_is_kept(backend):
    for function in (ops.truncated_loss, ops.shrinkage_loss, ops.focal_regression_loss, ops.square_loss):
        value, gradient = value_and_gradient(function, [float("nan"), 1.0], [0.0, 0.0], backend=backend)
        assert math.isnan(value)
        assert math.isnan(gradient[0])
        assert math.isfinite(gradient[1])


def test_exponential_of_the_kernel():
    """exp(y) of the kernel over its whole range, through square-like arguments: relative error below 3e-7."""
    y = torch.linspace(-80, 80, 4001)
    got = ops.truncated_loss(y + 1, y, threshold=0.0, a=0.5, reduction="none", backend="cpu").double()
    error = (y + 1).double() - y.double()
    truth = torch.exp(y.double()) * error**2
    assert ((got - truth).abs() / truth).max() < 3e-7


@pytest.mark.parametrize("threads", [1, 2])
def test_same_sum_on_any_number_of_threads(threads):
    generator = torch.Generator().manual_seed(3)
    p, y = torch.randn(200_000, generator=generator), torch.rand(200_000, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = ops.shrinkage_loss(p, y, reduction="sum", backend="cpu")
    finally:
        torch.set_num_threads(before)
    assert got == ops.shrinkage_loss(p, y, reduction="sum", backend="cpu")


def test_messages():
    p = torch.zeros(2, 3)
    with pytest.raises(ShapeError, match=r"square_loss: target must be of the shape of prediction, \(2, 3\), got sh"):
        ops.square_loss(p, torch.zeros(3))
    with pytest.raises(DtypeError, match=r"truncated_loss: prediction must be float32 or .*got torch.int64"):
        ops.truncated_loss(p.long(), p)
    with pytest.raises(
        DtypeError, match=r"target must be of the dtype of prediction, torch.float32, got torch.float64"
    ):
        ops.truncated_loss(p, p.double())
    with pytest.raises(DtypeError, match=r"prediction must be a torch.Tensor, got list"):
        ops.truncated_loss([1.0], p)
    with pytest.raises(RangeError, match=r"threshold must be a finite number ≥ 0, got -0.1"):
        ops.truncated_loss(p, p, threshold=-0.1)
    with pytest.raises(RangeError, match=r"c must be a finite number, got nan"):
        ops.shrinkage_loss(p, p, c=float("nan"))
    with pytest.raises(RangeError, match=r"form must be one of 'modified', 'original', got 'new'"):
        ops.shrinkage_loss(p, p, form="new")
    with pytest.raises(RangeError, match=r"reduction must be one of 'none', 'sum', 'mean', got 'max'"):
        ops.square_loss(p, p, reduction="max")


def test_modules_are_their_functions():
    p, y = torch.randn(5, 4), torch.rand(5, 4)
    pairs = [
        (nn.TruncatedLoss(0.05, 2.0), ops.truncated_loss(p, y, 0.05, 2.0)),
        (nn.ShrinkageLoss(5.0, 0.1, "original", "sum"), ops.shrinkage_loss(p, y, 5.0, 0.1, "original", "sum")),
        (nn.FocalRegressionLoss("sum"), ops.focal_regression_loss(p, y, "sum")),
        (nn.SquareLoss(), ops.square_loss(p, y)),
    ]
    for module, wanted in pairs:
        assert module(p, y) == wanted
    assert repr(pairs[0][0]) == "TruncatedLoss(threshold=0.05, a=2.0, reduction='sum')"

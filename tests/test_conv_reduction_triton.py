"""Trained reductions by the Triton kernels: on a GPU, or in triton's interpreter in a process of its own."""

import pytest
import torch
from test_conv_fusion import fusion_against_network
from test_conv_regression_triton import DEVICE, bump, normal

from fasttrack import native, nn, ops
from fasttrack.errors import RangeError, ShapeError
from fasttrack.spec._conv_problem import Optimization, run_problem
from fasttrack.spec.base import Tolerance

REASON = native.triton_why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
BOUND = Tolerance(5e-6, 3e-5, witness="1.4e-7, 2.1e-7")
SIZES = {"reduction_lr": 2.5e-3, "reduction_decay": 0.2}


def problem(frames=2, channels=21, kernel=(7, 5), size=(15, 22), decay=0.3, loss=None):
    maps = [normal(channels, size[0] + i, size[1] - i, seed=i) for i in range(frames)]
    targets = [bump(m.shape[1] - kernel[0] + 1, m.shape[2] - kernel[1] + 1) for m in maps]
    return ops.ConvRegressionProblem(maps, targets, nn.ShrinkageLoss() if loss is None else loss, decay)


def start(channels=21, reduced=9, kernel=(7, 5)):
    weight, matrix = 0.05 * normal(reduced, *kernel, seed=9), normal(reduced, channels, seed=8) / 4
    return weight, torch.tensor([0.1], device=DEVICE), matrix


def truth_of(p, weight, bias, matrix, steps, optimizer="adam", lr=1e-3, reduction_lr=1e-3, reduction_decay=0.0):
    """The same optimisation in float64."""
    maps, targets = [f.features.cpu().double() for f in p.frames], [y.cpu().double() for y in p.targets]
    begin = [t.cpu().double() for t in (weight, bias, matrix)]
    how = Optimization(
        *begin[:2], steps, optimizer, lr,
        reduction=begin[2], reduction_lr=reduction_lr, reduction_decay=reduction_decay,
    )  # fmt: skip
    return run_problem(maps, targets, *p.loss.kernel_form(), p.weight_decay, how)


def admits(got, truth, bound=BOUND):
    return all(
        bound.admits(getattr(got, n).cpu(), getattr(truth, n)) for n in ("weight", "bias", "reduction", "history")
    )


# D < C, D = C, D > C; one or several blocks of products; one column, one cell.
@pytest.mark.parametrize(
    ("channels", "reduced", "kernel", "optimizer", "lr"),
    [
        (21, 9, (7, 5), "adam", 1e-3),
        (5, 5, (4, 3), "gd", 1e-4),
        (3, 13, (5, 2), "adam", 1e-3),
        (40, 33, (6, 1), "gd", 1e-4),
        (17, 2, (1, 1), "adam", 1e-3),
    ],
)
def test_reduction_against_float64(channels, reduced, kernel, optimizer, lr):
    p, begin = problem(2, channels, kernel), start(channels, reduced, kernel)
    weight, bias, matrix = begin
    got = p.run(weight, bias, 5, optimizer, lr, reduction=matrix, backend="triton", **SIZES)
    truth = truth_of(p, *begin, 5, optimizer, lr, **SIZES)
    assert (got.steps, got.history.shape) == (5, (6, 2))
    assert admits(got, truth)
    # The bound sees a step less, the other learning rate, and a decay forgotten.
    assert not BOUND.admits(got.reduction, truth_of(p, *begin, 4, optimizer, lr, **SIZES).reduction)
    for name, value in {"reduction_lr": lr, "reduction_decay": 0.0}.items():
        assert not BOUND.admits(got.reduction, truth_of(p, *begin, 5, optimizer, lr, **SIZES | {name: value}).reduction)
    assert torch.equal(matrix, start(channels, reduced, kernel)[2]), "the argument was changed"


def test_reduction_goes_on_from_its_state():
    p, (weight, bias, matrix) = problem(), start()
    options = {"backend": "triton"}
    whole = p.run(weight, bias, 6, "adam", 1e-3, reduction=matrix, **options)
    first = p.run(weight, bias, 2, "adam", 1e-3, reduction=matrix, **options)
    second = p.run(first.weight, first.bias, 4, "adam", 1e-3, state=first.state, reduction=first.reduction, **options)
    assert second.state.steps == 6
    torch.testing.assert_close(second.reduction, whole.reduction, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.weight, whole.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.state.reduction_moments, whole.state.reduction_moments, rtol=1e-3, atol=1e-4)
    afresh = p.run(first.weight, first.bias, 4, "adam", 1e-3, reduction=first.reduction, **options)
    assert (afresh.reduction - whole.reduction).norm() > 1e-4 * whole.reduction.norm()  # canary: the state matters


def test_reductions_of_targets_side_by_side():
    problems = [problem(1), problem(1, size=(15, 23)), problem(1)]
    problems[2].set_target(0, problems[2].targets[0].flip(0))
    weight, bias, matrix = start()
    weights, matrices = [weight, 2 * weight, -weight], [matrix, matrix, 0.5 * matrix]
    got = ops.ConvRegressionBatch(problems).run(
        weights, [bias] * 3, 2, "adam", 1e-3, reduction=matrices, backend="triton"
    )
    for p, w, m, g in zip(problems, weights, matrices, got, strict=True):
        alone = p.run(w, bias, 2, "adam", 1e-3, reduction=m, backend="triton")
        assert torch.equal(g.reduction, alone.reduction)
        assert torch.equal(g.history, alone.history)
        assert torch.equal(g.state.reduction_moments, alone.state.reduction_moments)
    assert not torch.equal(got[0].reduction, got[2].reduction)


def test_stops_of_a_run_with_a_reduction():
    p, (weight, bias, matrix) = problem(1), start()
    full = p.run(weight, bias, 6, "adam", 1e-3, reduction=matrix, backend="triton")
    limit = float(full.history[3, 0]) * (1 + 1e-5)
    early = p.run(weight, bias, 6, "adam", 1e-3, limit, reduction=matrix, backend="triton")
    assert (early.steps, len(early.history)) == (3, 4)
    assert torch.equal(
        early.reduction, p.run(weight, bias, 3, "adam", 1e-3, reduction=matrix, backend="triton").reduction
    )
    assert not torch.equal(early.reduction, full.reduction)
    # The penalty of the reduction counts as progress: with it the objective falls, without it it does not.
    flat = problem(1, decay=0.0, loss=nn.SquareLoss())
    zeros = torch.zeros_like(weight)
    for frame in flat.frames:
        frame.features.zero_()
    decayed = {"reduction": matrix, "reduction_lr": 1e-1, "patience": 2, "backend": "triton"}
    fresh = ops.ConvRegressionProblem([f.features for f in flat.frames], [torch.zeros_like(flat.targets[0])], flat.loss)
    falling = fresh.run(zeros, torch.zeros_like(bias), 5, "gd", 1e-3, reduction_decay=0.5, **decayed)
    still = fresh.run(zeros, torch.zeros_like(bias), 5, "gd", 1e-3, **decayed)
    assert (falling.steps, falling.stalled) == (5, False)
    assert (still.steps, still.stalled) == (2, True)


def test_a_run_nobody_waits_for():
    p, (weight, bias, matrix) = problem(), start()
    run = ops.ConvDeviceRun(p, "adam", 6, reduced=9)
    run.load(weight, bias, 5, 1e-3, reduction=matrix, **SIZES)
    run.launch(3)
    assert run.result().steps.item() == 3
    run.launch()
    end, truth = run.result(), p.run(weight, bias, 5, "adam", 1e-3, reduction=matrix, backend="triton", **SIZES)
    assert torch.equal(end.reduction, truth.reduction)
    assert torch.equal(end.weight, truth.weight)
    assert torch.equal(end.reduction_moments, truth.state.reduction_moments)
    assert torch.equal(end.history[:6].cpu(), truth.history)
    with pytest.raises(
        ShapeError, match=r"reduction must be 9 reduced channels for 1 regressors, as .*, got none for 1"
    ):
        run.load(normal(21, 7, 5), bias, 5, 1e-3)
    with pytest.raises(RangeError, match=r"reduced must be None with optimizer 'cg', else at least 1, got 9"):
        ops.ConvDeviceRun(p, "cg", 6, reduced=9)


RELEASED = ops.Fusion((21, 14), ((0.8, 0.0), (0.2, 1.0)), (1.0, 8.0), decays=(1.0, 8.0))
THREE = ops.Fusion((3, 2, 5), ((0.5, 2.0), (-1.0, 0.0), (1.0, 1.0)), (2.0, 1.0), (1.0, 3.0, 0.5))


@pytest.mark.parametrize(
    ("fusion", "reduced", "kernel", "optimizer", "lr"),
    [
        (RELEASED, 9, (4, 3), "adam", 1e-4),
        (THREE, 33, (5, 2), "gd", 1e-6),
        (ops.Fusion((17,), ((0.7,),)), 6, (1, 1), "adam", 1e-4),
    ],
)
def test_fusion_is_the_network(fusion, reduced, kernel, optimizer, lr):
    fusion_against_network(fusion, reduced, kernel, optimizer, lr, "triton", steps=4)


def test_fusion_nobody_waits_for():
    fusion, size = ops.Fusion((21, 14), ((1.0, 0.0), (1.0, 1.0)), (1.0, 40.0)), (7, 5)
    p, begin = problem(channels=35), start(35, 9)
    weight = torch.stack([begin[0], 2 * begin[0]])
    run = ops.ConvDeviceRun(p, "adam", 6, reduced=9, regressors=2)
    options = {"reduction": begin[2], "fusion": fusion, "bias_lr": 0.0}
    run.load(weight, begin[1], 3, 1e-4, **options)
    run.launch()
    end, truth = run.result(), p.run(weight, begin[1], 3, "adam", 1e-4, backend="triton", **options)
    assert end.weight.shape == (2, 9, *size)
    assert torch.equal(end.weight, truth.weight)
    assert torch.equal(end.moments, truth.state.moments)
    assert torch.equal(end.bias, begin[1])
    with pytest.raises(ShapeError, match=r"reduction must be 9 reduced channels for 2 regressors.*got 9 for 1"):
        run.load(begin[0], begin[1], 3, 1e-4, reduction=begin[2])


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU: CUDA graphs")
def test_a_graph_of_the_caller():
    p, (weight, bias, matrix) = problem(), start()
    run = ops.ConvDeviceRun(p, "adam", 40, reduced=9)
    run.load(weight, bias, 40, 1e-3, reduction=matrix, **SIZES)
    run.launch(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run.launch(8)
    run.load(weight, bias, 40, 1e-3, reduction=matrix, **SIZES)
    for _ in range(6):
        graph.replay()
    truth = truth_of(p, weight, bias, matrix, 40, **SIZES)
    assert Tolerance(2e-5, 1e-4).admits(run.result().reduction.cpu(), truth.reduction)
    assert run.result().steps.item() == 40

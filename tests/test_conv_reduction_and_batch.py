"""Whole optimisations with a trained reduction, of several targets at once, and of targets without features."""

import pytest
import torch
from torch import Tensor

from fasttrack import nn, ops
from fasttrack.errors import DtypeError, RangeError, ShapeError
from fasttrack.ops._conv_run import PATIENCE
from fasttrack.spec._conv_problem import Optimization, run_problem
from fasttrack.spec.base import Tolerance
from fasttrack.spec.conv_regression import conv_regression

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


def relative(got: Tensor, truth: Tensor) -> float:
    return float((got.double() - truth.double()).norm() / truth.double().norm())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bump(height: int, width: int, sigma: float = 2.0) -> Tensor:
    """Gaussian labels with their peak off the centre."""
    y, x = torch.arange(height) - height // 3, torch.arange(width) - width // 2
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * sigma**2)).float()


def problem(frames=1, channels=21, size=(30, 25), kernel=(7, 5), loss=None, decay=0.3, seed=0):
    maps = [normal(channels, size[0] + i, size[1] - i, seed=seed + i) for i in range(frames)]
    targets = [bump(m.shape[1] - kernel[0] + 1, m.shape[2] - kernel[1] + 1) for m in maps]
    return ops.ConvRegressionProblem(maps, targets, nn.ShrinkageLoss() if loss is None else loss, decay)


def truth_of(p, how: Optimization):
    """The same optimisation in float64."""
    wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in vars(how).items()}
    maps, targets = [f.features.double() for f in p.frames], [y.double() for y in p.targets]
    return run_problem(maps, targets, *p.loss.kernel_form(), p.weight_decay, Optimization(**wide))


# D < C, D = C, D > C; none, one or several whole vectors of each; one column, one cell.
REDUCED = [(21, 9, (7, 5)), (5, 5, (4, 3)), (3, 13, (5, 2)), (40, 33, (6, 1)), (17, 2, (1, 1)), (16, 8, (3, 9))]


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("gd", 1e-4)])
@pytest.mark.parametrize(("channels", "reduced", "kernel"), REDUCED)
def test_reduction_against_float64(channels, reduced, kernel, optimizer, lr, poisoned):
    p = problem(2, channels, kernel=kernel)
    start = 0.05 * normal(reduced, *kernel, seed=9), torch.tensor([0.1]), normal(reduced, channels, seed=8) / 4
    own = {"reduction_lr": 2.5 * lr, "reduction_decay": 0.2}
    got = p.run(*start[:2], 12, optimizer, lr, reduction=start[2], backend="cpu", **own)
    how = Optimization(*start[:2], 12, optimizer, lr, reduction=start[2], **own)
    truth = truth_of(p, how)
    bound = Tolerance(5e-6, 1e-5, witness="5.9e-7, 5.4e-7")
    for name in ("weight", "bias", "reduction", "history"):
        assert bound.admits(getattr(got, name), getattr(truth, name)), name
    # The bound sees a step less, the other learning rate, and a decay forgotten.
    assert not bound.admits(p.run(*start[:2], 11, optimizer, lr, reduction=start[2], **own).reduction, truth.reduction)
    for left_out in own:
        other = {k: v for k, v in own.items() if k != left_out}
        assert not bound.admits(
            p.run(*start[:2], 12, optimizer, lr, reduction=start[2], **other).reduction, truth.reduction
        )
    assert torch.equal(start[2], normal(reduced, channels, seed=8) / 4), "the argument was changed"


def test_reduction_is_a_reduced_map():
    """One step of the whole equals one step on A X with A held, in the weight; and the response is that of A X."""
    p, matrix, weight = problem(), normal(9, 21, seed=3), 0.1 * normal(9, 7, 5)
    x = p.frames[0].features
    reduced_map = torch.einsum("dc,chw->dhw", matrix, x)
    held = ops.ConvRegressionProblem([reduced_map], p.targets, p.loss, p.weight_decay)
    one, other = (q.run(weight, None, 1, "gd", 1e-3, reduction=m) for q, m in ((p, matrix), (held, None)))
    assert relative(one.weight, other.weight) < 1e-6
    assert relative(p.response(weight, torch.ones(1), reduction=matrix), held.response(weight, torch.ones(1))) < 2e-6
    assert torch.equal(
        p.response(weight, reduction=matrix), ops.conv_regression(x, weight, reduction=matrix, backend="cpu")
    )


@BOTH
def test_reduction_goes_on_from_its_state(backend):
    p, matrix, weight = problem(2), normal(9, 21, seed=3), 0.1 * normal(9, 7, 5)
    whole = p.run(weight, None, 9, "adam", 1e-3, reduction=matrix, backend=backend)
    first = p.run(weight, None, 4, "adam", 1e-3, reduction=matrix, backend=backend)
    again = {"reduction": first.reduction, "backend": backend}
    second = p.run(first.weight, first.bias, 5, "adam", 1e-3, state=first.state, **again)
    assert second.state.steps == 9
    torch.testing.assert_close(second.reduction, whole.reduction, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.weight, whole.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.state.reduction_moments, whole.state.reduction_moments, rtol=1e-3, atol=1e-4)
    afresh = p.run(first.weight, first.bias, 5, "adam", 1e-3, **again)
    assert relative(afresh.reduction, whole.reduction) > 1e-4  # canary: the state matters


def test_reduction_does_not_depend_on_threads():
    p, matrix, weight = problem(2, 37), normal(29, 37, seed=3), 0.1 * normal(29, 7, 5)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            run = p.run(weight, None, 5, "adam", 1e-3, reduction=matrix)
            results.append([run.weight, run.bias, run.reduction, run.history, run.state.reduction_moments])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_spectra_of_a_detection_are_learnt_from():
    p, matrix, weight = problem(), normal(9, 21, seed=3), 0.1 * normal(9, 7, 5)
    seen = p.spectra(normal(21, 30, 25, seed=5))
    assert seen.response(weight, reduction=matrix).shape == (24, 21)
    address = seen.address()
    p.append(seen, bump(24, 21))
    fresh = ops.ConvRegressionProblem([f.features for f in p.frames], p.targets, p.loss, p.weight_decay)
    runs = [q.run(weight, None, 3, "adam", 1e-3, reduction=matrix) for q in (p, fresh)]
    assert torch.equal(runs[0].reduction, runs[1].reduction)
    assert seen.address() == address


def test_messages_of_the_reduction():
    p, matrix, weight = problem(), normal(9, 21), normal(9, 7, 5)
    with pytest.raises(RangeError, match=r"reduction must be None with optimizer 'cg'"):
        p.run(weight, None, 1, "cg", reduction=matrix)
    with pytest.raises(ShapeError, match=r"reduction must be \(9, 21\): D of weight.*got shape \(9, 20\)"):
        p.run(weight, None, 1, lr=0.1, reduction=matrix[:, 1:])
    with pytest.raises(ShapeError, match=r"weight must be \(9, 7, 5\), got shape \(9, 7, 4\)"):
        p.run(weight[..., 1:], None, 1, lr=0.1, reduction=matrix)
    with pytest.raises(DtypeError, match=r"reduction must be of the dtype of features, torch.float32"):
        p.run(weight, None, 1, lr=0.1, reduction=matrix.double())
    with pytest.raises(RangeError, match=r"reduction_lr must be a finite number > 0, got 0"):
        p.run(weight, None, 1, lr=0.1, reduction=matrix, reduction_lr=0)
    with pytest.raises(RangeError, match=r"reduction_decay must be a finite number ≥ 0, got -1"):
        p.run(weight, None, 1, lr=0.1, reduction=matrix, reduction_decay=-1)
    with pytest.raises(RangeError, match=r"patience must be at least 1, or None, got 0"):
        p.run(None, None, 1, lr=0.1, patience=0)
    state = p.run(None, None, 1, lr=0.1).state
    with pytest.raises(ShapeError, match=r"state must be of a weight of shape \(9, 7, 5\)"):
        p.run(weight, None, 1, lr=0.1, reduction=matrix, state=state)
    x = normal(2, 21, 30, 25)
    with pytest.raises(ShapeError, match=r"reduction must be \(9, 21\): D of weight.*got shape \(2, 9, 21\)"):
        ops.conv_regression(x, weight, reduction=matrix.expand(2, 9, 21))
    with pytest.raises(ShapeError, match=r"weight must be .*\(B, D, kh, kw\) with features.*got shape \(3, 9, 7, 5\)"):
        ops.conv_regression(x, weight.expand(3, 9, 7, 5), reduction=matrix)
    with pytest.raises(ShapeError, match=r"bias must be \(2,\), one per map, got shape \(1,\)"):
        ops.conv_regression(x, normal(2, 21, 7, 5), torch.zeros(1))


def test_kernels_per_map():
    """Bias gradients, no maps, and the same as one call per map."""
    x, w, b = normal(3, 4, 9, 8), normal(3, 4, 4, 3), normal(3).requires_grad_()
    for backend in ("reference", "cpu"):
        got = ops.conv_regression(x, w, b, backend=backend)
        each = [ops.conv_regression(*one, backend=backend) for one in zip(x, w, b[:, None], strict=True)]
        torch.testing.assert_close(got, torch.stack(each))
        (gradient,) = torch.autograd.grad((got * torch.tensor([1.0, 2.0, 4.0])[:, None, None]).sum(), b)
        assert torch.equal(gradient, 36 * torch.tensor([1.0, 2.0, 4.0]))
        none = [t[:0].clone().requires_grad_() for t in (x, w)]
        got = ops.conv_regression(*none, backend=backend)
        assert got.shape == (0, 6, 6)
        assert [g.shape for g in torch.autograd.grad(got.sum(), none)] == [t.shape for t in none]


def test_reduction_keeps_its_precision_under_autocast():
    arguments = [normal(1, 9, 13, 11), normal(4, 6, 5), None, normal(4, 9)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ops.conv_regression(*arguments)
    truth = conv_regression(*(t if t is None else t.double() for t in arguments))
    assert relative(got, truth) < 2e-6


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["adam", "cg", "gd"])
def test_batch_is_its_problems(optimizer, threads, poisoned):
    maps = [normal(3, 21, 30, 25, seed=i) for i in range(2)]
    labels = [torch.stack([bump(24, 21, s) for s in (1.0, 2.0, 3.0)]) for _ in range(2)]
    weight, bias = 0.05 * normal(3, 21, 7, 5, seed=4), normal(3, 1, seed=5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batch = ops.ConvRegressionBatch.stacked(maps, labels, nn.TruncatedLoss(), 0.3)
        together = batch.run(weight, bias, 7, optimizer, 1e-3)
        apart = [p.run(w, b, 7, optimizer, 1e-3) for p, w, b in zip(batch.problems, weight, bias, strict=True)]
    finally:
        torch.set_num_threads(before)
    assert len(batch) == len(together) == 3
    for one, other in zip(together, apart, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
        assert torch.equal(one.history, other.history)
    assert not torch.equal(together[0].weight, together[1].weight)


@BOTH
def test_batch_of_unequal_targets(backend):
    """Frames, sizes and stops of each target are its own; reduction and state go through."""
    problems = [problem(2), problem(1, size=(40, 33), kernel=(7, 5), seed=7), problem(3, seed=11)]
    batch, matrix = ops.ConvRegressionBatch(problems), normal(3, 9, 21, seed=3)
    weight = 0.1 * normal(3, 9, 7, 5)
    limit = problems[0].run(weight[0], None, 3, "adam", 1e-3, reduction=matrix[0]).history[2, 0].item() * 1.0001
    first = batch.run(weight, None, 4, "adam", 1e-3, limit, reduction=matrix, backend=backend)
    assert first[0].steps == 2
    assert all(r.steps in (0, 4) for r in first[1:])
    start = [r.weight for r in first], [r.bias for r in first]
    more = {"state": [r.state for r in first], "reduction": [r.reduction for r in first], "backend": backend}
    second = batch.run(*start, 3, "adam", 1e-3, **more)
    for p, w, m, got in zip(problems, weight, matrix, second, strict=True):
        truth = truth_of(
            p, Optimization(w, torch.zeros(1), got.state.steps, "adam", 1e-3, reduction=m, reduction_lr=1e-3)
        )
        assert relative(got.weight, truth.weight) < 1e-5
        assert relative(got.reduction, truth.reduction) < 1e-5


def test_batch_of_problems_that_share():
    """Spectra wanted in two tiles, or one problem twice: the results are still those of separate runs."""
    shared = ops.FeatureSpectra(normal(5, 30, 25), (7, 5))
    large, loss = normal(5, 90, 70, seed=1), nn.SquareLoss()
    one = ops.ConvRegressionProblem([shared], [bump(24, 21)], loss)
    two = ops.ConvRegressionProblem([large, shared], [bump(84, 66), bump(24, 21)], loss)
    for problems in ([one, two], [two, one], [one, one]):
        together = ops.ConvRegressionBatch(problems).run(None, None, 4, "adam", 1e-3)
        for p, got in zip(problems, together, strict=True):
            zeros = torch.zeros(5, 7, 5), torch.zeros(1)
            assert relative(got.weight, truth_of(p, Optimization(*zeros, 4, "adam", 1e-3)).weight) < 1e-6


def test_messages_of_the_batch():
    x, y, loss = normal(2, 3, 9, 8), torch.stack([bump(6, 6)] * 2), nn.SquareLoss()
    with pytest.raises(ShapeError, match=r"problems must be at least one problem"):
        ops.ConvRegressionBatch([])
    with pytest.raises(ShapeError, match=r"targets must be a list of \(T, H′, W′\) label maps, one per frame.*got 0"):
        ops.ConvRegressionBatch.stacked([x], [], loss)
    with pytest.raises(ShapeError, match=r"targets must be .* with T = 2, as the first, got shape \(1, 6, 6\)"):
        ops.ConvRegressionBatch.stacked([x], [y[:1]], loss)
    batch = ops.ConvRegressionBatch.stacked([x], [y], loss)
    with pytest.raises(ShapeError, match=r"weight must be one per target, 2, or None, got 3"):
        batch.run(torch.zeros(3, 3, 4, 3), None, 1, lr=0.1)


@BOTH
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 2e-8), ("gd", 1e-12), ("cg", None)])
def test_a_target_without_features_stops(optimizer, lr, backend):
    p = ops.ConvRegressionProblem([torch.zeros(4, 20, 18)], [bump(15, 14)], nn.TruncatedLoss(), 1e3)
    got = p.run(None, None, 1000, optimizer, lr, 0.02, backend=backend)
    assert got.steps <= PATIENCE + 1
    assert got.stalled or optimizer == "cg"  # which may also find its direction gone
    assert p.run(None, None, 30, optimizer, lr, 0.02, patience=10, backend=backend).steps <= 11
    if optimizer == "adam":
        free = p.run(None, None, PATIENCE + 50, optimizer, lr, 0.02, patience=None, backend=backend)
        assert (free.steps, free.stalled) == (PATIENCE + 50, False)


@BOTH
def test_patience_leaves_progress_alone(backend):
    p = problem(loss=nn.TruncatedLoss(), channels=5)
    runs = [p.run(None, None, 60, "adam", 1e-3, patience=k, backend=backend) for k in (None, 10, PATIENCE)]
    assert all(torch.equal(r.weight, runs[0].weight) and not r.stalled for r in runs)
    # At its floor the loss no longer falls: the run ends there, at an iterate the patient run passed through.
    long, short = (p.run(None, None, 1500, "adam", 1e-2, patience=k, backend=backend) for k in (None, 40))
    assert short.stalled
    assert 40 <= short.steps < 1500
    rows = len(short.history)
    assert rows == short.steps + 1
    assert torch.equal(short.history, long.history[:rows])
    objective = long.history[:rows, 0]
    assert objective[-1] < 0.3 * objective[0]

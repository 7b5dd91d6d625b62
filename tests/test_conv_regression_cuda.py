"""Whole optimisations in one CUDA launch: on a GPU, or emulated in the process that test_cuda.py starts."""

import pytest
import torch
from test_conv_regression import LOSSES, normal, problem, relative, truth_of

from fasttrack import gpu, nn, ops
from fasttrack.errors import BackendUnavailable
from fasttrack.ops._conv_run_cuda import Plan
from fasttrack.spec.base import Tolerance

DEVICE = gpu.device_type()
runs = pytest.mark.skipif(gpu.why_not() is not None, reason=str(gpu.why_not()))
BOUND = Tolerance(5e-6, 2e-5, witness="7e-7, 4e-6 on the weight")


def moved(p):
    """The problem on the device the kernels read."""
    maps, targets = [f.features.to(DEVICE) for f in p.frames], [y.to(DEVICE) for y in p.targets]
    return ops.ConvRegressionProblem(maps, targets, p.loss, p.weight_decay)


def run(p, weight, bias, *args, **options):
    start = [None if t is None else t.to(DEVICE) for t in (weight, bias)]
    got = moved(p).run(*start, *args, backend="cuda", **options)
    assert got.history.device.type == "cpu"
    return got


def agrees(got, truth):
    w, b, steps, history, _ = truth
    return (
        got.steps == steps
        and BOUND.admits(got.weight.cpu(), w)
        and BOUND.admits(got.bias.cpu(), b)
        and BOUND.admits(got.history, history)
    )


@runs
@pytest.mark.parametrize(
    ("loss", "frames", "optimizer", "lr"),
    [*((loss, 1, "adam", 1e-3) for loss in LOSSES), (LOSSES[0], 3, "adam", 1e-3), (LOSSES[0], 2, "gd", 1e-4)],
    ids=str,
)
def test_run_against_float64(loss, frames, optimizer, lr, poisoned):
    p = problem(frames, loss)
    weight, bias = 0.01 * normal(5, 7, 5, seed=9), torch.tensor([0.1])
    truth = truth_of(p, weight, bias, 4, optimizer, lr)
    assert agrees(run(p, weight, bias, 4, optimizer, lr), truth)
    short = run(p, weight, bias, 3, optimizer, lr)
    assert not BOUND.admits(short.weight.cpu(), truth[0])


@runs
@pytest.mark.parametrize(
    ("channels", "size", "kernel"),
    [
        (1, (9, 8), (1, 1)),
        (3, (20, 40), (5, 8)),  # taps and positions fill their tiles
        (2, (31, 29), (11, 17)),  # 3 × 3 tiles per channel, all of them part empty
        (4, (12, 12), (12, 12)),  # one position
        (9, (8, 30), (2, 9)),  # several channels in one block
    ],
)
def test_sizes(channels, size, kernel, poisoned):
    p = problem(1, nn.ShrinkageLoss(), channels=channels, size=size, kernel=kernel)
    weight, bias = 0.01 * normal(channels, *kernel, seed=9), torch.tensor([0.1])
    assert agrees(run(p, weight, bias, 3, "adam", 1e-3), truth_of(p, weight, bias, 3, "adam", 1e-3))


@runs
def test_tolerance_evaluation_and_state():
    p = problem()
    full = run(p, None, None, 12, "adam", 1e-2)
    limit = float(full.history[7, 0]) * (1 + 1e-4)
    early = run(p, None, None, 12, "adam", 1e-2, tolerance=limit)
    assert (early.steps, len(early.history)) == (7, 8)
    assert early.loss < limit
    lean = run(p, None, None, 12, "adam", 1e-2, evaluate=False)
    assert torch.equal(lean.weight, full.weight)
    assert torch.equal(lean.history, full.history[:12])
    first = run(p, None, None, 5, "adam", 1e-2)
    second = run(p, first.weight, first.bias, 7, "adam", 1e-2, state=first.state)
    assert relative(second.weight, full.weight) < 1e-6
    assert second.state.steps == 12
    assert relative(run(p, first.weight, first.bias, 7, "adam", 1e-2).weight, full.weight) > 1e-2
    assert run(p, None, None, 0, "adam", 1e-2).steps == 0


@runs
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-9), ("gd", 1e-12)])
def test_patience_ends_a_run_that_learns_nothing(optimizer, lr):
    p = problem(2, nn.SquareLoss())
    weight, bias = 0.01 * normal(5, 7, 5, seed=9), torch.tensor([0.1])
    got = run(p, weight, bias, 9, optimizer, lr, patience=3)
    truth = p.run(weight, bias, 9, optimizer, lr, patience=3, backend="cpu")
    assert (
        (got.stalled, got.steps, len(got.history)) == (truth.stalled, truth.steps, len(truth.history)) == (True, 3, 4)
    )
    assert BOUND.admits(got.weight.cpu(), truth.weight)
    free = run(p, weight, bias, 4, optimizer, lr, patience=None)
    assert (free.stalled, free.steps) == (False, 4)
    assert torch.equal(run(p, weight, bias, 3, optimizer, lr).weight, got.weight), "the iterates are the same"


@runs
def test_patience_watches_loss_and_decay():
    """A map without features: the loss stands still, the decay alone falls, and with it the objective."""
    maps, targets = [torch.zeros(5, 14, 12)], [torch.zeros(8, 8)]
    weight = 0.1 * normal(5, 7, 5, seed=9)
    stops = {}
    for decay in (0.0, 10.0):
        p = ops.ConvRegressionProblem(maps, targets, nn.SquareLoss(), decay)
        got = run(p, weight, None, 8, "gd", 1e-3, patience=2)
        truth = p.run(weight, None, 8, "gd", 1e-3, patience=2, backend="cpu")
        assert (got.steps, got.stalled) == (truth.steps, truth.stalled)
        stops[decay] = got.steps, got.stalled
    assert stops == {0.0: (2, True), 10.0: (8, False)}
    learns = problem(loss=nn.TruncatedLoss())
    one, two = (run(learns, None, None, 12, "adam", 1e-3, patience=k) for k in (None, 5))
    assert torch.equal(one.weight, two.weight)
    assert not two.stalled


@runs
def test_a_bias_with_its_own_rate():
    p, bias = problem(), torch.tensor([0.1])
    for lr in (0.0, 3e-2):
        got, truth = run(p, None, bias, 4, "adam", 1e-3, bias_lr=lr), p.run(None, bias, 4, "adam", 1e-3, bias_lr=lr)
        assert BOUND.admits(got.bias.cpu(), truth.bias)
        assert BOUND.admits(got.weight.cpu(), truth.weight)
    assert not BOUND.admits(run(p, None, bias, 4, "adam", 1e-3).bias.cpu(), truth.bias)


@runs
def test_two_runs_give_the_same_bits():
    p = problem(2)
    one, two = (run(p, None, None, 4, "adam", 1e-2) for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.history, two.history)


@runs
def test_refusals():
    p = moved(problem())
    with pytest.raises(BackendUnavailable, match="cuda: runs 'adam' and 'gd', got 'cg'"):
        p.run(None, None, 3, "cg", backend="cuda")
    with pytest.raises(BackendUnavailable, match="cuda: holds at most 8 frames, got 9"):
        moved(problem(9)).run(None, None, 3, "adam", 1e-3, backend="cuda")
    wide = problem(1, channels=1, size=(260, 300), kernel=(3, 3))
    with pytest.raises(BackendUnavailable, match=r"too small for maps of \(1, 260, 300\)"):
        moved(wide).run(None, None, 3, "adam", 1e-3, backend="cuda")


H200_BLOCKS, H200_SHARED = 132, 227 * 1024


@pytest.mark.parametrize(
    ("kernel", "sizes", "blocks"),
    [
        ((64, 20, 8), ((100, 72),), 128),
        ((64, 20, 8), ((100, 72),) * 5, 128),  # CRT's updates: five frames
        ((31, 20, 8), ((100, 72),), 124),
        ((64, 32, 14), ((160, 126),), 128),
        ((31, 12, 12), ((60, 108),) * 5, 93),
    ],
)
def test_trackers_sizes_fit_an_h200(kernel, sizes, blocks):
    plan = Plan(kernel, sizes)
    assert plan.blocks(H200_BLOCKS) == blocks
    assert 4 * plan.shared_floats(blocks)[3] + 12_400 <= H200_SHARED


def test_size_l_does_not_fit():
    plan = Plan((64, 48, 24), ((240, 216),))
    assert 4 * plan.shared_floats(plan.blocks(H200_BLOCKS))[3] > H200_SHARED


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 12])
def test_plan_counts_the_channels_of_every_block(blocks):
    plan = Plan((6, 7, 9), ((20, 20),))  # 2 × 2 tiles per channel
    owners = [set() for _ in range(blocks)]
    for tile in range(plan.tiles):
        owner = next(b for b in range(blocks) if tile < plan.tiles * (b + 1) // blocks)
        owners[owner].add(tile // 4)
    assert plan.channels_at_once(blocks) == max(map(len, owners))


def test_padding_of_positions_and_maps():
    plan = Plan((2, 3, 3), ((9, 12), (10, 30)))
    (first, second) = plan.members(1)
    assert first[:7] == (9, 12, 7, 10, 9, 16, 0)
    assert second[6] == 9 * 16, "the second frame's positions follow the first's"
    assert all(m[-1] % 8 == 4 for m in (first, second)), "rows start in different banks"

"""The Triton kernels of the convolution regression: on a GPU, or in triton's interpreter in a process of its own."""

import pytest
import torch
from torch import Tensor

from fasttrack import native, nn, ops
from fasttrack.errors import BackendUnavailable, RangeError, ShapeError
from fasttrack.spec._conv_problem import Optimization, run_problem
from fasttrack.spec.base import Tolerance
from fasttrack.spec.conv_regression import conv_regression

REASON = native.triton_why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LOSSES = [
    nn.TruncatedLoss(0.05),
    nn.ShrinkageLoss(),
    nn.ShrinkageLoss(form="original"),
    nn.FocalRegressionLoss(),
    nn.SquareLoss(),
]
BOUND = Tolerance(5e-6, 2e-5, witness="4e-7, 5e-7")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def bump(height: int, width: int, sigma: float = 2.0) -> Tensor:
    """Gaussian labels with their peak off the centre."""
    y, x = torch.arange(height) - height // 3, torch.arange(width) - width // 2
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * sigma**2)).float().to(DEVICE)


def problem(
    frames: int = 1, loss=LOSSES[0], decay: float = 0.3, channels: int = 3, size=(15, 22), kernel=(6, 4), kind="dft"
):
    """Maps of slightly different sizes; ``kind`` chooses the transforms."""
    from fasttrack.kernels import _conv_tiles as tiles

    maps = [normal(channels, size[0] + i, size[1] - i, seed=i) for i in range(frames)]
    targets = [bump(m.shape[1] - kernel[0] + 1, m.shape[2] - kernel[1] + 1) for m in maps]
    p = ops.ConvRegressionProblem(maps, targets, loss, decay)
    tiling = tiles.dft_tiling(channels, *size, *kernel) if kind == "dft" else tiles.fft_tiling(*size, *kernel)
    for frame in p.frames:
        frame.spectra_for(tiling)
    return p


def truth_of(p, weight: Tensor, bias: Tensor, steps: int, optimizer: str, lr: float, tolerance=None, evaluate=True):
    """The same optimisation in float64."""
    maps, targets = [f.features.cpu().double() for f in p.frames], [y.cpu().double() for y in p.targets]
    how = Optimization(weight.cpu().double(), bias.cpu().double(), steps, optimizer, lr, tolerance, evaluate)
    out = run_problem(maps, targets, *p.loss.kernel_form(), p.weight_decay, how)
    return out.weight, out.bias, out.steps, out.history, out.state


def start(channels: int = 3, kernel=(6, 4)):
    return 0.01 * normal(channels, *kernel, seed=9), torch.tensor([0.1], device=DEVICE)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize(("optimizer", "lr", "steps"), [("adam", 1e-3, 6), ("gd", 1e-4, 3), ("cg", None, 4)])
@pytest.mark.parametrize("kind", ["dft", "fft"])
def test_every_loss_with_every_optimizer(loss, optimizer, lr, steps, kind):
    p = problem(2, loss, kind=kind)
    got = p.run(*start(), steps, optimizer, lr, backend="triton")
    w, b, taken, history, _ = truth_of(p, *start(), steps, optimizer, lr or 0.0)
    assert (got.steps, taken, got.history.shape) == (steps, steps, (steps + 1, 2))
    assert BOUND.admits(got.weight, w)
    assert BOUND.admits(got.bias, b)
    assert BOUND.admits(got.history, history)
    assert (got.loss, got.snr) == tuple(got.history[-1].tolist())
    # The bound sees one step fewer, and no decay.
    shorter, *_ = truth_of(p, *start(), steps - 1, optimizer, lr or 0.0)
    assert not BOUND.admits(got.weight, shorter)
    free, *_ = truth_of(problem(2, loss, decay=0.0), *start(), steps, optimizer, lr or 0.0)
    assert not BOUND.admits(got.weight, free)


@pytest.mark.parametrize(("optimizer", "steps", "kind"), [("adam", 30, "dft"), ("cg", 8, "dft"), ("cg", 8, "fft")])
def test_thirty_steps(optimizer, steps, kind):
    p = problem(channels=4, size=(23, 37), kernel=(9, 5), kind=kind)
    begin = start(4, (9, 5))
    got = p.run(*begin, steps, optimizer, 1e-3, backend="triton")
    w, b, _, history, state = truth_of(p, *begin, steps, optimizer, 1e-3)
    loose = Tolerance(2e-5, 1e-4, witness="9e-7, 2e-6")
    assert loose.admits(got.weight, w)
    assert loose.admits(got.bias, b)
    assert loose.admits(got.history, history)
    if state is not None:
        assert loose.admits(got.state.moments, state.moments)
        assert loose.admits(got.state.bias_moments, state.bias_moments)
    assert not loose.admits(got.weight * 1.001, w)
    assert not loose.admits(torch.zeros_like(got.weight), w)


def test_tolerance_stops_on_the_device():
    p = problem()
    full = p.run(None, None, 14, "adam", 1e-2, backend="triton")
    # With this step the loss falls for four updates, then rises and falls again.
    limit = float(full.history[3, 0]) * (1 + 1e-4)
    early = p.run(None, None, 14, "adam", 1e-2, tolerance=limit, backend="triton")
    assert (early.steps, len(early.history)) == (3, 4)
    assert early.loss < limit
    assert torch.equal(p.run(None, None, 3, "adam", 1e-2, backend="triton").weight, early.weight)
    again = p.run(early.weight, early.bias, 5, "adam", 1e-2, tolerance=limit * 1.001, backend="triton")
    assert again.steps == 0
    assert torch.equal(again.weight, early.weight)
    by_cg = p.run(None, None, 30, "cg", tolerance=limit, backend="triton")
    truth = truth_of(p, torch.zeros(3, 6, 4), torch.zeros(1), 30, "cg", 0.0, limit)
    assert by_cg.steps == truth[2]
    assert BOUND.admits(by_cg.weight, truth[0])


@pytest.mark.parametrize("optimizer", ["adam", "cg"])
def test_without_evaluation(optimizer):
    p = problem()
    full, lean = (p.run(None, None, 4, optimizer, 1e-2, evaluate=e, backend="triton") for e in (True, False))
    assert torch.equal(full.weight, lean.weight)
    assert (len(full.history), len(lean.history), lean.steps) == (5, 4, 4)
    assert lean.loss == full.history[3, 0]


def test_adam_goes_on_from_its_state():
    p = problem(frames=2)
    whole = p.run(None, None, 9, "adam", 1e-3, backend="triton")
    first = p.run(None, None, 4, "adam", 1e-3, backend="triton")
    second = p.run(first.weight, first.bias, 5, "adam", 1e-3, state=first.state, backend="triton")
    assert (first.state.steps, second.state.steps) == (4, 9)
    torch.testing.assert_close(second.weight, whole.weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(second.bias, whole.bias, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(second.state.moments, whole.state.moments, rtol=1e-4, atol=1e-6)
    afresh = p.run(first.weight, first.bias, 5, "adam", 1e-3, backend="triton")
    assert (afresh.weight - whole.weight).norm() > 0.01 * whole.weight.norm()  # canary: the state matters
    assert p.run(None, None, 1, "gd", 1e-3, backend="triton").state is None


def test_conjugate_gradient_stays_where_it_converged():
    p = problem(channels=1, kernel=(2, 2), size=(8, 8), loss=nn.SquareLoss())
    got = p.run(None, None, 14, "cg", backend="triton")
    w, *_ = truth_of(p, torch.zeros(1, 2, 2), torch.zeros(1), 6, "cg", 0.0)
    assert BOUND.admits(got.weight, w)


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", "dft"), ("gd", "fft")])
def test_patience_ends_a_run_that_learns_nothing(optimizer, kind):
    p = problem(kind=kind)
    for frame in p.frames:  # a map without features
        frame.spectra_for(None)[1].zero_()
    got = p.run(None, None, 7, optimizer, 1e-7, patience=3, backend="triton")
    long = p.run(None, None, 4, optimizer, 1e-7, backend="triton")
    assert (got.stalled, got.steps, len(got.history)) == (True, 3, 4)
    assert not long.stalled
    assert long.steps == 4


def test_targets_side_by_side():
    problems = [problem(1), problem(1, size=(15, 23)), problem(1)]
    problems[2].set_target(0, problems[2].targets[0].flip(0))
    weights = [start()[0] * factor for factor in (1.0, 2.0, -1.0)]
    batch = ops.ConvRegressionBatch(problems)
    got = batch.run(weights, None, 2, "adam", 1e-3, backend="triton")
    for p, w, g in zip(problems, weights, got, strict=True):
        alone = p.run(w, None, 2, "adam", 1e-3, backend="triton")
        assert torch.equal(g.weight, alone.weight)
        assert torch.equal(g.history, alone.history)
        assert torch.equal(g.state.moments, alone.state.moments)
    assert not torch.equal(got[0].weight, got[2].weight)


def test_maps_of_other_sizes_share_one_tile():
    small, large = normal(3, 15, 22), normal(3, 29, 31, seed=1)
    spectra = ops.FeatureSpectra(large, (6, 4))
    p = ops.ConvRegressionProblem([small, spectra], [bump(10, 19), bump(24, 28)], nn.SquareLoss())
    w, *_ = truth_of(p, *start(), 3, "adam", 1e-3)
    assert BOUND.admits(p.run(*start(), 3, "adam", 1e-3, backend="triton").weight, w)


@pytest.mark.parametrize("kind", ["dft", "fft"])
def test_response_of_spectra(kind):
    from fasttrack.kernels import _conv_tiles as tiles

    x, w, b = normal(5, 33, 47), normal(5, 7, 5), torch.tensor([0.3], device=DEVICE)
    spectra = ops.FeatureSpectra(x, (7, 5))
    spectra.spectra_for(tiles.dft_tiling(5, 33, 47, 7, 5) if kind == "dft" else tiles.fft_tiling(33, 47, 7, 5))
    truth = conv_regression(x.cpu().double(), w.cpu().double(), b.cpu().double())
    bound = Tolerance(2e-6, 4e-6, witness="3e-7, 5e-7")
    got = spectra.response(w, b, backend="triton")
    assert bound.admits(got, truth)
    assert not bound.admits(spectra.response(w, backend="triton"), truth)


def test_tilings():
    from fasttrack.kernels import _conv_tiles as tiles

    for channels, height, width, kh, kw in ((64, 100, 72, 20, 8), (64, 240, 216, 48, 24), (8, 300, 30, 290, 30)):
        tiling = tiles.run_tiling(channels, height, width, kh, kw)
        down, across = tiling.counts(height, width)
        assert down * tiling.step[0] >= height - kh + 1
        assert across * tiling.step[1] >= width - kw + 1
        response = torch.arange(2.0 * (height - kh + 1) * (width - kw + 1)).view(2, height - kh + 1, width - kw + 1)
        assert torch.equal(tiling.join(tiling.spread(response, height, width), height, width), response)
    assert tiles.run_tiling(64, 100, 72, 20, 8).kind == "dft"
    assert tiles.run_tiling(8, 300, 30, 290, 30).kind == "fft"  # no tile of the products holds such a kernel
    assert [tiles.smooth(n) for n in (1, 7, 11, 97, 163)] == [1, 8, 12, 100, 180]
    assert tiles.smooth(25, even=True) == 30


def test_arguments_are_not_changed():
    p, (weight, bias) = problem(), start()
    kept = weight.clone()
    first = p.run(weight, bias, 2, lr=1e-2, backend="triton")
    before = first.weight.clone(), first.state.moments.clone(), first.history.clone()
    p.run(first.weight, first.bias, 2, lr=1e-2, state=first.state, backend="triton")
    assert torch.equal(weight, kept)
    assert float(bias) == pytest.approx(0.1)
    # Results are the caller's: a later run on the same memory leaves them alone.
    after = first.weight, first.state.moments, first.history
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_run_nobody_waits_for():
    p, (weight, bias) = problem(), start()
    run = ops.ConvDeviceRun(p, "adam", 6)
    run.load(weight, bias, 6, 1e-2)
    run.launch(3)
    run.launch(2)
    half = run.result()
    assert (half.steps.item(), half.rows.item()) == (5, 5)
    run.launch()
    end, truth = run.result(), p.run(weight, bias, 6, "adam", 1e-2, backend="triton")
    assert (end.steps.item(), end.rows.item()) == (6, 7)
    assert torch.equal(end.weight, truth.weight)
    assert torch.equal(end.history[:7].cpu(), truth.history)
    run.load(weight, bias, 2, 1e-2)
    run.launch()
    assert torch.equal(run.result().weight, p.run(weight, bias, 2, "adam", 1e-2, backend="triton").weight)


def test_messages_of_a_run_nobody_waits_for():
    p, (weight, bias) = problem(), start()
    run = ops.ConvDeviceRun(p, "adam", 6)
    with pytest.raises(RangeError, match=r"steps must be 0 to 7, the room of this run, got 8"):
        run.load(weight, bias, 8, 1e-2)
    p.append(normal(3, 15, 22, seed=4), bump(10, 19))
    with pytest.raises(ShapeError, match=r"problem must be frames of \d+ tiles together, .*, got \d+"):
        run.load(weight, bias, 6, 1e-2)


def test_double_precision_says_why():
    x, w = normal(1, 3, 9, 8).double(), normal(3, 4, 3).double()
    with pytest.raises(BackendUnavailable, match=r"triton: computes in float32, got float64"):
        ops.conv_regression(x, w, backend="triton")
    p = ops.ConvRegressionProblem([x[0]], [bump(6, 6).double()], nn.SquareLoss())
    with pytest.raises(BackendUnavailable, match=r"triton: computes in float32, got float64"):
        p.run(None, None, 3, lr=1e-3, backend="triton")
    with pytest.raises(BackendUnavailable, match=r"no run on the device: computes in float32, got float64"):
        ops.ConvDeviceRun(p, "adam", 3)


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU: CUDA graphs")
def test_a_graph_of_the_caller():
    p, (weight, bias) = problem(), start()
    run = ops.ConvDeviceRun(p, "adam", 40)
    run.load(weight, bias, 40, 1e-3)
    run.launch(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run.launch(8)
    run.load(weight, bias, 40, 1e-3)
    for _ in range(6):
        graph.replay()
    truth, *_ = truth_of(p, weight, bias, 40, "adam", 1e-3)
    assert Tolerance(2e-5, 1e-4).admits(run.result().weight, truth)
    assert run.result().steps.item() == 40


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU: CUDA graphs")
def test_replays_are_the_launches():
    p = problem()
    got = p.run(None, None, 100, "adam", 1e-3, backend="triton")  # long enough for a graph
    again = p.run(None, None, 100, "adam", 1e-3, backend="triton")
    run = ops.ConvDeviceRun(p, "adam", 100)
    run.load(torch.zeros_like(got.weight), torch.zeros_like(got.bias), 100, 1e-3)
    for _ in range(101):
        run.launch(1)
    assert torch.equal(got.weight, again.weight)
    assert torch.equal(got.weight, run.result().weight)

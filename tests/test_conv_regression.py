"""Hand-computed truths, edges, messages and whole optimisations of the convolution regression."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from fasttrack import nn, ops
from fasttrack.errors import BackendUnavailable, DtypeError, RangeError, ShapeError
from fasttrack.ops.conv_regression import _FEATURES_GRADIENT, _WEIGHT_GRADIENT
from fasttrack.spec._conv_problem import Optimization, run_problem
from fasttrack.spec.base import Tolerance
from fasttrack.spec.conv_regression import SPECS, conv_regression

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
CASES = {case.name: case for case in SPECS[0].cases}
F32 = SPECS[0].tolerance_of(torch.float32)
LOSSES = [
    nn.TruncatedLoss(0.05),
    nn.ShrinkageLoss(),
    nn.ShrinkageLoss(form="original"),
    nn.FocalRegressionLoss(),
    nn.SquareLoss(),
]


def relative(got: Tensor, truth: Tensor) -> float:
    return float((got.double() - truth.double()).norm() / truth.double().norm())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bump(height: int, width: int, sigma: float = 2.0) -> Tensor:
    """Gaussian labels with their peak off the centre."""
    y, x = torch.arange(height) - height // 3, torch.arange(width) - width // 2
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * sigma**2)).float()


def problem(frames: int = 1, loss=LOSSES[0], decay: float = 0.3, channels: int = 5, size=(30, 25), kernel=(7, 5)):
    maps = [normal(channels, size[0] + i, size[1] - i, seed=i) for i in range(frames)]
    targets = [bump(m.shape[1] - kernel[0] + 1, m.shape[2] - kernel[1] + 1) for m in maps]
    return ops.ConvRegressionProblem(maps, targets, loss, decay)


def truth_of(p, weight: Tensor, bias: Tensor, steps: int, optimizer: str, lr: float, reduction=None, **options):
    """The same optimisation in float64: weight, bias, steps, history, reduction."""
    maps, targets = [f.features.double() for f in p.frames], [y.double() for y in p.targets]
    form = p.loss.kernel_form()
    if reduction is not None:
        options["reduction"] = reduction.double()
    how = Optimization(weight.double(), bias.double(), steps, optimizer, lr, **options)
    got = run_problem(maps, targets, *form, p.weight_decay, how)
    return got.weight, got.bias, got.steps, got.history, got.reduction


@BOTH
def test_by_hand(backend):
    x = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]])
    w = torch.tensor([[[1.0, -1.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 1.0]]])
    # (1 − 2 + 10) + (3 + 0), (2 − 3 + 12) + (0 + 2), and a bias of ½.
    got = ops.conv_regression(x, w, torch.tensor([0.5]), backend=backend)
    assert torch.allclose(got, torch.tensor([[12.5, 13.5]]), rtol=1e-6)
    assert ops.conv_regression(x[None], w, backend=backend).shape == (1, 1, 2)


@pytest.mark.parametrize("name", [case.name for case in SPECS[0].cases if case.bench and case.name[0] not in "ML"])
def test_design_sizes(name, poisoned):
    arguments = CASES[name].make()
    leaves = {k: v.clone().requires_grad_() for k, v in arguments.items()}
    wide = {k: v.double().requires_grad_() for k, v in arguments.items()}
    got, truth = ops.conv_regression(**leaves, backend="cpu"), conv_regression(**wide)
    assert F32.admits(got, truth)
    seed = normal(*truth.shape, seed=5)
    for g, t in zip(
        torch.autograd.grad(got, list(leaves.values()), seed),
        torch.autograd.grad(truth, list(wide.values()), seed.double()),
        strict=True,
    ):
        assert relative(g, t) < 2e-6


@BOTH
def test_bias_gradient(backend):
    x, w, b = normal(2, 3, 9, 8), normal(3, 4, 3), torch.zeros(1, requires_grad=True)
    (ops.conv_regression(x, w, b, backend=backend) * 2).sum().backward()
    assert b.grad == 2 * 2 * 6 * 6


def test_empty_batch():
    x, w = torch.empty(0, 3, 9, 8, requires_grad=True), normal(3, 4, 3).requires_grad_()
    for backend in ("reference", "cpu"):
        out = ops.conv_regression(x, w, backend=backend)
        assert out.shape == (0, 6, 6)
        gx, gw = torch.autograd.grad(out.sum(), [x, w])
        assert gx.shape == x.shape
        assert torch.equal(gw, torch.zeros(3, 4, 3))


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (_WEIGHT_GRADIENT, (normal(2, 3, 9, 8), normal(2, 6, 6), 4, 3)),
        (_FEATURES_GRADIENT, (normal(2, 6, 6), normal(3, 4, 3), 9, 8)),
    ],
)
def test_opcheck_of_the_adjoints(op, arguments):
    leaves = [a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in arguments]
    torch.library.opcheck(op.overload, tuple(leaves))


def test_double_precision_says_why():
    x, w = normal(1, 3, 9, 8).double(), normal(3, 4, 3).double()
    with pytest.raises(BackendUnavailable, match=r"cpu: computes in float32, got float64"):
        ops.conv_regression(x, w, backend="cpu")
    assert ops.conv_regression(x, w).dtype == torch.float64


def test_messages():
    x, w = normal(1, 3, 9, 8), normal(3, 4, 3)
    with pytest.raises(
        ShapeError, match=r"conv_regression: weight must be .*1 ≤ kh ≤ 9 and 1 ≤ kw ≤ 8.*got shape \(3, 10, 3\)"
    ):
        ops.conv_regression(x, normal(3, 10, 3))
    with pytest.raises(
        ShapeError, match=r"weight must be \(C, kh, kw\) with the C ≥ 1 of features, 3, got shape \(2, 4, 3\)"
    ):
        ops.conv_regression(x, normal(2, 4, 3))
    with pytest.raises(ShapeError, match=r"features must be \(B, C, H, W\) or \(C, H, W\), got shape \(9, 8\)"):
        ops.conv_regression(x[0, 0], w)
    with pytest.raises(ShapeError, match=r"bias must be \(1,\), got shape \(\)"):
        ops.conv_regression(x, w, torch.tensor(1.0))
    with pytest.raises(DtypeError, match=r"weight must be of the dtype of features, torch.float32, got torch.float64"):
        ops.conv_regression(x, w.double())
    with pytest.raises(DtypeError, match=r"features must be float32 or .*got torch.int64"):
        ops.conv_regression(x.long(), w)
    with pytest.raises(DtypeError, match=r"features must be a torch.Tensor, got list"):
        ops.conv_regression([1.0], w)
    with pytest.raises(ValueError, match=r"weight must be on the device of features, cpu, got meta"):
        ops.conv_regression(x, w.to("meta"))


def test_messages_of_the_problem():
    x, y, loss = normal(3, 9, 8), bump(6, 6), nn.TruncatedLoss()
    with pytest.raises(ShapeError, match=r"targets must be a list of one label map per feature map.*got 0 for 1"):
        ops.ConvRegressionProblem([x], [], loss)
    with pytest.raises(ShapeError, match=r"target must be at least 1 × 1 and no larger than the map.*\(10, 6\)"):
        ops.ConvRegressionProblem([x], [bump(10, 6)], loss)
    with pytest.raises(RangeError, match=r"weight_decay must be a finite number ≥ 0, got -1"):
        ops.ConvRegressionProblem([x], [y], loss, -1.0)
    with pytest.raises(RangeError, match=r"capacity must be at least 1, or None, got 0"):
        ops.ConvRegressionProblem([x], [y], loss, capacity=0)
    p = ops.ConvRegressionProblem([x], [y], loss)
    with pytest.raises(
        ShapeError, match=r"target must be \(6, 6\), the response of kernel \(4, 3\), got shape \(5, 6\)"
    ):
        p.append(x, bump(5, 6))
    with pytest.raises(ShapeError, match=r"features must be a map of 3 channels, as the first, got shape \(4, 9, 8\)"):
        p.append(normal(4, 9, 8), y)
    with pytest.raises(ShapeError, match=r"features must be spectra for kernel \(4, 3\), got for \(3, 3\)"):
        p.append(ops.FeatureSpectra(x, (3, 3)), y)
    with pytest.raises(DtypeError, match=r"features must be float32 or float64, got torch.float16"):
        p.append(x.half(), y)
    with pytest.raises(RangeError, match=r"index must be a frame of a problem with more than one"):
        p.remove(0)
    with pytest.raises(ShapeError, match=r"weight must be \(3, 4, 3\), got shape \(3, 3, 3\)"):
        p.run(normal(3, 3, 3), None, 1, lr=0.1)
    with pytest.raises(RangeError, match=r"optimizer must be one of 'adam', 'cg', 'gd', got 'sgd'"):
        p.run(None, None, 1, "sgd", lr=0.1)
    with pytest.raises(RangeError, match=r"lr must be a finite number > 0 for 'adam', got None"):
        p.run(None, None, 1)
    with pytest.raises(RangeError, match=r"steps must be at least 0, or 1 without evaluation, got 0"):
        p.run(None, None, 0, lr=0.1, evaluate=False)
    with pytest.raises(RangeError, match=r"tolerance must be a finite number ≥ 0, got nan"):
        p.run(None, None, 1, lr=0.1, tolerance=math.nan)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("gd", 1e-4)])
def test_run_against_float64(loss, frames, optimizer, lr, poisoned):
    p = problem(frames, loss)
    weight, bias = 0.01 * normal(5, 7, 5, seed=9), torch.tensor([0.1])
    got = p.run(weight, bias, 20, optimizer, lr, backend="cpu")
    w, b, steps, history, _ = truth_of(p, weight, bias, 20, optimizer, lr)
    assert (got.steps, steps, got.history.shape) == (20, 20, (21, 2))
    bound = Tolerance(5e-6, 2e-5, witness="5e-7, 2e-6 on the weight, focal loss")
    assert bound.admits(got.weight, w)
    assert bound.admits(got.bias, b)
    assert bound.admits(got.history, history)
    assert (got.loss, got.snr) == tuple(got.history[-1].tolist())
    # The bound sees one step more or less, no decay, and moments that start elsewhere.
    assert not bound.admits(p.run(weight, bias, 19, optimizer, lr).weight, w)
    assert not bound.admits(problem(frames, loss, decay=0.0).run(weight, bias, 20, optimizer, lr).weight, w)


@pytest.mark.parametrize("frames", [1, 3])
def test_conjugate_gradient_solves_the_normal_equations(frames):
    p = problem(frames)
    got = p.run(None, None, 300, "cg", backend="cpu")
    rows, labels, squares = [], [], []
    for f, y in zip(p.frames, p.targets, strict=True):
        unfolded = torch.nn.functional.unfold(f.features.double()[None], (7, 5))[0].T
        rows.append(torch.cat([unfolded, torch.ones(len(unfolded), 1, dtype=torch.float64)], 1))
        labels.append(y.double().flatten())
        squares.append(torch.exp(2 * y.double().flatten()))
    a, y, s = torch.cat(rows), torch.cat(labels), torch.cat(squares)
    decay = 0.3 * torch.eye(a.shape[1], dtype=torch.float64)
    decay[-1, -1] = 0
    solution = torch.linalg.solve(a.T @ (s[:, None] * a) + decay, a.T @ (s * y))
    assert relative(torch.cat([got.weight.flatten(), got.bias]), solution) < 5e-6
    # It stays there: at the rounding floor a step must not leave again.
    assert got.history[-1, 0] == pytest.approx(got.history[150, 0].item(), rel=1e-4)


def test_conjugate_gradient_steps_are_the_reference_s():
    p = problem(2)
    weight, bias = 0.01 * normal(5, 7, 5, seed=9), torch.tensor([0.1])
    got = p.run(weight, bias, 6, "cg", backend="cpu")
    w, _, steps, history, _ = truth_of(p, weight, bias, 6, "cg", 0.0)
    assert (got.steps, steps) == (6, 6)
    assert relative(got.weight, w) < 1e-5
    assert relative(got.history, history) < 1e-5
    assert relative(p.run(weight, bias, 5, "cg").weight, w) > 1e-3


def test_first_frame_of_size_s():
    """425 steps at the paper's scale: features of the 0–255 kind, λ = 1e3, lr = 2e-8, weights near 1e-5."""
    x = CASES["S_64x100x72_k20x8"].make()["features"][0] * 60
    p = ops.ConvRegressionProblem([x], [bump(81, 65, 4.0)], nn.TruncatedLoss(), 1e3)
    weight, bias, steps = torch.zeros(64, 20, 8), torch.zeros(1), 425
    got = p.run(weight, bias, steps, "adam", 2e-8)
    # The float64 truth by the same overlap-free algebra, but in one whole-map FFT: the plain form takes minutes.
    w, b = weight.double().requires_grad_(), bias.double().requires_grad_()
    adam, spectrum, y = torch.optim.Adam([w, b], lr=2e-8), torch.fft.rfft2(x.double()), p.targets[0].double()

    def respond(w, b):
        product = (spectrum * torch.fft.rfft2(w, s=x.shape[1:]).conj()).sum(0)
        return torch.fft.irfft2(product, s=x.shape[1:])[:81, :65] + b

    assert (
        relative(respond(w, b + 1).detach()[None], conv_regression(x.double(), w.detach(), b.detach() + 1)[None])
        < 1e-10
    )
    for _ in range(steps):
        adam.zero_grad()
        (ops.truncated_loss(respond(w, b), y, backend="reference") + 1e3 * w.square().sum()).backward()
        adam.step()
    assert relative(got.weight, w.detach()) < 3e-3
    assert relative(p.response(got.weight, got.bias), respond(w, b).detach()) < 1e-3
    assert relative(p.run(weight, bias, steps - 5, "adam", 2e-8).weight, w.detach()) > 3e-3


@BOTH
def test_tolerance_stops(backend):
    p = problem()
    full = p.run(None, None, 30, "adam", 1e-2, backend=backend)
    limit = float(full.history[12, 0]) * (1 + 1e-4)
    early = p.run(None, None, 30, "adam", 1e-2, tolerance=limit, backend=backend)
    assert (early.steps, len(early.history)) == (12, 13)
    assert early.loss < limit
    assert relative(p.run(None, None, 12, "adam", 1e-2, backend=backend).weight, early.weight) < 1e-6
    again = p.run(early.weight, early.bias, 30, "adam", 1e-2, tolerance=limit * 1.001, backend=backend)
    assert again.steps == 0
    assert torch.equal(again.weight, early.weight)
    by_cg = p.run(None, None, 300, "cg", tolerance=limit, backend=backend)
    assert 0 < by_cg.steps < 300
    assert by_cg.loss < limit


@BOTH
def test_without_evaluation(backend):
    p = problem()
    full, lean = (p.run(None, None, 5, "adam", 1e-2, evaluate=e, backend=backend) for e in (True, False))
    assert torch.equal(full.weight, lean.weight)
    assert (len(full.history), len(lean.history), lean.steps) == (6, 5, 5)
    assert lean.loss == full.history[4, 0]


def test_arguments_are_not_changed():
    p, weight, bias = problem(), 0.01 * normal(5, 7, 5), torch.tensor([0.1])
    kept = weight.clone()
    p.run(weight, bias, 3, lr=1e-2)
    assert torch.equal(weight, kept)
    assert bias == 0.1


def test_frames_come_and_go():
    maps, y, loss = [normal(5, 30, 25, seed=i) for i in range(4)], bump(24, 21), nn.TruncatedLoss()
    p = ops.ConvRegressionProblem(maps[:1], [y], loss, 0.3, capacity=3)
    kept = p.frames[0].address()
    ready = p.spectra(maps[1])
    weight = normal(5, 7, 5)
    assert torch.equal(ready.response(weight), ops.conv_regression(maps[1], weight))
    p.append(ready, y)
    assert p.frames[1] is ready
    assert p.frames[0].address() == kept
    for x in maps[2:]:
        p.append(x, y)
    assert len(p) == 3
    fresh = ops.ConvRegressionProblem(maps[1:], [y] * 3, loss, 0.3)
    assert torch.equal(p.run(None, None, 4, lr=1e-2).weight, fresh.run(None, None, 4, lr=1e-2).weight)
    assert torch.equal(p.response(weight, torch.ones(1), index=1), ops.conv_regression(maps[2], weight, torch.ones(1)))
    p.set_target(2, y.flip(0))
    assert not torch.equal(p.run(None, None, 4, lr=1e-2).weight, fresh.run(None, None, 4, lr=1e-2).weight)
    p.remove(0)
    assert len(p) == 2


def test_maps_of_other_sizes_share_one_tile():
    small, large = normal(5, 30, 25), normal(5, 90, 70, seed=1)
    p = ops.ConvRegressionProblem(
        [small, ops.FeatureSpectra(large, (7, 5))], [bump(24, 21), bump(84, 66)], nn.SquareLoss()
    )
    weight, bias = torch.zeros(5, 7, 5), torch.zeros(1)
    w, *_ = truth_of(p, weight, bias, 5, "adam", 1e-3)
    assert relative(p.run(weight, bias, 5, "adam", 1e-3).weight, w) < 1e-6


def test_result_does_not_depend_on_threads():
    p, weight = problem(3, channels=37), 0.01 * normal(37, 7, 5)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs = [p.run(weight, None, 7, optimizer, 1e-3) for optimizer in ("adam", "cg", "gd")]
            results.append([t for r in runs for t in (r.weight, r.bias, r.history)] + [p.response(weight)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_double_precision_runs_on_the_reference():
    x, y = normal(3, 9, 8).double(), bump(6, 6).double()
    p = ops.ConvRegressionProblem([x], [y], nn.SquareLoss())
    assert p.run(None, None, 3, lr=1e-3).weight.dtype == torch.float64
    assert p.response(torch.ones(3, 4, 3, dtype=torch.float64)).shape == (6, 6)
    with pytest.raises(BackendUnavailable, match=r"cpu: computes in float32, got torch.float64"):
        p.run(None, None, 3, lr=1e-3, backend="cpu")


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_hard_negatives_raise_the_signal_to_noise_ratio_faster(optimizer):
    """CRT fig. 2: with the truncated, label-weighted loss the SNR rises faster than with plain squares."""
    x = normal(8, 60, 50)  # an object and a background of the same kind
    y = bump(41, 43, 2.0)
    rates = {"adam": 2e-3, "gd": 2e-5}
    curves = {}
    for name, loss in (("crt", nn.TruncatedLoss(0.05, 1.0)), ("plain", nn.TruncatedLoss(0.0, 0.0))):
        p = ops.ConvRegressionProblem([x], [y], loss, 1e-3)
        curves[name] = p.run(None, None, 60, optimizer, rates[optimizer]).history[:, 1]
    later = slice(10, None)
    assert (curves["crt"][later] > curves["plain"][later]).all()
    assert curves["crt"][-1] > 1.1 * curves["plain"][-1]


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    code = """
import torch
from fasttrack import native, nn, ops
from fasttrack.spec._conv_problem import Optimization, run_problem
from fasttrack.spec.conv_regression import conv_regression
assert native.lib().isa() == %r
torch.manual_seed(0)
rel = lambda a, b: float((a.double() - b).norm() / b.norm())
x, w, b = torch.randn(2, 19, 33, 29), torch.randn(19, 8, 6), torch.randn(1)
leaves = [t.clone().requires_grad_() for t in (x, w, b)]
wide = [t.double().requires_grad_() for t in (x, w, b)]
got, truth = ops.conv_regression(*leaves, backend="cpu"), conv_regression(*wide)
assert rel(got, truth) < 2e-6
g = torch.randn_like(got)
for a, t in zip(torch.autograd.grad(got, leaves, g), torch.autograd.grad(truth, wide, g.double())):
    assert rel(a, t) < 2e-6
y = torch.rand(26, 24) ** 4
for loss in (nn.TruncatedLoss(), nn.ShrinkageLoss()):
    p = ops.ConvRegressionProblem(list(x), [y, y], loss, 0.1)
    for kind in ("adam", "cg"):
        r = p.run(0.01 * w, b, 5, kind, 1e-3, backend="cpu")
        how = Optimization(0.01 * w.double(), b.double(), 5, kind, 1e-3)
        t = run_problem(list(x.double()), [y.double()] * 2, *loss.kernel_form(), 0.1, how)
        assert rel(r.weight, t.weight) < 2e-5 and rel(r.history, t.history) < 2e-5
    a, small = torch.randn(11, 19) / 4, torch.randn(11, 8, 6) / 100
    how = Optimization(small.double(), b.double(), 5, "adam", 1e-3, reduction=a.double(), reduction_lr=2e-3)
    t = run_problem(list(x.double()), [y.double()] * 2, *loss.kernel_form(), 0.1, how)
    r = p.run(small, b, 5, "adam", 1e-3, reduction=a, reduction_lr=2e-3, backend="cpu")
    assert rel(r.weight, t.weight) < 2e-5 and rel(r.reduction, t.reduction) < 2e-5
"""
    from fasttrack import native

    if not dict(native.lib().isas()).get(isa, False):
        pytest.skip(f"this CPU or this build has no {isa}")
    done = subprocess.run(
        [sys.executable, "-c", code % isa],
        env={**os.environ, "FASTTRACK_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_module():
    layer = nn.ConvRegression(3, (4, 3))
    x = normal(2, 3, 9, 8)
    assert torch.equal(layer(x), ops.conv_regression(x, layer.weight, layer.bias))
    assert repr(layer) == "ConvRegression(3, kernel_size=(4, 3), bias=True)"
    assert nn.ConvRegression(3, (4, 3), bias=False).bias is None


@BOTH
def test_adam_goes_on_from_its_state(backend):
    p = problem(frames=2)
    whole = p.run(None, None, 12, "adam", 1e-3, backend=backend)
    first = p.run(None, None, 5, "adam", 1e-3, backend=backend)
    second = p.run(first.weight, first.bias, 7, "adam", 1e-3, state=first.state, backend=backend)
    assert (first.state.steps, second.state.steps) == (5, 12)
    torch.testing.assert_close(second.weight, whole.weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(second.bias, whole.bias, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(second.state.moments, whole.state.moments, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(second.state.bias_moments, whole.state.bias_moments, rtol=1e-4, atol=1e-6)
    afresh = p.run(first.weight, first.bias, 7, "adam", 1e-3, backend=backend)
    assert (afresh.weight - whole.weight).norm() > 0.01 * whole.weight.norm()  # canary: the state matters
    assert p.run(None, None, 2, "gd", 1e-3, backend=backend).state is None


def test_state_is_checked():
    p = problem()
    state = p.run(None, None, 1, "adam", 1e-3).state
    with pytest.raises(RangeError, match="state must be None with optimizer 'cg'"):
        p.run(None, None, 1, "cg", state=state)
    with pytest.raises(ShapeError, match="state must be of a weight of shape"):
        problem(kernel=(5, 5)).run(None, None, 1, "adam", 1e-3, state=state)

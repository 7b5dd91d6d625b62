"""Whole optimisations: CRT's first frame by Adam and by conjugate gradient, DSLT's trained reductions, many targets.

Two threads apart: python bench/run.py conv_problem --threads 2.
"""

import pytest
import torch
from sides import DEVICE, OURS, make, place
from test_conv_regression import DECAY, RATE, SPECS, THRESHOLD, A, TorchFft, labels

from fasttrack import nn, ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.conv_regression import conv_regression

CASES = {case.name: case for case in SPECS[0].cases if case.bench}
CRT = {name[0]: name for name in CASES if name[0] in "SML"}
REDUCED = [name for name in CASES if name.startswith("reduced")]
# CRT's numbers, at the scale of its features (0-255 images): weight decay, learning rate, loss to stop at.
CRT_DECAY, CRT_RATE, STOP, FIRST_FRAME = 1e3, 2e-8, 0.02, 425
FEATURE_SCALE = 60.0
STEPS = 2  # per timed call of the reduction


def crt(size):
    """Maps as smooth as a network's: on white noise conjugate gradient needs a third of the steps."""
    arguments = make(CASES[CRT[size]])
    rough = torch.nn.functional.pad(arguments["features"], (4, 4, 4, 4), mode="reflect")
    x, w = torch.nn.functional.avg_pool2d(rough, 9, 1)[0], arguments["weight"]
    x = (x / x.std()).relu_() * FEATURE_SCALE
    return ops.ConvRegressionProblem([x], [labels(x, w)], nn.TruncatedLoss(THRESHOLD, A), CRT_DECAY)


@pytest.mark.parametrize("side", OURS)
def test_first_frame(benchmark, side):
    """The iterates themselves are checked in tests/; here the end must be one that learnt."""
    problem = crt("S")

    def run():
        return problem.run(None, None, FIRST_FRAME, "adam", CRT_RATE, backend=side)

    done = run()
    assert done.steps == FIRST_FRAME
    assert done.loss < 0.1 * float(done.history[0, 0])
    benchmark.group = f"conv_regression first frame, {FIRST_FRAME} Adam steps, {CRT['S']}"
    benchmark.extra_info.update(side=side)
    benchmark.pedantic(run, rounds=5)


@pytest.mark.parametrize("side", OURS)
@pytest.mark.parametrize("size", sorted(CRT, reverse=True, key="LMS".index))
def test_conjugate_gradient_to_the_stop(benchmark, size, side):
    problem = crt(size)

    def run():
        return problem.run(None, None, 100, "cg", tolerance=STOP, backend=side)

    done = run()
    assert done.loss < STOP, "the stop was not reached"
    if size != "L":  # the plain convolution would take 22 GB in float64
        response = conv_regression(problem.frames[0].features.double(), done.weight.double(), done.bias.double())
        truth = ops.truncated_loss(response, problem.targets[0].double(), THRESHOLD, A, backend="reference")
        assert float(truth) < STOP * 1.01
    benchmark.group = f"conv_regression conjugate gradient to the stop {CRT[size]}"
    benchmark.extra_info.update(side=side, steps=done.steps)
    benchmark.pedantic(run, rounds=5)


class PlainReduction:
    """What a user writes: a matrix product of the map, a convolution, autograd, torch.optim.Adam."""

    def __init__(self, x, y, weight, matrix):
        self.x, self.y = x, y
        self.w, self.matrix = weight.clone().requires_grad_(), matrix.clone().requires_grad_()
        self.b = weight.new_zeros(1).requires_grad_()
        self.adam = torch.optim.Adam([self.w, self.b, self.matrix], lr=RATE)

    def run(self, steps):
        for _ in range(steps):
            error = conv_regression(self.x, self.w, self.b, self.matrix) - self.y
            kept = torch.where(error.abs() > THRESHOLD, error, 0)
            loss = (torch.exp(A * self.y) * kept).square().sum() + DECAY * self.w.square().sum()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
        return self.matrix.detach()


class TorchReduction(TorchFft):
    """The FFT form on the composed kernel: the reduced map is never made here either."""

    def __init__(self, x, y, weight, matrix, tile):
        super().__init__(x, y, self.composed(weight, matrix), tile)
        self.small, self.matrix = weight.clone(), matrix.clone()
        self.moments = [torch.zeros_like(t) for t in (weight, weight, matrix, matrix)]

    @staticmethod
    def composed(weight, matrix):
        return (matrix.t() @ weight.flatten(1)).unflatten(1, weight.shape[1:])

    def iterate(self):
        gradient, bias_gradient = self.gradients()
        flat = gradient.flatten(1)
        of_matrix = self.small.flatten(1) @ flat.t()
        of_weight = (self.matrix @ flat).view_as(self.small).add_(self.small, alpha=2 * DECAY)
        self.t += 1
        self.adam(self.small, of_weight, *self.moments[:2])
        self.adam(self.matrix, of_matrix, *self.moments[2:])
        self.w = self.composed(self.small, self.matrix)
        c1, c2 = 1 - 0.9**self.t, 1 - 0.999**self.t
        self.mb += (bias_gradient - self.mb) * 0.1
        self.vb = 0.999 * self.vb + 0.001 * bias_gradient**2
        self.b -= RATE / c1 * self.mb / ((self.vb / c2) ** 0.5 + 1e-8)

    def run(self, steps):
        super().run(steps)
        return self.matrix


class OurReduction:
    """One call for all steps."""

    def __init__(self, x, y, weight, matrix, backend):
        self.problem = ops.ConvRegressionProblem([x], [y], nn.TruncatedLoss(THRESHOLD, A), DECAY)
        self.start, self.backend = (weight, matrix), backend

    def run(self, steps):
        weight, matrix = self.start
        options = {"reduction": matrix, "evaluate": False, "backend": self.backend}
        return self.problem.run(weight, None, steps, "adam", RATE, **options).reduction


@pytest.mark.parametrize("side", ["plain", "fft3", "fft_whole", *OURS])
@pytest.mark.parametrize("name", REDUCED)
def test_reduction(benchmark, name, side):
    arguments = make(CASES[name])
    x, w, matrix = arguments["features"][0], 0.01 * arguments["weight"], 0.05 * arguments["reduction"]
    y = labels(x, w)
    tile = tuple(ops.fft_size(min(n, 3 * k)) for n, k in zip(x.shape[1:], w.shape[1:], strict=True))
    whole = tuple(ops.fft_size(n) for n in x.shape[1:])
    made = {
        "plain": lambda: PlainReduction(x, y, w, matrix),
        "fft3": lambda: TorchReduction(x, y, w, matrix, tile),
        "fft_whole": lambda: TorchReduction(x, y, w, matrix, whole),
        **{backend: lambda backend=backend: OurReduction(x, y, w, matrix, backend) for backend in OURS},
    }
    truth = TorchReduction(*(t.double() for t in (x, y, w, matrix)), whole).run(1)
    # Adam's first step has the size of the rate whatever the gradient's: where that is near zero, its sign may differ.
    move = Tolerance(2e-2, 2.5, witness="1.3e-5, 1.0e-3")
    assert move.admits(made[side]().run(1) - matrix, truth - matrix.double()), "the iteration to be timed is wrong"
    subject = made[side]()
    subject.run(1)
    steps = 1 if side == "plain" else STEPS
    benchmark.group = f"conv_regression iteration {name}"
    benchmark.extra_info.update(side=side, steps_per_call=steps)
    benchmark.pedantic(subject.run, args=(steps,), rounds=3 if side == "plain" else 10, warmup_rounds=1)


FUSION = ops.Fusion((512, 512), ((1.0, 0.0), (1.0, 1.0)), (1.0, 40.0), (1.0, 40.0))


class TorchFusion:
    """DSLT's two regressors on fused maps by autograd and torch.optim.Adam: plain convolutions of the reduced maps,
    or one product of spectra of the whole map with those of the composed kernel."""

    def __init__(self, x, y, weight, matrix, plain):
        self.x, self.y, self.plain = x, y, plain
        self.w = [w.clone().requires_grad_() for w in weight]
        self.matrices = [m.clone().requires_grad_() for m in matrix.split(FUSION.channels, 1)]
        self.spectrum = None if plain else torch.fft.rfft2(x)
        groups = [{"params": [w], "lr": RATE * k} for w, k in zip(self.w, FUSION.rates, strict=True)]
        groups += [{"params": [m], "lr": RATE * k} for m, k in zip(self.matrices, FUSION.reduction_rates, strict=True)]
        self.adam = torch.optim.Adam(groups)

    def response(self):
        if self.plain:
            maps = zip(self.x.split(FUSION.channels), self.matrices, strict=True)
            high, deep = (torch.nn.functional.conv2d(f[None], m[:, :, None, None]) for f, m in maps)
            responses = (
                torch.nn.functional.conv2d(f, w[None]) for f, w in zip((high + deep, deep), self.w, strict=True)
            )
            return sum(responses)[0, 0]
        mixed = self.w[0], self.w[0] + self.w[1]
        kernel = torch.cat([TorchReduction.composed(v, m) for v, m in zip(mixed, self.matrices, strict=True)])
        product = (self.spectrum * torch.fft.rfft2(kernel, s=self.x.shape[1:]).conj()).sum(0)
        return torch.fft.irfft2(product, s=self.x.shape[1:])[: self.y.shape[0], : self.y.shape[1]]

    def run(self, steps):
        for _ in range(steps):
            error = self.response() - self.y
            kept = torch.where(error.abs() > THRESHOLD, error, 0)
            loss = (torch.exp(A * self.y) * kept).square().sum() + DECAY * sum(w.square().sum() for w in self.w)
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
        return torch.cat(self.matrices, 1).detach()


class OurFusion:
    """One call for all steps, the bias held as in the rivals."""

    def __init__(self, x, y, weight, matrix, backend):
        self.problem = ops.ConvRegressionProblem([x], [y], nn.TruncatedLoss(THRESHOLD, A), DECAY)
        self.start, self.backend = (weight, matrix), backend

    def run(self, steps):
        weight, matrix = self.start
        options = {"reduction": matrix, "fusion": FUSION, "bias_lr": 0.0, "evaluate": False, "backend": self.backend}
        return self.problem.run(weight, None, steps, "adam", RATE, **options).reduction


@pytest.mark.parametrize("side", ["plain", "fft_whole", *OURS])
def test_fusion(benchmark, side):
    """DSLT's size M with both maps: two regressors and two reductions, end to end."""
    name = REDUCED[0]
    arguments = make(CASES[name])
    one, w = arguments["features"][0], 0.01 * arguments["weight"]
    matrix = 0.05 * torch.cat([arguments["reduction"], arguments["reduction"].flip(0)], 1)
    x, weight, y = torch.cat([one, 0.7 * one.flip(1)]), torch.stack([w, w.flip(1)]), labels(one, w)
    made = {
        "plain": lambda: TorchFusion(x, y, weight, matrix, plain=True),
        "fft_whole": lambda: TorchFusion(x, y, weight, matrix, plain=False),
        **{backend: lambda backend=backend: OurFusion(x, y, weight, matrix, backend) for backend in OURS},
    }
    truth = TorchFusion(*(t.double() for t in (x, y, weight, matrix)), plain=False).run(1)
    move = Tolerance(2e-2, 2.5, witness="4.1e-7, 1.7e-6")  # as of the reduction alone
    assert move.admits(made[side]().run(1) - matrix, truth - matrix.double()), "the iteration to be timed is wrong"
    subject = made[side]()
    subject.run(1)
    steps = 1 if side == "plain" else STEPS
    benchmark.group = f"conv_regression fused iteration {name}, two maps"
    benchmark.extra_info.update(side=side, steps_per_call=steps)
    benchmark.pedantic(subject.run, args=(steps,), rounds=3 if side == "plain" else 10, warmup_rounds=1)


def test_the_reduced_fft_form_is_the_plain_one():
    x, w, matrix = (torch.randn(s, dtype=torch.float64) for s in ((6, 30, 25), (4, 7, 5), (4, 6)))
    y = labels(x, w).double()
    got, truth = TorchReduction(x, y, w, matrix, (16, 15)).run(3), PlainReduction(x, y, w, matrix).run(3)
    assert Tolerance(1e-9, 1e-6).admits(got - matrix, truth - matrix)


@pytest.mark.parametrize("side", ["apart", "cpu"] if DEVICE == "cpu" else [*OURS, *(f"{b}_apart" for b in OURS)])
def test_targets(benchmark, side):
    """Four targets of size S, two steps each: one call, or one after the other."""
    maps = [place(CASES[CRT["S"]].make(seed=t)["features"])[0] * FEATURE_SCALE for t in range(4)]
    y = labels(maps[0], CASES[CRT["S"]].make()["weight"])
    backend = "cpu" if DEVICE == "cpu" else side.removesuffix("_apart")
    batch = ops.ConvRegressionBatch.stacked(
        [torch.stack(maps)], [torch.stack([y] * 4)], nn.TruncatedLoss(THRESHOLD, A), CRT_DECAY
    )

    def together():
        return batch.run(None, None, 2, "adam", CRT_RATE, backend=backend)

    def apart():
        return [p.run(None, None, 2, "adam", CRT_RATE, backend=backend) for p in batch.problems]

    assert all(torch.equal(a.weight, b.weight) for a, b in zip(together(), apart(), strict=True))
    benchmark.group = f"conv_regression 4 targets, 2 Adam steps, {CRT['S']}"
    benchmark.extra_info.update(side=side)
    benchmark.pedantic(apart if side.endswith("apart") else together, rounds=10)

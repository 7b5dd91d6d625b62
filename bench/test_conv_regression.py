"""One training iteration (forward, truncated loss, adjoint, Adam): plain PyTorch, the best FFT form in PyTorch, ours.

Run alone, on one thread. Every side is checked against the float64 iteration before it is timed. No row has a floor:
the spec counts the plain correlation, of which the FFT does a fraction.
"""

import pytest
import torch
from sides import OURS, make, on_backend

from fasttrack import nn, ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.conv_regression import SPECS, conv_regression

CASES = [case for case in SPECS[0].cases if case.bench and "reduced" not in case.name]
DECAY, RATE, THRESHOLD, A = 0.1, 1e-4, 0.1, 1.0
STEPS = 4  # per timed call
# After a few steps Adam moves each weight by about the rate whatever the size of its gradient; a gradient near
# zero may take the other sign in float32.
TOLERANCE = Tolerance(2e-4, 2e-2, witness="2e-5, 5e-3")


def labels(features, weight):
    height, width = (features.shape[-2 + i] - weight.shape[1 + i] + 1 for i in (0, 1))
    y, x = (torch.arange(n, device=features.device) - n // 2 for n in (height, width))
    sy, sx = 0.1 * weight.shape[1] + 1, 0.1 * weight.shape[2] + 1
    return torch.exp(-0.5 * ((y[:, None] / sy) ** 2 + (x[None] / sx) ** 2)).float()


class Plain:
    """What a user writes: convolution, autograd, torch.optim.Adam."""

    def __init__(self, x, y, weight):
        self.x, self.y = x, y
        self.w, self.b = weight.clone().requires_grad_(), weight.new_zeros(1).requires_grad_()
        self.adam = torch.optim.Adam([self.w, self.b], lr=RATE)

    def respond(self):
        return conv_regression(self.x, self.w, self.b)

    def run(self, steps):
        for _ in range(steps):
            error = self.respond() - self.y
            kept = torch.where(error.abs() > THRESHOLD, error, 0)
            loss = (torch.exp(A * self.y) * kept).square().sum() + DECAY * self.w.square().sum()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
        return self.w.detach()


class TorchFft:
    """Overlap-save with torch.fft, gradients by hand, one batched matrix product per frequency, Adam in place.

    Of the forms tried (whole patch, tiles; products by einsum, by sums of broadcast products, by bmm over
    frequencies) this is the fastest on one thread.
    """

    def __init__(self, x, y, weight, tile):
        self.kh, self.kw = weight.shape[1:]
        self.tile, (self.height, self.width) = tile, y.shape
        step = [n - k + 1 for n, k in zip(tile, (self.kh, self.kw), strict=True)]
        self.step = step = [min(s, n) for s, n in zip(step, y.shape, strict=True)]
        self.count = [-(-n // s) for n, s in zip(y.shape, step, strict=True)]
        need = [(c - 1) * s + n for c, s, n in zip(self.count, step, tile, strict=True)]
        padded = torch.nn.functional.pad(x, (0, max(0, need[1] - x.shape[2]), 0, max(0, need[0] - x.shape[1])))
        tiles = padded.unfold(1, tile[0], step[0]).unfold(2, tile[1], step[1])  # C, ty, tx, n, m
        tiles = tiles.permute(1, 2, 0, 3, 4).reshape(-1, x.shape[0], *tile)
        spectra = torch.fft.rfft2(tiles).flatten(2)  # T, C, F
        self.by_channel = spectra.permute(2, 0, 1).contiguous()  # F, T, C
        self.y, self.square = y, torch.exp(2 * A * y)
        self.w, self.b = weight.clone(), 0.0
        self.m, self.v = torch.zeros_like(weight), torch.zeros_like(weight)
        self.mb, self.vb, self.t = 0.0, 0.0, 0

    def respond(self):
        n, m = self.tile
        spectrum = torch.fft.rfft2(self.w, s=self.tile).flatten(1).t().contiguous()  # F, C
        product = torch.bmm(self.by_channel, spectrum.conj().unsqueeze(2)).squeeze(2)  # F, T
        tiles = torch.fft.irfft2(product.t().reshape(-1, n, m // 2 + 1), s=self.tile)
        tiles = tiles[:, : self.step[0], : self.step[1]].reshape(*self.count, *self.step)
        response = tiles.permute(0, 2, 1, 3).reshape(self.count[0] * self.step[0], -1)
        return response[: self.height, : self.width] + self.b

    def run(self, steps):
        with torch.no_grad():
            for _ in range(steps):
                self.iterate()
        return self.w

    def iterate(self):
        gradient, bias_gradient = self.gradients()
        gradient = torch.add(gradient, self.w, alpha=2 * DECAY)
        self.t += 1
        self.adam(self.w, gradient, self.m, self.v)
        c1, c2 = 1 - 0.9**self.t, 1 - 0.999**self.t
        self.mb += (bias_gradient - self.mb) * 0.1
        self.vb = 0.999 * self.vb + 0.001 * bias_gradient**2
        self.b -= RATE / c1 * self.mb / ((self.vb / c2) ** 0.5 + 1e-8)

    def adam(self, w, gradient, mean, square):
        c1, c2 = 1 - 0.9**self.t, 1 - 0.999**self.t
        mean.lerp_(gradient, 0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        w.addcdiv_(mean, square.sqrt().div_(c2**0.5).add_(1e-8), value=-RATE / c1)

    def gradients(self):
        """Of the loss in the kernel and in the bias; on a GPU nothing is read back."""
        n, m = self.tile
        error = self.respond() - self.y
        slope = 2 * self.square * torch.where(error.abs() > THRESHOLD, error, 0)
        grid = [c * s for c, s in zip(self.count, self.step, strict=True)]
        full = torch.nn.functional.pad(slope, (0, grid[1] - self.width, 0, grid[0] - self.height))
        tiles = full.reshape(self.count[0], self.step[0], self.count[1], self.step[1]).permute(0, 2, 1, 3)
        spectrum = torch.fft.rfft2(tiles.reshape(-1, *self.step), s=self.tile).flatten(1).t()  # F, T
        product = torch.bmm(spectrum.conj().unsqueeze(1), self.by_channel).squeeze(1)  # F, C
        gradient = torch.fft.irfft2(product.t().reshape(-1, n, m // 2 + 1), s=self.tile)[:, : self.kh, : self.kw]
        total = slope.sum()
        return gradient, total if total.is_cuda else total.item()


class Ours:
    """One call for all steps. It starts afresh each time; the others go on, at the same cost per step."""

    def __init__(self, x, y, weight, backend):
        self.problem = ops.ConvRegressionProblem([x], [y], nn.TruncatedLoss(THRESHOLD, A), DECAY)
        self.w, self.backend = weight, backend

    def run(self, steps):
        return self.problem.run(self.w, None, steps, "adam", RATE, evaluate=False, backend=self.backend).weight


def sides(case):
    """Constructors by name; the FFT rival at three tile sizes, of which the fastest counts."""
    arguments = make(case)
    x, w = arguments["features"][0], 0.01 * arguments["weight"]
    y = labels(x, w)
    made = {"plain": lambda: Plain(x, y, w), **{n: lambda n=n: Ours(x, y, w, n) for n in OURS}}
    for factor in (2, 3, 4):
        tile = tuple(ops.fft_size(min(n, max(factor * k, 8))) for n, k in zip(x.shape[1:], w.shape[1:], strict=True))
        made[f"fft{factor}"] = lambda tile=tile: TorchFft(x, y, w, tile)
    whole = tuple(ops.fft_size(n) for n in x.shape[1:])
    made["fft_whole"] = lambda: TorchFft(x, y, w, whole)
    wide = x.double(), y.double(), w.double()
    # The plain convolution unfolds its input: size L would take 22 GB in float64. There the truth is the FFT form
    # in float64, which the smaller sizes prove against the plain one.
    fits = 8 * w.numel() * y.numel() < 8e9
    return made, lambda: Plain(*wide) if fits else TorchFft(*wide, whole)


@pytest.mark.parametrize("side", ["plain", "fft2", "fft3", "fft4", "fft_whole", *OURS])
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES])
def test_iteration(benchmark, case, side):
    made, truth = sides(case)
    steps = 1 if side == "plain" else STEPS
    assert TOLERANCE.admits(made[side]().run(1), truth().run(1)), "the iteration to be timed is wrong"
    subject = made[side]()
    subject.run(1)
    benchmark.group = f"conv_regression iteration {case.name}"
    benchmark.extra_info.update(side=side, steps_per_call=steps)
    benchmark.pedantic(subject.run, args=(steps,), rounds=3 if side == "plain" else 25, warmup_rounds=1)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES[:2]])
def test_the_fft_form_is_the_plain_one(case):
    _, truth = sides(case)
    arguments = make(case)
    x, w = arguments["features"][0], 0.01 * arguments["weight"]
    fft = TorchFft(x.double(), labels(x, w).double(), w.double(), tuple(ops.fft_size(n) for n in x.shape[1:]))
    assert Tolerance(1e-9, 1e-6).admits(fft.run(3), truth().run(3))


@pytest.mark.parametrize("side", ["plain", *OURS])
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES])
def test_one_call(benchmark, checked, case, side):
    """A single response, where the map's own spectra cost more than the rest."""
    arguments = make(case)
    function = conv_regression if side == "plain" else on_backend(ops.conv_regression, side)
    benchmark.group = f"conv_regression forward {case.name}"
    # The plain convolution sums up to 74 000 products in float32, one after the other.
    bound = Tolerance(2e-5, 4e-5, witness="4e-6, 6e-6 at L") if side == "plain" else SPECS[0].tolerance[torch.float32]
    checked(benchmark, lambda: function(**arguments), SPECS[0].truth(arguments), bound, side=side)

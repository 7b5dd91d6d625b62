"""The names of pytracking against plain PyTorch of the same meaning, at the sizes of DiMP, ATOM and ECO.

The rivals are the formulations in use: convolutions with a group per sequence, or per image and channel; conjugate
gradients that ask for a number at every step; transforms whose halves are put together; whole frames that are padded.
"""

import pytest
import torch
import torch.nn.functional as F
from sides import DEVICE, place

from fasttrack.compat.pytracking import filter, fourier, operation, optimization, preprocessing
from fasttrack.compat.pytracking.tensorlist import TensorList
from fasttrack.spec.base import Tolerance

# Ours is PyTorch as well: one side on every device.
OURS = DEVICE
BOUND = Tolerance(2e-6, 6e-6, witness="4e-7, 2e-6")
# Bilinear weights are rounded positions: on noise that is seen.
PATCH = Tolerance(2e-5, 8e-5, witness="6.4e-6, 2.5e-5")
# Ten steps of conjugate gradients multiply the rounding by the condition of the system.
STEPS = Tolerance(1e-5, 2e-5, witness="4.3e-6, 6.3e-6")
SIDE = pytest.mark.parametrize("side", ["plain", OURS])
# Images, sequences, channels, height and width.
DIMP = {"15x512x18": (15, 1, 512, 18), "50x512x18": (50, 1, 512, 18), "15x256x22": (15, 1, 256, 22)}
DIMP |= {"1x512x22": (1, 1, 512, 22), "3x8 sequences, 512x18": (3, 8, 512, 18)}


def randn(*shape, seed=0):
    return place(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def maps(case):
    images, sequences, channels, side = case
    x, w = randn(images, sequences, channels, side, side), randn(sequences, channels, 4, 4, seed=1)
    return x, w, randn(images, sequences, side + 1, side + 1, seed=2)


def by_groups(x, w):
    """One convolution of all images, one group per sequence."""
    return F.conv2d(x.flatten(1, 2), w, padding=2, groups=x.shape[1])


@SIDE
@pytest.mark.parametrize("name", DIMP)
def test_apply_filter(benchmark, checked, name, side):
    x, w, _ = maps(DIMP[name])
    benchmark.group = f"pytracking apply_filter {name}"
    run = by_groups if side == "plain" else filter.apply_filter
    checked(benchmark, lambda: run(x, w), by_groups(x.double(), w.double()), BOUND, side=side)


def by_channels(x, y):
    """One convolution of the scores with every channel of every map, summed over the images."""
    images, sequences, channels, *size = x.shape
    scores = y.reshape(1, images * sequences, *y.shape[2:])
    out = F.conv2d(scores, x.reshape(-1, 1, *size), padding=1, groups=images * sequences)
    return out.view(images, sequences, channels, 4, 4).sum(0).flip(2, 3)


def by_sequences(x, y):
    """Images as channels: every channel of a sequence convolved with its scores."""
    turned = x.permute(2, 1, 0, 3, 4).flatten(1, 2)
    out = F.conv2d(turned, y.transpose(0, 1), padding=2, groups=x.shape[1])
    return out.transpose(0, 1)


TRANSPOSES = {"plain": by_sequences, "torch": by_channels}


@pytest.mark.parametrize("side", [*TRANSPOSES, OURS])
@pytest.mark.parametrize("name", DIMP)
def test_apply_feat_transpose(benchmark, checked, name, side):
    x, _, y = maps(DIMP[name])
    benchmark.group = f"pytracking apply_feat_transpose {name}"
    ours = lambda a, b: filter.apply_feat_transpose(a, b, 4)  # noqa: E731
    run = TRANSPOSES.get(side, ours)
    checked(benchmark, lambda: run(x, y), by_channels(x.double(), y.double()), BOUND, side=side)


@pytest.mark.parametrize("side", [*TRANSPOSES, OURS])
def test_training(benchmark, checked, side):
    """One step of DiMP's optimiser in training: the gradient in the filter, and its gradients in maps and scores."""
    x, _, y = maps(DIMP["3x8 sequences, 512x18"])
    benchmark.group = "pytracking apply_feat_transpose and its gradients, 3x8 sequences, 512x18"

    def step(function, x, y):
        leaves = (x.requires_grad_(), y.requires_grad_())
        grad = randn(x.shape[1], x.shape[2], 4, 4, seed=3).to(x)
        return lambda: torch.autograd.grad(function(x, y), leaves, grad)

    run = step(TRANSPOSES.get(side, lambda a, b: filter.apply_feat_transpose(a, b, 4)), x, y)
    checked(benchmark, run, step(by_channels, x.detach().double(), y.detach().double())(), BOUND, side=side)


def padded_conv(x, w):
    return F.conv2d(x, w, padding=w.shape[-1] // 2)[..., : x.shape[2], : x.shape[3]]


@SIDE
@pytest.mark.parametrize("samples", [1, 250])
def test_conv2d(benchmark, checked, samples, side):
    x, w = randn(samples, 64, 18, 18), randn(1, 64, 4, 4, seed=1)
    benchmark.group = f"pytracking conv2d same {samples}x64x18, kernel 4"
    run = padded_conv if side == "plain" else lambda a, b: operation.conv2d(a, b, mode="same")
    checked(benchmark, lambda: run(x, w), padded_conv(x.double(), w.double()), BOUND, side=side)


class Target(optimization.L2Problem):
    """The target model of ATOM: φ(w ∗ x), or φ(w ∗ (P x)) where the variable has a projection."""

    def __init__(self, x, y, weights, conv):
        self.x, self.y, self.weights, self.conv = x, y, weights.sqrt().view(-1, 1, 1, 1), conv

    def __call__(self, variable):
        w, *projection = variable
        x = F.conv2d(self.x, *projection) if projection else self.x
        scores = F.elu(F.leaky_relu(self.conv(x, w), 20), 0.05)
        return TensorList([self.weights * (scores - self.y), *(0.3 * part for part in variable)])


def asking(problem, variable, steps):
    """Gauss–Newton with conjugate gradients as written in use: two graphs, and a number asked for at every step."""
    variable = [part.detach().clone() for part in variable]
    dot = lambda a, b: sum((u * v).sum() for u, v in zip(a, b, strict=True))  # noqa: E731
    for count in steps:
        leaves = [part.detach().requires_grad_() for part in variable]
        f = problem(leaves)
        g = [part.detach().requires_grad_() for part in f]
        pulled = torch.autograd.grad(list(f), leaves, g, create_graph=True)
        r = [-part.detach() for part in pulled]
        p, rho, x = None, None, [torch.zeros_like(part) for part in r]
        for _ in range(count):
            before, rho = rho, dot(r, r)
            if rho.item() == 0:
                break
            p = r if p is None else [u + v * (rho / before) for u, v in zip(r, p, strict=True)]
            pushed = torch.autograd.grad(pulled, g, p, retain_graph=True)
            q = torch.autograd.grad(list(f), leaves, pushed, retain_graph=True)
            alpha = rho / dot(p, q)
            x = [u + alpha * v for u, v in zip(x, p, strict=True)]
            r = [u - alpha * v for u, v in zip(r, q, strict=True)]
        variable = [u + v for u, v in zip(variable, x, strict=True)]
    return torch.cat([part.flatten() for part in variable])


def target(samples, channels, projected, conv, dtype=torch.float32):
    # Without a mean, which would be one direction far longer than all others.
    x, y = randn(samples, channels, 18, 18) / 2, randn(samples, 1, 18, 18, seed=2).sigmoid() ** 4
    variable = [randn(1, 64, 4, 4, seed=3) / 320]
    if projected:
        variable.append(randn(64, channels, 1, 1, seed=4) / channels**0.5)
    weights = torch.full((samples,), 1 / samples, dtype=dtype, device=x.device)
    return Target(x.to(dtype), y.to(dtype), weights, conv), TensorList(part.to(dtype) for part in variable)


def ours_same(x, w):
    return operation.conv2d(x, w, mode="same")


def fresh(optimizer, problem, start, *run):
    """A run from the start; the optimiser changes its variable in place."""
    variable = TensorList(start.clone())
    optimizer(problem, variable).run(*run)
    return torch.cat([part.flatten() for part in variable])


@SIDE
def test_conjugate_gradient(benchmark, checked, side):
    """ATOM's update of the filter: five steps on 250 samples."""
    benchmark.group = "pytracking ConjugateGradient, 5 steps, 250x64x18"
    truth = asking(*target(250, 64, False, padded_conv, torch.float64), [5])
    problem, start = target(250, 64, False, padded_conv if side == "plain" else ours_same)
    plain = lambda: asking(problem, start, [5])  # noqa: E731
    ours = lambda: fresh(optimization.ConjugateGradient, problem, start, 5)  # noqa: E731
    checked(benchmark, plain if side == "plain" else ours, truth, STEPS, side=side)


@SIDE
def test_gauss_newton(benchmark, checked, side):
    """ATOM's first frame, a third of it: filter and projection on 30 samples, two times ten steps."""
    benchmark.group = "pytracking GaussNewtonCG, 2 of 10 steps, 30x256x18 projected to 64"
    truth = asking(*target(30, 256, True, padded_conv, torch.float64), [10, 10])
    problem, start = target(30, 256, True, padded_conv if side == "plain" else ours_same)
    plain = lambda: asking(problem, start, [10, 10])  # noqa: E731
    ours = lambda: fresh(optimization.GaussNewtonCG, problem, start, 10, 2)  # noqa: E731
    checked(benchmark, plain if side == "plain" else ours, truth, STEPS, side=side)


def shifted_half(x):
    """The half spectrum, rows rolled into order; of even heights the first row again at the end."""
    half = torch.fft.rfft2(x)
    rolled = half.roll((x.shape[2] - 1) // 2, 2)
    if x.shape[2] % 2 == 0:
        rolled = torch.cat((rolled[:, :, -1:].conj(), rolled), 2)
    return torch.view_as_real(rolled)


def padded_series(a, grid):
    """The spectrum padded to the grid on both sides, rolled back, and one inverse transform."""
    spectrum = torch.view_as_complex(a)
    height, width = spectrum.shape[2], 2 * spectrum.shape[3] - 1
    above, right = (grid - height + 1) // 2, (grid - width + 1) // 2
    full = F.pad(spectrum, (0, right, above, grid - height - above))
    return torch.fft.irfft2(full.roll(-(above + (height - 1) // 2), 2), s=(grid, grid), norm="forward")


@SIDE
def test_cfft2(benchmark, checked, side):
    x = randn(1, 64, 63, 63)
    benchmark.group = "pytracking cfft2 64x63x63"
    run = shifted_half if side == "plain" else fourier.cfft2
    checked(benchmark, lambda: run(x), shifted_half(x.double()), BOUND, side=side)


@SIDE
def test_sample_fs(benchmark, checked, side):
    a = fourier.cfft2(randn(5, 1, 63, 63))
    benchmark.group = "pytracking sample_fs 5 scales, 63x63 to 250x250"
    run = padded_series if side == "plain" else lambda spectrum, grid: fourier.sample_fs(spectrum, (grid, grid))
    checked(benchmark, lambda: run(a, 250), padded_series(a.double(), 250), BOUND, side=side)


def padded_patch(frame, top_left, sides, size):
    """Every second pixel, the whole frame padded and cropped at once, and resampled."""
    seen = frame[..., top_left[0] % 2 :: 2, top_left[1] % 2 :: 2]
    top, left = top_left[0] // 2, top_left[1] // 2
    pads = (-left, left + sides[1] // 2 - seen.shape[3], -top, top + sides[0] // 2 - seen.shape[2])
    return F.interpolate(F.pad(seen, pads, mode="replicate"), size, mode="bilinear", align_corners=False)


@SIDE
def test_sample_patch(benchmark, checked, side):
    """A search area of 620 px that leaves a frame of 720p at the top, for a network of 288 px."""
    frame = randn(1, 3, 720, 1280).mul_(50).add_(120)
    benchmark.group = "pytracking sample_patch 620 of 720x1280 to 288"
    pos, sides, size = torch.tensor([250.0, 640.0]), torch.tensor([620.0, 620.0]), torch.tensor([288.0, 288.0])
    # 310 of every second pixel, of those in step with the centre: from 125 − 154 and 320 − 154 on.
    plain = lambda image: padded_patch(image, (2 * (125 - 154), 2 * (320 - 154)), (620, 620), (288, 288))  # noqa: E731
    ours = lambda image: preprocessing.sample_patch(image, pos, sides, size)[0]  # noqa: E731
    run = plain if side == "plain" else ours
    checked(benchmark, lambda: run(frame), plain(frame.double()), PATCH, side=side)

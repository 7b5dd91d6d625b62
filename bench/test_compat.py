"""The names of PySOT and PreciseRoIPooling: what the field writes in plain PyTorch, and ours."""

import functools

import pytest
import torch
from sides import DEVICE, OURS, make, place, throughout, wide
from torch.nn import functional

from fasttrack.compat import prroi, pysot
from fasttrack.spec.base import Tolerance
from fasttrack.spec.prroi_pool import SPECS

BOUND = Tolerance(2e-5, 5e-5)
# SiamRPN++: 256 channels; search 31², template 7² (5² with a smaller exemplar); one target, and a batch of training.
SIAMESE = [pytest.param(b, k, id=f"{b}x256x31x31_{k}x{k}") for b, k in ((1, 5), (1, 7), (16, 7))]
# Kernels per map: 1 is SiamFC's, 10 SiamRPN's (2·5 anchors).
SUMS = [pytest.param(b, k, id=f"{b}x256x31x31_{k}") for b, k in ((1, 1), (16, 1), (16, 10))]
REFINE = {case.name: case for case in SPECS[0].cases if case.name in ("refine_5x5", "refine_3x3")}


def grouped(x, kernel):
    """PySOT's depthwise correlation: every channel of every map is a group of one convolution."""
    batch, channels, height, width = kernel.shape
    out = functional.conv2d(
        x.reshape(1, -1, *x.shape[2:]), kernel.reshape(-1, 1, height, width), groups=len(x[0]) * batch
    )
    return out.view(batch, channels, *out.shape[2:])


def by_spectra(x, kernel):
    size = x.shape[-2:]
    product = torch.fft.rfft2(x) * torch.fft.rfft2(kernel, s=size).conj()
    rows, columns = (n - k + 1 for n, k in zip(size, kernel.shape[2:], strict=True))
    return torch.fft.irfft2(product, s=size)[..., :rows, :columns]


def batched(x, kernel):
    """PySOT's fast correlation: every map is a group."""
    out = functional.conv2d(
        x.reshape(1, -1, *x.shape[2:]), kernel.reshape(-1, *x.shape[1:2], *kernel.shape[2:]), groups=len(x)
    )
    return out.view(len(x), -1, *out.shape[2:])


def one_by_one(x, kernel):
    """PySOT's slow correlation."""
    return torch.cat(
        [functional.conv2d(a[None], k.view(-1, len(a), *k.shape[1:])) for a, k in zip(x, kernel, strict=True)]
    )


DEPTHWISE = {"plain": grouped, "torch": by_spectra, **dict.fromkeys(OURS, pysot.xcorr_depthwise)}
SUMMED = {"plain": batched, "torch": one_by_one, **dict.fromkeys(OURS, pysot.xcorr_fast)}


def siamese(batch, size, outputs=1):
    generator = torch.Generator().manual_seed(batch + size)
    x = torch.randn(batch, 256, 31, 31, generator=generator)
    kernel = torch.randn(batch, 256 * outputs, size, size, generator=generator)
    return place({"x": x, "kernel": kernel / size / 16})


def values(function, arguments):
    return lambda: function(**arguments).detach()


def output_gradient(out):
    return torch.cos(torch.arange(out.numel(), device=DEVICE)).view(out.shape).to(out.dtype)


def with_gradients(function, arguments):
    """Forward and both gradients, as a step of training has them."""
    pair = [t.requires_grad_() for t in arguments.values()]
    grad = output_gradient(function(*pair))

    def run():
        out = function(*pair)
        return out.detach(), *torch.autograd.grad(out, pair, grad)

    return run


STAGES = {"forward": values, "forward and gradients": with_gradients}


@functools.lru_cache(maxsize=1)
def truth_of(function, stage, *sizes):
    """In float64, once for the sides of a row."""
    return STAGES[stage](function, wide(siamese(*sizes)))()


@pytest.mark.parametrize("side", DEPTHWISE)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("batch", "size"), SIAMESE)
def test_xcorr_depthwise(benchmark, checked, batch, size, stage, side):
    benchmark.group = f"xcorr_depthwise {stage} {batch}x256x31x31 {size}x{size}"
    truth = truth_of(by_spectra, stage, batch, size)
    run = STAGES[stage](DEPTHWISE[side], siamese(batch, size))
    checked(benchmark, throughout(run, side) if side in OURS else run, truth, BOUND, side=side)


@pytest.mark.parametrize("side", SUMMED)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("batch", "outputs"), SUMS)
def test_xcorr_fast(benchmark, checked, batch, outputs, stage, side):
    benchmark.group = f"xcorr_fast {stage} {batch}x256x31x31 {outputs} of 5x5"
    truth = truth_of(one_by_one, stage, batch, 5, outputs)
    run = STAGES[stage](SUMMED[side], siamese(batch, 5, outputs))
    checked(benchmark, throughout(run, side) if side in OURS else run, truth, BOUND, side=side)


def hat_primitive(u):
    u = u.clamp(-1, 1)
    return torch.where(u < 0, 0.5 * (u + 1) ** 2, 1 - 0.5 * (1 - u) ** 2)


def dense(features, rois, bins, scale):
    """What is written where the extension does not build: the weights of each bin as a matrix, and one einsum."""

    def weights(low, high, size):
        edges = low[:, None] + (high - low)[:, None] * torch.arange(bins + 1, device=low.device) / bins
        below = hat_primitive(edges[:, :, None] - torch.arange(size, device=low.device))
        return (below[:, 1:] - below[:, :-1]) * (bins / (high - low))[:, None, None]

    index, x1, y1, x2, y2 = rois.unbind(1)
    wy = weights(y1 * scale, y2 * scale, features.shape[2])
    wx = weights(x1 * scale, x2 * scale, features.shape[3])
    return torch.einsum("kpi,kcij,kqj->kcpq", wy, features[index.long()], wx)


@pytest.mark.parametrize("side", ["plain", *OURS])
@pytest.mark.parametrize("name", REFINE)
def test_prroi_pool2d(benchmark, checked, name, side):
    """ATOM's refinement: PrRoIPool2D of some boxes, and the gradient in the boxes."""
    arguments = make(REFINE[name])
    benchmark.group = f"PrRoIPool2D forward and rois gradient {name}"

    def step(pool, features, rois):
        grad = output_gradient(pool(features, rois.requires_grad_()))

        def run():
            out = pool(features, rois)
            return out.detach(), torch.autograd.grad(out, rois, grad)[0]

        return run

    bins, scale = arguments["output_size"], arguments["spatial_scale"]
    layer = prroi.PrRoIPool2D(bins, bins, scale)
    pools = {"plain": lambda f, r: dense(f, r, bins, scale), **dict.fromkeys(OURS, layer)}
    maps, boxes = arguments["features"], arguments["rois"]
    truth = step(pools["plain"], maps.double(), boxes.double())()
    run = step(pools[side], maps, boxes)
    checked(benchmark, throughout(run, side) if side in OURS else run, truth, BOUND, side=side)

"""One frame of a filter on brightness: learn from one window, look in another.

plain: grid_sample on the frame (pooled where the window shrinks it), brightness and half spectra in PyTorch. steps: our
ops one after the other, which is what the whole saves the calls of.
"""

import pytest
import torch
from sides import OURS, make, on_backend
from test_crop_resize import plain as crop
from test_grey import plain as brightness

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.correlation_filter import KERNELS
from fasttrack.spec.grey_filter import SPECS

ROWS = [
    pytest.param(spec, kernel, case, id=f"{kernel}-{case.name}")
    for spec, kernel in zip(SPECS, KERNELS, strict=True)
    for case in spec.cases
    if case.bench
]
LOOSE = Tolerance(2e-2, 2e-2)  # grid_sample computes positions in float32


def gaussian(products, energy, sigma, size):
    distance = energy - 2 * torch.fft.irfft2(products, s=size)
    return torch.fft.rfft2(torch.exp(distance.clamp(min=0) / (-(sigma**2) * size[0] * size[1])))


def plain(frame, boxes, search, label, window, kernel, lam=1e-2, sigma=0.5):
    size = tuple(label.shape)
    shrinks = bool((boxes[:, 2:].min() / max(size)) >= 2)
    seen, sought = (brightness(crop(frame, rows, size, shrinks), 1) * window for rows in (boxes, search))
    x, z, y = torch.fft.rfft2(seen), torch.fft.rfft2(sought), torch.fft.rfft2(label)
    if kernel == "linear":
        response = torch.fft.irfft2(x.conj() * y * z / (x.abs().square() + lam * label.numel()), s=size)
    else:
        b = y / (gaussian(x.abs().square() + 0j, 2 * seen.square().sum(), sigma, size) + lam)
        energy = seen.square().sum() + sought.square().sum()
        response = torch.fft.irfft2(gaussian(x.conj() * z, energy, sigma, size) * b, s=size)
    peak = response.flatten().argmax()
    return response, torch.stack([peak // size[1], peak % size[1]])


def steps(frame, boxes, search, label, window, kernel, lam=1e-2, sigma=0.5, backend="cpu"):
    maps = [
        ops.grey(ops.crop_resize(frame, rows, tuple(label.shape), antialias=True, backend=backend), backend=backend)
        for rows in (boxes, search)
    ]
    model = ops.cf_train(maps[0], label, lam, kernel, sigma, window, backend=backend)
    response = ops.cf_detect(model, maps[1][:, None], window, backend=backend)
    return response, ops.response_table(response.flatten(0, 1), backend=backend)


SIDES = {"plain": plain, **{name: on_backend(ops.grey_filter, name) for name in OURS}}
SIDES |= {f"{name}_steps": on_backend(steps, name) for name in OURS}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("spec", "kernel", "case"), ROWS)
def test_grey_filter(benchmark, spec, kernel, case, side):
    arguments = make(case)
    truth = spec.truth(arguments)
    bound = LOOSE if side == "plain" else spec.tolerance_of(torch.float32)
    assert bound.admits(SIDES[side](**arguments)[0].view_as(truth[0]), truth[0]), "the output to be timed is wrong"
    benchmark.group = f"grey_filter {kernel} {case.name}"
    cost = spec.cost(arguments)
    benchmark.extra_info.update(side=side, flops=cost.flops, bytes=cost.bytes)
    benchmark(lambda: SIDES[side](**arguments))

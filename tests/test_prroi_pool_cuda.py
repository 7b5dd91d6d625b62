"""The CUDA kernels of precise RoI pooling against the reference: on a GPU, or emulated (see test_cuda.py)."""

import pytest
import torch

from fasttrack import gpu
from fasttrack.ops import _prroi_pool_cuda as kernels
from fasttrack.spec import prroi_pool as spec
from fasttrack.spec._prroi_cases import POOL
from fasttrack.spec.base import Tolerance

DEVICE = gpu.device_type()
runs = pytest.mark.skipif(gpu.why_not() is not None, reason=str(gpu.why_not()))
CASES = pytest.mark.parametrize("case", [c for c in POOL if c.tests], ids=lambda c: c.name)
BOUND = Tolerance(1e-6, 2e-6, witness="2.1e-7, 3.4e-7")


def arguments(case):
    made = case.make()
    bins = spec.pair(made["output_size"])
    return made["features"], made["rois"], bins, made["spatial_scale"]


def place(*tensors):
    return [t.to(DEVICE) for t in tensors]


def truth_of(case, grad):
    features, rois, bins, scale = arguments(case)
    x, r = features.double().requires_grad_(), rois.double().requires_grad_()
    out = spec.prroi_pool(x, r, bins, scale)
    proper = torch.where(out.isnan(), torch.zeros_like(out), out)
    gradients = torch.autograd.grad((proper * grad.double()).sum(), [x, r], allow_unused=True)
    return out, *(torch.zeros_like(v) if g is None else g for v, g in zip((x, r), gradients, strict=True))


@runs
@CASES
@pytest.mark.parametrize("channels_last", [False, True])
def test_against_float64(case, channels_last, poisoned):
    features, rois, bins, scale = arguments(case)
    images, channels, height, width = features.shape
    grad = torch.randn(len(rois), channels, *bins, generator=torch.Generator().manual_seed(3))
    truth, by_features, by_rois = truth_of(case, grad)
    x, r, g = place(features, rois, grad)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    assert BOUND.admits(kernels.forward(x, r, *bins, scale, False).cpu(), truth)
    spread = kernels.features_gradient(g, r, images, height, width, scale, True).cpu()
    assert BOUND.admits(spread, by_features)
    edges = kernels.rois_gradient(x, g, r, scale).cpu()
    assert edges.dtype == rois.dtype
    assert BOUND.admits(edges, by_rois)
    if len(rois):
        assert not BOUND.admits(spread * 1.00001, by_features)
        assert not BOUND.admits(edges * 1.00001, by_rois)


@runs
def test_by_hand():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    x, r = place(features, torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]]))
    got = kernels.forward(x, r, 2, 2, 1.0, False)
    assert got.flatten().tolist() == pytest.approx([1.75, 2.25, 2.75, 3.25], rel=1e-6)


@runs
def test_what_is_not_proper(poisoned):
    """No such image and no finite coordinate: NaN and no gradient. No area: 0 and no gradient."""
    rows = [[5, 0, 0, 2, 2], [0, float("nan"), 0, 2, 2], [0, 2, 2, 2, 3], [1, 3, 0, 1, 2], [1, 0.5, 0.5, 2.5, 2.5]]
    x, r, g = place(torch.ones(2, 3, 6, 5), torch.tensor(rows), torch.ones(5, 3, 2, 2))
    out = kernels.forward(x, r, 2, 2, 1.0, False).cpu()
    assert out[:2].isnan().all()
    assert (out[2:4] == 0).all()
    assert out[4].flatten().tolist() == pytest.approx([1.0] * 12)
    only = kernels.features_gradient(g[4:], r[4:], 2, 6, 5, 1.0, True)
    assert torch.equal(kernels.features_gradient(g, r, 2, 6, 5, 1.0, True), only)
    assert (kernels.rois_gradient(x, g, r, 1.0).cpu()[:4] == 0).all()


@runs
@pytest.mark.parametrize("slab", [0, 500])
def test_maps_too_large_for_shared_memory(slab, monkeypatch, poisoned):
    case = next(c for c in POOL if c.name == "channels")
    features, rois, bins, scale = arguments(case)
    monkeypatch.setattr(kernels, "_SLAB", slab)
    x, r = place(features, rois)
    truth = spec.prroi_pool(features.double(), rois.double(), bins, scale)
    assert BOUND.admits(kernels.forward(x, r, *bins, scale, False).cpu(), truth)


@runs
def test_refusals():
    assert "features of height 2000" in kernels.why_not(torch.empty(1, 1, 2000, 1, device=DEVICE))
    assert "70 × 70 bins" in kernels.gradient_why_not(torch.empty(1, 1, 70, 70, device=DEVICE))
    assert "float64" in kernels.why_not(torch.empty(1, 1, 2, 2, device=DEVICE, dtype=torch.float64))
    assert kernels.why_not(torch.empty(1, 1, 36, 36, device=DEVICE)) is None


@runs
def test_half_types():
    case = next(c for c in POOL if c.name == "several")
    features, rois, bins, scale = arguments(case)
    x, r = place(features.half(), rois)
    got = kernels.forward(x, r, *bins, scale, False)
    assert got.dtype == torch.float16
    assert Tolerance(2e-3, 2e-3).admits(got.cpu(), spec.prroi_pool(features.half().double(), rois, bins, scale))

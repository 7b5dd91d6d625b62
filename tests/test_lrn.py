"""Hand-computed truths, layouts, non-finite values and messages of the local response normalisation."""

import math

import pytest
import torch
from torch.nn import functional as F

from fasttrack import nn, ops
from fasttrack.errors import DtypeError, RangeError, ShapeError
from fasttrack.spec.base import error_of

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


def maps(*shape, scale=40.0, seed=0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@BOTH
def test_by_hand(backend):
    # Squares 1, 4, 9 with k = 2, alpha = 1 over three channels: 2+5, 2+14, 2+13; 16^¾ = 8.
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    got = ops.lrn(x, 3, 2.0, 1.0, 0.75, backend=backend).flatten().tolist()
    assert got == pytest.approx([1 / 7**0.75, 0.25, 3 / 15**0.75], rel=1e-6)
    # An even window has its longer half before: channel 1 sees 0 and 1, channel 2 sees 1 and 2.
    got = ops.lrn(x, 2, 1.0, 1.0, 1.0, backend=backend).flatten().tolist()
    assert got == pytest.approx([1 / 2, 2 / 6, 3 / 14], rel=1e-6)


@BOTH
def test_fused_by_hand(backend):
    # One channel, alpha 1, k 7, beta ¾: 3 → 3/16^¾ = 3/8; negatives count as 0.
    x = torch.tensor([[3.0, -9.0, 0.0, -1.0, -2.0], [0.0, -5.0, -1.0, 3.0, -4.0]]).view(1, 1, 2, 5)
    got = ops.relu_lrn_maxpool(x, 5, 7.0, 1.0, 0.75, pool=2, stride=2, backend=backend)
    assert got.flatten().tolist() == pytest.approx([0.375, 0.375], rel=1e-6)
    got = ops.relu_lrn_maxpool(x, 5, 7.0, 1.0, 0.75, pool=2, stride=2, ceil_mode=True, backend=backend)
    assert got.flatten().tolist() == pytest.approx([0.375, 0.375, 0.0], rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7])
def test_against_torch(size):
    """torch divides alpha by the size of the window; ours is per element."""
    x = maps(2, 11, 6, 7)
    truth = F.local_response_norm(x.double(), size, alpha=1e-3 * size, beta=0.75, k=1.5)
    got = ops.lrn(x, size, 1.5, 1e-3, 0.75, backend="cpu")
    assert max(error_of(got, truth)) < 1e-6
    assert error_of(ops.lrn(x, size, 1.5, 1.1e-3, 0.75, backend="cpu"), truth)[0] > 1e-3


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("pool", "stride"), [(1, 1), (2, 2), (3, 2), (3, 3), (4, 1), (2, 5)])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 9), (8, 6), (13, 40)])
def test_pooling_is_torchs(pool, stride, ceil_mode, height, width):
    x = maps(2, 10, height, width)
    truth = F.max_pool2d(ops.lrn(x.double().relu(), backend="reference"), pool, stride, ceil_mode=ceil_mode)
    for layout in (torch.contiguous_format, torch.channels_last):
        options = {"pool": pool, "stride": stride, "ceil_mode": ceil_mode, "backend": "cpu"}
        got = ops.relu_lrn_maxpool(x.contiguous(memory_format=layout), **options)
        assert got.is_contiguous(memory_format=layout)
        assert got.shape == truth.shape
        assert max(error_of(got, truth)) < 1e-6


def test_sizes_of_the_trackers():
    """331 → 163 → 81 and 107 → 51 → 25 px: both rounding rules agree."""
    for before, after in ((163, 81), (39, 19), (51, 25)):
        for ceil_mode in (False, True):
            assert ops.relu_lrn_maxpool(maps(1, 2, before, before), ceil_mode=ceil_mode).shape[2:] == (after, after)


@BOTH
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_is_kept_and_not_copied(backend, layout, monkeypatch):
    x = maps(2, 12, 9, 7).contiguous(memory_format=layout)
    copies = []
    original = torch.Tensor.contiguous
    monkeypatch.setattr(
        torch.Tensor, "contiguous", lambda t, **kw: copies.append(original(t, **kw) is not t) or original(t, **kw)
    )
    assert ops.lrn(x, backend=backend).is_contiguous(memory_format=layout)
    assert ops.relu_lrn_maxpool(x, backend=backend).is_contiguous(memory_format=layout)
    assert copies or backend == "cpu"
    assert backend == "reference" or not any(copies)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_rounded_once(dtype):
    x = maps(1, 24, 9, 9).to(dtype)
    for function in (ops.lrn, ops.relu_lrn_maxpool):
        assert torch.equal(function(x, backend="cpu"), function(x.float(), backend="cpu").to(dtype))


@BOTH
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bad", [float("nan"), -float("nan")])
def test_nan_spreads_over_its_window(backend, layout, bad):
    x = maps(1, 20, 9, 33).abs()
    x[0, 8, 4, 20] = bad
    x = x.contiguous(memory_format=layout)
    marked = ops.lrn(x, backend=backend).isnan().nonzero().tolist()
    assert marked == [[0, c, 4, 20] for c in range(6, 11)]
    marked = ops.relu_lrn_maxpool(x, backend=backend).isnan().nonzero().tolist()
    assert marked == [[0, c, i, j] for c in range(6, 11) for i in (1, 2) for j in (9, 10)]


@BOTH
def test_infinity(backend):
    x = torch.ones(1, 16, 3, 3)
    x[0, 8, 1, 1] = math.inf
    for function in (ops.lrn, ops.relu_lrn_maxpool):
        got = function(x, backend=backend)
        assert got.isnan().sum() == 1
        assert not got.isinf().any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1.0, 1e9, 1e18])
def test_pool_of_any_magnitude(layout, scale):
    """The kernel of the commonest pool compares squares, which are not floats for the smallest and largest values."""
    x = (scale * maps(2, 32, 7, 35, scale=1.0).double()).float().contiguous(memory_format=layout)
    truth = ops.relu_lrn_maxpool(x.double(), alpha=1e-7, backend="reference")
    got = ops.relu_lrn_maxpool(x, alpha=1e-7, backend="cpu")
    assert max(error_of(got, truth)) < 1e-6
    assert scale == 0.0 or error_of(1.01 * got, truth)[0] > 5e-3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pool_of_one_image_without_the_others(layout):
    x = maps(3, 16, 9, 19)
    x[1] *= 1e-35
    x[2, 5, 3, 3] = math.nan
    got = ops.relu_lrn_maxpool(x.contiguous(memory_format=layout), backend="cpu")
    truth = ops.relu_lrn_maxpool(x.double(), backend="reference")
    for one, other in zip(got, truth, strict=True):
        assert max(error_of(one, other)) < 1e-6


def test_power_of_the_kernel():
    """s^−¾ over all sizes of s: relative error below 5e-7."""
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.logspace(-6, 18, 4096).view(1, 1, 64, 64).expand(1, 16, 64, 64).contiguous(memory_format=layout)
        got = ops.lrn(x, 1, 1e-12, 1.0, 0.75, backend="cpu").double()
        truth = x.double() * (1e-12 + x.double() ** 2) ** -0.75
        assert ((got - truth).abs() / truth).max() < 5e-7
    tiny = ops.lrn(torch.full((1, 8, 1, 1), 1e-3), 1, 1e-38, 0.0, 0.75, backend="cpu")
    assert tiny[0, 0, 0, 0].item() == pytest.approx(1e-3 * 1e38**0.75, rel=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_same_result_on_any_number_of_threads(layout):
    before, x = torch.get_num_threads(), maps(3, 24, 40, 41).contiguous(memory_format=layout)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append((ops.lrn(x, backend="cpu"), ops.relu_lrn_maxpool(x[:1], backend="cpu")))
    torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_gradient_goes_to_the_first_of_equals():
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 0] = x[0, 0, 2, 2] = 2.0
    x.requires_grad_()
    ops.relu_lrn_maxpool(x, alpha=0.0, k=1.0, backend="cpu").backward()
    assert x.grad.nonzero().tolist() == [[0, 0, 1, 0]]
    assert x.grad.sum() == 1.0


def test_modules_are_their_functions():
    x = maps(2, 7, 9, 8)
    assert torch.equal(nn.LRN(3, 1.0, 1e-3, 0.5)(x), ops.lrn(x, 3, 1.0, 1e-3, 0.5))
    module = nn.ReLULRNMaxPool(3, 1.0, 1e-3, 0.5, 2, 2, True)
    assert torch.equal(module(x), ops.relu_lrn_maxpool(x, 3, 1.0, 1e-3, 0.5, 2, 2, True))
    wanted = "ReLULRNMaxPool(size=3, k=1.0, alpha=0.001, beta=0.5, pool=2, stride=2, ceil_mode=True)"
    assert repr(module) == wanted


def test_messages():
    x = maps(1, 3, 5, 6)
    with pytest.raises(ShapeError, match=r"lrn: x must be \(B, C, H, W\), got shape \(3, 5, 6\)"):
        ops.lrn(x[0])
    with pytest.raises(DtypeError, match=r"lrn: x must be float32 or .*got torch.int64"):
        ops.lrn(x.long())
    with pytest.raises(ShapeError, match=r"x must be \(B, C, H, W\) with C, H, W ≥ 1, got shape \(1, 0, 5, 6\)"):
        ops.lrn(x[:, :0])
    with pytest.raises(ShapeError, match=r"H and W at least pool = 6, got shape \(1, 3, 5, 6\)"):
        ops.relu_lrn_maxpool(x, pool=6)
    for name in ("size", "pool", "stride"):
        for wrong in (0, -1, 2.0):
            with pytest.raises(RangeError, match=rf"relu_lrn_maxpool: {name} must be an int ≥ 1, got {wrong}"):
                ops.relu_lrn_maxpool(x, **{name: wrong})
    for name, wrong, wanted in (("k", 0.0, "> 0"), ("alpha", -1.0, "≥ 0"), ("beta", math.nan, "number")):
        with pytest.raises(RangeError, match=rf"lrn: {name} must be a finite .*{wanted}, got {wrong}"):
            ops.lrn(x, **{name: wrong})

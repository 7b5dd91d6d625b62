"""PySOT's correlations against five nested loops, with gradients of both orders."""

import pytest
import torch
from torch.nn import functional

from fasttrack.compat import pysot
from fasttrack.errors import DtypeError, ShapeError
from fasttrack.spec.base import Tolerance

# Worst seen: 3e-7 of the largest value in values and gradients.
BOUND = Tolerance(3e-6, 3e-6)
SIZES = [(1, 3, 7, 7, 3, 3), (2, 4, 8, 9, 4, 5), (3, 2, 6, 5, 6, 5), (16, 1, 5, 7, 2, 1)]


def slow(x, kernel, depthwise):
    """out[b, k, i, j], one product at a time; ``k`` is the channel itself or the block of channels summed over."""
    batch, channels, height, width = x.shape
    rows, columns = height - kernel.shape[2] + 1, width - kernel.shape[3] + 1
    outputs = channels if depthwise else kernel.shape[1] // channels
    out = []
    for b in range(batch):
        for k in range(outputs):
            for i in range(rows):
                for j in range(columns):
                    part = x[b, :, i : i + kernel.shape[2], j : j + kernel.shape[3]]
                    template = kernel[b, k] if depthwise else kernel[b, k * channels : (k + 1) * channels]
                    out.append(((part[k] if depthwise else part) * template).sum())
    return torch.stack(out).view(batch, outputs, rows, columns)


def inputs(size, outputs=1, dtype=torch.float32):
    batch, channels, height, width, kh, kw = size
    generator = torch.Generator().manual_seed(sum(size))
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)
    kernel = torch.randn(batch, channels * outputs, kh, kw, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), kernel.to(dtype).requires_grad_()


def with_gradients(function, x, kernel):
    out = function(x, kernel)
    grad = torch.cos(torch.arange(out.numel())).view(out.shape).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, (x, kernel), grad)


NAMES = [("xcorr_depthwise", 1), ("xcorr_fast", 1), ("xcorr_slow", 1), ("xcorr_fast", 3), ("xcorr_slow", 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "outputs"), NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(name, outputs, size, dtype):
    function, depthwise = getattr(pysot, name), name == "xcorr_depthwise"
    truth = with_gradients(lambda x, k: slow(x, k, depthwise), *inputs(size, outputs, torch.float64))
    found = with_gradients(function, *inputs(size, outputs, dtype))
    for got, true in zip(found, truth, strict=True):
        assert got.shape == true.shape and got.dtype == dtype
        assert BOUND.admits(got, true)
        for wrong in (torch.zeros_like(true), true * 1.001, true + 1e-3 * true.abs().max()):
            assert not BOUND.admits(wrong.to(dtype), true)
    with torch.no_grad():
        assert torch.equal(function(*inputs(size, outputs, dtype)), found[0])


def test_golden():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    kernel = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])
    # 0·1 + 4·2, 1 + 5·2; 3 + 7·2, 4 + 8·2
    for function in (pysot.xcorr_depthwise, pysot.xcorr_fast, pysot.xcorr_slow):
        assert function(x, kernel).tolist() == [[[[8.0, 11.0], [17.0, 20.0]]]]


@pytest.mark.parametrize(("name", "outputs"), NAMES[:2] + NAMES[3:4])
def test_gradients_of_every_order(name, outputs):
    pair = inputs((2, 2, 4, 5, 2, 3), outputs, torch.float64)
    assert torch.autograd.gradcheck(getattr(pysot, name), pair)
    assert torch.autograd.gradgradcheck(getattr(pysot, name), pair)


def test_one_gradient_at_a_time():
    x, kernel = inputs(SIZES[1])
    both = with_gradients(pysot.xcorr_depthwise, x, kernel)
    grad = torch.cos(torch.arange(both[0].numel())).view(both[0].shape)
    for at, pair in enumerate(((x, kernel.detach()), (x.detach(), kernel))):
        alone = torch.autograd.grad(pysot.xcorr_depthwise(*pair), pair[at], grad)[0]
        assert torch.equal(alone, both[1 + at])


def test_strided_and_channels_last():
    """PySOT itself fails on these: it views what is not contiguous."""
    x, kernel = (t.detach() for t in inputs((2, 4, 8, 9, 4, 5)))
    for name in ("xcorr_depthwise", "xcorr_fast"):
        function = getattr(pysot, name)
        plain = function(x, kernel)
        last = function(x.contiguous(memory_format=torch.channels_last), kernel.transpose(2, 3).contiguous().mT)
        torch.testing.assert_close(last, plain)


def test_autocast_and_vmap():
    x, kernel = inputs(SIZES[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = pysot.xcorr_depthwise(x, kernel)
    assert out.dtype == torch.bfloat16
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(out.float().sum(), (x, kernel)))
    several = torch.stack([x, 2 * x])
    mapped = torch.func.vmap(pysot.xcorr_depthwise, in_dims=(0, None))(several, kernel)
    torch.testing.assert_close(mapped, torch.stack([pysot.xcorr_depthwise(s, kernel) for s in several]))


def test_compiles_into_one_graph():
    x, kernel = inputs(SIZES[1])
    compiled = torch.compile(pysot.xcorr_depthwise, fullgraph=True, backend="aot_eager")
    for got, true in zip(
        with_gradients(compiled, x, kernel), with_gradients(pysot.xcorr_depthwise, x, kernel), strict=True
    ):
        torch.testing.assert_close(got, true)


def test_as_plain_torch_at_the_field_s_sizes():
    """SiamRPN++: 256 channels, search 31², template 7²."""
    x, kernel = inputs((2, 256, 31, 31, 7, 7))
    expected = functional.conv2d(x.reshape(1, -1, 31, 31), kernel.reshape(-1, 1, 7, 7), groups=512).view(2, 256, 25, 25)
    torch.testing.assert_close(pysot.xcorr_depthwise(x, kernel), expected)


@pytest.mark.parametrize(
    ("name", "x", "kernel", "error", "message"),
    [
        ("xcorr_depthwise", (1, 2, 5, 5), (1, 3, 2, 2), ShapeError, r"kernel must be \(B, 2, h, w\)"),
        ("xcorr_fast", (1, 2, 5, 5), (1, 3, 2, 2), ShapeError, r"kernel must be \(B, K·2, h, w\), K times"),
        ("xcorr_slow", (2, 2, 5, 5), (1, 2, 2, 2), ShapeError, r"xcorr_slow: kernel must be \(2, C, h, w\), one"),
        ("xcorr_depthwise", (1, 2, 5, 5), (1, 2, 6, 2), ShapeError, "1 ≤ h ≤ 5 and 1 ≤ w ≤ 5"),
        ("xcorr_depthwise", (2, 5, 5), (1, 2, 2, 2), ShapeError, r"x must be \(B, C, H, W\), got shape"),
    ],
)
def test_messages(name, x, kernel, error, message):
    with pytest.raises(error, match=message):
        getattr(pysot, name)(torch.zeros(x), torch.zeros(kernel))


def test_dtype_message():
    with pytest.raises(DtypeError, match=r"kernel must be of the dtype of x, torch\.float32, got torch\.float64"):
        pysot.xcorr_fast(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 2, 2).double())

"""Convolutions by mode and of lists: loops in float64, cropping by hand, gradients and messages."""

import pytest
import torch
import torch.nn.functional as F
from correlation_reference import correlation

from fasttrack.compat.pytracking import _correlation
from fasttrack.compat.pytracking.operation import conv1x1, conv2d
from fasttrack.compat.pytracking.tensorlist import TensorList
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError
from fasttrack.spec.base import Tolerance

BOUND = Tolerance(1e-6, 2e-6, witness="4e-7, 6e-7")
EXACT = Tolerance(1e-13, 1e-13, witness="3e-16, 4e-16")
# (C, O, kh, kw, groups): few filters against the channels take the product, the others the convolution.
KERNELS = [(20, 1, 3, 3, 1), (32, 2, 2, 4, 1), (48, 4, 3, 2, 2), (3, 5, 4, 4, 1), (6, 3, 3, 5, 3), (4, 2, 1, 1, 1)]


def case(kernel, dtype=torch.float64, size=(6, 7), batch=2):
    channels, out, kh, kw, groups = kernel
    generator = torch.Generator().manual_seed(sum(kernel))
    x = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    w = torch.randn(out, channels // groups, kh, kw, generator=generator, dtype=torch.float64)
    return x.to(dtype), w.to(dtype), groups


def slow(x, w, mode):
    kh, kw = w.shape[2:]
    padding = {"same": (kh // 2, kw // 2), "valid": (0, 0), "full": (kh - 1, kw - 1)}[mode]
    out = correlation(x.unsqueeze(1), w.unsqueeze(0), padding).squeeze(1)
    return out[..., : x.shape[2], : x.shape[3]] if mode == "same" else out


def test_cases_take_both_forms(monkeypatch):
    folded = []
    monkeypatch.setattr(_correlation.F, "fold", lambda *args, fold=F.fold: folded.append(1) or fold(*args))
    for kernel in KERNELS:
        x, w, groups = case(kernel)
        conv2d(x, w, groups=groups, mode="same")
    assert len(folded) == 3


@pytest.mark.parametrize("mode", ["same", "valid", "full"])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_modes_against_loops(kernel, mode):
    x, w, groups = case(kernel)
    truth = slow(x, w, mode)
    assert EXACT.admits(conv2d(x, w, groups=groups, mode=mode), truth)
    got = conv2d(x.float(), w.float(), groups=groups, mode=mode)
    assert got.dtype == torch.float32 and BOUND.admits(got, slow(x.float(), w.float(), mode))
    for wrong in (torch.zeros_like(got), got * 1.0001, got.roll(1, -1)):
        assert not BOUND.admits(wrong, truth)


def test_even_kernels_lose_the_last_row_and_column():
    x, w = torch.tensor([[[[1.0, 2.0, 4.0]]]]), torch.tensor([[[[1.0, 10.0]]]])
    # One zero before the row: out[j] = x[j − 1] + 10·x[j]; the fourth output, x[2], is cut off.
    assert conv2d(x, w, mode="same").tolist() == [[[[10.0, 21.0, 42.0]]]]
    assert conv2d(x, w, padding=(0, 1)).tolist() == [[[[10.0, 21.0, 42.0, 4.0]]]]
    assert conv2d(x, w, mode="valid").tolist() == [[[[21.0, 42.0]]]]
    assert conv2d(x, w, mode="full").tolist() == [[[[10.0, 21.0, 42.0, 4.0]]]]


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"stride": (1, 2), "padding": 1}, {"dilation": 2}, {"dilation": (1, 2), "padding": (1, 3)}],
    ids=str,
)
@pytest.mark.parametrize("kernel", KERNELS[:4], ids=str)
def test_other_options_are_those_of_torch(kernel, options):
    x, w, groups = case(kernel, size=(9, 8))
    bias = torch.arange(len(w), dtype=torch.float64)
    assert EXACT.admits(conv2d(x, w, bias, groups=groups, **options), F.conv2d(x, w, bias, groups=groups, **options))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_sum_in_float32(dtype):
    x, w, _ = case(KERNELS[0], dtype)
    assert torch.equal(conv2d(x, w, mode="same"), F.conv2d(x, w, padding=1))


@pytest.mark.parametrize("kernel", [KERNELS[0], (12, 1, 2, 3, 1), KERNELS[3]], ids=str)
def test_gradients(kernel):
    x, w, groups = case(kernel, size=(3, 4), batch=1)
    leaves = (x.requires_grad_(), w.requires_grad_())
    run = lambda a, b: conv2d(a, b, groups=groups, mode="same")  # noqa: E731
    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


def test_lists_go_element_by_element():
    xs, ws = zip(*(case(kernel)[:2] for kernel in KERNELS[:2]), strict=True)
    got = conv2d(TensorList(xs), TensorList(ws), mode="same")
    assert type(got) is TensorList and len(got) == 2
    for one, x, w in zip(got, xs, ws, strict=True):
        assert torch.equal(one, conv2d(x, w, mode="same"))
    both = conv2d(TensorList([xs[0], 2 * xs[0]]), ws[0], mode="valid")
    assert EXACT.admits(both[1], 2 * both[0])


def test_one_cell():
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(7, 5, 1, 1, dtype=torch.float64, requires_grad=True)
    truth = torch.einsum("oc,bcij->boij", w[:, :, 0, 0], x)
    assert EXACT.admits(conv1x1(x, w), truth)
    assert not EXACT.admits(conv1x1(x, w) * (1 + 1e-12), truth)
    assert torch.autograd.gradcheck(conv1x1, (x, w))
    assert EXACT.admits(conv1x1(TensorList([x]), TensorList([w]))[0], truth)


def test_no_weight_gives_the_input():
    x = torch.randn(1, 2, 3, 3)
    assert conv2d(x, None) is x and conv1x1(x, None) is x
    assert conv1x1(TensorList([x]), TensorList([None]))[0] is x


def test_messages():
    x, w = torch.randn(1, 4, 5, 5), torch.randn(2, 4, 3, 3)
    with pytest.raises(ArgumentError, match="conv2d: padding must be 0 where a mode is given, got 1 with mode='same'"):
        conv2d(x, w, padding=1, mode="same")
    with pytest.raises(RangeError, match="conv2d: mode must be 'same', 'valid', 'full' or None, got 'reflect'"):
        conv2d(x, w, mode="reflect")
    with pytest.raises(ShapeError, match=r"conv2d: weight must be a tensor of four dimensions, got \(4, 3, 3\)"):
        conv2d(x, w[0])
    with pytest.raises(ShapeError, match="conv2d: weight must be a kernel of at most the padded input"):
        conv2d(x, torch.randn(1, 4, 6, 3))
    with pytest.raises(ShapeError, match=r"conv1x1: weight must be \(O, C, 1, 1\), got \(2, 4, 3, 3\)"):
        conv1x1(x, w)
    with pytest.raises(DtypeError, match=r"conv1x1: input must be a torch.Tensor, got float"):
        conv1x1(1.0, w)

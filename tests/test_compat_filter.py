"""Target filters: loops in float64 over images, sequences, filters and groups, adjointness, gradients, messages."""

import pytest
import torch
import torch.nn.functional as F
from correlation_reference import adjoint, correlation

from fasttrack.compat.pytracking import _correlation
from fasttrack.compat.pytracking.filter import apply_feat_transpose, apply_filter, filter_gradient
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError
from fasttrack.spec.base import Tolerance

BOUND = Tolerance(1e-6, 2e-6, witness="4e-7, 6e-7")
EXACT = Tolerance(1e-13, 1e-13, witness="6e-16, 7e-16")
# Images, sequences, filters (None: the filter has no such axis), groups, C, kernel.
CASES = [
    (1, 1, None, 1, 20, (3, 3)),
    (3, 1, None, 1, 32, (4, 4)),
    (2, 3, None, 1, 20, (2, 3)),
    (3, 2, 2, 1, 24, (3, 2)),
    (2, 2, 4, 2, 48, (3, 2)),
    (2, 2, 1, 1, 5, (4, 3)),
    (1, 2, 9, 3, 6, (3, 3)),
    (3, 2, None, 1, 4, (1, 1)),
    (2, 1, 3, 1, 4, (5, 2)),
]
PRODUCTS = 5


def draw(case, dtype=torch.float64, size=(5, 6)):
    images, sequences, filters, groups, channels, kernel = case
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(images, sequences, channels, *size, generator=generator, dtype=torch.float64)
    axis = () if filters is None else (filters,)
    w = torch.randn(sequences, *axis, channels // groups, *kernel, generator=generator, dtype=torch.float64)
    out = [n + 2 * (k // 2) - k + 1 for n, k in zip(size, kernel, strict=True)]
    y = torch.randn(images, sequences, *axis, *out, generator=generator, dtype=torch.float64)
    return x.to(dtype), w.to(dtype), y.to(dtype)


def slow_filter(x, w):
    scores = correlation(x, w if w.dim() == 5 else w.unsqueeze(1), [k // 2 for k in w.shape[-2:]])
    return scores if w.dim() == 5 else scores.squeeze(2)


def slow_transpose(x, y, kernel, groups):
    many = y if y.dim() == 5 else y.unsqueeze(2)
    filters = adjoint(x, many, kernel, [k // 2 for k in kernel], groups)
    return filters if y.dim() == 5 else filters.squeeze(1)


def test_cases_take_both_forms(monkeypatch):
    folded, unfolded = [], []
    monkeypatch.setattr(_correlation.F, "fold", lambda *args, fold=F.fold: folded.append(1) or fold(*args))
    monkeypatch.setattr(_correlation.F, "unfold", lambda *args, unfold=F.unfold: unfolded.append(1) or unfold(*args))
    for case in CASES:
        x, w, y = draw(case)
        apply_filter(x, w)
        apply_feat_transpose(x, y, case[5], groups=case[3])
    assert len(folded) == len(unfolded) == PRODUCTS


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_against_loops(case):
    x, w, _ = draw(case)
    truth = slow_filter(x, w)
    assert EXACT.admits(apply_filter(x, w), truth)
    got = apply_filter(x.float(), w.float())
    assert BOUND.admits(got, slow_filter(x.float(), w.float()))
    for wrong in (torch.zeros_like(got), got * 1.0001, got.roll(1, -1)):
        assert not BOUND.admits(wrong, truth)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_transpose_against_loops(case, training):
    x, _, y = draw(case)
    truth = slow_transpose(x, y, case[5], case[3])
    assert EXACT.admits(apply_feat_transpose(x, y, case[5], training, case[3]), truth)
    got = apply_feat_transpose(x.float(), y.float(), case[5], training, case[3])
    assert BOUND.admits(got, slow_transpose(x.float(), y.float(), case[5], case[3]))
    for wrong in (torch.zeros_like(got), got * 1.0001, got.roll(1, -3)):
        assert not BOUND.admits(wrong, truth)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_transpose_is_the_adjoint_and_the_gradient(case):
    """⟨A w, y⟩ = ⟨w, Aᵀ y⟩, and Aᵀ y is what autograd finds."""
    x, w, y = draw(case)
    w.requires_grad_()
    scores, back = apply_filter(x, w), apply_feat_transpose(x, y, case[5], groups=case[3])
    left, right = (scores * y).sum(), (w * back).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-12)
    assert left.item() != pytest.approx(1.0001 * right.item(), rel=1e-12)
    assert EXACT.admits(torch.autograd.grad(scores, w, y)[0], back)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_filter_gradient_is_that_of_half_the_squares(case):
    x, w, y = draw(case)
    scores = slow_filter(x, w)
    for label in (y, None):
        truth = slow_transpose(x, scores if label is None else scores - label, case[5], case[3])
        got = filter_gradient(x, w, label)
        assert EXACT.admits(got, truth) and not EXACT.admits(2 * got, truth)


@pytest.mark.parametrize(
    "case", [(1, 1, None, 1, 12, (2, 3)), (2, 2, None, 1, 8, (2, 2)), (1, 2, 2, 2, 4, (2, 3))], ids=str
)
def test_gradients_of_both_orders(case):
    x, w, y = draw(case, size=(3, 2))
    forward = (x.requires_grad_(), w.requires_grad_())
    assert torch.autograd.gradcheck(apply_filter, forward)
    assert torch.autograd.gradgradcheck(apply_filter, forward)
    transpose = lambda a, b: apply_feat_transpose(a, b, case[5], groups=case[3])  # noqa: E731
    assert torch.autograd.gradcheck(transpose, (x, y.requires_grad_()))
    assert torch.autograd.gradgradcheck(transpose, (x, y))


def test_sequences_do_not_mix():
    x, w, y = draw((3, 4, None, 1, 20, (3, 3)))
    alone = [apply_filter(x[:, k : k + 1], w[k : k + 1]) for k in range(4)]
    assert EXACT.admits(apply_filter(x, w), torch.cat(alone, 1))
    back = [apply_feat_transpose(x[:, k : k + 1], y[:, k : k + 1], 3) for k in range(4)]
    assert EXACT.admits(apply_feat_transpose(x, y, 3), torch.cat(back))


def test_maps_of_one_sequence_need_no_axis():
    x, w, y = draw(CASES[1])
    assert torch.equal(apply_filter(x[:, 0], w), apply_filter(x, w))
    assert torch.equal(apply_feat_transpose(x[:, 0], y, 4), apply_feat_transpose(x, y, (4, 4)))
    assert torch.equal(filter_gradient(x[:, 0], w, y), filter_gradient(x, w, y))


@pytest.mark.parametrize("channels", [4, 24])
def test_dilated_filters(channels):
    x, w, _ = draw((2, 2, 3, 1, channels, (3, 3)))
    got = apply_filter(x, w, dilation_factors={1: 2, 3: 1})
    near = correlation(x, w[:, :2], (1, 1))
    far = correlation(x, w[:, 2:], (3, 3), (3, 3))
    assert EXACT.admits(got, torch.cat((near, far), 2))
    assert not EXACT.admits(apply_filter(x, w), torch.cat((near, far), 2))


def test_strided_and_channels_last():
    x, w, y = draw(CASES[3])
    turned = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert EXACT.admits(apply_filter(turned, w), apply_filter(x, w))
    assert EXACT.admits(apply_feat_transpose(turned, y, (3, 2)), apply_feat_transpose(x, y, (3, 2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[5]], ids=str)
def test_half_types(case, dtype):
    x, w, y = draw(case, dtype)
    coarse = Tolerance(4 * torch.finfo(dtype).eps, 4 * torch.finfo(dtype).eps, witness="bfloat16 .7 eps, 1 eps")
    for got, truth in (
        (apply_filter(x, w), slow_filter(x, w)),
        (apply_feat_transpose(x, y, case[5]), slow_transpose(x, y, case[5], 1)),
    ):
        assert got.dtype == dtype and coarse.admits(got, truth) and not coarse.admits(1.1 * got, truth)


def test_compiles_in_one_graph_and_vectorises():
    x, w, y = draw(CASES[3])
    compiled = torch.compile(filter_gradient, fullgraph=True, backend="aot_eager")
    assert EXACT.admits(compiled(x, w, y), filter_gradient(x, w, y))
    mapped = torch.func.vmap(filter_gradient)(torch.stack((x, 2 * x)), torch.stack((w, w)))
    assert EXACT.admits(mapped[1], filter_gradient(2 * x, w))


def test_autocast_keeps_the_convolution():
    x, w, _ = draw(CASES[1], torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, back = apply_filter(x, w), apply_feat_transpose(x, apply_filter(x, w), 4)
    assert scores.dtype == torch.bfloat16
    coarse = Tolerance(2e-2, 4e-2)
    assert coarse.admits(scores, slow_filter(x, w))
    assert coarse.admits(back, slow_transpose(x, slow_filter(x, w), (4, 4), 1))


@pytest.mark.parametrize("groups", [0, 3])
def test_messages_of_groups(groups):
    x, _, y = draw((1, 1, 2, 1, 4, (3, 3)))
    with pytest.raises(RangeError, match="apply_feat_transpose: groups must be a divisor of the channels, 4, and of"):
        apply_feat_transpose(x, y, 3, groups=groups)


def test_messages():
    x, w, y = draw((2, 3, 2, 1, 4, (3, 3)))
    wanted = r"apply_filter: filter must be \(3, 4, kh, kw\) or \(3, filters, 4/groups, kh, kw\), got \(2, 2, 4, 3, 3\)"
    with pytest.raises(ShapeError, match=wanted):
        apply_filter(x, w[:2])
    with pytest.raises(ShapeError, match=r"of a number of filters that 4 groups divide, got \(3, 2, 1, 3, 3\)"):
        apply_filter(x, w[:, :, :1])
    with pytest.raises(ShapeError, match=r"apply_filter: feat must be \(images, sequences, C, H, W\)"):
        apply_filter(x[0, 0], w)
    with pytest.raises(DtypeError, match=r"apply_filter: filter must be of the dtype of feat, torch.float64, got"):
        apply_filter(x, w.float())
    with pytest.raises(DtypeError, match=r"apply_filter: feat must be a torch\.Tensor, got list"):
        apply_filter([x], w)
    with pytest.raises(RangeError, match=r"dilation_factors must be dilations of 1 or more for 2 filters in all"):
        apply_filter(x, w, dilation_factors={1: 1})
    with pytest.raises(ShapeError, match="of taps whose scores have one size"):
        apply_filter(x, torch.ones(3, 2, 4, 5, 5, dtype=x.dtype), dilation_factors={1: 1, 2: 1})
    with pytest.raises(ArgumentError, match="dilation_factors must be None where filters are in groups"):
        apply_filter(x, w[:, :, :2], dilation_factors={1: 2})
    with pytest.raises(ShapeError, match=r"input must be the scores of filters of 4×4, \(2, 3, 6, 7\) or"):
        apply_feat_transpose(x, y, 4)
    with pytest.raises(RangeError, match="filter_ksz must be at least 1 cell on each side, got 0"):
        apply_feat_transpose(x, y, 0)

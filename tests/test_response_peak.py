"""Hand-computed truths, ties, NaN and messages of response_peak."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrack import ops
from fasttrack.errors import ArgumentError, DtypeError, ShapeError
from fasttrack.spec.response_peak import SPECS

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
SPEC = SPECS[0]


@BOTH
def test_by_hand(backend):
    maps = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    peak = ops.response_peak(maps, backend=backend)
    # 0, 2, 1: bend −3, shift ½·(0 − 1)/(−3) = 1/6 on both axes.
    assert peak.position.tolist() == [pytest.approx([1 + 1 / 6, 1 + 1 / 6])]
    assert peak.score.tolist() == [2.0]
    mean, square = 4 / 16, 6 / 16
    assert peak.psr.item() == pytest.approx((2 - mean) / math.sqrt(square - mean**2), rel=1e-6)


@BOTH
def test_ties_border_and_flat_maps(backend):
    maps = torch.zeros(4, 5, 6)
    maps[0, 3, 1] = maps[0, 2, 4] = 7.0  # the first in row-major order
    maps[1, 0, 5] = maps[1, 4, 0] = 7.0  # in a corner: no shift
    maps[2, 2, 2] = maps[2, 2, 3] = 1.0  # two equal neighbours: half way
    peak = ops.response_peak(maps, backend=backend)
    assert peak.position.tolist() == [[2.0, 4.0], [0.0, 5.0], [2.0, 2.5], [0.0, 0.0]]
    assert peak.score.tolist() == [7.0, 7.0, 1.0, 0.0]
    assert peak.psr[3] == 0.0
    assert ops.response_peak(torch.full((1, 7, 9), 0.1), backend=backend).psr.item() == 0.0


@BOTH
def test_nan_and_infinity(backend):
    maps = torch.rand(5, 9, 11, generator=torch.Generator().manual_seed(0))
    maps[1, 8, 10] = float("nan")
    maps[2, 4, 5] = float("inf")
    maps[3, 4, 5], maps[3, 4, 6], maps[3, 3, 5] = 3.0, float("-inf"), 2.0
    maps[4] = float("-inf")
    peak = ops.response_peak(maps, backend=backend)
    assert peak.position[1].isnan().all()
    assert peak.score[1].isnan()
    assert peak.psr.isnan().tolist() == [False, True, True, True, True]
    assert not bool(peak.score[1] >= 0.0)
    assert peak.position[2].tolist() == [4.0, 5.0]
    assert peak.score[2] == float("inf")
    assert peak.position[3, 1] == 5.0
    assert peak.position[3, 0] != 4.0
    assert peak.position[4].tolist() == [0.0, 0.0]
    assert peak.score[4] == float("-inf")


@settings(deadline=None, max_examples=80)
@given(st.integers(3, 40), st.integers(3, 40), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 5), st.floats(0.01, 5))
def test_sampled_parabola_is_exact(height, width, at_row, at_column, a, b):
    row, column = 1 + at_row * (height - 3), 1 + at_column * (width - 3)
    y, x = torch.arange(height).double().view(-1, 1), torch.arange(width).double()
    maps = (-a * (y - row) ** 2 - b * (x - column) ** 2)[None].float()
    peak = ops.response_peak(maps, backend="cpu")
    # Half way between two cells either may be the larger after rounding; the vertex is the same.
    scale = (a * height**2 + b * width**2) * 1e-6
    assert abs(peak.position[0, 0].item() - row) < 1e-4 + scale / a
    assert abs(peak.position[0, 1].item() - column) < 1e-4 + scale / b


def test_spread_of_large_values_is_not_lost():
    """One pass over v − v[0] in float64: an offset of 1e6 costs nothing but the input's own rounding."""
    noise = torch.randint(0, 16, (1, 64, 64), generator=torch.Generator().manual_seed(1)).float()
    base, moved = ops.response_peak(noise, backend="cpu"), ops.response_peak(noise + 1e6, backend="cpu")
    assert moved.psr.item() == pytest.approx(base.psr.item(), rel=1e-6)


def test_same_result_on_any_number_of_threads():
    maps = torch.rand(33, 81, 65, generator=torch.Generator().manual_seed(2))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(ops.response_peak(maps, backend="cpu"))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_strided_maps_are_read_in_place():
    maps = torch.rand(4, 20, 30, generator=torch.Generator().manual_seed(3))
    for view in (maps[:, 2:15, 3:21], maps[::2], maps[:, ::3], maps.transpose(1, 2), maps[:1].expand(3, -1, -1)):
        got, plain = ops.response_peak(view, backend="cpu"), ops.response_peak(view.contiguous(), backend="cpu")
        assert all(torch.equal(a, b) for a, b in zip(got, plain, strict=True))


@BOTH
def test_no_maps(backend):
    peak = ops.response_peak(torch.empty(0, 5, 7), backend=backend)
    assert [tuple(t.shape) for t in peak] == [(0, 2), (0,), (0,)]


def test_messages():
    maps = torch.zeros(2, 3, 4)
    with pytest.raises(ShapeError, match=r"response_peak: maps must be \(T, H, W\), got shape \(3, 4\)"):
        ops.response_peak(maps[0])
    with pytest.raises(ShapeError, match=r"maps must be \(T, H, W\) with H, W ≥ 1, got shape \(2, 0, 4\)"):
        ops.response_peak(maps[:, :0])
    with pytest.raises(DtypeError, match=r"maps must be float32 or .*got torch.int64"):
        ops.response_peak(maps.long())
    with pytest.raises(ArgumentError, match=r"response_peak has no gradient: pass maps.detach\(\)"):
        ops.response_peak(maps.requires_grad_())
    with torch.no_grad():
        assert ops.response_peak(maps).score.tolist() == [0.0, 0.0]

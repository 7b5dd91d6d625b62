"""Truths of the small ops' Triton kernels that no case of the specs shows."""

import pytest
import torch

from fasttrack import native, ops
from fasttrack.errors import RangeError
from fasttrack.spec.base import error_of
from fasttrack.spec.pca import pca_fit
from fasttrack.spec.regression_loss import shrinkage_loss

REASON = native.triton_why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sum_of_several_programs(reduction):
    """Above 8192 positions the sum has a second stage; its bits do not change from run to run."""
    p, y = rand(9001), rand(9001, seed=1)
    values = [ops.shrinkage_loss(p, y, reduction=reduction, backend="triton") for _ in range(2)]
    truth = shrinkage_loss(p.double(), y.double(), 10.0, 0.2, "modified", reduction)
    assert torch.equal(*values)
    assert error_of(values[0], truth)[0] < 1e-6
    assert error_of(values[0] * 1.00001, truth)[0] > 1e-6


def test_losses_keep_nan_and_stop_at_the_kink():
    p = torch.tensor([0.25, 0.5, float("nan"), 100.0, -100.0], device=DEVICE)
    values = ops.truncated_loss(p, torch.zeros_like(p), threshold=0.25, reduction="none", backend="triton")
    assert values[:2].tolist() == [0.0, 0.25]
    assert values[2].isnan()
    assert ops.shrinkage_loss(p, torch.zeros_like(p), a=50.0, backend="triton", reduction="none")[3:].isfinite().all()


def test_bad_boxes_give_nan_windows():
    frame = torch.full((9, 11, 3), 7, dtype=torch.uint8, device=DEVICE)
    inf, nan = float("inf"), float("nan")
    rows = [(1, 1, 4, 4), (nan, 0, 4, 4), (0, inf, 4, 4), (0, 0, 0, 4), (0, 0, 4, -1), (-1e300, 0, 1e300, 9)]
    got = ops.crop_resize(frame, torch.tensor(rows, dtype=torch.float64, device=DEVICE), 5, backend="triton")
    assert got[[0, 5]].eq(7.0).all()
    assert got[1:5].isnan().all()


def test_peaks_of_ties_nan_and_infinity():
    maps = torch.zeros(5, 5, 6, device=DEVICE)
    maps[0, 3, 1] = maps[0, 2, 4] = 7.0
    maps[1, 2, 2] = maps[1, 2, 3] = 1.0
    maps[2, 4, 5] = float("nan")
    maps[3, 2, 3] = float("inf")
    maps[4] = -float("inf")
    peak = ops.response_peak(maps, backend="triton")
    assert peak.position[[0, 1, 3, 4]].tolist() == [[2.0, 4.0], [2.0, 2.5], [2.0, 3.0], [0.0, 0.0]]
    assert peak.position[2].isnan().all()
    assert peak.score[2].isnan()
    assert peak.psr.isnan().tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_nan_goes_through_normalisation_and_pool(layout):
    x = rand(1, 8, 5, 5).contiguous(memory_format=layout)
    x[0, 4, 2, 2] = float("nan")
    got = ops.relu_lrn_maxpool(x, backend="triton")
    assert got[0, 2:7].isnan().all()
    assert not got[0, [0, 1, 7]].isnan().any()


@pytest.mark.parametrize("shape", [(1100, 7), (7, 1100), (600, 600 // 40)])
def test_covariance_in_parts(shape):
    """Above 512 samples (or numbers of each) the products are added up in parts, the last of them not full."""
    mixing = torch.diag(1.5 ** -torch.arange(shape[1], dtype=torch.float32).clamp(max=20)).to(DEVICE)
    samples = (rand(*shape) - 0.4) @ mixing + 3
    got, truth = ops.pca_fit(samples, 3, backend="triton"), pca_fit(samples.cpu().double(), 3)
    for g, t in zip(got, truth, strict=True):
        assert error_of(g, t)[0] < 2e-5
        assert error_of(g * 1.001, t)[0] > 2e-5
    assert error_of(got.basis.roll(1, 1), truth[1])[0] > 0.1


def test_samples_that_cannot_be_fitted():
    samples = rand(40, 6)
    samples[3, 2] = float("nan")
    with pytest.raises(RangeError, match="samples must be finite"):
        ops.pca_fit(samples, 2, backend="triton")
    model = ops.pca_fit(torch.full((50, 7), 1234.567, device=DEVICE), 3, backend="triton")
    assert not model.basis.any()
    assert not model.variances.any()

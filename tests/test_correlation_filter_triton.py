"""The Triton kernels of correlation filters beyond the contract: update, any size, NaN, models of other rows."""

import pytest
import torch

from fasttrack import native, ops
from fasttrack.spec import correlation_filter as spec
from fasttrack.spec.base import Tolerance, error_of

REASON = native.triton_why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNELS = pytest.mark.parametrize("kernel", ["linear", "gaussian"])
BOUND = {"linear": Tolerance(3e-5, 3e-5), "gaussian": Tolerance(1e-3, 1e-3)}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def assert_close(got, truth, kernel):
    got, truth = (torch.view_as_real(t).cpu() if t.is_complex() else t.cpu() for t in (got, truth))
    bound = BOUND[kernel]
    assert bound.admits(got, truth), f"{error_of(got, truth)} beyond {bound}"
    for wrong in (torch.zeros_like(truth), truth.roll(1, -2), truth * 1.01):
        assert not bound.admits(wrong, truth)


@KERNELS
@pytest.mark.parametrize("size", [(3, 13, 7), (2, 10, 11), (17, 6, 34)])
def test_update_and_sizes_with_other_prime_factors(kernel, size, poisoned):
    x, y, seen = noise(2, *size), noise(*size[1:], seed=1), noise(2, *size, seed=2)
    wide = [spec.train(m[None].double(), y[None].double(), 0.1, kernel, 0.5) for m in x]
    template, b = (0.7 * p + 0.3 * q for p, q in zip(*wide, strict=True))
    first, second = (ops.cf_train(m, y, 0.1, kernel, backend="triton") for m in x)
    model = ops.cf_update(first, second, 0.3, backend="triton")
    assert_close(model.template, template[0], kernel)
    assert_close(model.coefficients, b[0], kernel)
    truth = spec.detect(template, b, seen[None].double(), kernel, 0.5)[0]
    assert_close(ops.cf_detect(model, seen, backend="triton"), truth, kernel)


@KERNELS
def test_a_model_means_the_same_to_every_row(kernel):
    x, y, seen = noise(3, 10, 12), noise(10, 12, seed=1), noise(2, 3, 10, 12, seed=2)
    truth = spec.correlation_filter(x.double(), y.double(), seen.double(), 0.1, kernel, 0.5)
    rows = ("triton", "reference") if DEVICE == "cuda" else ("triton", "cpu", "reference")
    for trained in rows:
        model = ops.cf_train(x, y, 0.1, kernel, backend=trained)
        for seen_by in rows:
            assert_close(ops.cf_detect(model, seen, backend=seen_by), truth, kernel)


@KERNELS
def test_nan_stays_in_its_map(kernel):
    x, y, seen = noise(2, 3, 10, 9), noise(10, 9, seed=1), noise(2, 2, 3, 10, 9, seed=2)
    clean = ops.correlation_filter(x, y, seen, 0.1, kernel, backend="triton")
    seen[0, 1, 1, 3, 4] = float("nan")
    got = ops.correlation_filter(x, y, seen, 0.1, kernel, backend="triton")
    assert got[0, 1].isnan().all()
    assert torch.equal(got[0, 0], clean[0, 0]) and torch.equal(got[1], clean[1])

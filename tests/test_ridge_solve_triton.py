"""The Triton kernels of the ridge regression: on a GPU, or in triton's interpreter in a process of its own."""

import pytest
import torch

from fasttrack import native, ops
from fasttrack.spec.base import Tolerance

REASON = native.triton_why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOUND = Tolerance(5e-6, 5e-6, witness="6e-7, 6e-7")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("shape", [(2, 70, 37), (1, 37, 130)])
def test_gram_is_whole_and_symmetric(shape, poisoned):
    """Several tiles, none of them full: the smaller Gram matrix plus λ of its own system."""
    from fasttrack.kernels import ridge_solve as kernels

    X, lam = normal(*shape), torch.tensor([0.5, 2.0], dtype=torch.float64, device=DEVICE)[: shape[0]]
    got, wide = kernels.gram(X, lam), X.double()
    truth = wide @ wide.mT if shape[2] > shape[1] else wide.mT @ wide
    truth += lam[:, None, None] * torch.eye(truth.shape[1], dtype=torch.float64, device=DEVICE)
    assert torch.equal(got, got.mT)
    assert BOUND.admits(got, truth)
    assert not BOUND.admits(got.roll(1, -1), truth)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (16, 2), (17, 3)])
def test_small_systems(n, m, poisoned):
    from fasttrack.kernels import ridge_solve as kernels

    A, right = normal(2, n, n), normal(2, n, m, seed=1)
    matrix = A @ A.mT + n * torch.eye(n, device=DEVICE)
    factor, solution = kernels.solve_small(matrix, right)
    assert BOUND.admits(factor, torch.linalg.cholesky(matrix.double()))
    truth = torch.cholesky_solve(right.double(), torch.linalg.cholesky(matrix.double()))
    assert BOUND.admits(solution, truth)
    assert BOUND.admits(kernels.substitute_small(factor, right), truth)
    assert not BOUND.admits(solution * 1.001, truth)


@pytest.mark.parametrize("n", [6, 70])
def test_system_without_solution_is_nan(n):
    """One broken system of three, small or the library's: its neighbours keep their numbers."""
    X, y = normal(3, n, n + 3), normal(3, n, 1, seed=1)
    wanted = ops.ridge_solve(X, y, 0.5, backend="triton")
    broken = X.clone()
    broken[1, 0, 0] = float("nan")
    for w in (
        ops.ridge_solve(broken, y, 0.5, backend="triton"),
        ops.ridge_solve(X, y, torch.tensor([0.5, -1e-3, 0.5], device=DEVICE), backend="triton"),
    ):
        assert w[1].isnan().all()
        assert torch.equal(w[::2], wanted[::2])


def test_outer_products(poisoned):
    from fasttrack.kernels import ridge_solve as kernels

    r, b, v, w = normal(2, 19, 3), normal(2, 19, 3, seed=1), normal(2, 150, 3, seed=2), normal(2, 150, 3, seed=3)
    truth = r.double() @ v.double().mT - b.double() @ w.double().mT
    assert BOUND.admits(kernels.outer(r, v, b, w), truth)
    assert not BOUND.admits(kernels.outer(r, v, w[:, :19], w), truth)

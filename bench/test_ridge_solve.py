"""Ridge regression: plain torch (the D×D solve), the dual by Cholesky, and the kernels; forward, then backward."""

import pytest
import torch

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.ridge_solve import SPECS

SOLVE, LINEAR = SPECS
ROWS = [pytest.param(case, id=case.name) for case in SOLVE.cases if case.bench]
GRADIENT = Tolerance(2e-3, 2e-3)


def plain(X, y, lam, refine=False):
    return torch.linalg.solve(X.mT @ X + lam * torch.eye(X.shape[-1], dtype=X.dtype), X.mT @ y)


def best(X, y, lam, refine=False):
    """The smaller Gram matrix and its Cholesky factor."""
    dual = X.shape[1] > X.shape[0]
    gram = torch.addmm(torch.eye(min(X.shape), dtype=X.dtype), *((X, X.mT) if dual else (X.mT, X)), beta=lam)
    factor = torch.linalg.cholesky_ex(gram).L
    return X.mT @ torch.cholesky_solve(y, factor) if dual else torch.cholesky_solve(X.mT @ y, factor)


def refined(X, y, lam, refine=False):
    return ops.ridge_solve(X, y, lam, True)


SIDES = {"plain": plain, "best": best, "cpu": ops.ridge_solve, "cpu_refined": refined}


def through(function, arguments, names, keep):
    """Forward with a graph, and the closure of one backward; with ``keep`` only the backward is repeated."""
    leaves = {n: arguments[n].detach().clone().requires_grad_() for n in names}

    def forward():
        return function(**{**arguments, **leaves})

    w = forward()
    grad = torch.cos(torch.arange(w.numel(), dtype=torch.float64)).reshape(w.shape).to(w.dtype)
    if keep:
        return lambda: torch.autograd.grad(w, list(leaves.values()), grad, retain_graph=True)
    return lambda: torch.autograd.grad(forward(), list(leaves.values()), grad)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ROWS)
def test_forward(benchmark, checked, case, side):
    arguments = case.make()
    benchmark.group = f"ridge_solve {case.name}"
    checked(benchmark, lambda: SIDES[side](**arguments), SOLVE.truth(arguments), Tolerance(1e-3, 1e-3), side=side)


@pytest.mark.parametrize("side", ["plain", "best", "cpu"])
@pytest.mark.parametrize("case", ROWS)
def test_backward(benchmark, checked, case, side):
    arguments = case.make()
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    benchmark.group = f"ridge_solve backward {case.name}"
    truth = through(plain, wide, ["X", "y"], True)()
    checked(benchmark, through(SIDES[side], arguments, ["X", "y"], True), truth, GRADIENT, side=side)


@pytest.mark.parametrize("side", ["plain", "best", "cpu"])
def test_layer_forward_and_backward(benchmark, checked, side):
    case = next(c for c in LINEAR.cases if c.bench)
    arguments = case.make()
    benchmark.group = f"ridge_linear forward + backward {case.name}"

    def layered(P, W, y, lam, refine=False):
        return (plain if side == "plain" else best)(P @ W.mT, y, lam)

    truth = through(
        best_layer,
        {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()},
        ["P", "W"],
        True,
    )()
    function = ops.ridge_linear if side == "cpu" else layered
    checked(benchmark, through(function, arguments, ["P", "W"], False), truth, GRADIENT, side=side)


def best_layer(P, W, y, lam, refine=False):
    return best(P @ W.mT, y, lam)

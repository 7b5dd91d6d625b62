"""Ridge regression: plain torch (the D×D solve), the dual by Cholesky, and the kernels; forward, then backward."""

import pytest
import torch
from sides import OURS, make, on_backend, wide

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.ridge_solve import SPECS

SOLVE, LINEAR = SPECS
ROWS = [pytest.param(case, id=case.name) for case in SOLVE.cases if case.bench]
GRADIENT = Tolerance(2e-3, 2e-3)


def plain(X, y, lam, refine=False):
    return torch.linalg.solve(X.mT @ X + lam * torch.eye(X.shape[-1], dtype=X.dtype, device=X.device), X.mT @ y)


def best(X, y, lam, refine=False):
    """The smaller Gram matrix and its Cholesky factor."""
    dual = X.shape[1] > X.shape[0]
    eye = torch.eye(min(X.shape), dtype=X.dtype, device=X.device)
    gram = torch.addmm(eye, *((X, X.mT) if dual else (X.mT, X)), beta=lam)
    factor = torch.linalg.cholesky_ex(gram).L
    return X.mT @ torch.cholesky_solve(y, factor) if dual else torch.cholesky_solve(X.mT @ y, factor)


def refined(backend):
    return lambda X, y, lam, refine=False: ops.ridge_solve(X, y, lam, True, backend=backend)


SIDES = {
    "plain": plain,
    "best": best,
    **{name: on_backend(ops.ridge_solve, name) for name in OURS},
    **{f"{name}_refined": refined(name) for name in OURS},
}


def through(function, arguments, names, keep):
    """Forward with a graph, and the closure of one backward; with ``keep`` only the backward is repeated."""
    leaves = {n: arguments[n].detach().clone().requires_grad_() for n in names}

    def forward():
        return function(**{**arguments, **leaves})

    w = forward()
    grad = torch.cos(torch.arange(w.numel(), dtype=torch.float64, device=w.device)).reshape(w.shape).to(w.dtype)
    if keep:
        return lambda: torch.autograd.grad(w, list(leaves.values()), grad, retain_graph=True)
    return lambda: torch.autograd.grad(forward(), list(leaves.values()), grad)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ROWS)
def test_forward(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"ridge_solve {case.name}"
    truth, cost = SOLVE.truth(arguments), SOLVE.cost(arguments)
    checked(benchmark, lambda: SIDES[side](**arguments), truth, Tolerance(1e-3, 1e-3), cost, side=side)


@pytest.mark.parametrize("side", ["plain", "best", *OURS])
@pytest.mark.parametrize("case", ROWS)
def test_backward(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"ridge_solve backward {case.name}"
    truth = through(plain, wide(arguments), ["X", "y"], True)()
    checked(benchmark, through(SIDES[side], arguments, ["X", "y"], True), truth, GRADIENT, side=side)


@pytest.mark.parametrize("side", ["plain", "best", *OURS])
def test_layer_forward_and_backward(benchmark, checked, side):
    case = next(c for c in LINEAR.cases if c.bench)
    arguments = make(case)
    benchmark.group = f"ridge_linear forward + backward {case.name}"

    def layered(P, W, y, lam, refine=False):
        return (plain if side == "plain" else best)(P @ W.mT, y, lam)

    truth = through(best_layer, wide(arguments), ["P", "W"], True)()
    function = on_backend(ops.ridge_linear, side) if side in OURS else layered
    checked(benchmark, through(function, arguments, ["P", "W"], False), truth, GRADIENT, side=side)


def best_layer(P, W, y, lam, refine=False):
    return best(P @ W.mT, y, lam)

"""Hand-computed truths, conditions, refinement, closed-form gradients and messages of the ridge regression."""

import threading

import pytest
import torch

from fasttrack import nn, ops
from fasttrack.errors import DtypeError, RangeError, ShapeError
from fasttrack.spec import ridge_solve as spec
from fasttrack.spec.base import Tolerance, error_of

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
SIZES = pytest.mark.parametrize(("n", "d"), [(70, 90), (90, 70), (50, 50)])


def system(n, d, m=1, batch=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(*batch, n, d, generator=generator, dtype=torch.float64).float() / n**0.5
    return X, torch.rand(*batch, n, m, generator=generator, dtype=torch.float64).float()


def alike(n, d, generator):
    """Features as a network gives them: every sample close to a common one, a few directions carry the rest."""
    rank = torch.randn(n, 12, generator=generator, dtype=torch.float64)
    X = 1 + rank @ torch.randn(12, d, generator=generator, dtype=torch.float64) / 4
    return (X + 0.05 * torch.randn(n, d, generator=generator, dtype=torch.float64)).float()


def error(got, truth):
    return error_of(got, truth)[0]


@BOTH
def test_by_hand(backend):
    # One feature, two samples: w = Σxy/(Σx² + λ) = 5/(5 + 1).
    w = ops.ridge_solve(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 2.0]), 1.0, backend=backend)
    assert w.tolist() == pytest.approx([5 / 6])
    # Two features, one sample (the dual): w = x·y/(|x|² + λ) = (3, 4)·2/(25 + 5).
    w = ops.ridge_solve(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]]), 5.0, backend=backend)
    assert w.flatten().tolist() == pytest.approx([0.2, 8 / 30])


@BOTH
def test_gradient_by_hand(backend):
    # w = xy/(x² + λ): dw/dx = y(λ − x²)/(x² + λ)², dw/dy = x/(x² + λ), dw/dλ = −xy/(x² + λ)².
    x, y, lam = (torch.tensor(v, requires_grad=True) for v in ([[2.0]], [3.0], 1.0))
    w = ops.ridge_solve(x, y, lam, backend=backend)
    for got, wanted in zip(torch.autograd.grad(w.sum(), (x, y, lam)), (-9 / 25, 2 / 5, -6 / 25), strict=True):
        assert got.item() == pytest.approx(wanted, rel=1e-5)


@BOTH
@pytest.mark.parametrize("refine", [False, True])
def test_primal_is_dual(backend, refine):
    """Zero columns change the choice of the Gram matrix and nothing else."""
    X, y = system(60, 40, m=2)
    wide = torch.cat((X, torch.zeros(60, 50)), 1)
    primal = ops.ridge_solve(X, y, 0.1, refine, backend=backend)
    dual = ops.ridge_solve(wide, y, 0.1, refine, backend=backend)
    assert (dual[40:] == 0).all()
    bound = Tolerance(1e-6, 1e-6) if refine else Tolerance(2e-5, 2e-5)
    assert bound.admits(dual[:40], primal.double())
    assert not bound.admits(dual[:40] * 1.001, primal.double())


@BOTH
@pytest.mark.parametrize(("n", "d"), [(300, 340), (340, 300)])
def test_refinement_of_an_ill_conditioned_system(backend, n, d):
    """κ = 1e5: float32 alone keeps three digits, a step of refinement six."""
    generator = torch.Generator().manual_seed(5)
    X = alike(n, d, generator)
    y = torch.rand(n, 1, generator=generator) ** 4
    truth = spec.ridge_solve(X.double(), y.double(), 1.0)
    plain, refined = (error(ops.ridge_solve(X, y, 1.0, refine, backend=backend), truth) for refine in (False, True))
    assert 2e-5 < plain < 2e-3  # witness 1e-3; below, the system would be too easy for this test
    assert refined < 4e-6  # witness 1.5e-6
    assert error(torch.zeros_like(truth), truth) > 0.5


@pytest.mark.parametrize("refine", [False, True])
def test_gradients_of_an_ill_conditioned_system(refine):
    generator = torch.Generator().manual_seed(6)
    X, y = alike(200, 260, generator), torch.rand(200, 1, generator=generator)
    g = torch.randn(260, 1, generator=generator)

    def gradients(function, *values, **options):
        leaves = [v.detach().clone().requires_grad_() for v in values]
        w = function(*leaves, **options)
        return torch.autograd.grad(w, leaves, g.to(w.dtype))

    truth = gradients(spec.ridge_solve, X.double(), y.double(), torch.tensor(1.0, dtype=torch.float64))
    got = gradients(ops.ridge_solve, X, y, torch.tensor(1.0, dtype=torch.float64), refine=refine)
    for one, true in zip(got, truth, strict=True):
        assert error(one, true) < (4e-6 if refine else 2e-3)
        assert error(one * 1.01, true) > 5e-3


@SIZES
@pytest.mark.parametrize("m", [1, 3])
def test_closed_form_equals_autograd_in_float64(n, d, m):
    """The registered op's own backward, against autograd through torch.linalg.solve."""
    X, y = (t.double().requires_grad_() for t in system(n, d, m, (2,)))
    lam = torch.tensor([0.1, 0.4], dtype=torch.float64, requires_grad=True)
    w = torch.ops.fasttrack.ridge_solve(X, y, lam, False, True)[0]
    truth = spec.ridge_solve(X, y, lam)
    g = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for got, wanted in zip(*(torch.autograd.grad(out, (X, y, lam), g) for out in (w, truth)), strict=True):
        assert error(got, wanted) < 1e-8
        assert error(got * (1 + 1e-6), wanted) > 1e-8


@SIZES
def test_rank_two_gradient_equals_autograd_in_float64(n, d):
    generator = torch.Generator().manual_seed(2)
    P = torch.randn(2, n, 120, generator=generator, dtype=torch.float64, requires_grad=True)
    W = (torch.randn(d, 120, generator=generator, dtype=torch.float64) / 120).requires_grad_()
    y = torch.rand(2, n, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([0.1, 0.4], dtype=torch.float64, requires_grad=True)
    w = torch.ops.fasttrack.ridge_linear(P, W, y, lam, False, True)[0]
    truth = spec.ridge_linear(P, W, y, lam)
    g = torch.randn(w.shape, dtype=torch.float64, generator=generator)
    for got, wanted in zip(*(torch.autograd.grad(out, (P, W, y, lam), g) for out in (w, truth)), strict=True):
        assert error(got, wanted) < 1e-8


def test_linear_layer_never_forms_its_gradient(monkeypatch):
    P, W, y = torch.randn(30, 50, requires_grad=True), torch.randn(40, 50, requires_grad=True), torch.rand(30)
    seen = []
    original = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: seen.append((a.shape, b.shape)) or original(a, b))
    w = ops.ridge_linear(P, W, y, 0.1, backend="cpu")
    seen.clear()
    w.sum().backward()
    assert len(seen) == 4
    assert all(2 in (*a[-2:], *b[-2:]) for a, b in seen)


@BOTH
@pytest.mark.parametrize(
    ("shape", "m"), [((5, 0), 2), ((0, 5), 1), ((0, 0), 1), ((3, 4, 0), 1), ((0, 3, 4), 2), ((4, 5), 0)]
)
def test_empty(backend, shape, m):
    X = torch.zeros(shape, requires_grad=True)
    y = torch.ones((*shape[:-1], m), requires_grad=True)
    lam = torch.tensor(0.1, requires_grad=True)
    w = ops.ridge_solve(X, y, lam, backend=backend)
    assert w.shape == (*shape[:-2], shape[-1], m)
    assert (w == 0).all()
    for gradient, leaf in zip(torch.autograd.grad(w.sum(), (X, y, lam)), (X, y, lam), strict=True):
        assert gradient.shape == leaf.shape
        assert (gradient == 0).all()


@BOTH
def test_layer_without_samples(backend):
    P, W = torch.zeros(0, 5), torch.randn(4, 5, requires_grad=True)
    w = ops.ridge_linear(P, W, torch.zeros(0, 1), 0.1, backend=backend)
    assert w.tolist() == [[0.0]] * 4
    assert (torch.autograd.grad(w.sum(), W)[0] == 0).all()


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("batch", [1, 48])
def test_same_numbers_on_any_number_of_threads(batch, refine):
    X, y = system(150, 120, batch=(batch,))
    results, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(ops.ridge_solve(X, y, 0.1, refine, backend="cpu"))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*results)
    assert error(results[0], spec.ridge_solve(X.double(), y.double(), 0.1)) < 2e-5


def test_calls_from_several_threads():
    X, y = system(80, 110)
    wanted, got = ops.ridge_solve(X, y, 0.1, backend="cpu"), [None] * 8

    def work(i):
        got[i] = ops.ridge_solve(X, y, 0.1, backend="cpu")

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(wanted, one) for one in got)


@BOTH
def test_errors_of_values(backend):
    X, y = system(6, 9, batch=(2,))
    broken = X.clone()
    broken[1, 2, 3] = float("nan")
    with pytest.raises(RangeError, match=r"ridge_solve: X must be finite, got nan in system 1 of 2"):
        ops.ridge_solve(broken, y, 0.1, backend=backend)
    broken = y.clone()
    broken[0, 2, 0] = float("inf")
    with pytest.raises(RangeError, match=r"ridge_solve: y must be finite, got inf in system 0 of 2"):
        ops.ridge_solve(X, broken, 0.1, backend=backend)
    for lam in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RangeError, match=r"ridge_solve: lam must be a finite number > 0, got "):
            ops.ridge_solve(X, y, lam, backend=backend)
        with pytest.raises(RangeError, match=r"ridge_solve: lam must be finite and > 0, got "):
            ops.ridge_solve(X, y, torch.tensor([0.1, lam]), backend=backend)


@BOTH
def test_error_where_lam_is_lost_in_rounding(backend):
    X = torch.full((60, 50), 1000.0)
    with pytest.raises(
        RangeError, match=r"lam must be so large that XᵀX \+ λI is positive definite in float32, got 1e"
    ):
        ops.ridge_solve(X, torch.ones(60, 1), 1e-6, backend=backend)
    with pytest.raises(RangeError, match=r"got 1e-06 against ‖X‖² = 3e\+61"):
        ops.ridge_solve(torch.full((6, 5), 1e30), torch.ones(6, 1), 1e-6, backend=backend)


def test_messages():
    X, y = system(4, 6)
    with pytest.raises(ShapeError, match=r"ridge_solve: X must be \(…, N, D\), got shape \(4,\)"):
        ops.ridge_solve(X[:, 0], y, 0.1)
    with pytest.raises(
        ShapeError, match=r"y must be \(…, N, M\) or \(…, N\) with the \(…, N\) of X, \(4,\), got shape"
    ):
        ops.ridge_solve(X, y[:3], 0.1)
    with pytest.raises(ShapeError, match=r"y must be .* got shape \(1, 4, 1\)"):
        ops.ridge_solve(X, y[None], 0.1)
    with pytest.raises(DtypeError, match=r"y must be of the dtype of X, torch.float32, got torch.float64"):
        ops.ridge_solve(X, y.double(), 0.1)
    with pytest.raises(DtypeError, match=r"ridge_solve: X must be float32 or .*got torch.int64"):
        ops.ridge_solve(X.long(), y, 0.1)
    with pytest.raises(ShapeError, match=r"lam must be a number, or of shape \(\) or \(\), got shape \(2,\)"):
        ops.ridge_solve(X, y, torch.ones(2))
    with pytest.raises(ShapeError, match=r"ridge_linear: W must be \(D, F\) with the F of P, 6, got shape \(3, 5\)"):
        ops.ridge_linear(X, torch.ones(3, 5), y, 0.1)


def test_module_is_its_function():
    X, y = system(5, 8, batch=(3,))
    module = nn.RidgeRegression(0.2, refine=True)
    assert torch.equal(module(X, y), ops.ridge_solve(X, y, 0.2, refine=True))
    assert not [*module.parameters()]
    assert repr(module) == "RidgeRegression(lam=0.2, refine=True, learn_lam=False)"
    learning = nn.RidgeRegression(0.2, learn_lam=True)
    learning(X, y).square().sum().backward()
    assert learning.log_lam.grad.isfinite()
    assert error(learning(X, y), ops.ridge_solve(X, y, 0.2).double()) < 1e-5

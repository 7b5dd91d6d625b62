"""The functions torch dropped: sums of definitions, golden values, and a scope that leaves nothing behind."""

import itertools
import math
import threading

import pytest
import torch

from fasttrack.compat import legacy_torch
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError

NAMES = ("rfft", "irfft", "ifft", "gesv", "potrf", "potrs", "trtrs")
# Worst seen: 4e-15, of values of order 10.
CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def nothing_left():
    before = [{**vars(owner)} for owner in (torch, torch.Tensor, torch.fft)]
    kind = type(torch.fft)
    yield
    after = [{**vars(owner)} for owner in (torch, torch.Tensor, torch.fft)]
    for old, new in zip(before, after, strict=True):
        assert set(old) == set(new) and all(old[name] is new[name] for name in old if not name.startswith("__"))
    assert type(torch.fft) is kind


def dft(signal, ndim, sign, normalized):
    """X[k] = Σ_n x[n] exp(∓2πi Σ k_d n_d / N_d) of complex (…, N₁, …), one exponential at a time."""
    sizes = signal.shape[-ndim:]
    flat = signal.reshape(-1, math.prod(sizes))
    places = list(itertools.product(*(range(n) for n in sizes)))
    out = torch.zeros_like(flat)
    for at, k in enumerate(places):
        for index, n in enumerate(places):
            turns = sum(a * b / size for a, b, size in zip(k, n, sizes, strict=True))
            out[:, at] += flat[:, index] * complex(math.cos(2 * math.pi * turns), sign * math.sin(2 * math.pi * turns))
    scale = math.sqrt(len(places)) if normalized else len(places) if sign > 0 else 1
    return (out / scale).view(signal.shape)


def real(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


SHAPES = [((5,), 1), ((2, 6), 1), ((4, 5), 2), ((2, 3, 5, 4), 2), ((1, 2, 3, 2, 3), 3), ((3, 1), 2), ((2, 2), 1)]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("shape", "ndim"), SHAPES)
def test_complex_transforms(shape, ndim, normalized):
    x = real(*shape, 2)
    with legacy_torch():
        forward, back = torch.fft(x, ndim, normalized), torch.ifft(x, ndim, normalized=normalized)
        torch.testing.assert_close(torch.ifft(torch.fft(x, ndim, normalized), ndim, normalized), x, **CLOSE)
        assert torch.equal(x.fft(ndim, normalized), forward)
    for got, sign in ((forward, -1), (back, 1)):
        truth = torch.view_as_real(dft(torch.view_as_complex(x), ndim, sign, normalized))
        assert torch.allclose(got, truth, **CLOSE)
        for wrong in (torch.zeros_like(got), got * (1 + 1e-9), got.roll(1, -1), got.conj() * -1):
            assert not torch.allclose(wrong, truth, **CLOSE)


@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("shape", "ndim"), SHAPES)
def test_real_transforms(shape, ndim, normalized, onesided):
    x = real(*shape)
    with legacy_torch():
        spectrum = torch.rfft(x, ndim, normalized, onesided)
        sizes = x.shape[-ndim:]
        back = torch.irfft(spectrum, ndim, normalized, onesided, signal_sizes=sizes)
        if not onesided or shape[-1] % 2 == 0:
            assert torch.equal(torch.irfft(spectrum, ndim, normalized=normalized, onesided=onesided), back)
    truth = torch.view_as_real(dft(x + 0j, ndim, -1, normalized))
    if onesided:
        truth = truth[..., : shape[-1] // 2 + 1, :]
    assert spectrum.shape == truth.shape and torch.allclose(spectrum, truth, **CLOSE)
    assert back.shape == x.shape and torch.allclose(back, x, **CLOSE)
    for wrong in (torch.zeros_like(x), x * (1 + 1e-9), x + 1e-9):
        assert not torch.allclose(wrong, x, **CLOSE)


def test_golden_transforms():
    with legacy_torch():
        assert torch.rfft(torch.tensor([1.0, 2.0, 3.0, 4.0]), 1).tolist() == [[10, 0], [-2, 2], [-2, 0]]
        assert torch.rfft(torch.eye(2), 2).tolist() == [[[2, 0], [0, 0]], [[0, 0], [2, 0]]]
        spectrum = torch.tensor([[10.0, 0], [-2, 2], [-2, 0]])
        assert torch.irfft(spectrum, 1).tolist() == [1, 2, 3, 4]
        assert torch.fft(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 1).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("size", "onesided"), [((3, 4), True), ((3, 5), True), ((3, 4), False), ((2, 5), False)])
def test_gradients_of_transforms(size, onesided):
    x = real(*size).requires_grad_()
    with legacy_torch():
        spectrum = torch.rfft(x, 2, False, onesided).detach().requires_grad_()
        pair = real(*size, 2).requires_grad_()
        assert torch.autograd.gradcheck(lambda t: torch.rfft(t, 2, False, onesided), x)
        assert torch.autograd.gradcheck(lambda t: torch.irfft(t, 2, False, onesided, size), spectrum)
        assert torch.autograd.gradcheck(lambda t: torch.ifft(torch.fft(t, 2) * 2, 2), pair)
        # A loss in the Fourier domain, as correlation filters have: d/dx Σ|X|² = 2 N x.
        (torch.rfft(x, 2, onesided=False) ** 2).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.numel() * x.detach(), **CLOSE)


def test_views_of_any_stride():
    """A spectrum cut out of a larger one at an odd place cannot be viewed as complex; it works all the same."""
    buffer = real(4, 7, 3)
    odd = buffer[..., 1:]
    with legacy_torch():
        torch.testing.assert_close(torch.fft(odd, 1), torch.fft(odd.clone(), 1), **CLOSE)
        swapped = real(2, 5, 4).permute(1, 2, 0)
        torch.testing.assert_close(torch.ifft(swapped, 2), torch.ifft(swapped.contiguous(), 2), **CLOSE)


def well_posed(*batch):
    a = real(*batch, 4, 4)
    return a @ a.mT + torch.eye(4).double()


def eliminate(A, B):
    """Gauss–Jordan with row exchanges, on lists of numbers."""
    rows = [a + b for a, b in zip(A.tolist(), B.tolist(), strict=True)]
    for i in range(len(rows)):
        best = max(range(i, len(rows)), key=lambda r: abs(rows[r][i]))
        rows[i], rows[best] = rows[best], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for r in range(len(rows)):
            if r != i:
                rows[r] = [v - rows[r][i] * w for v, w in zip(rows[r], rows[i], strict=True)]
    return torch.tensor([row[len(rows) :] for row in rows], dtype=torch.float64)


def solved(A, B):
    """``eliminate`` of every system of a batch."""
    pairs = zip(A.reshape(-1, 4, 4), B.reshape(-1, *B.shape[-2:]), strict=True)
    return torch.stack([eliminate(a, b) for a, b in pairs]).view(B.shape)


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_gesv(batch):
    A, B = real(*batch, 4, 4), real(*batch, 4, 2)
    with legacy_torch():
        X, LU = torch.gesv(B, A)
        assert torch.equal(B.gesv(A)[0], X)
    assert torch.allclose(X, solved(A, B), rtol=0, atol=1e-11)
    assert not torch.allclose(X * (1 + 1e-9), solved(A, B), rtol=0, atol=1e-11)
    lower, upper = LU.tril(-1) + torch.eye(4).double(), LU.triu()
    # The rows of A in the order of the pivots.
    for product, rows in zip((lower @ upper).reshape(-1, 4, 4), A.reshape(-1, 4, 4), strict=True):
        assert torch.allclose(product[product[:, 0].argsort()], rows[rows[:, 0].argsort()], **CLOSE)


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_cholesky(batch, upper):
    A, b = well_posed(*batch), real(*batch, 4, 3)
    with legacy_torch():
        factor = torch.potrf(A, upper)
        X = torch.potrs(b, factor, upper)
        assert upper is False or torch.equal(torch.potrs(b, torch.potrf(A)), X)  # upper is the default
    assert torch.equal(factor, factor.triu() if upper else factor.tril())
    assert torch.allclose(factor.mT @ factor if upper else factor @ factor.mT, A, **CLOSE)
    assert torch.allclose(X, solved(A, b), rtol=0, atol=1e-11)
    assert not torch.allclose(X.flip(-1), solved(A, b))


@pytest.mark.parametrize(("upper", "transpose", "unit"), list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("batch", [(), (2,)])
def test_trtrs(batch, upper, transpose, unit):
    A, b = real(*batch, 4, 4) + 3 * torch.eye(4).double(), real(*batch, 4, 2)
    with legacy_torch():
        X, copied = torch.trtrs(b, A, upper=upper, transpose=transpose, unitriangular=unit)
    system = A.triu() if upper else A.tril()
    if unit:
        system = system - torch.diag_embed(system.diagonal(dim1=-2, dim2=-1)) + torch.eye(4).double()
    truth = solved(system.mT if transpose else system, b)
    assert torch.allclose(X, truth, **CLOSE) and not torch.allclose(X + 1e-6, truth, **CLOSE)
    assert torch.equal(copied, A) and copied.data_ptr() != A.data_ptr()


def test_golden_systems():
    A, b = torch.tensor([[2.0, 1.0], [0.0, 4.0]]), torch.tensor([[4.0], [8.0]])
    with legacy_torch():
        assert torch.gesv(b, A)[0].tolist() == torch.trtrs(b, A)[0].tolist() == [[1.0], [2.0]]
        assert torch.trtrs(b, A, transpose=True)[0].tolist() == [[2.0], [1.5]]
        assert torch.potrf(torch.tensor([[4.0, 2.0], [2.0, 5.0]])).tolist() == [[2.0, 1.0], [0.0, 2.0]]


def test_gradients_of_systems():
    A, b = well_posed().requires_grad_(), real(4, 2).requires_grad_()
    with legacy_torch():
        assert torch.autograd.gradcheck(lambda b, A: torch.gesv(b, A), (b, A))
        assert torch.autograd.gradcheck(lambda b, A: torch.potrs(b, torch.potrf(A @ A.mT)), (b, A))
        assert torch.autograd.gradcheck(lambda b, A: torch.trtrs(b, A, upper=False, transpose=True)[0], (b, A))


def test_scope():
    for name in NAMES:
        assert name not in vars(torch)
    with legacy_torch():
        with legacy_torch():
            assert all(callable(getattr(torch, name)) for name in (*NAMES, "fft"))
        assert torch.rfft(torch.ones(2), 1).tolist() == [[2, 0], [0, 0]]
        # The module is still there, under every form of import.
        import torch.fft as module
        from torch import fft
        from torch.fft import rfft2

        assert fft is module and module.rfft2 is rfft2 and torch.fft.fftshift(torch.arange(3)).tolist() == [2, 0, 1]
    with pytest.raises(TypeError, match="not callable"):
        torch.fft(torch.ones(2, 2), 1)
    assert not any(hasattr(torch.Tensor, name) for name in (*NAMES, "fft"))


def test_scope_ends_after_errors_and_keeps_what_stood_there():
    torch.rfft = own = object()
    try:
        with pytest.raises(ZeroDivisionError), legacy_torch():
            assert torch.rfft is not own
            raise ZeroDivisionError
        assert torch.rfft is own and not hasattr(torch, "irfft")
    finally:
        del torch.rfft


def test_scopes_of_threads_overlap():
    """The names go with the last of two blocks, whichever opened first."""
    opened, close = threading.Event(), threading.Event()

    def work():
        with legacy_torch():
            opened.set()
            close.wait(10)

    thread = threading.Thread(target=work)
    with legacy_torch():
        thread.start()
        opened.wait(10)
    try:
        assert callable(torch.irfft)
    finally:
        close.set()
        thread.join()
    assert not hasattr(torch, "irfft")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.rfft(torch.ones(4, 4), 4), RangeError, r"torch\.rfft: signal_ndim must be 1, 2 or 3, got 4"),
        (lambda t: t.rfft(torch.ones(4), 2), ShapeError, "a tensor with 2 signal dimensions"),
        (lambda t: t.rfft(torch.ones(4).cfloat(), 1), DtypeError, "float32"),
        (lambda t: t.fft(torch.ones(4, 3), 1), ShapeError, r"torch\.fft: input must be \(…, 2\): real and imaginary"),
        (lambda t: t.irfft(torch.ones(3, 2), 1, signal_sizes=(6,)), ArgumentError, r"signal_sizes .* \(3,\), got \(6,"),
        (lambda t: t.irfft(torch.ones(3, 2), 1, onesided=False, signal_sizes=(4,)), ArgumentError, "signal_sizes"),
        (lambda t: t.irfft(torch.ones(1, 2), 1), ShapeError, "at least one sample.*give signal_sizes"),
        (lambda t: t.gesv(torch.ones(2), torch.eye(2)), ShapeError, r"B must be a matrix.*v\[:, None\]"),
        (lambda t: t.gesv(torch.ones(3, 1), torch.eye(2)), ShapeError, "B must be of 2 rows, as A has"),
        (lambda t: t.potrf(torch.ones(2, 3)), ShapeError, "A must be square"),
        (lambda t: t.potrs(torch.ones(2, 1).double(), torch.eye(2)), DtypeError, "b must be of the dtype of u"),
        (lambda t: t.trtrs([1.0], torch.eye(2)), DtypeError, r"b must be a torch\.Tensor"),
        (lambda t: t.gesv(torch.ones(2, 1), torch.zeros(2, 2)), RuntimeError, r"U\[1,1\] is zero"),
        (lambda t: t.potrf(-torch.eye(2)), torch.linalg.LinAlgError, "positive-definite"),
    ],
)
def test_messages(call, error, message):
    with legacy_torch(), pytest.raises(error, match=message):
        call(torch)

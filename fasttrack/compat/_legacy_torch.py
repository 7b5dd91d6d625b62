"""Functions that torch had until 1.7 (Fourier) and 1.1 (linear algebra), as a scope: ``with legacy_torch(): …``.

Spectra are real tensors whose last dimension holds real and imaginary part. All are differentiable.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import ArgumentError, RangeError
from fasttrack.ops import _checks as check

__all__ = ["legacy_torch"]

_COMPLEX_LAYOUT = "(…, 2): real and imaginary part last"
_FLOATS = (torch.float32, torch.float64, torch.float16)


def fft(input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
    """DFT of complex signals (…, N₁, …, N_d, 2) over their last ``signal_ndim`` dimensions, 1 to 3.

    ``normalized`` divides by √(N₁⋯N_d). Returns the shape of ``input``. Raises ShapeError, DtypeError, RangeError.
    """
    signal, dims = _complex("torch.fft", input, signal_ndim)
    return torch.view_as_real(torch.fft.fftn(signal, dim=dims, norm="ortho" if normalized else "backward"))


def ifft(input: Tensor, signal_ndim: int, normalized: bool = False) -> Tensor:
    """Inverse of ``fft``: divides by N₁⋯N_d, or by its root where ``normalized``."""
    signal, dims = _complex("torch.ifft", input, signal_ndim)
    return torch.view_as_real(torch.fft.ifftn(signal, dim=dims, norm="ortho" if normalized else "backward"))


def rfft(input: Tensor, signal_ndim: int, normalized: bool = False, onesided: bool = True) -> Tensor:
    """DFT of real signals (…, N₁, …, N_d) over their last ``signal_ndim`` dimensions, 1 to 3.

    Returns (…, N₁, …, N_d // 2 + 1, 2), or all N_d columns with ``onesided=False``; ``normalized`` divides by
    √(N₁⋯N_d). Raises ShapeError, DtypeError, RangeError.
    """
    check.tensor("torch.rfft", "input", input, dtypes=_FLOATS)
    dims = _dims("torch.rfft", signal_ndim, input, input.dim())
    transform = torch.fft.rfftn if onesided else torch.fft.fftn
    spectrum: Tensor = transform(input, dim=dims, norm="ortho" if normalized else "backward")
    return torch.view_as_real(spectrum)


def irfft(
    input: Tensor,
    signal_ndim: int,
    normalized: bool = False,
    onesided: bool = True,
    signal_sizes: Sequence[int] | None = None,
) -> Tensor:
    """Inverse of ``rfft``: real signals (…, N₁, …, N_d) of spectra (…, N₁, …, N_d // 2 + 1, 2).

    ``signal_sizes`` (N₁, …, N_d) says whether N_d is even or odd; without it N_d is even. With ``onesided=False`` the
    spectrum has all N_d columns, of which the first half is read. Raises ShapeError, DtypeError, RangeError.
    """
    op = "torch.irfft"
    spectrum, dims = _complex(op, input, signal_ndim)
    stored = spectrum.shape[-signal_ndim:]
    columns = 2 * (stored[-1] - 1) if onesided else stored[-1]
    sizes = tuple(signal_sizes) if signal_sizes else (*stored[:-1], columns)
    half = sizes[-1] // 2 + 1 if sizes else 0
    if len(sizes) != signal_ndim or (*sizes[:-1], half if onesided else sizes[-1]) != tuple(stored):
        wanted = f"the {signal_ndim} sizes of a signal whose spectrum is {tuple(stored)}"
        raise ArgumentError(op, "signal_sizes", wanted, str(sizes))
    if sizes[-1] < 1:
        check.shape_error(op, "input", "a spectrum of at least one sample", input, "give signal_sizes")
    norm = "ortho" if normalized else "backward"
    signal: Tensor = torch.fft.irfftn(spectrum[..., :half], s=sizes, dim=dims, norm=norm)
    return signal


def gesv(B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Solution X (…, m, k) of A X = B for square A (…, m, m), and the LU factors of A in one matrix (…, m, m).

    Raises ShapeError, DtypeError; RuntimeError (of torch) where A is singular.
    """
    _matrices("torch.gesv", B=B, A=A)
    factors, pivots = torch.linalg.lu_factor(A)
    return torch.linalg.lu_solve(factors, pivots, B), factors


def potrf(A: Tensor, upper: bool = True) -> Tensor:
    """Cholesky factor of A (…, m, m): U with UᵀU = A, or L with LLᵀ = A where not ``upper``.

    Raises ShapeError, DtypeError; torch.linalg.LinAlgError where A is not positive definite.
    """
    _matrices("torch.potrf", A=A)
    factor: Tensor = torch.linalg.cholesky(A, upper=upper)
    return factor


def potrs(b: Tensor, u: Tensor, upper: bool = True) -> Tensor:
    """Solution X (…, m, k) of A X = b, of A given by its Cholesky factor ``u`` (…, m, m) (see ``potrf``)."""
    _matrices("torch.potrs", b=b, u=u)
    return torch.cholesky_solve(b, u, upper=upper)


def trtrs(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Tensor, Tensor]:
    """Solution X (…, m, k) of A X = b, or Aᵀ X = b, for triangular A (…, m, m), and a copy of A.

    ``unitriangular`` takes the diagonal of A as ones. Raises ShapeError, DtypeError.
    """
    _matrices("torch.trtrs", b=b, A=A)
    system = A.mT if transpose else A
    solve = torch.linalg.solve_triangular
    solution = solve(system, b, upper=bool(upper) is not bool(transpose), unitriangular=unitriangular)
    return solution, A.clone()


class _CallableModule(ModuleType):
    """``torch.fft``, which has become a module, as something that can be called as well."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return fft(*args, **kwargs)


_FUNCTIONS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (ifft, rfft, irfft, gesv, potrf, potrs, trtrs)}
_LOCK = threading.Lock()
_MISSING = object()
_depth = 0
_before: list[tuple[Any, str, Any]] = []


@contextlib.contextmanager
def legacy_torch() -> Iterator[None]:
    """Inside the block ``torch`` and tensors have the functions back that newer versions dropped.

    ``torch.rfft``, ``irfft``, ``ifft``, ``gesv``, ``potrf``, ``potrs``, ``trtrs`` with the signatures they had, and
    ``torch.fft`` can be called while its functions (``torch.fft.rfft2``) stay; the same as methods of tensors. After
    the block, also after an error, everything is as it was. Blocks may be nested; the names belong to the process,
    so they are there for other threads too, until the last block ends.

    Example:
        >>> import torch
        >>> with legacy_torch():
        ...     spectrum = torch.rfft(torch.eye(4), 2)
        >>> spectrum.shape
        torch.Size([4, 3, 2])
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth
    with _LOCK:
        _depth += 1
        if _depth > 1:
            return
        for owner in (torch, torch.Tensor):
            for name, function in _FUNCTIONS.items():
                _put(owner, name, function)
        _put(torch.Tensor, "fft", fft)
        _put(torch.fft, "__class__", _CallableModule)


def _put(owner: Any, name: str, value: Any) -> None:
    before = type(owner) if name == "__class__" else vars(owner).get(name, _MISSING)
    _before.append((owner, name, before))
    setattr(owner, name, value)


def _leave() -> None:
    global _depth
    with _LOCK:
        _depth -= 1
        if _depth:
            return
        while _before:
            owner, name, value = _before.pop()
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _dims(op: str, signal_ndim: int, signal: Tensor, available: int) -> tuple[int, ...]:
    if signal_ndim not in (1, 2, 3):
        raise RangeError(op, "signal_ndim", "1, 2 or 3", repr(signal_ndim))
    if available < signal_ndim:
        check.shape_error(op, "input", f"a tensor with {signal_ndim} signal dimensions", signal)
    return tuple(range(-signal_ndim, 0))


def _complex(op: str, signal: Tensor, signal_ndim: int) -> tuple[Tensor, tuple[int, ...]]:
    """The complex tensor that a real (…, 2) one stands for, and the dimensions of its signals."""
    check.tensor(op, "input", signal, dtypes=_FLOATS)
    if signal.dim() == 0 or signal.shape[-1] != 2:
        check.shape_error(op, "input", _COMPLEX_LAYOUT, signal)
    dims = _dims(op, signal_ndim, signal, signal.dim() - 1)
    return torch.complex(signal[..., 0], signal[..., 1]), dims


def _matrices(op: str, **matrices: Tensor) -> None:
    """The last of ``matrices`` must be square; one before it has as many rows."""
    floats = (torch.float32, torch.float64)
    for name, value in matrices.items():
        check.tensor(op, name, value, dtypes=floats)
        if value.dim() < 2:
            hint = "a vector is written as a matrix of one column, v[:, None]"
            check.shape_error(op, name, "a matrix or a batch of matrices", value, hint)
    square_name, square = list(matrices.items())[-1]
    if square.shape[-1] != square.shape[-2]:
        check.shape_error(op, square_name, "square", square)
    for name, value in matrices.items():
        check.same_dtype(op, name, value, square_name, square)
        if value.shape[-2] != square.shape[-2]:
            check.shape_error(op, name, f"of {square.shape[-2]} rows, as {square_name} has", value)

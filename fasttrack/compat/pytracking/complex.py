"""Pointwise and matrix arithmetic of complex tensors, natively complex or with a trailing axis (real, imaginary).

Every function takes a tensor or a ``TensorList`` for each of its operands, and answers in the layout it was asked
in. A real tensor counts as complex if it has at least 4 dimensions and the last has size 2, which is the rule of
pytracking; beside a native operand a real tensor is always real. In the trailing layout a real operand lacks the
last axis, so it has fewer dimensions than the complex one; beside a native one it has no more.

Source: behaviour of ``pytracking.libs.complex``; the trailing layout is that of ``torch.rfft`` before PyTorch 1.8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack.compat.pytracking._layout import is_legacy, restored, to_native
from fasttrack.compat.pytracking.tensorlist import tensor_operation
from fasttrack.errors import ArgumentError, ShapeError

__all__ = [
    "abs",
    "abs_sqr",
    "complex",
    "conj",
    "div",
    "div_cplx_real",
    "exp_imag",
    "imag",
    "is_complex",
    "is_real",
    "mtimes",
    "mtimes_complex_real",
    "mtimes_real_complex",
    "mult",
    "mult_conj",
    "mult_real_cplx",
    "real",
]

_COMPLEX = "complex: of complex dtype, or with (real, imaginary) in the last of at least 4 dimensions"


def _refuse_real(op: str, argument: str, a: Tensor) -> None:
    if is_real(a):
        raise ShapeError(op, argument, _COMPLEX, f"shape {tuple(a.shape)} of {a.dtype}")


def _which_are_complex(op: str, a: Tensor, b: Tensor) -> tuple[bool, bool]:
    """Which of the two operands are complex, after the check that a real one can stand beside the other."""
    native = a.is_complex() or b.is_complex()
    kinds = (a.is_complex(), b.is_complex()) if native else (is_legacy(a), is_legacy(b))
    if not any(kinds):
        raise ShapeError(op, "one operand", _COMPLEX, f"shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if all(kinds):
        return kinds
    name, real_one, other = ("b", b, a) if kinds[0] else ("a", a, b)
    most = other.dim() if native else other.dim() - 1
    if real_one.dim() > most:
        wanted = f"complex, or real with at most {most} dimensions"
        raise ShapeError(op, name, wanted, f"shape {tuple(real_one.shape)} beside {tuple(other.shape)}")
    return kinds


def _on_parts(a: Tensor) -> Tensor:
    return torch.view_as_real(a.resolve_conj()) if a.is_complex() else a


def _from_parts(parts: Tensor, like: Tensor) -> Tensor:
    return to_native("complex", parts) if like.is_complex() else parts


def is_complex(a: Tensor) -> bool:
    """Whether ``a`` counts as complex: natively, or by 4 or more dimensions of which the last has size 2."""
    return a.is_complex() or is_legacy(a)


def is_real(a: Tensor) -> bool:
    """Whether ``a`` does not count as complex."""
    return not is_complex(a)


@tensor_operation
def complex(a: Tensor | None, b: Tensor | None = None) -> Tensor:
    """The complex tensor a + ib in the trailing layout.

    Args:
        a: real part; None is 0.
        b: imaginary part, of the same shape; None is 0.

    Returns:
        (…, 2), of the dtype of the parts.

    Raises:
        ArgumentError: both are None.
        ShapeError: the shapes differ.
    """
    if a is None or b is None:
        given = a if b is None else b
        if given is None:
            raise ArgumentError("complex", "a", "a tensor where b is None", "None")
        zero = torch.zeros_like(given)
        a, b = (given, zero) if b is None else (zero, given)
    if a.shape != b.shape:
        raise ShapeError("complex", "b", f"of the shape of a, {tuple(a.shape)}", f"shape {tuple(b.shape)}")
    return torch.stack((a, b), -1)


@tensor_operation
def exp_imag(a: Tensor) -> Tensor:
    """exp(i·a) = cos a + i sin a of a real tensor, in the trailing layout: (…) → (…, 2)."""
    return torch.stack((a.cos(), a.sin()), -1)


@tensor_operation
def real(a: Tensor) -> Tensor:
    """Real part, a view. ShapeError where ``a`` is not complex."""
    _refuse_real("real", "a", a)
    return _on_parts(a)[..., 0]


@tensor_operation
def imag(a: Tensor) -> Tensor:
    """Imaginary part, a view (of a native lazy conjugate, a copy). ShapeError where ``a`` is not complex."""
    _refuse_real("imag", "a", a)
    return _on_parts(a)[..., 1]


@tensor_operation
def conj(a: Tensor) -> Tensor:
    """Complex conjugate, in the layout of ``a``. ShapeError where ``a`` is not complex."""
    _refuse_real("conj", "a", a)
    return restored(to_native("conj", a).conj(), a)


@tensor_operation
def abs_sqr(a: Tensor) -> Tensor:
    """|a|² = Re² + Im², real: (…, 2) → (…), native (…) → (…). ShapeError where ``a`` is not complex."""
    _refuse_real("abs_sqr", "a", a)
    re, im = _on_parts(a).unbind(-1)
    return torch.addcmul(re.square(), im, im)


@tensor_operation
def abs(a: Tensor) -> Tensor:
    """|a|, real: (…, 2) → (…), native (…) → (…). Its gradient at 0 is 0. ShapeError where ``a`` is not complex."""
    _refuse_real("abs", "a", a)
    size = to_native("abs", a).abs()
    return size if a.is_complex() else size.to(a.dtype)


@tensor_operation
def mult(a: Tensor, b: Tensor) -> Tensor:
    """a·b, pointwise and broadcasting; one of the two may be real.

    Raises:
        ShapeError: neither is complex, or a real one has too many dimensions.
    """
    a_complex, b_complex = _which_are_complex("mult", a, b)
    if not a_complex:
        return mult_real_cplx(a, b)
    if not b_complex:
        return mult_real_cplx(b, a)
    return restored(to_native("mult", a) * to_native("mult", b), a, b)


@tensor_operation
def mult_conj(a: Tensor, b: Tensor) -> Tensor:
    """a·b̄, pointwise and broadcasting; one of the two may be real.

    Raises:
        ShapeError: neither is complex, or a real one has too many dimensions.
    """
    a_complex, b_complex = _which_are_complex("mult_conj", a, b)
    if not a_complex:
        return mult_real_cplx(a, conj(b))
    if not b_complex:
        return mult_real_cplx(b, a)
    return restored(to_native("mult_conj", a) * to_native("mult_conj", b).conj(), a, b)


@tensor_operation
def mult_real_cplx(a: Tensor, b: Tensor) -> Tensor:
    """a·b, pointwise and broadcasting, of a real ``a`` and a complex ``b``. ShapeError where ``b`` is real."""
    _refuse_real("mult_real_cplx", "b", b)
    return _from_parts(a.unsqueeze(-1) * _on_parts(b), b)


@tensor_operation
def div(a: Tensor, b: Tensor) -> Tensor:
    """a/b = a·b̄/|b|², pointwise and broadcasting; one of the two may be real.

    Raises:
        ShapeError: neither is complex, or a real one has too many dimensions.
    """
    a_complex, b_complex = _which_are_complex("div", a, b)
    if not b_complex:
        return div_cplx_real(a, b)
    dividend = to_native("div", a) if a_complex else a
    return restored(dividend / to_native("div", b), a, b)


@tensor_operation
def div_cplx_real(a: Tensor, b: Tensor) -> Tensor:
    """a/b, pointwise and broadcasting, of a complex ``a`` and a real ``b``. ShapeError where ``a`` is real."""
    _refuse_real("div_cplx_real", "a", a)
    return _from_parts(_on_parts(a) / b.unsqueeze(-1), a)


@tensor_operation
def mtimes(a: Tensor, b: Tensor, conj_a: bool = False, conj_b: bool = False) -> Tensor:
    """Matrix product of complex tensors, either of which may be conjugated first; one of the two may be real.

    out[…, m, n] = Σ_k a[…, m, k]·b[…, k, n]

    Args:
        a: (…, m, k) native or real, or (…, m, k, 2).
        b: (…, k, n) native or real, or (…, k, n, 2); the leading dimensions broadcast.
        conj_a: conjugate ``a``; of no effect where it is real.
        conj_b: conjugate ``b``; of no effect where it is real.

    Returns:
        (…, m, n), in the trailing layout (…, m, n, 2).

    Raises:
        ShapeError: neither is complex, or a real one has too many dimensions.
    """
    a_complex, b_complex = _which_are_complex("mtimes", a, b)
    if not a_complex:
        return mtimes_real_complex(a, b, conj_b=conj_b)
    if not b_complex:
        return mtimes_complex_real(a, b, conj_a=conj_a)
    left, right = to_native("mtimes", a), to_native("mtimes", b)
    return restored(torch.matmul(left.conj() if conj_a else left, right.conj() if conj_b else right), a, b)


@tensor_operation
def mtimes_real_complex(a: Tensor, b: Tensor, conj_b: bool = False) -> Tensor:
    """``mtimes`` of a real ``a`` and a complex ``b``, one real product. ShapeError where ``b`` is real."""
    _refuse_real("mtimes_real_complex", "b", b)
    right = _on_parts(b.conj() if conj_b and b.is_complex() else b)
    product = torch.matmul(a, right.flatten(-2)).unflatten(-1, right.shape[-2:])
    if conj_b and not b.is_complex():
        product = torch.stack((product[..., 0], -product[..., 1]), -1)
    return _from_parts(product, b)


@tensor_operation
def mtimes_complex_real(a: Tensor, b: Tensor, conj_a: bool = False) -> Tensor:
    """``mtimes`` of a complex ``a`` and a real ``b``. ShapeError where ``a`` is real."""
    _refuse_real("mtimes_complex_real", "a", a)
    left = to_native("mtimes_complex_real", a)
    dtype = torch.promote_types(left.dtype, b.dtype)
    # One complex product costs less than taking the parts out of their pairs for two real ones.
    return restored(torch.matmul((left.conj() if conj_a else left).to(dtype), b.to(dtype)), a, b)

"""The two layouts of complex tensors: PyTorch's own, and real tensors whose last axis holds (real, imaginary)."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack.errors import DtypeError

__all__ = ["is_legacy", "restored", "to_native"]

_NO_COMPLEX_KIN = (torch.float16, torch.bfloat16)


def is_legacy(a: Tensor) -> bool:
    """Whether ``a`` has the trailing axis: real, with at least 4 dimensions, the last of size 2."""
    return not a.is_complex() and a.dim() >= 4 and a.shape[-1] == 2


def to_native(op: str, a: Tensor) -> Tensor:
    """``a``, natively complex or with the trailing axis, as a native one: a view wherever strides allow.

    Half precision is computed in complex64, as PyTorch has no complex arithmetic in it.
    """
    if a.is_complex():
        return a
    if not a.is_floating_point():
        raise DtypeError(op, "a complex tensor of the trailing layout", "of floating point", str(a.dtype))
    if a.dtype in _NO_COMPLEX_KIN:
        a = a.float()
    if torch.compiler.is_compiling():  # which cannot look at a storage, and needs no view to save a copy
        return torch.complex(*a.unbind(-1))
    *strides, last = a.stride()
    if last != 1 or a.storage_offset() % 2 or any(stride % 2 for stride in strides):
        a = a.clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(a)


def restored(result: Tensor, *operands: Tensor) -> Tensor:
    """A native ``result`` in the layout and precision of the operands: native if any of them is."""
    if any(operand.is_complex() for operand in operands):
        return result
    dtype = operands[0].dtype
    for operand in operands[1:]:
        dtype = torch.promote_types(dtype, operand.dtype)
    return torch.view_as_real(result.resolve_conj()).to(dtype)

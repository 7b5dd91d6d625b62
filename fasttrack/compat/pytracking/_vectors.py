"""Vectors of an optimiser: one tensor, or a list of tensors that is one vector in parts.

Scalars are one tensor for all parts, or a list with one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from fasttrack.compat.pytracking.tensorlist import TensorList
from fasttrack.errors import DtypeError

__all__ = [
    "add_scaled_",
    "check_vector",
    "each",
    "gradients",
    "inner",
    "leaves",
    "parts",
    "quotient",
    "spread",
    "total",
]


def check_vector(op: str, argument: str, value: Any) -> None:
    """``value`` must be a tensor, or a list of tensors."""
    if isinstance(value, Tensor) or (isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value)):
        return
    raise DtypeError(op, argument, "a torch.Tensor or a TensorList of tensors", type(value).__name__)


def parts(vector: Any) -> list[Tensor]:
    """The tensors of a vector."""
    return list(vector) if isinstance(vector, (list, tuple)) else [vector]


def each(function: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """``function`` of the parts of the vectors: a vector of the type of the first."""
    found = parts(first)
    rows = zip(found, *(spread(other, len(found)) for other in others), strict=True)
    return _joined([function(*row) for row in rows], first)


def spread(vector: Any, count: int) -> Sequence[Any]:
    """The parts of a list; of anything else, itself ``count`` times."""
    return vector if isinstance(vector, (list, tuple)) else [vector] * count


def _joined(tensors: Sequence[Tensor], like: Any) -> Any:
    if not isinstance(like, (list, tuple)):
        return tensors[0]
    return TensorList(tensors) if type(like) in (list, tuple) else type(like)(tensors)


def total(vector: Any) -> Tensor:
    """Σ of all numbers."""
    return reduce(torch.add, [part.sum() for part in parts(vector)])


def inner(a: Any, b: Any) -> Tensor:
    """Σ aᵢ·bᵢ over all numbers of two vectors."""
    products = [torch.dot(u.reshape(-1), v.reshape(-1)) for u, v in zip(parts(a), parts(b), strict=True)]
    return reduce(torch.add, products)


def quotient(above: Any, below: Any) -> Any:
    """``above/below``, and 0 where ``below`` is 0: decided on the device."""
    return each(lambda a, b: torch.where(b == 0, 0.0, a / b), above, below)


def add_scaled_(a: Any, b: Any, scale: Any, sign: int = 1) -> None:
    """Add ± scale·b to a, in the memory of a."""
    found = parts(a)
    for u, v, s in zip(found, parts(b), spread(scale, len(found)), strict=True):
        u.addcmul_(v, s, value=sign)


def leaves(vector: Any) -> Any:
    """A vector in the same memory that asks for gradients, whatever the one given asks for."""
    return each(lambda part: part.detach().requires_grad_(), vector)


def gradients(outputs: Any, inputs: Any, directions: Any = None, **options: bool) -> Any:
    """The product of ``directions`` with the Jacobian of ``outputs`` in ``inputs``: a vector as ``inputs``.

    0 for inputs that no output depends on.
    """
    heads = parts(outputs)
    live = [(h, d) for h, d in zip(heads, spread(directions, len(heads)), strict=True) if h.requires_grad]
    if not live:
        return each(torch.zeros_like, inputs)
    heads, weights = [head for head, _ in live], [weight for _, weight in live]
    return _joined(torch.autograd.grad(heads, parts(inputs), weights, materialize_grads=True, **options), inputs)

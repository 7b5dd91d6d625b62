"""Cheap checks of arguments, worded the same in every op: op, argument, wanted, got."""

from __future__ import annotations

from math import inf
from typing import Any, NoReturn

import torch
from torch import Tensor

from fasttrack.errors import ArgumentError, DeviceError, DtypeError, RangeError, ShapeError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

__all__ = [
    "FLOATS",
    "choice",
    "is_tensor",
    "no_gradient",
    "number",
    "same_device",
    "same_dtype",
    "same_shape",
    "shape_error",
    "tensor",
]


def shape_error(op: str, argument: str, wanted: str, got: Tensor, hint: str = "") -> NoReturn:
    """Raise the ShapeError of a tensor of the wrong shape."""
    raise ShapeError(op, argument, wanted, f"shape {tuple(got.shape)}", hint)


def is_tensor(op: str, argument: str, value: Any) -> None:
    """``value`` must be a tensor."""
    if not isinstance(value, Tensor):
        raise DtypeError(op, argument, "a torch.Tensor", type(value).__name__)


def tensor(
    op: str,
    argument: str,
    value: Any,
    *,
    dims: tuple[int, ...] | None = None,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    layout: str = "",
) -> None:
    """``value`` must be a tensor of one of these numbers of dimensions and dtypes; ``layout`` names the axes."""
    is_tensor(op, argument, value)
    if value.dtype not in dtypes:
        raise DtypeError(op, argument, " or ".join(str(d).removeprefix("torch.") for d in dtypes), str(value.dtype))
    if dims is not None and value.dim() not in dims:
        shape_error(op, argument, layout or f"a tensor of {' or '.join(map(str, dims))} dimensions", value)


def same_shape(op: str, argument: str, value: Tensor, other: str, like: Tensor) -> None:
    """``value`` must have the shape of ``like``, the argument called ``other``."""
    if value.shape != like.shape:
        shape_error(op, argument, f"of the shape of {other}, {tuple(like.shape)}", value)


def same_device(op: str, argument: str, value: Tensor, other: str, like: Tensor) -> None:
    """``value`` must lie on the device of ``like``."""
    if value.device != like.device:
        raise DeviceError(op, argument, f"on the device of {other}, {like.device}", str(value.device))


def same_dtype(op: str, argument: str, value: Tensor, other: str, like: Tensor) -> None:
    """``value`` must have the dtype of ``like``."""
    if value.dtype != like.dtype:
        raise DtypeError(op, argument, f"of the dtype of {other}, {like.dtype}", str(value.dtype))


def number(op: str, argument: str, value: Any, *, low: float = -inf, low_open: bool = False) -> float:
    """``value`` must be a finite number ≥ ``low`` (> with ``low_open``); NaN never passes."""
    if type(value) is not float and (isinstance(value, (str, bytes)) or not hasattr(value, "__float__")):
        raise DtypeError(op, argument, "a number", repr(value))
    number = float(value)
    inside = number > low if low_open else number >= low
    if not (inside and number < inf):
        sign = ">" if low_open else "≥"
        wanted = "a finite number" + ("" if low == -inf else f" {sign} {low:g}")
        raise RangeError(op, argument, wanted, repr(number))
    return number


def no_gradient(op: str, argument: str, value: Tensor) -> None:
    """``value`` must not ask for a gradient: the op has none, and detaching in silence would hide that."""
    if value.requires_grad and torch.is_grad_enabled():
        hint = f"{op} has no gradient: pass {argument}.detach()"
        raise ArgumentError(op, argument, "a tensor that asks for no gradient", "requires_grad=True", hint)


def choice(op: str, argument: str, value: str, known: tuple[str, ...]) -> str:
    """``value`` must be one of the known words."""
    if value not in known:
        raise RangeError(op, argument, "one of " + ", ".join(map(repr, known)), repr(value))
    return value

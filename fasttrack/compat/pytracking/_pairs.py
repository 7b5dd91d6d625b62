"""Two numbers, for the height and the width: a tensor, an array, a tuple or a list."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

from fasttrack.errors import RangeError, ShapeError

__all__ = ["numbers", "pair", "sizes"]


def pair(op: str, argument: str, value: Any, wanted: str = "two numbers, (y, x)") -> tuple[Any, Any]:
    """The two elements of ``value`` as they are; 0-dimensional tensors of a tensor."""
    found = tuple(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) == 1 else ()
    if len(found) != 2:
        raise ShapeError(op, argument, wanted, repr(value))
    return found


def numbers(op: str, argument: str, value: Any, wanted: str = "two sizes, (height, width)") -> tuple[float, float]:
    """The two elements of ``value`` as finite numbers."""
    y, x = map(float, pair(op, argument, value, wanted))
    if not (isfinite(y) and isfinite(x)):
        raise RangeError(op, argument, "finite", repr(value))
    return y, x


def sizes(op: str, argument: str, value: Any) -> tuple[int, int]:
    """The two elements of ``value`` as integers, fractions dropped."""
    height, width = numbers(op, argument, value)
    return int(height), int(width)

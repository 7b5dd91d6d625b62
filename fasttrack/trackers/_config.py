"""Range checks that the Configs of the trackers share."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from fasttrack.errors import RangeError

__all__ = ["all_positive", "at_least", "choice", "odd", "positive", "whole"]


def _refuse(config: Any, name: str, wanted: str) -> NoReturn:
    raise RangeError(type(config).__name__, name, wanted, repr(getattr(config, name)))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def positive(config: Any, *names: str) -> None:
    """These fields are finite numbers > 0."""
    for name in names:
        value = getattr(config, name)
        if not (_number(value) and value > 0):
            _refuse(config, name, "a finite number > 0")


def all_positive(config: Any, count: int, *names: str) -> None:
    """These fields are ``count`` finite numbers > 0 each."""
    for name in names:
        values = getattr(config, name)
        if not (
            isinstance(values, (tuple, list)) and len(values) == count and all(_number(v) and v > 0 for v in values)
        ):
            _refuse(config, name, f"{count} finite numbers > 0")


def at_least(config: Any, low: float, *names: str) -> None:
    """These fields are finite numbers ≥ ``low``."""
    for name in names:
        value = getattr(config, name)
        if not (_number(value) and value >= low):
            _refuse(config, name, f"a finite number ≥ {low:g}")


def whole(config: Any, low: int, *names: str) -> None:
    """These fields are whole numbers ≥ ``low``."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            _refuse(config, name, f"a whole number ≥ {low}")


def odd(config: Any, *names: str) -> None:
    """These fields are odd whole numbers ≥ 1."""
    whole(config, 1, *names)
    for name in names:
        if getattr(config, name) % 2 == 0:
            _refuse(config, name, "an odd number")


def choice(config: Any, name: str, known: tuple[str, ...]) -> None:
    """This field is one of the known words."""
    if getattr(config, name) not in known:
        _refuse(config, name, "one of " + ", ".join(map(repr, known)))

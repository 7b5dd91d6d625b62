"""Options of trackers as people type them: ``features=conv-4``, ``scales=(0.95, 1, 1.05)``."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from fasttrack.errors import ArgumentError

__all__ = ["parse_options", "parse_value", "split_list"]

_PAIRS = {"(": ")", "[": "]", "{": "}"}


def parse_value(text: str) -> Any:
    """A Python literal (number, True, None, tuple, dict), else the text itself; true and false in any case.

    ``none`` is a text: DCFST has a choice of that name.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def parse_options(items: Iterable[str], op: str, argument: str) -> dict[str, Any]:
    """Options from texts ``KEY=VALUE``.

    Args:
        items: the texts.
        op: who asks, for the errors.
        argument: what the texts are called there.

    Raises:
        ArgumentError: a text without a key, or a key given twice.
    """
    options: dict[str, Any] = {}
    for text in items:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not (equals and key.isidentifier()):
            raise ArgumentError(op, argument, "KEY=VALUE", repr(text))
        if key in options:
            raise ArgumentError(op, argument, "each KEY once", f"{key} twice")
        options[key] = parse_value(value.strip())
    return options


def split_list(text: str, op: str, argument: str) -> list[str]:
    """The parts between the commas that stand outside of all brackets, without the blanks around them.

    Raises:
        ArgumentError: a bracket that is not closed, closed by another, or was never opened; an empty part.
    """
    parts, start, open_brackets = [], 0, ""
    for at, char in enumerate(text):
        if char in _PAIRS:
            open_brackets += _PAIRS[char]
        elif char in _PAIRS.values():
            if not open_brackets.endswith(char):
                raise ArgumentError(op, argument, "a text whose brackets match", repr(text))
            open_brackets = open_brackets[:-1]
        elif char == "," and not open_brackets:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    if open_brackets:
        raise ArgumentError(op, argument, "a text whose brackets match", repr(text))
    if not all(parts):
        raise ArgumentError(op, argument, "parts between commas", repr(text))
    return parts

"""Which backend runs a call, and why.

Each op has a table of rows, best first. A row's ``why_not`` reads metadata only (device, dtype, sizes)
and says why it cannot run the call, or None. An explicit choice (``backend=``, ``use_backend``,
``FASTTRACK_BACKEND``) never falls back; the automatic choice takes the first row that can, and warns
once per reason when that is the reference.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fasttrack.errors import BackendUnavailable, UnknownName

__all__ = ["BACKENDS", "Row", "choose", "chosen", "register", "required", "table", "use_backend"]

BACKENDS = ("cuda", "triton", "cpu", "reference")

logger = logging.getLogger("fasttrack")


@dataclass(frozen=True)
class Row:
    """One backend of one op.

    Args:
        backend: one of ``BACKENDS``.
        why_not: reason the row cannot run these arguments, or None; reads metadata only.
        run: the launcher, taking the op's arguments.
        unavailable: reason the row cannot run on this machine at all, or None (what ``doctor`` prints).
    """

    backend: str
    why_not: Callable[..., str | None]
    run: Callable[..., Any]
    unavailable: Callable[[], str | None]


_TABLE: dict[str, tuple[Row, ...]] = {}
_CHOSEN: ContextVar[str | None] = ContextVar("fasttrack_backend", default=None)
_WARNED: set[tuple[str, str]] = set()
# Read once: asking the environment takes as long as the rest of the choice.
_EVERYWHERE = os.environ.get("FASTTRACK_BACKEND") or None


def register(op: str, rows: tuple[Row, ...]) -> None:
    """Add the backend table of an op."""
    _TABLE[op] = rows


def table() -> dict[str, tuple[Row, ...]]:
    """Op name → its rows, for all ops imported so far."""
    return dict(_TABLE)


def _checked(backend: str) -> str:
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS)
    return backend


@contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Make every op inside the ``with`` block use one backend, without falling back.

    The choice goes with the graph: the backward of an op called here uses the same backend, wherever and in whatever
    thread it runs. (A graph made by ``torch.compile`` knows only the choice in force where its backward runs.)

    Raises:
        UnknownName: no such backend.
        BackendUnavailable: (from the ops) the backend cannot run a call.

    Examples:
        >>> import torch
        >>> from fasttrack import ops
        >>> with use_backend("reference"):
        ...     ops.square_loss(torch.ones(2), torch.zeros(2), "sum")
        tensor(2.)
    """
    token = _CHOSEN.set(_checked(backend))
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def chosen() -> str | None:
    """The backend of the ``use_backend`` block around the caller, if there is one."""
    return _CHOSEN.get()


def required() -> frozenset[str]:
    """Backends that must not be missing: ``FASTTRACK_REQUIRE``, separated by commas."""
    names = os.environ.get("FASTTRACK_REQUIRE", "")
    return frozenset(_checked(name.strip()) for name in names.split(",") if name.strip())


def choose(op: str, args: tuple[Any, ...], backend: str | None = None) -> Row:
    """The row that runs this call.

    Args:
        op: registered op name.
        args: the op's arguments, handed to every ``why_not``.
        backend: explicit choice; otherwise ``use_backend``, then ``FASTTRACK_BACKEND`` as it was when this package
            was imported, then automatic.

    Raises:
        BackendUnavailable: the explicit choice cannot run the call, or an automatic fall-back to the
            reference would hide a backend named in ``FASTTRACK_REQUIRE``.
    """
    asked = backend or _CHOSEN.get() or _EVERYWHERE
    rows = _TABLE[op]
    if asked is not None:
        _checked(asked)
    for row in rows:
        if (asked is None or row.backend == asked) and row.why_not(*args) is None:
            if asked is None and row.backend == "reference" and len(rows) > 1:
                _note_fall_back(op, rows, args)
            return row
    raise BackendUnavailable(_refusal(op, rows, args, f"asked for {asked}" if asked else "automatic choice"))


def _note_fall_back(op: str, rows: tuple[Row, ...], args: tuple[Any, ...]) -> None:
    """Warn, once per reason, that the reference runs; refuse where a required backend is missing."""
    missing = [r.backend for r in rows if r.backend in required() and r.unavailable() is not None]
    if missing:
        raise BackendUnavailable(_refusal(op, rows, args, f"FASTTRACK_REQUIRE={','.join(missing)}"))
    reasons = "; ".join(f"{r.backend}: {r.why_not(*args)}" for r in rows if r.backend != "reference")
    if (op, reasons) not in _WARNED:
        _WARNED.add((op, reasons))
        logger.warning("%s: running the reference implementation (%s)", op, reasons)


def _refusal(op: str, rows: tuple[Row, ...], args: tuple[Any, ...], why: str) -> str:
    known = ", ".join(row.backend for row in rows)
    lines = [f"{op}: no backend can run this call ({why}; known: {known})"]
    lines += [f"  {row.backend}: {row.why_not(*args) or 'can run it'}" for row in rows]
    return "\n".join(lines)

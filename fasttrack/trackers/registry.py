"""Trackers by name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from fasttrack.errors import ArgumentError, UnknownTracker
from fasttrack.trackers.base import Tracker

__all__ = ["create_tracker", "list_trackers", "tracker_config"]

# Name → "module:class"; the module is imported when the tracker is made. The class has ``config_class``.
_TRACKERS = {
    "crt": "fasttrack.trackers.crt:CRT",
    "dcfst": "fasttrack.trackers.dcfst:DCFST",
    "drvt": "fasttrack.trackers.drvt:DRVT",
    "dslt": "fasttrack.trackers.dslt:DSLT",
    "dlst": "fasttrack.trackers.dlst:DLST",
    "kcf": "fasttrack.trackers.kcf:KCF",
    "mosse": "fasttrack.trackers.mosse:MOSSE",
}


def list_trackers() -> tuple[str, ...]:
    """Names that :func:`create_tracker` takes.

    Examples:
        >>> list_trackers()
        ('crt', 'dcfst', 'drvt', 'dslt', 'dlst', 'kcf', 'mosse')
    """
    return tuple(_TRACKERS)


def create_tracker(name: str, **options: Any) -> Tracker:
    """A tracker by name; ``options`` are fields of its ``Config``.

    Examples:
        >>> tracker = create_tracker("kcf", scale_levels=1)
        >>> tracker.name
        'kcf'
        >>> create_tracker("kfc")
        Traceback (most recent call last):
            ...
        fasttrack.errors.UnknownTracker: create_tracker: name must be one of crt, ..., mosse, got 'kfc'

    Raises:
        UnknownTracker: no such tracker; the message lists those there are.
        ArgumentError: an option that is not a field of the tracker's Config; the message lists them.
        RangeError: a value outside its range.
    """
    config = tracker_config(name, options)
    tracker: Tracker = _tracker_class(name)(config)
    return tracker


def tracker_config(name: str, options: Mapping[str, Any]) -> Any:
    """The ``Config`` that :func:`create_tracker` makes the tracker with, without making it; raises what that raises."""
    config_class = _tracker_class(name).config_class
    fields = [f.name for f in dataclasses.fields(config_class)]
    for option in options:
        if option not in fields:
            raise ArgumentError(f"create_tracker({name!r})", "option", "one of " + ", ".join(fields), repr(option))
    return config_class(**options)


def _tracker_class(name: str) -> Any:
    if name not in _TRACKERS:
        raise UnknownTracker("create_tracker", name, _TRACKERS)
    module, cls = _TRACKERS[name].split(":")
    return getattr(importlib.import_module(module), cls)

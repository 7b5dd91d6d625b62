"""What an adapter is made of: a tracker by name or at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fasttrack.errors import ArgumentError
from fasttrack.trackers import create_tracker

__all__ = ["Followable", "made", "name_of"]


class Followable(Protocol):
    """What an adapter needs of a tracker: ``fasttrack.trackers.Tracker``, or anything with its two methods."""

    def init(self, frame: npt.NDArray[np.uint8], box: Any) -> Any:
        """Start on a box (x, y, w, h), or on a (T, 4) array of boxes."""

    def update(self, frame: npt.NDArray[np.uint8]) -> Any:
        """A ``Result``, or a list of T."""


def made(op: str, tracker: str | Followable, options: Mapping[str, Any]) -> Followable:
    """The tracker itself, or a new one of that name with ``options`` as fields of its ``Config``.

    Raises:
        ArgumentError: options beside a tracker that is made already; something that is no tracker.
        UnknownTracker, RangeError: as ``create_tracker``.
    """
    if isinstance(tracker, str):
        return create_tracker(tracker, **options)
    if not (callable(getattr(tracker, "init", None)) and callable(getattr(tracker, "update", None))):
        raise ArgumentError(op, "tracker", "a name or an object with init and update", type(tracker).__name__)
    if options:
        wanted, names = "none beside a tracker that is made already", ", ".join(options)
        raise ArgumentError(op, "options", wanted, names, "give the tracker's name")
    return tracker


def name_of(tracker: Followable) -> str:
    """The tracker's name; that of its class where it has none."""
    return str(getattr(tracker, "name", type(tracker).__name__))

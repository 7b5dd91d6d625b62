"""Trackers of this package as contestants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fasttrack.evaluation.contestants.base import Contestant, plain
from fasttrack.trackers import Tracker, create_tracker
from fasttrack.trackers.registry import tracker_config

__all__ = ["OwnTracker"]

# One tracker for all units of a process: its network weights are read once, and ``init`` forgets the last target.
_MADE: dict[str, Tracker] = {}


@dataclass(frozen=True)
class OwnTracker(Contestant):
    """A tracker by its name in the registry, with options of its Config.

    ``config`` is the whole Config, defaults included: where a default changes, results of before are not taken for
    results of now. Which weights files were found is no part of it; ``note`` says that.
    """

    tracker: str
    options: Mapping[str, Any] = field(hash=False)

    @classmethod
    def of(cls, name: str, tracker: str, options: Mapping[str, Any]) -> OwnTracker:
        """Raises UnknownTracker, ArgumentError or RangeError as ``create_tracker``."""
        config = {"kind": "own", "tracker": tracker, **plain(tracker_config(tracker, options))}
        return cls(name, tracker, config, tracker, dict(options))

    def note(self) -> str:
        """The weights at work, as the tracker says; it is made for that, which raises WeightsError without them."""
        return self.make().weights_note

    def make(self) -> Tracker:
        """The tracker of this process. Raises WeightsError where its weights are not at hand."""
        if self.ident not in _MADE:
            _MADE[self.ident] = create_tracker(self.tracker, **self.options)
        return _MADE[self.ident]

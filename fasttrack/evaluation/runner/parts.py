"""What the runner needs of a contestant and of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fasttrack.evaluation.outcome import Outcome, Unit
from fasttrack.evaluation.sequence import Sequence

__all__ = ["Contestant", "Procedure"]


class Contestant(Protocol):
    """A tracker with its configuration; travels to other processes."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def ident(self) -> str:
        """Name and hash of the configuration; a file name."""

    @property
    def config(self) -> Mapping[str, Any]:
        """For the report."""

    def note(self) -> str:
        """Which network weights are at work, empty for none."""

    def make(self) -> Any:
        """A tracker with ``init(frame, box)`` and ``update(frame)``; ``init`` may be called again at any time."""


class Procedure(Protocol):
    """A protocol: how a tracker is led through a sequence."""

    @property
    def runs(self) -> int:
        """How often each sequence is run."""

    def execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        """Run the unit. Raises what the tracker or a frame that cannot be read raises."""

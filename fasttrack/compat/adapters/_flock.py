"""Targets that join one after the other: those that came together share every call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fasttrack.compat.adapters._tracker import Followable
from fasttrack.geometry import Box
from fasttrack.trackers import Result

__all__ = ["Flock"]

Boxlike = Box | Sequence[float]


class Flock:
    """Follows targets in the order in which they came; a tracker is made for each frame that brought some.

    Args:
        op: who asks, for the errors.
        make: makes a tracker. Those made are kept and started anew, so weights are read once for each.
    """

    def __init__(self, op: str, make: Callable[[], Followable]) -> None:
        self._op = op
        self._make = make
        self._made: list[Followable] = []
        self._groups = 0

    def start(self, frame: npt.NDArray[np.uint8], boxes: Sequence[Boxlike]) -> list[Result]:
        """Forget all targets and begin with these (there may be none); results and errors as of ``join``."""
        self._groups = 0
        return self.join(frame, boxes)

    def join(self, frame: npt.NDArray[np.uint8], boxes: Sequence[Boxlike]) -> list[Result]:
        """Take these targets as well; their results: the boxes themselves, with full score.

        Raises:
            FrameError, BoxError: as the tracker's ``init``.
        """
        rows = [Box.parse(box.as_tuple() if isinstance(box, Box) else box, self._op) for box in boxes]
        if not rows:
            return []
        if self._groups == len(self._made):
            self._made.append(self._make())
        self._made[self._groups].init(frame, np.array([row.as_tuple() for row in rows]))
        self._groups += 1
        return [Result(row, 1.0, math.nan, False, 0.0) for row in rows]

    def update(self, frame: npt.NDArray[np.uint8]) -> list[Any]:
        """The results of all targets in the next frame, in the order in which they came."""
        return [result for tracker in self._made[: self._groups] for result in tracker.update(frame)]

"""The contestant that never moves: what a protocol does to it can be told beforehand."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fasttrack.evaluation.contestants.base import Contestant
from fasttrack.geometry import Box
from fasttrack.trackers import Result

__all__ = ["Identity", "IdentityContestant"]


class Identity:
    """Returns the box it was started on."""

    def init(self, frame: NDArray[np.uint8], box: Box) -> None:
        """Keep the box."""
        self._result = Result(box, math.nan, math.nan, False, 0.0)

    def update(self, frame: NDArray[np.uint8]) -> Result:
        """The box, without a score."""
        return self._result


class IdentityContestant(Contestant):
    """``identity``."""

    def make(self) -> Identity:
        """A new one."""
        return Identity()

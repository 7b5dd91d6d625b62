"""The sizes a search looks at, and the box that goes with the one it chose."""

from __future__ import annotations

from dataclasses import dataclass

from fasttrack.geometry import Box
from fasttrack.vision.localise import Found

__all__ = ["ScalePyramid"]


@dataclass(frozen=True, slots=True)
class ScalePyramid:
    """``levels`` sizes around the last one, each ``step`` times its neighbour.

    Args:
        levels: how many, odd.
        step: ratio of neighbours, > 0.
        penalty: factor on the response at any but the last size, which holds back drift.
    """

    levels: int
    step: float
    penalty: float

    @property
    def factors(self) -> tuple[float, ...]:
        """Sizes as factors of the last one, smallest first."""
        middle = self.levels // 2
        return tuple(self.step ** (i - middle) for i in range(self.levels))

    @property
    def penalties(self) -> tuple[float, ...]:
        """Factor on the response of every level."""
        return tuple(1.0 if i == self.levels // 2 else self.penalty for i in range(self.levels))

    def box(self, found: Found, last: Box) -> Box:
        """The last box, resized to the level found, around the centre of what was found."""
        factor = self.factors[found.level]
        return Box.from_center(*found.box.center, last.w * factor, last.h * factor)

"""The sizes a search looks at, and the box that goes with the one it chose."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    Attributes:
        factors: sizes as factors of the last one, smallest first.
        penalties: factor on the response of every level.
    """

    levels: int
    step: float
    penalty: float

    # Asked for in every frame, so made once.
    factors: tuple[float, ...] = field(init=False, repr=False)
    penalties: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        middle = self.levels // 2
        factors = tuple(self.step ** (i - middle) for i in range(self.levels))
        penalties = tuple(1.0 if i == middle else self.penalty for i in range(self.levels))
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "penalties", penalties)

    def box(self, found: Found, last: Box) -> Box:
        """The last box, resized to the level found, around the centre of what was found."""
        factor = self.factors[found.level]
        return Box.from_center(*found.box.center, last.w * factor, last.h * factor)

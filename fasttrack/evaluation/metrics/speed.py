"""Frames per second of the tracker alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fasttrack.evaluation.outcome import FAILURE, TRACKED, Outcome

__all__ = ["Speed", "fps"]


@dataclass(frozen=True)
class Speed:
    """Frames per second, by what else the machine did meanwhile.

    Attributes:
        exclusive: over units during which nothing else of the evaluation ran: a property of tracker and machine.
        shared: over the other units: tells how fast the run went, not how fast the tracker is.

    None where no unit of the kind has a time.
    """

    exclusive: float | None
    shared: float | None


def fps(outcomes: Iterable[Outcome]) -> Speed:
    """Frames per second, ``N / Σ t`` over all frames of all units together.

    Frames on which the tracker is started (state ``INIT``) are not in it, nor are those without a time. It is not
    ``mean(1 / t)``, which several toolkits print: that is above N/Σt whenever the times differ (the harmonic mean is
    below the arithmetic one), and a frame that takes no time makes it infinite. N/Σt is how many frames of a video
    are done in a second.
    """
    frames, seconds = {True: 0, False: 0}, {True: 0.0, False: 0.0}
    for outcome in outcomes:
        ran = ((outcome.states == TRACKED) | (outcome.states == FAILURE)) & np.isfinite(outcome.seconds)
        frames[outcome.exclusive] += int(ran.sum())
        seconds[outcome.exclusive] += float(outcome.seconds[ran].sum())
    rate = {kind: frames[kind] / seconds[kind] if seconds[kind] > 0 else None for kind in frames}
    return Speed(rate[True], rate[False])

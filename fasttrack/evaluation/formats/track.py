"""What result files say of one run on one target, the same for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fasttrack.evaluation.outcome import INIT, TRACKED, Outcome, from_the_start

__all__ = ["Track", "fill_starts", "make_track", "track_of"]


@dataclass(frozen=True, eq=False)
class Track:
    """One run of a tracker on one target.

    Attributes:
        sequence: name of the sequence.
        boxes: (n, 4) float64 x, y, w, h in px, 0-based edge coordinates, a row per frame; NaN where there is none.
        states: (n,) int8, ``INIT``, ``TRACKED``, ``FAILURE`` or ``SKIPPED``.
        seconds: (n,) time of each frame; NaN where it is not known.
        scores: (n,) confidence; NaN where there is none.
        polygons: row → (k, 2) corners in the same coordinates, where the file has a polygon; the row's box is the
            upright one around it.
        run: number of the repetition, from 0.
        target: number of the target in the video, from 1 (MOT).
        anchor: frame from which the tracker was started forwards or backwards (multi-start runs of VOT), from 0; its
            rows are in the order of tracking. None for a run from the first frame on.
    """

    sequence: str
    boxes: NDArray[np.float64]
    states: NDArray[np.int8]
    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    polygons: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    run: int = 0
    target: int = 1
    anchor: int | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def make_track(
    sequence: str,
    boxes: NDArray[np.float64],
    states: NDArray[np.int8] | None = None,
    seconds: NDArray[np.float64] | None = None,
    scores: NDArray[np.float64] | None = None,
    polygons: Mapping[int, NDArray[np.float64]] | None = None,
    run: int = 0,
    target: int = 1,
    anchor: int | None = None,
) -> Track:
    """A track; without states it was started in the first row and ran to the last, times and scores are unknown."""
    unknown = np.full(len(boxes), np.nan)
    if states is None:
        states = np.full(len(boxes), TRACKED, np.int8)
        states[:1] = INIT
    return Track(
        sequence=sequence,
        boxes=boxes,
        states=states,
        seconds=unknown if seconds is None else seconds,
        scores=unknown if scores is None else scores,
        polygons={} if polygons is None else polygons,
        run=run,
        target=target,
        anchor=anchor,
    )


def track_of(outcome: Outcome, run: int) -> Track:
    """The outcome of a unit with one row for every frame from 0 on: those before its first are ``SKIPPED``."""
    whole = from_the_start(outcome)
    return make_track(outcome.unit.sequence, whole.boxes, whole.states, whole.seconds, whole.scores, run=run)


def fill_starts(track: Track, truth: NDArray[np.float64]) -> Track:
    """Put the ground truth's box into rows where the tracker was started and whose box the file did not tell (VOT)."""
    rows = np.flatnonzero((track.states == INIT) & np.isnan(track.boxes).any(1))
    first = 0 if track.anchor is None else track.anchor
    known = [row for row in rows.tolist() if first + row < len(truth) and (track.anchor is None or row == 0)]
    if not known:
        return track
    boxes = track.boxes.copy()
    boxes[known] = truth[[first + row for row in known]]
    return replace(track, boxes=boxes)

"""The protocols of the VOT challenges on short sequences: with restarts after failures, and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import ArgumentError, SourceError
from fasttrack.evaluation.contestants.recorded import RecordedBoxes
from fasttrack.evaluation.metrics.polygon import around, corners, raster_iou
from fasttrack.evaluation.outcome import INIT, Outcome, Unit
from fasttrack.evaluation.protocols.base import Protocol, Session, first_box, has_box, replayed, replayed_pass
from fasttrack.evaluation.sequence import Sequence
from fasttrack.geometry import Box

__all__ = ["Supervised", "Unsupervised", "overlaps", "starting_boxes"]


@dataclass(frozen=True)
class Supervised(Protocol):
    """Started on the first frame; where its box no longer overlaps the target, started anew some frames later.

    - A start is on the upright box around the ground truth's polygon (``starting_boxes``): state INIT.
    - A later frame in which box and polygon have no pixel in common (``overlaps``) is a FAILURE; so is one in which
      the ground truth is absent. Its row keeps the box that failed.
    - The tracker then rests (SKIPPED) and is started ``skip`` frames after the failure; a frame with a tag of
      ``skip_tags``, or without a box, is passed over.

    The challenges of 2015–2019 repeat a run 15 times, and stop after three that are the same. Here a unit is seeded
    and gives the same boxes again: further repetitions are units of other seeds.

    Attributes:
        skip: frames from a failure to the next start, at least; 5 in all challenges.
        skip_tags: tags of frames on which no tracker is started; none in the challenges from 2015 on.

    Source: Kristan et al. 2016, "A novel performance evaluation methodology", §3; ``SupervisedExperiment`` of the
    VOT toolkit.
    """

    name = "vot-supervised"
    runs = 1
    skip: int = 5
    skip_tags: tuple[str, ...] = ()

    def _execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        truth = sequence.annotations
        if len(truth.boxes) != len(sequence):
            got = f"{len(truth.boxes)} of {len(sequence)} frames"
            raise SourceError(f"sequence {sequence.name}: {self.name} needs ground truth for every frame, has {got}")
        boxes = starting_boxes(sequence)
        startable = has_box(boxes)
        for tag in self.skip_tags:
            if tag in truth.tags:
                startable &= ~truth.tags[tag]
        index = first_box(sequence.name, np.where(startable[:, None], boxes, np.nan))
        session = Session(tracker, sequence, index)
        session.start(index, boxes[index])
        while (index := index + 1) < len(sequence):
            box, frame = session.follow(index)
            if overlaps(box, _region(sequence, index), frame.shape[1], frame.shape[0]):
                continue
            session.fail(index)
            later = np.flatnonzero(startable[index + self.skip :])
            if len(later) == 0:
                break
            index += self.skip + int(later[0])
            session.start(index, boxes[index])
        return session.outcome(unit)

    def _replay(self, recorded: RecordedBoxes, sequence: Sequence, unit: Unit) -> Outcome:
        if not recorded.restarts:
            wanted = "one in VOT's format: no other says where a tracker failed"
            raise ArgumentError(self.name, "contestant", wanted, "boxes on disk in another")
        track = recorded.track(sequence)
        starts = np.flatnonzero(track.states == INIT)
        if len(starts) == 0:
            raise SourceError(f"sequence {sequence.name}: the result file holds no start of the tracker")
        return replayed(track, int(starts[0]), unit)


class Unsupervised(Protocol):
    """One pass from the first frame that has a box, started as ``Supervised`` is and never again.

    Source: ``UnsupervisedExperiment`` of the VOT toolkit (challenges from 2016 on).
    """

    name = "vot-unsupervised"
    runs = 1

    def _execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        boxes = starting_boxes(sequence)
        first = first_box(sequence.name, boxes)
        session = Session(tracker, sequence, first)
        session.start(first, boxes[first])
        for index in range(first + 1, len(sequence)):
            session.follow(index)
        return session.outcome(unit)

    def _replay(self, recorded: RecordedBoxes, sequence: Sequence, unit: Unit) -> Outcome:
        return replayed_pass(recorded, sequence, first_box(sequence.name, starting_boxes(sequence)), unit)


def starting_boxes(sequence: Sequence) -> NDArray[np.float64]:
    """(N, 4) upright boxes around the polygons (``around``); where there is none, the boxes."""
    polygons = sequence.annotations.polygons
    if polygons is None:
        return sequence.boxes
    return np.where(np.isfinite(polygons).all(1, keepdims=True), around(corners(polygons)), sequence.boxes)


def overlaps(box: Box, region: NDArray[np.float64], width: int, height: int) -> bool:
    """Whether a box and a region (4 or 8 numbers) have a pixel of the frame in common, as the VOT toolkit counts them.

    False for a region of NaN, as for the toolkit.
    """
    return bool(raster_iou([box.as_tuple()], region[None], (width, height))[0] > 0)


def _region(sequence: Sequence, index: int) -> NDArray[np.float64]:
    """The ground truth's polygon, else its box."""
    polygons = sequence.annotations.polygons
    whole = polygons is not None and np.isfinite(polygons[index]).all()
    region: NDArray[np.float64] = polygons[index] if polygons is not None and whole else sequence.boxes[index]
    return region

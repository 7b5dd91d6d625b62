"""What a protocol is, and the session in which it runs a tracker: rows, seeds and the clock."""

from __future__ import annotations

import ctypes
import dataclasses
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence as Ordered
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fasttrack.errors import ArgumentError, RangeError, SourceError
from fasttrack.evaluation.contestants.base import Follower
from fasttrack.evaluation.contestants.recorded import RecordedBoxes
from fasttrack.evaluation.formats import Track
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Outcome, Unit
from fasttrack.evaluation.sequence import Sequence
from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv

__all__ = ["Protocol", "Session", "first_box", "has_box", "replayed", "replayed_pass", "seed_everything"]


class Protocol(ABC):
    """A way to run a tracker over a sequence.

    Attributes:
        name: in ``PROTOCOLS``, and in ``Unit.protocol``.
        runs: how many runs make the protocol; ``Unit.run`` counts from 0 up to this.
    """

    name: ClassVar[str]
    runs: ClassVar[int]

    def execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        """Run the tracker and return what it did; ``exclusive`` and ``machine`` are left for the runner to fill in.

        The global generators (``seed_everything``) are seeded with ``unit.seed`` before, so that the same unit gives
        the same boxes. Frames are decoded between the calls of the tracker, outside of its time.

        Args:
            tracker: what ``Contestant.make`` gives.
            sequence: frames and ground truth.
            unit: which run this is.

        Raises:
            ArgumentError: a unit of another protocol, or boxes on disk where the tracker itself must run.
            RangeError: a run that the protocol does not have.
            SourceError: a frame cannot be decoded, naming the file; annotations are missing or wrong.
            Whatever the tracker raises. Of a run that ends so, nothing is returned.
        """
        if unit.protocol != self.name:
            raise ArgumentError(self.name, "unit", f"one of protocol {self.name}", f"one of {unit.protocol}")
        if not 0 <= unit.run < self.runs:
            raise RangeError(self.name, "unit.run", f"0..{self.runs - 1}", str(unit.run))
        if isinstance(tracker, RecordedBoxes):
            return self._replay(tracker, sequence, unit)
        seed_everything(unit.seed)
        return self._execute(tracker, sequence, unit)

    def _replay(self, recorded: RecordedBoxes, sequence: Sequence, unit: Unit) -> Outcome:
        """The outcome of boxes that exist already."""
        wanted = "a tracker that can run: the protocol starts it on other boxes than those of the ground truth"
        raise ArgumentError(self.name, "contestant", wanted, "boxes on disk")

    @abstractmethod
    def _execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome: ...


class Session:
    """A tracker at work on the frames from ``first`` on; collects the rows of the outcome, of which none is run yet."""

    def __init__(self, tracker: Follower, sequence: Sequence, first: int) -> None:
        self._tracker, self._frames, self.first = tracker, sequence.frames, first
        count = len(self._frames) - first
        self._boxes = np.full((count, 4), np.nan)
        self._states = np.full(count, SKIPPED, np.int8)
        self._seconds, self._scores = np.full(count, np.nan), np.full(count, np.nan)
        self._lost = np.zeros(count, np.bool_)

    def start(self, index: int, box: Ordered[float] | NDArray[np.float64]) -> NDArray[np.uint8]:
        """Start the tracker on a box of this frame, which is returned."""
        frame, given = self._frames[index], Box(*map(float, box))
        row = index - self.first
        begun = _now()
        self._tracker.init(frame, given)
        self._seconds[row] = _now() - begun
        self._boxes[row], self._states[row] = given.as_tuple(), INIT
        return frame

    def follow(self, index: int) -> tuple[Box, NDArray[np.uint8]]:
        """The box the tracker finds in this frame, and the frame."""
        frame = self._frames[index]
        row = index - self.first
        begun = _now()
        result = self._tracker.update(frame)
        self._seconds[row] = _now() - begun
        self._boxes[row], self._states[row] = result.box.as_tuple(), TRACKED
        self._scores[row], self._lost[row] = result.score, result.lost
        return result.box, frame

    def fail(self, index: int) -> None:
        """Count this frame, just followed, as a failure."""
        self._states[index - self.first] = FAILURE

    def outcome(self, unit: Unit) -> Outcome:
        """What was done."""
        return Outcome(unit, self.first, self._boxes, self._states, self._seconds, self._scores, self._lost)


def replayed(track: Track, first: int, unit: Unit) -> Outcome:
    """The rows of result files from ``first`` on as an outcome; lost where there is no box, times unknown."""
    boxes, states = track.boxes[first:], track.states[first:]
    lost: NDArray[np.bool_] = np.any(np.isnan(boxes), axis=1) & (states != SKIPPED)
    return Outcome(unit, first, boxes, states, np.full(len(boxes), np.nan), track.scores[first:], lost)


def replayed_pass(recorded: RecordedBoxes, sequence: Sequence, first: int, unit: Unit) -> Outcome:
    """One pass of result files, started on the frame ``first``.

    Raises:
        SourceError: as ``RecordedBoxes.track``, or the files tell of failures and restarts.
    """
    track = recorded.track(sequence)
    states = np.full(len(track), TRACKED, np.int8)
    states[first] = INIT
    if np.isin(track.states[first + 1 :], (INIT, FAILURE, SKIPPED)).any():
        raise SourceError(
            f"sequence {sequence.name}: the result file holds restarts, which {unit.protocol} does not know"
        )
    return replayed(dataclasses.replace(track, states=states), first, unit)


def first_box(name: str, boxes: NDArray[np.float64]) -> int:
    """The first frame with a box: four finite numbers, of positive size.

    Raises:
        SourceError: there is none; ``name`` is that of the sequence.
    """
    there = np.flatnonzero(has_box(boxes))
    if len(there) == 0:
        raise SourceError(f"sequence {name}: no frame has a box to start on")
    return int(there[0])


def has_box(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) bool: the row is four finite numbers, of positive width and height."""
    finite: NDArray[np.bool_] = np.all(np.isfinite(boxes), axis=1)
    sized: NDArray[np.bool_] = np.all(boxes[:, 2:] > 0, axis=1)
    return finite & sized


def seed_everything(seed: int) -> None:
    """Seed the global generators of ``random``, NumPy, torch, OpenCV and C. Trackers of ours draw from their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    opencv().setRNGSeed(seed % 2**31)
    ctypes.CDLL(None).srand(ctypes.c_uint(seed % 2**32))  # OpenCV's MIL draws its features from rand()


def _now() -> float:
    """Seconds, after all that was handed to the GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()

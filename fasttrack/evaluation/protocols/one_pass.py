"""The three protocols of the OTB: one pass, and its robustness to where and when the tracker is started."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.contestants.recorded import RecordedBoxes
from fasttrack.evaluation.outcome import Outcome, Unit
from fasttrack.evaluation.protocols.base import Protocol, Session, first_box, has_box, replayed_pass
from fasttrack.evaluation.sequence import Sequence

__all__ = ["SHIFTS", "OnePass", "SpatialRobustness", "TemporalRobustness", "segment_start", "shifted"]

#: What the runs of SRE do to the first box, in the order of the toolkit.
SHIFTS = (
    "left", "right", "up", "down", "topLeft", "topRight", "bottomLeft", "bottomRight",
    "scale_8", "scale_9", "scale_11", "scale_12",
)  # fmt: skip
_SIZES = {"scale_8": 0.8, "scale_9": 0.9, "scale_11": 1.1, "scale_12": 1.2}
_SHORTEST = 20  # frames of a segment


class OnePass(Protocol):
    """OPE: started on the first frame that has a box, followed to the end of the sequence.

    Source: Wu, Lim & Yang 2013, §4.
    """

    name = "ope"
    runs = 1

    def _execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        first = first_box(sequence.name, sequence.boxes)
        return _pass(tracker, sequence, unit, first, sequence.boxes[first])

    def _replay(self, recorded: RecordedBoxes, sequence: Sequence, unit: Unit) -> Outcome:
        return replayed_pass(recorded, sequence, first_box(sequence.name, sequence.boxes), unit)


class SpatialRobustness(Protocol):
    """SRE: one pass from the first frame that has a box, started on a wrong box: run k does ``SHIFTS[k]`` to it.

    Source: Wu, Lim & Yang 2013, §4; shifts and rounding as in the OTB toolkit (``shifted``).
    """

    name = "sre"
    runs = len(SHIFTS)

    def _execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        first = first_box(sequence.name, sequence.boxes)
        height, width = sequence.frames[first].shape[:2]
        box = shifted(sequence.boxes[first], SHIFTS[unit.run], width, height)
        return _pass(tracker, sequence, unit, first, box)


class TemporalRobustness(Protocol):
    """TRE: one pass from each of 20 frames spread over the sequence, each to its end (``segment_start``).

    Source: Wu, Lim & Yang 2013, §4.
    """

    name = "tre"
    runs = 20

    def _execute(self, tracker: Any, sequence: Sequence, unit: Unit) -> Outcome:
        first = segment_start(sequence, unit.run)
        return _pass(tracker, sequence, unit, first, sequence.boxes[first])


def _pass(tracker: Any, sequence: Sequence, unit: Unit, first: int, box: NDArray[np.float64]) -> Outcome:
    session = Session(tracker, sequence, first)
    session.start(first, box)
    for index in range(first + 1, len(sequence)):
        session.follow(index)
    return session.outcome(unit)


def shifted(box: NDArray[np.float64], shift: str, width: int, height: int) -> NDArray[np.float64]:
    """A box as the OTB toolkit moves or resizes it for SRE.

    In 1-based px, R being MATLAB's rounding (halves away from 0):

    - left, right, up, down: the corner moves by ⌈0.1·w⌉ or ⌈0.1·h⌉;
    - topLeft …: that corner moves outwards to R(corner ± 0.1·size), the opposite one stays, so the box grows;
    - scale_8 …: R(centre − r·size/2), R(r·size) with r = 0.8, 0.9, 1.1, 1.2.

    Then a corner left of or above the frame moves to its edge *without* the size following, and a box that reaches
    over the right or lower edge ends there. A box at the right edge can lose all of its width so; the tracker then
    refuses it.

    Args:
        box: (4,) x, y, w, h in px, 0-based.
        shift: one of ``SHIFTS``.
        width: of the frame, px.
        height: of the frame, px.

    Returns:
        (4,) float64, 0-based.

    Source: ``shiftInitBB.m`` of the OTB toolkit.
    """
    x, y, w, h = box[0] + 1, box[1] + 1, box[2], box[3]
    right, bottom = x + w - 1, y + h - 1
    if shift in _SIZES:
        sides = _SIZES[shift] * w, _SIZES[shift] * h
        x, y = _round(x + w / 2 - sides[0] / 2), _round(y + h / 2 - sides[1] / 2)
        w, h = _round(sides[0]), _round(sides[1])
    elif shift in ("left", "right"):
        x += math.ceil(0.1 * w) * (1 if shift == "right" else -1)
    elif shift in ("up", "down"):
        y += math.ceil(0.1 * h) * (1 if shift == "down" else -1)
    else:
        right = _round(right + 0.1 * w) if shift.endswith("Right") else right
        bottom = _round(bottom + 0.1 * h) if shift.startswith("bottom") else bottom
        x = _round(x - 0.1 * w) if shift.endswith("Left") else x
        y = _round(y - 0.1 * h) if shift.startswith("top") else y
        w, h = right - x + 1, bottom - y + 1
    x, y = max(x, 1.0), max(y, 1.0)
    w = width - x + 1 if x + w - 1 > width else w
    h = height - y + 1 if y + h - 1 > height else h
    return np.array([x - 1, y - 1, w, h], np.float64)


def _round(value: float) -> float:
    """MATLAB's ``round``: halves away from zero."""
    return math.copysign(math.floor(abs(value) + 0.5), value)


def segment_start(sequence: Sequence, run: int) -> int:
    """Frame on which TRE's run 0 … 19 starts.

    Candidates are the frames with a box that begins inside the picture (x > −1, y > −1) and in which the dataset does
    not say that the target cannot be seen (the toolkit's lists of omitted frames). Let e count them up to the last
    one that has 20 frames left, itself included. Run k < 19 starts on candidate 1 + ⌊k·e/19⌋ (from 1), run 19 on
    candidate e. Where e < 19 the toolkit has fewer than 20 segments, some of them the same; here the last one is
    repeated. A sequence without any candidate that has 20 frames left, on which the toolkit stops, is started on its
    first candidate in every run.

    Raises:
        SourceError: no candidate.

    Source: ``splitSeqTRE.m`` of the OTB toolkit.
    """
    boxes, visible = sequence.boxes, sequence.annotations.visible
    usable = has_box(boxes) & (boxes[:, 0] > -1) & (boxes[:, 1] > -1)
    if visible is not None:
        usable &= visible
    candidates = np.flatnonzero(usable)
    if len(candidates) == 0:
        raise SourceError(f"sequence {sequence.name}: no frame has a box to start on")
    long_enough = max(1, int((len(sequence) - candidates >= _SHORTEST).sum()))
    number = long_enough if run == TemporalRobustness.runs - 1 else 1 + run * long_enough // 19
    return int(candidates[min(number, long_enough) - 1])

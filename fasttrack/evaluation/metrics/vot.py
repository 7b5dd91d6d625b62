"""Accuracy, robustness and expected average overlap of VOT's short-term challenges up to 2019.

All of it is defined as vot-toolkit 0.7.4 computes it (``vot/analysis/supervised.py``, ``vot/analysis/accuracy.py``),
of the overlaps ``polygon.raster_iou`` gives in the frames of state ``TRACKED``. In frames of any other state the
overlap is 0. A tracked frame without a box (NaN) or without ground truth has overlap 0 too; the toolkit has neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import RangeError, ShapeError
from fasttrack.evaluation.metrics.overlap import Floats
from fasttrack.evaluation.metrics.polygon import polygon_iou, raster_iou
from fasttrack.evaluation.outcome import FAILURE, INIT, TRACKED, Outcome
from fasttrack.evaluation.sequence import Dataset, Sequence

__all__ = ["EAO_INTERVALS", "VotScores", "supervised", "unsupervised"]

# Dataset → lengths over which the curve is averaged: ``low`` and ``high`` of supervised_eao_score in vot-toolkit's
# stacks vot2015/rgb, vot2016/rgb, vot2017, vot2018/shortterm and vot2019/shortterm.
EAO_INTERVALS: Mapping[str, tuple[int, int]] = {
    "vot2015": (108, 371),
    "vot2016": (108, 371),
    "vot2017": (100, 356),
    "vot2018": (100, 356),
    "vot2019": (46, 291),
}
BURN_IN = 10  # frames from a start on, itself included, that accuracy leaves out
SENSITIVITY = 30  # S of the reliability: the stacks' ``sensitivity``

Runs: TypeAlias = dict[str, list[tuple[Floats, NDArray[np.int8]]]]


@dataclass(frozen=True, eq=False)
class VotScores:
    """Scores of one tracker under supervision (restarts after failures).

    Attributes:
        accuracy: mean overlap of the tracked frames, without the 10 from each start on; of a run, averaged over the
            runs of a sequence (0 for a run that has no such frame), then over sequences by their length.
        robustness: failures per sequence and run, averaged over sequences by their length: what the toolkit prints.
        failures: all failures of one run over the dataset (mean over the runs).
        per_100: failures per hundred frames: what pysot prints as robustness (``ar_benchmark.py``).
        reliability: exp(−S·F/M), S = 30, F the robustness above, M the mean length of the sequences: the probability
            to go on for S frames without a failure (VOT2015 and later, the axis of the AR plot).
        curve: expected average overlap by length: ``curve[n]`` over the n frames after the start.
        eao: mean of ``curve[low … high]``, both included; None where the dataset has no interval or the curve ends
            before ``low``.
    """

    accuracy: float
    robustness: float
    failures: float
    per_100: float
    reliability: float
    curve: Floats
    eao: float | None


def supervised(
    outcomes: Iterable[Outcome], dataset: Dataset, interval: tuple[int, int] | None = None, pixels: bool = True
) -> VotScores:
    """Scores of the runs of one tracker under ``vot-supervised``.

    The curve: a run falls into pieces, from each start to the failure before which it ends, or to the end of the
    sequence. ``curve[n]`` is the mean, over the pieces that have n + 1 frames, of their mean overlap in the frames
    1 … n; a piece that ended by failure counts for every n, with overlap 0 behind its end. One that ended with the
    sequence counts only as far as it goes. (The Matlab toolkit and pysot number the curve from 1, so that their
    interval lies one frame earlier; vot-toolkit's is used.)

    Args:
        outcomes: of one tracker, over all or some sequences of the dataset, one or more runs of each.
        dataset: whose ground truth is used: the polygons where it has them.
        interval: first and last length for ``eao``; None takes that of the year, by the name of the dataset.
        pixels: True counts pixels as the toolkit does; False takes exact areas.

    Raises:
        RangeError: no outcome, or of several trackers. ShapeError: one that does not cover its sequence.
        UnknownName: a sequence that the dataset does not have.

    Source: Kristan et al. 2015 and 2016 (VOT); vot-toolkit as above.
    """
    runs = _gather("supervised", outcomes, dataset, pixels)
    lengths = [len(several[0][0]) for several in runs.values()]
    accuracy = [np.mean([_accuracy(*run) for run in several]) for several in runs.values()]
    failures = [np.mean([(states == FAILURE).sum() for _, states in several]) for several in runs.values()]
    robustness = float(np.average(failures, weights=lengths))
    curve = _curve([piece for several in runs.values() for run in several for piece in _pieces(*run)])
    span = interval if interval is not None else EAO_INTERVALS.get(dataset.name)
    part = curve[span[0] : span[1] + 1] if span is not None else curve[:0]
    return VotScores(
        accuracy=float(np.average(accuracy, weights=lengths)),
        robustness=robustness,
        failures=float(sum(failures)),
        per_100=float(100 * sum(failures) / sum(lengths)),
        reliability=float(np.exp(-SENSITIVITY * robustness / np.mean(lengths))),
        curve=curve,
        eao=float(part.mean()) if len(part) else None,
    )


def unsupervised(outcomes: Iterable[Outcome], dataset: Dataset, pixels: bool = True, burn_in: int = BURN_IN) -> float:
    """Average overlap of the runs of one tracker under ``vot-unsupervised`` (no restarts).

    The mean overlap of a run, without the first ``burn_in`` frames, averaged over the runs of a sequence and then over
    the sequences by their length: ``average_accuracy`` of vot-toolkit, whose burn-in is 10 here too.

    Args and errors as for ``supervised``.
    """
    runs = _gather("unsupervised", outcomes, dataset, pixels)
    means = [np.mean([_accuracy(*run, burn_in) for run in several]) for several in runs.values()]
    return float(np.average(means, weights=[len(several[0][0]) for several in runs.values()]))


def _gather(op: str, outcomes: Iterable[Outcome], dataset: Dataset, pixels: bool) -> Runs:
    """Overlaps and states of every run, by sequence."""
    runs: Runs = {}
    trackers = set()
    for outcome in outcomes:
        trackers.add(outcome.unit.tracker)
        overlaps = _overlaps(op, outcome, dataset[outcome.unit.sequence], pixels)
        runs.setdefault(outcome.unit.sequence, []).append((overlaps, outcome.states))
    if len(trackers) != 1:
        raise RangeError(op, "outcomes", "those of one tracker", ", ".join(sorted(trackers)) or "none")
    return runs


def _overlaps(op: str, outcome: Outcome, sequence: Sequence, pixels: bool) -> Floats:
    truth = sequence.annotations.polygons
    if truth is None:
        truth = sequence.annotations.boxes
    if outcome.first != 0 or len(outcome.boxes) != len(truth):
        wanted = f"rows for all {len(truth)} frames of {sequence.name}"
        raise ShapeError(op, "outcome", wanted, f"{len(outcome.boxes)} from frame {outcome.first} on")
    overlaps = np.zeros(len(truth))
    tracked = outcome.states == TRACKED
    if pixels:
        height, width = sequence.frames[0].shape[:2]
        overlaps[tracked] = raster_iou(outcome.boxes[tracked], truth[tracked], (width, height))
    else:
        overlaps[tracked] = np.nan_to_num(polygon_iou(outcome.boxes[tracked], truth[tracked]))
    return overlaps


def _accuracy(overlaps: Floats, states: NDArray[np.int8], burn_in: int = BURN_IN) -> float:
    frames = np.arange(len(states))
    start = np.maximum.accumulate(np.where(states == INIT, frames, -burn_in))
    counted = overlaps[(states == TRACKED) & (frames - start >= burn_in)]
    return float(counted.mean()) if len(counted) else 0.0


def _pieces(overlaps: Floats, states: NDArray[np.int8]) -> list[tuple[Floats, bool]]:
    """Overlaps from each start to the failure (not included) or the end, and whether it ended by failure."""
    starts, ends = np.flatnonzero(states == INIT).tolist(), np.flatnonzero(states == FAILURE).tolist()
    pieces = [(overlaps[start:end], True) for start, end in zip(starts, ends, strict=False)]
    if len(starts) > len(ends):
        pieces.append((overlaps[starts[-1] :], False))
    return pieces


def _curve(pieces: list[tuple[Floats, bool]]) -> Floats:
    longest = max(len(piece) for piece, _ in pieces)
    total, count = np.zeros(longest), np.zeros(longest)
    for piece, failed in pieces:
        padded = np.zeros(longest)
        padded[: len(piece)] = piece
        means = np.concatenate([padded[:1], np.cumsum(padded[1:]) / np.arange(1, longest)])
        reach = longest if failed else len(piece)
        total[:reach] += means[:reach]
        count[:reach] += 1
    # The longest piece reaches the end of the curve, so that no length is without one.
    return total / count

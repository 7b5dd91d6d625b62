"""The boards of VOT's protocols: EAO, accuracy and robustness with restarts; average overlap without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.metrics.vot import supervised, unsupervised
from fasttrack.evaluation.outcome import Outcome, from_the_start
from fasttrack.evaluation.report.boards import (
    FPS_COLUMNS,
    UNSCORED,
    Tally,
    Task,
    coverage,
    ranked_by,
    rows_of,
    speed_points,
    worst_sheets,
)
from fasttrack.evaluation.report.model import Board, Column, Curves, Points, Standing
from fasttrack.evaluation.sequence import Annotations, Dataset
from fasttrack.evaluation.sequence import Sequence as Video
from fasttrack.evaluation.truth import GoneFrames

__all__ = ["vot_board"]

_EAO = Column("eao", "EAO", "expected average overlap: mean of the curve over the lengths of the year's interval")
_ACCURACY = Column("accuracy", "Accuracy", "mean overlap while tracking, without the 10 frames from each start on")
_SUPERVISED = (
    _ACCURACY,
    Column("robustness", "Robustness", "failures per sequence, weighted by length; less is better", 2, False),
    Column("per_100", "Failures/100", "failures in a hundred frames; less is better", 2, False),
    Column("failures", "Failures", "all failures over the sequences; less is better", 0, False),
)
_OVERLAP = Column("overlap", "Overlap", "average overlap without restarts, without the first 10 frames")


@dataclass
class _Kept(Tally):
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scored:
    """Measures by key, and the curve of the expected overlap (with restarts)."""

    values: Mapping[str, Any]
    curve: NDArray[np.float64] | None


def vot_board(task: Task) -> Board:
    """Score ``vot-supervised`` or ``vot-unsupervised`` on the sequences that all trackers finished."""
    tallies = [_Kept(entry) for entry in task.evaluation.entries.values()]
    notices: list[str] = []
    dataset, pixels = _dataset(task, notices)
    known = {video.name for video in dataset}
    for name in task.lengths:
        for tally in tallies:
            _collect(task, tally, name, name in known)
    ranked = [tally for tally in tallies if tally.outcomes]
    common = [name for name in task.lengths if ranked and all(name in tally.outcomes for tally in ranked)]
    notices += coverage(tallies, ranked, len(common), len(task.lengths))
    restarts = task.protocol == "vot-supervised"
    score = partial(_restarted if restarts else _plain, dataset, pixels)
    whole = {t.entry.ident: score([t.outcomes[name] for name in common]) for t in ranked} if common else {}
    single = {t.entry.ident: {name: score([t.outcomes[name]]) for name in t.outcomes} for t in ranked}
    measures = _SUPERVISED if restarts else (_OVERLAP,)
    if any(scored.values.get("eao") is not None for scored in whole.values()):
        measures = (_EAO, *measures)
    elif restarts and whole:
        notices.append(f"No EAO: {task.dataset} has no interval of lengths for it, or its sequences are too short.")
    columns = (*measures, *FPS_COLUMNS)
    nothing = _Scored({}, None)
    lines = [t.standing(whole.get(t.entry.ident, nothing).values, len(task.lengths)) for t in tallies]
    standings = ranked_by(columns[0], lines)
    keys = ("accuracy", "failures") if restarts else ("overlap",)
    values = {ident: {name: mine[name].values[keys[0]] for name in common} for ident, mine in single.items()}
    cells = {
        ident: {name: tuple(scored.values[key] for key in keys) for name, scored in mine.items()}
        for ident, mine in single.items()
    }
    return Board(
        key=f"{task.dataset}-{task.protocol}",
        dataset=task.dataset,
        protocol=task.protocol,
        rules="",
        columns=columns,
        standings=standings,
        common=len(common),
        expected=len(task.lengths),
        frames=sum(task.lengths.values()),
        curves=_curves(standings, whole, columns[0]),
        points=_points(standings, columns[0]),
        attribute_key=keys[0],
        row_keys=keys,
        rows=rows_of(task, tallies, cells),
        sheets=worst_sheets(task, values, common),
        notices=notices,
    )


def _dataset(task: Task, notices: list[str]) -> tuple[Dataset, bool]:
    """The sequences with ground truth, and whether their frames are there: overlaps in whole pixels need their size."""
    truths: dict[str, Annotations] = {}
    seen = True
    for name in task.lengths:
        truth = task.truth(name, notices)
        if truth is None:
            continue
        truths[name] = truth
        if seen:
            try:
                task.videos[name].frames[0]
            except SourceError:
                seen = False
    if not seen:
        notices.append("Frames are gone: overlaps are exact areas, not cut to the picture as the VOT toolkit does.")
    videos = []
    for name, truth in truths.items():
        frames = task.videos[name].list_frames if seen else partial(GoneFrames, len(truth.boxes))
        videos.append(Video(name, frames, partial(_same, truth)))
    return Dataset(task.dataset, videos), seen


def _same(truth: Annotations) -> Annotations:
    return truth


def _collect(task: Task, tally: _Kept, name: str, known: bool) -> None:
    found = []
    for run in range(task.runs):
        outcome = task.usable(tally, name, run, task.lengths[name])
        if outcome is None:
            continue
        if not known:
            tally.states.setdefault(name, UNSCORED)
        else:
            found.append(from_the_start(outcome))
    if name not in tally.states:
        tally.outcomes[name] = found


def _restarted(dataset: Dataset, pixels: bool, outcomes: Sequence[Sequence[Outcome]]) -> _Scored:
    found = supervised([one for runs in outcomes for one in runs], dataset, pixels=pixels)
    keys = ("eao", "accuracy", "robustness", "per_100", "failures", "reliability")
    return _Scored({key: getattr(found, key) for key in keys}, found.curve)


def _plain(dataset: Dataset, pixels: bool, outcomes: Sequence[Sequence[Outcome]]) -> _Scored:
    return _Scored({"overlap": unsupervised([one for runs in outcomes for one in runs], dataset, pixels=pixels)}, None)


def _curves(standings: Sequence[Standing], whole: Mapping[str, _Scored], column: Column) -> list[Curves]:
    """The expected overlap, as far as the curve of every tracker goes; of trackers with restarts."""
    found = {line.entry.ident: whole[line.entry.ident].curve for line in standings if line.rank is not None}
    lines = {ident: curve for ident, curve in found.items() if curve is not None}
    if not lines:
        return []
    length = min(len(curve) for curve in lines.values())
    x = np.arange(1.0, length)
    shown = {ident: curve[1:length] for ident, curve in lines.items()}
    return [Curves("expected", "Expected average overlap", "length, frames", "overlap", x, shown, column.key)]


def _points(standings: Sequence[Standing], column: Column) -> list[Points]:
    ranked = [line for line in standings if line.rank is not None]
    points = [
        (line.entry.ident, reliability, accuracy, False)
        for line in ranked
        if (reliability := line.values.get("reliability")) is not None
        and (accuracy := line.values.get("accuracy")) is not None
    ]
    note = "Reliability: probability to track 30 frames without a failure."
    plots = [Points("ar", "Accuracy and robustness", "reliability", "accuracy", points, note=note)] if points else []
    return [*plots, speed_points(standings, column)]

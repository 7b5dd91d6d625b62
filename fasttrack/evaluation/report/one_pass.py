"""The board of a one-pass protocol (OPE, SRE, TRE): ranking, curves, attributes, sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.metrics.attributes import by_attribute
from fasttrack.evaluation.metrics.got10k import got10k_overlaps, got10k_scores
from fasttrack.evaluation.metrics.lasot_trackingnet import trackingnet_frames, trackingnet_scores
from fasttrack.evaluation.metrics.one_pass import (
    NORMALISED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    Scores,
    mean_scores,
    pool_scores,
    score_boxes,
)
from fasttrack.evaluation.metrics.overlap import Floats
from fasttrack.evaluation.metrics.rules import Mask
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
from fasttrack.evaluation.report.model import Attribute, Board, Column, Curves
from fasttrack.evaluation.sequence import Annotations
from fasttrack.evaluation.sequence import Sequence as Video
from fasttrack.evaluation.truth import GoneFrames

__all__ = ["one_pass_board"]

_COLUMNS = (
    Column("auc", "AUC", "area under the success curve: mean success over the overlap thresholds 0, 0.05 … 1"),
    Column("dp20", "DP@20", "share of frames whose centre is at most 20 px off"),
    Column("ndp20", "NDP", "share of frames whose centre error, in sizes of the target, is at most 0.2"),
    Column("os50", "OS@0.5", "share of frames of overlap above 0.5"),
)
_LASOT_LABELS = {"auc": "Success", "dp20": "Precision", "ndp20": "Norm. precision"}
_KEYS = ("auc", "dp20", "ndp20", "os50")


class _Toolkit(NamedTuple):
    """Measures of a toolkit that are not means of ``Scores``: it takes them of the frames of all sequences.

    Attributes:
        columns: before those of every board.
        frames: what is kept of a run, from boxes, ground truth, flags of visible frames and size of the frames; that of
            several runs on a sequence is joined.
        values: from the joined frames of each sequence, by the keys of ``columns``.
    """

    columns: tuple[Column, ...]
    frames: Callable[[Floats, Floats, Mask | None, tuple[float, float] | None], Floats]
    values: Callable[[Sequence[Floats]], Mapping[str, float]]


def _got10k_values(overlaps: Sequence[Floats]) -> Mapping[str, float]:
    found = got10k_scores(overlaps)
    return {"ao": found.ao, "sr50": found.sr50, "sr75": found.sr75}


_TOOLKITS = {
    "got10k": _Toolkit(
        (
            Column("ao", "AO", "average overlap over all frames of all sequences"),
            Column("sr50", "SR.50", "share of all frames of overlap above 0.5"),
            Column("sr75", "SR.75", "share of all frames of overlap above 0.75"),
        ),
        got10k_overlaps,
        _got10k_values,
    ),
    "trackingnet": _Toolkit(
        (
            Column("success", "Success", "area under the success curve, by the trapezoidal rule"),
            Column("precision", "Precision", "area under the precision curve over 0 … 50 px, in parts of 50 px"),
            Column("normalised", "Norm. precision", "area under the normalised precision curve over 0 … 0.5, doubled"),
        ),
        lambda boxes, truth, *_: trackingnet_frames(boxes, truth),
        lambda frames: asdict(trackingnet_scores(frames)),
    ),
}


@dataclass
class _Scored(Tally):
    scores: dict[str, Scores] = field(default_factory=dict)
    frames: dict[str, Floats] = field(default_factory=dict)  # for the measures of ``_TOOLKITS``


def one_pass_board(task: Task) -> Board:
    """Score a protocol and rank the trackers on the sequences that all of them finished."""
    tallies = [_Scored(entry) for entry in task.evaluation.entries.values()]
    notices: list[str] = []
    for name in task.lengths:
        video = task.videos.get(name)
        truth = task.truth(name, notices)
        size = _size(video) if task.rules == "got10k" else None
        for tally in tallies:
            _score(task, tally, name, truth, size)
    ranked = [tally for tally in tallies if tally.scores]
    common = [name for name in task.lengths if ranked and all(name in tally.scores for tally in ranked)]
    notices += coverage(tallies, ranked, len(common), len(task.lengths))
    means = {t.entry.ident: mean_scores([t.scores[name] for name in common]) for t in ranked} if common else {}
    toolkit = _TOOLKITS.get(task.rules)
    labels = _LASOT_LABELS if task.rules == "lasot" else {}
    named = (replace(column, label=labels.get(column.key, column.label)) for column in _COLUMNS)
    columns = (*(toolkit.columns if toolkit is not None else ()), *named, *FPS_COLUMNS)
    lines = [t.standing(_values(toolkit, t, means.get(t.entry.ident), common), len(task.lengths)) for t in tallies]
    standings = ranked_by(columns[0], lines)
    cells = {
        t.entry.ident: {name: tuple(getattr(one, key) for key in _KEYS) for name, one in t.scores.items()}
        for t in tallies
    }
    auc = {t.entry.ident: {name: t.scores[name].auc for name in common} for t in ranked}
    return Board(
        key=f"{task.dataset}-{task.protocol}",
        dataset=task.dataset,
        protocol=task.protocol,
        rules=task.rules,
        columns=columns,
        standings=standings,
        common=len(common),
        expected=len(task.lengths),
        frames=sum(task.lengths.values()),
        curves=_curves([line.entry.ident for line in standings if line.rank is not None], means),
        points=[speed_points(standings, columns[0])],
        attribute_key="auc",
        attributes=_attributes(task, ranked, common),
        row_keys=_KEYS,
        rows=rows_of(task, tallies, cells),
        sheets=worst_sheets(task, auc, common),
        notices=notices,
    )


def _values(
    toolkit: _Toolkit | None, tally: _Scored, mean: Scores | None, common: Sequence[str]
) -> dict[str, float | None]:
    """Measures of a tracker over the common sequences."""
    if mean is None:
        return {}
    values: dict[str, float | None] = {key: getattr(mean, key) for key in _KEYS}
    if toolkit is not None:
        values |= toolkit.values([tally.frames[name] for name in common])
    return values


def _size(video: Video | None) -> tuple[float, float] | None:
    """Width and height of the first frame; None where neither it nor its size is there."""
    if video is None:
        return None
    try:
        if isinstance(video.frames, GoneFrames):
            return video.frames.size
        height, width = video.frames[0].shape[:2]
    except SourceError:
        return None
    return float(width), float(height)


def _score(task: Task, tally: _Scored, name: str, truth: Annotations | None, size: tuple[float, float] | None) -> None:
    """Score all runs of one tracker on one sequence, or note why there is no score."""
    toolkit = _TOOLKITS.get(task.rules)
    runs: list[Scores] = []
    frames: list[Floats] = []
    for run in range(task.runs):
        outcome = task.usable(tally, name, run, 0 if truth is None else len(truth.boxes))
        if outcome is None:
            continue
        if truth is None or len(truth.boxes) < outcome.first + len(outcome.boxes):
            tally.states.setdefault(name, UNSCORED)
        else:
            visible = None if truth.visible is None else truth.visible[outcome.first :]
            boxes = truth.boxes[outcome.first :]
            runs.append(score_boxes(outcome.boxes, boxes, task.rules, visible, size))
            if toolkit is not None:
                frames.append(toolkit.frames(outcome.boxes, boxes, visible, size))
    if name in tally.states:
        return
    if any(one.frames for one in runs):
        tally.scores[name] = runs[0] if len(runs) == 1 else pool_scores(runs)
        if frames:
            tally.frames[name] = np.concatenate(frames)
    else:
        tally.states[name] = UNSCORED


def _curves(order: Sequence[str], means: Mapping[str, Scores]) -> list[Curves]:
    if not order:
        return []

    def lines(name: str) -> dict[str, NDArray[np.float64]]:
        return {ident: getattr(means[ident], name) for ident in order}

    share, sizes = "share of frames", "centre error, sizes of the target"
    success, precision, normalised = (lines(name) for name in ("success", "precision", "normalised"))
    return [
        Curves("success", "Success", "overlap above", share, SUCCESS_THRESHOLDS, success, "auc"),
        Curves("precision", "Precision", "centre error, px", share, PRECISION_THRESHOLDS, precision, "dp20", 20),
        Curves("normalised", "Normalised precision", sizes, share, NORMALISED_THRESHOLDS, normalised, "ndp20", 0.2),
    ]


def _attributes(task: Task, ranked: Sequence[_Scored], common: Sequence[str]) -> list[Attribute]:
    videos = [task.videos[name] for name in common]
    scores = {t.entry.ident: by_attribute({name: t.scores[name] for name in common}, videos) for t in ranked}
    if not scores:
        return []
    counts = {name: of.sequences for name, of in next(iter(scores.values())).items()}
    return [
        Attribute(name, count, {ident: mine[name].scores.auc for ident, mine in scores.items()})
        for name, count in counts.items()
    ]

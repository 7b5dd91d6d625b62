"""What the boards of all protocols share: the work of one board, ranks, speed, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from fasttrack.errors import SourceError
from fasttrack.evaluation.metrics.speed import Speed, fps
from fasttrack.evaluation.outcome import Outcome, Unit
from fasttrack.evaluation.report.folder import FAILED, Evaluation
from fasttrack.evaluation.report.model import Column, Entry, Picture, Points, Row, Sheet, Standing
from fasttrack.evaluation.report.sheets import Album
from fasttrack.evaluation.sequence import Annotations
from fasttrack.evaluation.sequence import Sequence as Video

__all__ = ["FPS_COLUMNS", "UNSCORED", "Task", "Tally", "coverage", "ranked_by", "rows_of", "speed_points"]
__all__ += ["worst_sheets"]

FPS_COLUMNS = (
    Column("fps", "FPS", "frames per second of the tracker alone, N/Σt, nothing else running beside it", 1),
    Column(
        "fps_shared", "FPS shared", "the same with other units running on the machine: not comparable", 1, judged=False
    ),
)
UNSCORED = "no ground truth"


@dataclass
class Task:
    """One board to be made: a protocol on a dataset, scored by ``rules``."""

    evaluation: Evaluation
    dataset: str
    protocol: str
    rules: str
    album: Album
    worst: int

    @cached_property
    def videos(self) -> dict[str, Video]:
        """Sequences of the dataset by name."""
        return {video.name: video for video in self.evaluation.datasets[self.dataset]}

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Sequences asked for, with their numbers of frames (0 where they could not be counted)."""
        return dict(self.evaluation.run["datasets"][self.dataset]["sequences"])

    @property
    def runs(self) -> int:
        """Runs of the protocol on each sequence."""
        return int(self.evaluation.run["protocols"][self.protocol])

    def unit(self, ident: str, sequence: str, run: int) -> Unit:
        """The unit of a tracker, a sequence and a run."""
        return Unit(ident, self.dataset, sequence, self.protocol, run, self.evaluation.run["seed"])

    def attributes(self) -> dict[str, list[str]]:
        """Attributes of every sequence asked for."""
        return {name: sorted(self.videos[name].attributes) if name in self.videos else [] for name in self.lengths}

    def truth(self, name: str, notices: list[str]) -> Annotations | None:
        """Ground truth of a sequence; None, noted, where there is none any more."""
        if name not in self.videos:
            notices.append(f"{name}: the dataset has this sequence no longer; it is left out.")
            return None
        try:
            # Not video.annotations, which counts the frames: a report needs none.
            return self.videos[name].read_annotations()
        except SourceError as error:
            notices.append(f"{name}: no ground truth ({error}); it is left out.")
            return None

    def usable(self, tally: Tally, name: str, run: int, boxes: int) -> Outcome | None:
        """The outcome of a run, counted for speed; None, noted in the tally, where there is none that can be scored.

        Args:
            tally: of the tracker.
            name: of the sequence.
            run: its number in the protocol.
            boxes: of the ground truth, the length of a sequence whose frames could not be counted.
        """
        unit = self.unit(tally.entry.ident, name, run)
        outcome = self.evaluation.outcome(unit)
        if isinstance(outcome, Outcome):
            frames = self.lengths[name] if self.lengths[name] else boxes
            end = outcome.first + len(outcome.boxes)
            if end == frames and outcome.first >= 0 and len(outcome.boxes):
                tally.time(outcome)
                return outcome
            outcome = self.evaluation.reject(unit, f"ends at frame {end} of a sequence of {frames}")
        # A run that failed says more than one that is missing.
        if tally.states.get(name) != FAILED:
            tally.states[name] = outcome
        return None


@dataclass
class Tally:
    """What is known of the units of one tracker on one board.

    Attributes:
        entry: the tracker.
        states: sequences without a score, and why.
        timed: its outcomes without all but what speed needs.
    """

    entry: Entry
    states: dict[str, str] = field(default_factory=dict)
    timed: list[Outcome] = field(default_factory=list)

    def time(self, outcome: Outcome) -> None:
        """Keep what speed needs of an outcome."""
        self.timed.append(replace(outcome, boxes=np.empty((0, 4)), scores=np.empty(0), lost=np.empty(0, np.bool_)))

    def speed(self) -> Speed:
        """Frames per second over all its finished runs."""
        return fps(self.timed)

    def standing(self, values: Mapping[str, float | None], expected: int) -> Standing:
        """Its line, not yet ranked."""
        failed = sum(state == FAILED for state in self.states.values())
        missing = sum(state not in (FAILED, UNSCORED) for state in self.states.values())
        speed = self.speed()
        return Standing(
            self.entry,
            None,
            {**values, "fps": speed.exclusive, "fps_shared": speed.shared},
            expected - missing - failed,
            missing,
            failed,
        )


def coverage(tallies: Sequence[Tally], ranked: Sequence[Tally], common: int, expected: int) -> list[str]:
    """What must be said where some trackers lack some sequences."""
    lines = []
    if ranked and common < expected:
        lines.append(
            f"Ranked on {common} of {expected} sequences: those that every ranked tracker finished. The others "
            "count for nobody, so that no tracker is judged on easier ones than another."
        )
    if ranked and not common:
        lines.append("No sequence was finished by all trackers: there is no ranking.")
    for tally in tallies:
        if not tally.states:
            continue
        kinds = Counter(tally.states.values())
        said = ", ".join(f"{count} {state}" for state, count in kinds.most_common())
        begun = f"{tally.entry.name}: {expected - len(tally.states)} of {expected} sequences scored ({said})."
        lines.append(begun if tally in ranked else f"{begun} It is not ranked.")
    return lines


def ranked_by(first: Column, standings: Sequence[Standing]) -> list[Standing]:
    """The standings in the order of a column, with ranks; those without a value of it behind, unranked."""
    sign = -1 if first.higher_is_better else 1
    have = [line for line in standings if line.values.get(first.key) is not None]
    have.sort(key=lambda line: sign * (line.values[first.key] or 0.0))
    placed: list[Standing] = []
    for k, line in enumerate(have):
        before = placed[-1] if placed else None
        equal = before is not None and before.values[first.key] == line.values[first.key]
        placed.append(replace(line, rank=before.rank if before is not None and equal else k + 1))
    return [*placed, *(line for line in standings if line.values.get(first.key) is None)]


def speed_points(standings: Sequence[Standing], column: Column) -> Points:
    """A measure over speed; trackers without a speed are left out, those timed beside other units are hollow."""
    points = []
    ranked = [line for line in standings if line.rank is not None]
    for line in ranked:
        alone, beside = line.values["fps"], line.values["fps_shared"]
        rate, value = beside if alone is None else alone, line.values[column.key]
        if rate is not None and rate > 0 and value is not None:
            points.append((line.entry.ident, rate, value, alone is None))
    notes = ["Hollow: timed while other units ran on the machine."] if any(hollow for *_, hollow in points) else []
    if absent := len(ranked) - len(points):
        notes.append(f"{absent} without times.")
    label = column.label
    return Points("speed", f"Speed and {label}", "frames per second", label, points, True, " ".join(notes))


def rows_of(task: Task, tallies: Sequence[Tally], values: Mapping[str, Mapping[str, tuple[float, ...]]]) -> list[Row]:
    """A row per sequence asked for: what each tracker (ident) has there, or the word for why it has nothing.

    In rising order of the mean of the first measure over the trackers that have one; rows without any are last.
    """

    def difficulty(row: Row) -> float:
        first = [cell[0] for cell in row.cells.values() if not isinstance(cell, str)]
        return float(np.mean(first)) if first else np.inf

    attributes = task.attributes()
    rows = []
    for name, frames in task.lengths.items():
        cells: dict[str, tuple[float, ...] | str] = {}
        for tally in tallies:
            mine = values.get(tally.entry.ident, {})
            cells[tally.entry.ident] = mine[name] if name in mine else tally.states[name]
        rows.append(Row(name, frames, attributes[name], cells))
    return sorted(rows, key=difficulty)


def worst_sheets(task: Task, values: Mapping[str, Mapping[str, float]], common: Iterable[str]) -> list[Sheet]:
    """Pictures of the sequences with the lowest mean over the trackers.

    Args:
        task: the board; one of several runs per sequence has no pictures, they would say nothing.
        values: tracker (ident) → sequence → value.
        common: sequences to choose from; all trackers of ``values`` have them.
    """
    if task.runs != 1 or not values:
        return []
    mean = {name: float(np.mean([mine[name] for mine in values.values()])) for name in common}
    sheets = []
    for name in sorted(mean, key=lambda name: mean[name])[: task.worst]:
        boxes = {}
        for ident in values:
            outcome = task.evaluation.outcome(task.unit(ident, name, 0))
            if isinstance(outcome, Outcome):
                boxes[ident] = np.concatenate([np.full((outcome.first, 4), np.nan), outcome.boxes])
        try:
            frames = task.videos[name].frames
        except SourceError as error:
            pictures: list[Picture] = []
            note = f"No pictures: {error}"
        else:
            truth = task.videos[name].read_annotations().boxes
            pictures, note = task.album.pictures(frames, truth, boxes, task.evaluation.entries)
        sheets.append(Sheet(name, mean[name], {ident: mine[name] for ident, mine in values.items()}, pictures, note))
    return sheets

"""Which units an evaluation consists of, how long each is, and how they are shared out among shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import ArgumentError, SourceError
from fasttrack.evaluation.outcome import Unit
from fasttrack.evaluation.runner.parts import Contestant, Procedure
from fasttrack.evaluation.sequence import Annotations, Dataset, Frames, Sequence

__all__ = ["Job", "lengths", "parse_shard", "plan", "shard", "shortened"]


@dataclass(frozen=True, eq=False)
class Job:
    """A unit with what is needed to do it; travels to other processes.

    Attributes:
        unit: the piece of work.
        sequence, contestant, procedure: its parts.
        cost: how long it is, in frames.
    """

    unit: Unit
    sequence: Sequence
    contestant: Contestant
    procedure: Procedure
    cost: float


@dataclass(frozen=True)
class _FirstFrames:
    frames: Frames
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.frames))

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.frames[index]


def _first_frames(sequence: Sequence, count: int) -> Frames:
    return _FirstFrames(sequence.list_frames(), count)


def _first_annotations(sequence: Sequence, count: int) -> Annotations:
    whole = sequence.read_annotations()
    return Annotations(
        boxes=whole.boxes[:count],
        polygons=None if whole.polygons is None else whole.polygons[:count],
        visible=None if whole.visible is None else whole.visible[:count],
        tags={name: flags[:count] for name, flags in whole.tags.items()},
    )


def shortened(dataset: Dataset, frames: int | None) -> Dataset:
    """The dataset with the first ``frames`` of each sequence, for a quick look; all of them where it is None."""
    if frames is None:
        return dataset
    short = [
        Sequence(s.name, partial(_first_frames, s, frames), partial(_first_annotations, s, frames), s.attributes)
        for s in dataset
    ]
    return replace(dataset, sequences=short)


def lengths(datasets: Iterable[Dataset]) -> dict[tuple[str, str], int]:
    """Frames of each sequence by names of dataset and sequence; 0 where they cannot be listed (its units will say).

    No picture is opened, and the lists of files are let go.
    """
    found = {}
    for dataset in datasets:
        for sequence in dataset:
            try:
                found[dataset.name, sequence.name] = len(sequence.list_frames())
            except SourceError:
                found[dataset.name, sequence.name] = 0
    return found


def plan(
    datasets: Iterable[Dataset],
    known: Mapping[tuple[str, str], int],
    contestants: Iterable[Contestant],
    protocols: Mapping[str, Procedure],
    seed: int,
) -> list[Job]:
    """All jobs, in the order of trackers, datasets, sequences, protocols, runs.

    Raises:
        ArgumentError: a name that is no file name, or two of the same.
    """
    data = list(datasets)
    _check_names("datasets", (dataset.name for dataset in data))
    for dataset in data:
        _check_names(f"sequences of {dataset.name}", (sequence.name for sequence in dataset))
    entrants = list(contestants)
    _check_names("trackers", (contestant.ident for contestant in entrants))
    jobs = []
    for contestant in entrants:
        for dataset in data:
            for sequence in dataset:
                count = known[dataset.name, sequence.name]
                for name, procedure in protocols.items():
                    for run in range(procedure.runs):
                        unit = Unit(contestant.ident, dataset.name, sequence.name, name, run, seed)
                        jobs.append(Job(unit, sequence, contestant, procedure, _cost(name, run, procedure.runs, count)))
    return jobs


def _cost(protocol: str, run: int, runs: int, frames: int) -> float:
    # The k-th segment of TRE begins k-th of the way through; all other runs see the whole sequence.
    return frames * (1 - run / runs) if protocol == "tre" else float(frames)


def _check_names(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ArgumentError("eval", what, "of different names", f"{name!r} twice")
        if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ArgumentError("eval", what, "of names that a file can have", repr(name))
        seen.add(name)


def parse_shard(text: str) -> tuple[int, int]:
    """``2/8`` → (2, 8): the second of eight, counted from 1. Raises ArgumentError."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ArgumentError("eval", "--shard", "i/n with 1 ≤ i ≤ n", repr(text), "count shards from 1: 1/8 … 8/8")
    return int(first), int(last)


def shard(jobs: Iterable[Job], index: int, count: int) -> list[Job]:
    """The jobs of shard ``index`` of ``count``, counted from 1; each job is in one shard.

    Every tracker's jobs are dealt apart, longest first, each to the shard with the fewest frames so far: the speed of
    trackers differs too much for a common measure, and a tracker that is added later moves no other's jobs.
    """
    by_tracker: dict[str, list[Job]] = {}
    for job in jobs:
        by_tracker.setdefault(job.unit.tracker, []).append(job)
    mine: list[Job] = []
    for tracker in sorted(by_tracker):
        loads: list[Any] = [[0.0, place] for place in range(count)]
        # Without a turn, the longest job of every tracker would fall to the first shard.
        turn = sum(tracker.encode()) % count
        for job in sorted(by_tracker[tracker], key=lambda job: (-job.cost, job.unit)):
            least = min(loads)
            least[0] += max(job.cost, 1.0)  # of unknown length: they too are spread
            if (least[1] + turn) % count == index - 1:
                mine.append(job)
    return mine

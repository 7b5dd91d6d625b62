"""The run: what is asked for, minus what is there, job by job into the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from fasttrack.errors import ArgumentError, OutputError
from fasttrack.evaluation.outcome import Unit
from fasttrack.evaluation.runner.claims import Claims
from fasttrack.evaluation.runner.parts import Contestant, Procedure
from fasttrack.evaluation.runner.plan import Job, lengths, plan, shard, shortened
from fasttrack.evaluation.runner.presence import Presence
from fasttrack.evaluation.runner.queue import Queue
from fasttrack.evaluation.runner.request import describe, merged
from fasttrack.evaluation.runner.slots import Died, Here, Slots
from fasttrack.evaluation.runner.store import DAMAGED, DONE, Store
from fasttrack.evaluation.runner.workbench import Done, failed
from fasttrack.evaluation.sequence import Dataset
from fasttrack.evaluation.truth import keep_truth

__all__ = ["Summary", "Watch", "evaluate"]

_TRIES = 2  # of a job whose process dies
_PATIENCE_S = 60.0  # without a single place that has begun, before it is said


class Watch(Protocol):
    """Is told how the run goes."""

    def begin(self, total: int) -> None:
        """So many units are to be done now."""

    def unit(self, unit: Unit, error: str | None, left_s: float | None) -> None:
        """One is over, with its traceback where it failed; the rest takes so long, as far as known."""

    def warn(self, message: str) -> None:
        """Something that should be known."""


@dataclass
class Summary:
    """What a run came to; filled as it goes, so that whoever ends it has it.

    Attributes:
        folder: of the evaluation.
        planned: units asked of this runner.
        kept: of these, there already.
        done: done now.
        failed: with the last line of the traceback.
        elsewhere: done by, or at work in, another runner of the folder.
        seconds: the run took.
    """

    folder: Path
    planned: int = 0
    kept: int = 0
    done: int = 0
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    elsewhere: int = 0
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """1 where a unit failed."""
        return int(bool(self.failed))


def evaluate(
    datasets: Mapping[str, Dataset],
    contestants: Sequence[Contestant],
    protocols: Mapping[str, Procedure],
    out: Path | str,
    *,
    watch: Watch,
    slots: Slots | None = None,
    resume: bool = False,
    part: tuple[int, int] | None = None,
    frames: int | None = None,
    seed: int = 0,
    exclusive: bool = False,
    summary: Summary | None = None,
) -> Summary:
    """Run every contestant through every protocol on every sequence, and keep what came of it in a folder.

    A unit's outcome is written whole when it is over: whatever ends the run, only units at work are lost. An
    exception in a unit is its outcome, and the rest goes on. Several runners may work in one folder.

    Args:
        datasets: by the specification that ``load_dataset`` loads them from, for whoever reads the folder.
        contestants: who takes part.
        protocols: by name; all against all.
        out: the folder; made where it is not there.
        watch: is told how it goes.
        slots: where units are done (``Here``, ``Processes``, ``RayActors``); by default here, with one thread.
        resume: go on in a folder that is there: whole outcomes stay, those that failed or are damaged are done again.
        part: do the i-th of n parts only, counted from 1; parts may join a folder without ``resume``.
        frames: the first so many of each sequence.
        seed: of the generators, set before each unit.
        exclusive: nothing else may be evaluated on this machine; only then does the time of ``Here`` count as speed.
        summary: filled as the run goes, and returned.

    Raises:
        ArgumentError: what is asked contradicts the folder or itself.
        OutputError: the folder cannot be written; everything written before is whole.
        SourceError: the folder holds something else.
    """
    store, places = Store(out), Here(1) if slots is None else slots
    total = Summary(store.folder) if summary is None else summary
    if not (datasets and contestants and protocols):
        raise ArgumentError("eval", "datasets, trackers and protocols", "at least one of each", "none of one kind")
    if exclusive and not isinstance(places, Here):
        raise ArgumentError("eval", "exclusive", "used with one worker in this process", f"{places.count} places")
    began = time.perf_counter()
    with ExitStack() as stack:
        stack.callback(lambda: setattr(total, "seconds", time.perf_counter() - began))
        used = {spec: shortened(dataset, frames) for spec, dataset in datasets.items()}
        known = lengths(used.values())
        jobs = plan(used.values(), known, contestants, protocols, seed)
        mine = jobs if part is None else shard(jobs, *part)
        presence = stack.enter_context(Presence())
        if exclusive and (others := presence.others()):
            raise ArgumentError(
                "eval", "exclusive", "the only evaluation on this machine", f"also processes {others}", "wait for them"
            )
        _check_folder(store, resume or part is not None)
        claims = stack.enter_context(Claims(store.folder))
        asked = describe(used, known, contestants, protocols, frames, seed)
        _agree(store, claims, asked, watch)
        run = _Run(store, claims, watch, total, presence if exclusive else None)
        todo = run.missing(mine)
        watch.begin(len(todo))
        if todo:
            places.limit(len(todo))
            run.drive(Queue(todo), stack.enter_context(places))
    return total


def _check_folder(store: Store, may_be_there: bool) -> None:
    """Refuse a folder with an evaluation where it is not wanted, and one with anything else."""
    try:
        there = store.folder.exists() and any(store.folder.iterdir())
    except OSError as error:
        raise OutputError(f"{store.folder}: not a folder that can be used ({error.strerror or error})") from error
    if there and not store.run_file.exists() and not (store.folder / "runners").is_dir():
        raise ArgumentError("eval", "out", "an empty or new folder", f"{store.folder}, which holds other things")
    if there and store.run_file.exists() and not may_be_there:
        raise ArgumentError(
            "eval", "out", "a new folder", f"{store.folder}, which holds an evaluation", "go on in it with --resume"
        )


def _agree(store: Store, claims: Claims, asked: dict[str, Any], watch: Watch) -> None:
    """Make ``run.json``, or add to it; one runner at a time."""
    claims.take_soon("run.json")
    try:
        if not store.run_file.exists():
            store.write_run(asked)
            return
        old = store.run
        record, said = merged(old, asked)
        for message in said:
            watch.warn(message)
        if record != old:
            store.write_run(record)
    finally:
        claims.drop("run.json")


class _Run:
    """One runner in one folder."""

    def __init__(self, store: Store, claims: Claims, watch: Watch, total: Summary, presence: Presence | None) -> None:
        self.store, self.claims, self.watch, self.total, self.presence = store, claims, watch, total, presence
        self._deaths: dict[Unit, int] = {}

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs whose outcome is not there, or not whole, or an error."""
        todo = []
        for job in jobs:
            state = self.store.state(job.unit)
            if state == DAMAGED:
                self.watch.warn(f"{self.store.path(job.unit)}: not a whole outcome; the unit is done again")
            if state != DONE:
                todo.append(job)
        self.total.planned, self.total.kept = len(jobs), len(jobs) - len(todo)
        return todo

    def drive(self, queue: Queue, slots: Slots) -> None:
        """Until the queue is empty and no place is busy."""
        waits = _Patience(self.watch)
        while queue or slots.busy:
            while queue and slots.idle:
                job = queue.pop()
                if self._mine(job):
                    slots.give(job)
                else:
                    self.total.elsewhere += 1
                    queue.finished(job, None)
            mark = None if self.presence is None else self.presence.mark()
            over = slots.wait() if slots.busy or queue else []
            waits.look(bool(over or slots.busy or slots.idle))
            for job, result in over:
                if isinstance(result, Done) and self.presence is not None and mark is not None:
                    alone = self.presence.was_alone(mark)
                    result = replace(result, outcome=replace(result.outcome, exclusive=alone))
                    if not alone:
                        self.watch.warn(f"{job.unit.path}: another evaluation began; its times do not count as speed")
                self._over(job, result, queue, slots.count)

    def _mine(self, job: Job) -> bool:
        """Claim it, unless another runner has it or had it."""
        if not self.claims.take(str(job.unit.path)):
            return False
        if self.store.state(job.unit) == DONE:
            self.claims.drop(str(job.unit.path))
            return False
        return True

    def _over(self, job: Job, result: Done | Died, queue: Queue, places: int) -> None:
        if isinstance(result, Died):
            self._deaths[job.unit] = deaths = self._deaths.get(job.unit, 0) + 1
            if deaths < _TRIES:
                self.claims.drop(str(job.unit.path))
                self.watch.warn(f"{job.unit.path}: {result.why}; it is tried once more")
                queue.put_back(job)
                return
            result = Done(failed(job.unit, f"{result.why}, {deaths} times"), 0.0)
        if result.outcome.error is None:
            keep_truth(self.store.folder, job.unit.dataset, job.sequence)
        self.store.write(result.outcome)
        self.claims.drop(str(job.unit.path))
        error = result.outcome.error
        if error is None:
            self.total.done += 1
        else:
            self.total.failed.append((job.unit, error.strip().splitlines()[-1]))
        queue.finished(job, result.seconds if error is None else None)
        self.watch.unit(job.unit, error, queue.seconds_left(places))


class _Patience:
    """Says once that no place begins, as in a cluster without room."""

    def __init__(self, watch: Watch, clock: Callable[[], float] = time.monotonic) -> None:
        self.watch, self.clock = watch, clock
        self._since, self._said = clock(), False

    def look(self, alive: bool) -> None:
        """Something can work now, or nothing can."""
        if alive:
            self._since = self.clock()
        elif not self._said and self.clock() - self._since > _PATIENCE_S:
            self._said = True
            self.watch.warn(f"not one worker has begun for {_PATIENCE_S:.0f} s; is there room for them?")

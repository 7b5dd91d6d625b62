"""Doubles for the runner's tests: sequences without files, and trackers that stay, fail, wait or die."""

import os
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fasttrack.errors import SourceError
from fasttrack.evaluation.outcome import INIT, TRACKED, Outcome
from fasttrack.evaluation.runner import Here, evaluate
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence


class Blank:
    """Frames made when asked for, which count how often."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((4, 6, 3), index % 256, np.uint8)


def boxes(count):
    return Annotations(np.tile([1.0, 1.0, 2.0, 2.0], (count, 1)), visible=np.ones(count, bool))


def unlisted():
    raise SourceError("/data/gone: no such folder")


def dataset(counts, name="made", gone=()):
    rows = [Sequence(f"s{k}", partial(Blank, n), partial(boxes, n)) for k, n in enumerate(counts)]
    return Dataset(name, [*rows, *(Sequence(one, unlisted, partial(boxes, 3)) for one in gone)])


@dataclass
class Still:
    """Stays; per frame it waits ``pause_s``, and at a sequence of ``count`` frames it fails or dies."""

    spec: "Entrant"

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        time.sleep(self.spec.pause_s)
        return self.box


@dataclass(frozen=True)
class Entrant:
    name: str = "still"
    pause_s: float = 0.0
    fails_at: str = ""  # name of a sequence
    dies_at: str = ""
    mark: str = ""  # a file that lets it die only once
    log: str = ""  # a folder in which every unit that was begun leaves a file
    weights: str = "made"
    config: dict = field(default_factory=dict, hash=False)

    @property
    def ident(self):
        return f"{self.name}-00000000"

    def note(self):
        return self.weights

    def make(self):
        return Still(self)


@dataclass(frozen=True)
class Through:
    """One pass over the sequence."""

    runs: int = 1

    def execute(self, tracker, sequence, unit):
        spec, n = tracker.spec, len(sequence)
        if spec.log:
            (Path(spec.log) / f"{unit.path.as_posix().replace('/', '~')}.{time.time_ns()}").touch()
        if unit.sequence == spec.fails_at:
            raise ZeroDivisionError("the target is nobody")
        if unit.sequence == spec.dies_at and not (spec.mark and os.path.exists(spec.mark)):
            if spec.mark:
                Path(spec.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        found = np.empty((n, 4))
        tracker.init(sequence.frames[0], sequence.boxes[0])
        found[0] = sequence.boxes[0]
        for k in range(1, n):
            found[k] = tracker.update(sequence.frames[k])
        states = np.array([INIT] + [TRACKED] * (n - 1), np.int8)
        return Outcome(unit, 0, found, states, np.full(n, 0.01), np.full(n, np.nan), np.zeros(n, bool))


class Ear:
    """Hears what a run says."""

    def __init__(self):
        self.total, self.units, self.warnings, self.left = None, [], [], []

    def begin(self, total):
        self.total = total

    def unit(self, unit, error, left_s):
        self.units.append((unit, error))
        self.left.append(left_s)

    def warn(self, message):
        self.warnings.append(message)


def run(out, counts=(5, 3, 8), entrants=(Entrant(),), protocols=None, data=None, ear=None, **options):
    data = dataset(counts) if data is None else data
    return evaluate(
        {f"made={data.name}": data},
        entrants,
        {"ope": Through()} if protocols is None else protocols,
        out,
        watch=Ear() if ear is None else ear,
        **{"slots": Here(1), **options},
    )


def begun(folder):
    """How often each unit was begun, by the files that it left."""
    found = {}
    for path in Path(folder).iterdir():
        name = path.name.rpartition(".")[0]
        found[name] = found.get(name, 0) + 1
    return found

"""One unit from beginning to end, in whatever process it is: the only place where every exception is caught."""

from __future__ import annotations

import contextlib
import copy
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fasttrack.evaluation.outcome import Outcome, Unit
from fasttrack.evaluation.runner.machine import facts
from fasttrack.evaluation.runner.plan import Job
from fasttrack.video._opencv import opencv

__all__ = ["Done", "environment", "failed", "perform", "use_threads"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a job.

    Attributes:
        outcome: with ``error`` where it failed.
        seconds: it took, with everything: reading frames, making the tracker.
    """

    outcome: Outcome
    seconds: float


def perform(job: Job, threads: int) -> Done:
    """Do the job. An exception in it is its outcome; only what ends processes (Ctrl-C, exit) is let through."""
    began = time.perf_counter()
    try:
        # The lists of files and boxes that the run reads must not stay with the caller's sequence.
        outcome = job.procedure.execute(job.contestant.make(), copy.copy(job.sequence), job.unit)
    except Exception:
        # A tracker may raise anything; recorded in full, done again by --resume, and said in the summary.
        outcome = failed(job.unit, traceback.format_exc())
    machine = {**outcome.machine, **facts(), "threads": threads}
    return Done(replace(outcome, machine=machine), time.perf_counter() - began)


def failed(unit: Unit, error: str) -> Outcome:
    """The outcome of a unit without a single row."""
    none = np.empty(0)
    return Outcome(
        unit, 0, np.empty((0, 4)), none.astype(np.int8), none, none, none.astype(np.bool_), machine=facts(), error=error
    )


@contextlib.contextmanager
def environment(threads: int) -> Iterator[None]:
    """Processes started inside begin with so many threads: the libraries read it when they are loaded."""
    wanted = {**dict.fromkeys(_THREAD_VARIABLES, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def use_threads(threads: int) -> int:
    """Let torch and OpenCV use so many threads in this process; returns torch's number before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    opencv().setNumThreads(threads)
    return before

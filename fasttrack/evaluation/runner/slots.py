"""Places where jobs are done, whatever they are made of; and the simplest: here."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from fasttrack.evaluation.runner.plan import Job
from fasttrack.evaluation.runner.workbench import Done, perform, use_threads

__all__ = ["Died", "Here", "Slots"]


@dataclass(frozen=True)
class Died:
    """What became of a job whose process ended under it.

    Attributes:
        why: signal or exit code, as far as known.
    """

    why: str


class Slots(Protocol):
    """A number of places; each does one job at a time."""

    count: int

    def limit(self, jobs: int) -> None:
        """No more places than jobs are needed; said before they start."""

    def __enter__(self) -> Any:
        """Start the places."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them, at once, whatever they are doing."""

    @property
    def idle(self) -> int:
        """How many could take a job now."""

    @property
    def busy(self) -> int:
        """How many jobs are at work."""

    def give(self, job: Job) -> None:
        """Start the job in an idle place."""

    def wait(self) -> list[tuple[Job, Done | Died]]:
        """Wait, for a second or so, for something to happen; the jobs that are over, if any."""


class Here:
    """This process: one job at a time, done when its result is waited for."""

    count = 1

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._job: Job | None = None
        self._threads_before = threads

    def limit(self, jobs: int) -> None:
        """One is not too many."""

    def __enter__(self) -> Here:
        self._threads_before = use_threads(self.threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        use_threads(self._threads_before)

    @property
    def idle(self) -> int:
        """Places without a job."""
        return int(self._job is None)

    @property
    def busy(self) -> int:
        """Jobs at work."""
        return int(self._job is not None)

    def give(self, job: Job) -> None:
        """Start a job."""
        self._job = job

    def wait(self) -> list[tuple[Job, Done | Died]]:
        """Do the job that was given."""
        if self._job is None:
            return []
        job = self._job
        done = perform(job, self.threads)
        self._job = None
        return [(job, done)]

"""What is still to be done: longest first, by what each tracker has shown to take."""

from __future__ import annotations

from collections.abc import Iterable

from fasttrack.evaluation.runner.plan import Job

__all__ = ["Queue"]


class Queue:
    """Jobs of several trackers, the one that will take longest first.

    Nobody knows how fast a tracker is here before it has run: the longest job of each tracker goes first, and what
    it took, per frame, orders the rest. One long job left to the end would keep all processes but one idle.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._waiting: dict[str, list[Job]] = {}  # of each tracker, the longest last
        for job in sorted(jobs, key=lambda job: (job.cost, job.unit)):
            self._waiting.setdefault(job.unit.tracker, []).append(job)
        self._count = sum(map(len, self._waiting.values()))
        self._left = {name: sum(job.cost for job in waiting) for name, waiting in self._waiting.items()}
        self._taken: dict[str, float] = dict.fromkeys(self._waiting, 0.0)  # frames of finished jobs
        self._seconds: dict[str, float] = dict.fromkeys(self._waiting, 0.0)  # and their time
        self._tried: set[str] = set()

    def __len__(self) -> int:
        return self._count

    def pop(self) -> Job:
        """The next job. Raises IndexError where there is none."""
        names = [name for name, waiting in self._waiting.items() if waiting]
        if not names:
            raise IndexError("no job is left")
        name = max(names, key=lambda name: (name not in self._tried, self._expected(name)))
        self._tried.add(name)
        self._count -= 1
        return self._waiting[name].pop()

    def _expected(self, name: str) -> float:
        return self._waiting[name][-1].cost * self._rate(name)

    def put_back(self, job: Job) -> None:
        """The job is to be done again, next of its tracker's."""
        self._waiting[job.unit.tracker].append(job)
        self._count += 1

    def finished(self, job: Job, seconds: float | None) -> None:
        """The job is over, after so long; None where it did not run to its end here."""
        name = job.unit.tracker
        self._left[name] -= job.cost
        if seconds is not None:
            self._taken[name] += job.cost
            self._seconds[name] += seconds

    def _rate(self, name: str) -> float:
        """Seconds per frame; of a tracker not yet seen, the mean of the others."""
        if self._taken[name] > 0:
            return self._seconds[name] / self._taken[name]
        known = [self._seconds[other] / taken for other, taken in self._taken.items() if taken > 0]
        return sum(known) / len(known) if known else 1.0

    def seconds_left(self, slots: int) -> float | None:
        """Until all jobs, those at work included, are over; None before anything is known."""
        if not any(taken > 0 for taken in self._taken.values()):
            return None
        return sum(left * self._rate(name) for name, left in self._left.items()) / max(slots, 1)

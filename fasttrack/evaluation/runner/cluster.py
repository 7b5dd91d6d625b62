"""Places that are actors of Ray, on as many machines as its cluster has."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from fasttrack.errors import BackendUnavailable
from fasttrack.evaluation.runner.plan import Job
from fasttrack.evaluation.runner.slots import Died
from fasttrack.evaluation.runner.workbench import Done, perform, use_threads

__all__ = ["RayActors"]

_WAIT_S = 1.0
_HELLO = None  # what an actor's first answer stands for: it has begun


class _Place:
    """What an actor is: a process that does one job after the other, its networks loaded once."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        use_threads(threads)

    def hello(self) -> None:
        """Answered when the actor has begun."""

    def perform(self, job: Job) -> Done:
        """Do a job."""
        return perform(job, self.threads)


class RayActors:
    """A number of actors; one that dies is replaced by a new one, wherever in the cluster there is room.

    An actor gets no job before it has said that it has begun, so that one for which no machine has room, or whose
    machine went away, holds nothing up. Outcomes come back through Ray: only this machine writes the folder. Data and
    weights must be found under the same paths on all machines, and fasttrack be installed there.

    Args:
        address: ``auto``, ``host:port``, ``ray://host:port``, or ``local`` for a cluster that lives as long as this.
        count: how many; None for as many as the cluster has room for now.
        threads: processors of each.
        gpus: of each, also a part of one.

    Raises:
        BackendUnavailable: Ray is not installed, the cluster does not answer, or has no room for a single one.
    """

    def __init__(self, address: str, count: int | None, threads: int, gpus: float = 0.0) -> None:
        self._ray = _load()
        self.address, self.threads, self.gpus = address, threads, gpus
        self.count = 0  # known when the cluster has answered
        self._asked, self._most = count, count
        self._free: list[Any] = []  # actors without a job
        self._calls: dict[Any, tuple[Any, Job | None]] = {}  # reference of a result → actor, job (None: hello)
        self._ours = False  # the connection, to be closed at the end

    def limit(self, jobs: int) -> None:
        """No more actors than jobs are needed."""
        self._most = jobs if self._asked is None else min(self._asked, jobs)

    def __enter__(self) -> RayActors:
        ray = self._ray
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, logging_level=logging.WARNING, log_to_driver=True)
            except (ConnectionError, ValueError, TimeoutError, RuntimeError) as error:
                raise BackendUnavailable(f"eval: no Ray cluster answers at {self.address!r} ({error})") from error
            self._ours = True
        room = self._room(ray.cluster_resources())
        # More than there is room for now may be asked for: the cluster may grow.
        self.count = room if self._asked is None else self._asked
        self.count = self.count if self._most is None else min(self.count, self._most)
        if self.count < 1:
            self._leave()
            raise BackendUnavailable(f"eval: the cluster has no room for {self.threads} processors, {self.gpus} GPUs")
        for _ in range(self.count):
            self._begin()
        return self

    def _room(self, there: dict[str, float]) -> int:
        room = int(there.get("CPU", 0.0) // self.threads)
        return min(room, int(there.get("GPU", 0.0) / self.gpus)) if self.gpus > 0 else room

    def _begin(self) -> None:
        kind = self._ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_restarts=0, max_task_retries=0)(_Place)
        actor = kind.remote(self.threads)
        self._calls[actor.hello.remote()] = (actor, _HELLO)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in [*self._free, *(actor for actor, _ in self._calls.values())]:
            self._ray.kill(actor, no_restart=True)
        self._free.clear()
        self._calls.clear()
        self._leave()

    def _leave(self) -> None:
        if self._ours:
            self._ray.shutdown()

    @property
    def idle(self) -> int:
        """Places without a job."""
        return len(self._free)

    @property
    def busy(self) -> int:
        """Jobs at work."""
        return sum(job is not None for _, job in self._calls.values())

    def give(self, job: Job) -> None:
        """Start a job."""
        actor = self._free.pop()
        self._calls[actor.perform.remote(job)] = (actor, job)

    def wait(self) -> list[tuple[Job, Done | Died]]:
        """Wait for a result or for the end of an actor; the jobs that are over."""
        found, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=_WAIT_S)
        over: list[tuple[Job, Done | Died]] = []
        for reference in found:
            actor, job = self._calls.pop(reference)
            try:
                done = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._ray.kill(actor, no_restart=True)
                self._begin()
                if job is not None:
                    over.append((job, Died(_reason(error))))
            else:
                self._free.append(actor)
                if job is not None:
                    over.append((job, done))
        return over


def _reason(error: Exception) -> str:
    """The first words of what Ray says."""
    return f"the actor died ({type(error).__name__}: {' '.join(str(error).split())[:500]})"


def _load() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise BackendUnavailable("eval: --ray needs Ray: pip install 'fasttrack[ray]'") from error
    return ray

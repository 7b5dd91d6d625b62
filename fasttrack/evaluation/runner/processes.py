"""Places that are processes of this machine; one that dies costs its job one try, and another takes its place.

The pools of the standard library do not survive the death of a worker: ``multiprocessing.Pool`` waits for its result
for ever, ``concurrent.futures`` declares the whole pool broken. Here each process has a pipe of its own, and its end
is one of the things waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from fasttrack.errors import FasttrackError
from fasttrack.evaluation.runner.plan import Job
from fasttrack.evaluation.runner.slots import Died
from fasttrack.evaluation.runner.workbench import Done, environment, perform, use_threads

__all__ = ["Processes"]

_STILLBORN = 3  # processes in a row that end before they are ready
_WAIT_S = 1.0


class _Worker:
    """A process, its pipe, and the job it is at."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(theirs, threads), daemon=True)
        resource_tracker.ensure_running()  # when the first process starts it, it unblocks what is blocked below
        # Ctrl-C reaches every process of the terminal; the one that started this one decides. Blocked before it
        # begins, and so for good: an interrupt while it still imports would print a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with environment(threads):
                self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # or the end of the process would not be the end of the pipe
        self.ready = False
        self.job: Job | None = None

    def end(self) -> None:
        """Kill it and let go of what it held."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Processes:
    """A number of processes, started by ``spawn``: none inherits the state or the threads of this one.

    Args:
        count: how many.
        threads: of each.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count, self.threads = count, threads
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def limit(self, jobs: int) -> None:
        """No more processes than jobs are needed."""
        self.count = min(self.count, jobs)

    def __enter__(self) -> Processes:
        for _ in range(self.count):
            self._workers.append(_Worker(self.threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    @property
    def idle(self) -> int:
        """Places without a job."""
        return sum(worker.ready and worker.job is None for worker in self._workers)

    @property
    def busy(self) -> int:
        """Jobs at work."""
        return sum(worker.job is not None for worker in self._workers)

    def give(self, job: Job) -> None:
        """Start a job."""
        worker = next(worker for worker in self._workers if worker.ready and worker.job is None)
        data = pickle.dumps(job)
        worker.job = job
        try:
            worker.pipe.send_bytes(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dead, which the next wait finds

    def wait(self) -> list[tuple[Job, Done | Died]]:
        """Wait for a result or for the end of a process; the jobs that are over."""
        things = {worker.pipe: worker for worker in self._workers}
        ended = {worker.process.sentinel: worker for worker in self._workers}
        found = wait([*things, *ended], timeout=_WAIT_S)
        over: list[tuple[Job, Done | Died]] = []
        for worker in [worker for pipe, worker in things.items() if pipe in found]:
            over += self._hear(worker)
        for worker in [worker for sentinel, worker in ended.items() if sentinel in found]:
            # It may have finished its job just before.
            if worker.pipe.poll():
                over += self._hear(worker)
            over += self._replace(worker)
        return over

    def _hear(self, worker: _Worker) -> list[tuple[Job, Done | Died]]:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return []  # it died, perhaps in the middle of a message; its sentinel says so
        if message is None:
            worker.ready, self._stillborn = True, 0
            return []
        job, worker.job = worker.job, None
        return [] if job is None else [(job, message)]

    def _replace(self, worker: _Worker) -> list[tuple[Job, Done | Died]]:
        worker.process.join()
        why = _reason(worker.process.exitcode)
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise FasttrackError(
                    f"eval: {self._stillborn} processes ended before they could begin ({why}); their errors stand "
                    "above. A script that evaluates with several workers needs `if __name__ == '__main__':`"
                )
        self._workers.remove(worker)
        worker.end()
        self._workers.append(_Worker(self.threads))
        return [] if worker.job is None else [(worker.job, Died(why))]


def _reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{hint}"


def _work(pipe: Connection, threads: int) -> None:
    """The life of a process: a job, its result, the next one, until the other end of the pipe is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(threads)
    pipe.send(None)
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(perform(pickle.loads(data), threads))


def _end_with_parent() -> None:
    """A process whose parent was killed would work on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

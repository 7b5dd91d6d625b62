"""Whether anything else is being evaluated on this machine: only then are times of a tracker those of its speed."""

from __future__ import annotations

import fcntl
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Presence"]


@dataclass(frozen=True)
class _Mark:
    alone: bool
    changed_ns: int


class Presence:
    """Makes this runner known to the others of its user on the machine, whatever folders they work in.

    Each has a file, locked while it lives, in one folder. The folder's time of change tells when a runner came or
    went, so one that did both between two looks is noticed too.
    """

    def __init__(self) -> None:
        user = os.getuid() if hasattr(os, "getuid") else 0
        self.folder = Path(tempfile.gettempdir()) / f"fasttrack-eval-{user}"
        self._handle = -1
        self._file = self.folder

    def __enter__(self) -> Presence:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        while True:
            self._handle, name = tempfile.mkstemp(dir=self.folder, prefix=f"{os.getpid()}-")
            self._file = Path(name)
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            if self._file.exists():
                return self
            # Another runner found it before it was locked, and took it for one of the dead.
            os.close(self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.unlink(missing_ok=True)
        os.close(self._handle)

    def others(self) -> list[int]:
        """Process numbers of the other runners; files of dead ones are removed."""
        found = []
        for path in list(self.folder.iterdir()):
            if path != self._file and self._lives(path):
                found.append(int(path.name.partition("-")[0]))
        return found

    def _lives(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(handle)

    def mark(self) -> _Mark:
        """A look before something is timed."""
        alone = not self.others()
        return _Mark(alone, self.folder.stat().st_mtime_ns)

    def was_alone(self, mark: _Mark) -> bool:
        """Whether no other runner was there at the mark, and none came since."""
        return mark.alone and self.folder.stat().st_mtime_ns == mark.changed_ns

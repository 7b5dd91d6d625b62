"""Who works on what: several runners, on several machines, share one folder without doing a unit twice.

Each runner has a file ``runners/<name>.json`` that tells its process, and whose time of change is renewed while it
lives. A claim on a unit is a hard link to that file in ``claims/``: making a link fails where one is, and whoever is
killed in between leaves no claim without a name. A claim is stale, and taken over, when its runner's process is gone
(where that can be seen: the same machine), or when the file has not been renewed for ``STALE_S``. In the worst race a
unit is done twice: outcomes are written whole, so nothing is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType

from fasttrack.errors import OutputError, SourceError

__all__ = ["STALE_S", "Claims"]

STALE_S = 600.0
_RENEW_S = 30.0


class Claims:
    """The claims of one runner; as a context, the runner lives inside it.

    Args:
        folder: of the evaluation.
        stale_s: a runner of another machine that was silent for so long is taken for dead.
        renew_s: between signs of life.
    """

    def __init__(self, folder: Path, stale_s: float = STALE_S, renew_s: float = _RENEW_S) -> None:
        self.folder, self.stale_s, self.renew_s = folder, stale_s, renew_s
        self._place = {"where": _where(), "pid": os.getpid(), "started": _started(os.getpid())}
        self.name = f"{platform.node() or 'host'}-{os.getpid()}-{secrets.token_hex(4)}"
        self._file = folder / "runners" / f"{self.name}.json"
        self._mine: set[Path] = set()
        self._over = threading.Event()
        self._pulse = threading.Thread(target=self._renew, daemon=True, name="claims")

    def __enter__(self) -> Claims:
        try:
            for name in ("runners", "claims"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps({"name": self.name, **self._place}), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self._file}: cannot be written ({error.strerror or error})") from error
        self._sweep()
        self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for path in list(self._mine):
            self._drop(path)
        self._file.unlink(missing_ok=True)

    def take(self, what: str) -> bool:
        """Claim it; False where a living runner has it.

        Raises:
            OutputError: claims cannot be written.
        """
        path = self._path(what)
        for _ in range(2):
            try:
                os.link(self._file, path)
            except FileExistsError:
                if not self._stale(path) or not self._set_aside(path):
                    return False
                continue
            except OSError as error:
                raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
            self._mine.add(path)
            return True
        return False

    def take_soon(self, what: str, patience_s: float = 30.0) -> None:
        """Claim it, waiting for a runner that has it. Raises SourceError naming that runner after ``patience_s``."""
        deadline = time.monotonic() + patience_s
        while not self.take(what):
            if time.monotonic() > deadline:
                holder = json.loads(_read(self._path(what)) or "{}").get("name", "another runner")
                raise SourceError(f"{self.folder}: {holder} has held {what} for {patience_s:.0f} s")
            time.sleep(0.05)

    def drop(self, what: str) -> None:
        """Give the claim back."""
        self._drop(self._path(what))

    def _drop(self, path: Path) -> None:
        self._mine.discard(path)
        path.unlink(missing_ok=True)

    def _path(self, what: str) -> Path:
        return self.folder / "claims" / hashlib.sha1(what.encode()).hexdigest()[:24]

    def _stale(self, path: Path) -> bool:
        """Whether the runner of a claim, or of a file in ``runners/``, is dead."""
        text = _read(path)
        if text is None:
            return True  # given back since
        try:
            place = json.loads(text)
        except ValueError:  # a runner that is just beginning, or was killed then
            return self._silent(path)
        if place["where"] == self._place["where"]:
            return bool(_started(place["pid"]) != place["started"])
        return self._silent(path)

    def _silent(self, path: Path) -> bool:
        """Not renewed for long, by the clock of the file server: those of two machines may differ."""
        try:
            os.utime(self._file)
            return self._file.stat().st_mtime - path.stat().st_mtime > self.stale_s
        except FileNotFoundError:
            return True

    def _set_aside(self, path: Path) -> bool:
        """Remove a stale claim; only one of several that try succeeds."""
        aside = path.with_name(f"{path.name}.{self.name}")
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return True  # somebody else did; whoever makes the new one first has it
        stale = self._stale(aside)
        if not stale:
            # Between our look and our rename another runner took it over: that claim goes back.
            os.rename(aside, path)
        else:
            aside.unlink(missing_ok=True)
        return stale

    def _sweep(self) -> None:
        """Remove what runners that were killed have left."""
        for path in list((self.folder / "claims").iterdir()):
            if self._stale(path):
                self._set_aside(path)
        for path in list((self.folder / "runners").glob("*.json")):
            if path != self._file and self._stale(path):
                path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._over.wait(self.renew_s):
            try:
                os.utime(self._file)
            except OSError:
                # The folder is gone or full; the next outcome that cannot be written says so.
                continue


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _where() -> str:
    """Which processes' numbers mean something to us: host, start of the system, container."""
    parts = [platform.node()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        parts.append(boot.read_text(encoding="ascii").strip())
    if os.path.lexists("/proc/self/ns/pid"):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When the process of this number began (the number alone may be used again); None where there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        text = _read_process(stat)
        # The second field is the command in parentheses, which may hold blanks; a zombie (Z) has ended.
        fields = [] if text is None else text.rpartition(")")[2].split()
        return None if not fields or fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "running"
    return "running"


def _read_process(stat: Path) -> str | None:
    try:
        return stat.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None

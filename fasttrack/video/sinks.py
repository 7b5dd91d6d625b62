"""Sinks: files that take the results of each frame as it comes (CSV, JSON, MOT).

Every sink opens its file at once, writes one frame per call and flushes it, so that whatever ends the
run loses nothing. An existing file is replaced.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from fasttrack.errors import OutputError
from fasttrack.geometry import Box
from fasttrack.video.source import Frame

__all__ = ["CsvSink", "JsonSink", "MotSink", "Sink", "TrackResult", "check_outputs"]


class TrackResult(Protocol):
    """What a sink needs of a tracker's result for one target in one frame."""

    @property
    def box(self) -> Box:
        """Box in px of the frame."""

    @property
    def score(self) -> float:
        """Confidence; NaN where there is none."""

    @property
    def psr(self) -> float:
        """Peak-to-sidelobe ratio; NaN where there is none."""

    @property
    def lost(self) -> bool:
        """Whether the tracker says it does not see the target."""

    @property
    def seconds(self) -> float:
        """Time the tracker took for this frame."""


class Sink(ABC):
    """Takes the results of each frame; usable in a ``with`` block."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @abstractmethod
    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Write one frame; ``results[t]`` belongs to target ``t + 1``. Raises OutputError."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file; may be called twice. Raises OutputError."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError that names the file."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path] = ()) -> None:
    """Refuse what can be seen to fail before the work starts; touches nothing.

    Raises:
        OutputError: a folder that is missing or not writable, a path that is a folder, an output
            that is an input, or two outputs that are one file.
    """
    taken: dict[Path, str] = {Path(i).resolve(): "read by this run" for i in inputs if Path(i).exists()}
    for output in outputs:
        path, real = Path(output), Path(output).resolve()
        if real in taken:
            raise OutputError(f"{path}: would overwrite a file {taken[real]}")
        taken[real] = "named twice as an output"
        if path.is_dir():
            raise OutputError(f"{path}: is a folder, wanted a file name")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: the folder {path.parent} does not exist")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise OutputError(f"{path}: cannot be written: permission denied")


class _TextSink(Sink):
    """A text file to which each frame adds one piece of text, flushed."""

    def __init__(self, path: str | Path, start: str = "") -> None:
        super().__init__(path)
        with writing(self.path):
            # Held open for the whole run, closed by close().
            self._file: IO[str] = open(self.path, "w", encoding="utf-8", newline="")  # noqa: SIM115
        self._put(start)

    def _put(self, text: str) -> None:
        with writing(self.path):
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with writing(self.path):
            self._file.close()


class CsvSink(_TextSink):
    """CSV with a header, one row per frame and target.

    ``frame`` is 0-based, ``target`` 1-based; ``x, y, w, h`` in px, 0-based edges; ``seconds`` is the
    tracker's time. A cell is empty where there is no number.
    """

    HEADER = ("frame", "name", "target", "x", "y", "w", "h", "score", "psr", "lost", "seconds")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, ",".join(self.HEADER) + "\r\n")

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Add one row per target."""
        rows = io.StringIO()
        table = csv.writer(rows)
        for target, r in enumerate(results, 1):
            sides = [f"{side:.3f}" for side in r.box.as_tuple()]
            numbers = [_cell(r.score, ".5f"), _cell(r.psr, ".3f"), int(r.lost), _cell(r.seconds, ".6f")]
            table.writerow([frame.index, frame.name, target, *sides, *numbers])
        self._put(rows.getvalue())


def _cell(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else ""


class MotSink(_TextSink):
    """MOTChallenge text: ``frame,id,x,y,w,h,conf,-1,-1,-1``; frame, id and top-left corner 1-based.

    A lost target keeps its row, with its score as ``conf`` (0 where there is none).
    """

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Add one row per target."""
        rows = []
        for target, r in enumerate(results, 1):
            x, y, w, h = r.box.as_tuple()
            conf = r.score if math.isfinite(r.score) else 0.0
            rows.append(f"{frame.index + 1},{target},{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f},{conf:.4f},-1,-1,-1\n")
        self._put("".join(rows))


class JsonSink(_TextSink):
    """JSON: ``.jsonl`` and ``.ndjson`` one object a line, any other name one array.

    The array is a whole JSON document after every frame, whatever ends the run: the closing
    bracket is written each time and overwritten by the next frame.
    """

    def __init__(self, path: str | Path) -> None:
        self._lines = Path(path).suffix.lower() in {".jsonl", ".ndjson"}
        super().__init__(path, "" if self._lines else "[\n]\n")
        self._first = True
        if not self._lines and not self._file.seekable():
            self._file.close()
            raise OutputError(f"{path}: a JSON array needs a plain file; a name in .jsonl also fits a pipe")

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Add one object per target."""
        objects = [json.dumps(_record(frame, target, r)) for target, r in enumerate(results, 1)]
        if self._lines:
            self._put("".join(text + "\n" for text in objects))
        elif objects:
            with writing(self.path):
                self._file.seek(self._file.tell() - len("\n]\n" if not self._first else "]\n"))
            self._put(("" if self._first else ",\n") + ",\n".join(objects) + "\n]\n")
            self._first = False


def _record(frame: Frame, target: int, r: TrackResult) -> dict[str, Any]:
    number: Callable[[float], float | None] = lambda v: round(v, 6) if math.isfinite(v) else None  # noqa: E731
    return {
        "frame": frame.index,
        "name": frame.name,
        "time_s": None if frame.time_s is None else number(frame.time_s),
        "target": target,
        "box": [number(side) for side in r.box.as_tuple()],
        "score": number(r.score),
        "psr": number(r.psr),
        "lost": bool(r.lost),
        "seconds": number(r.seconds),
    }

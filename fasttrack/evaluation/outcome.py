"""What a tracker did on one unit of work, and its file: written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.whole import write_whole

__all__ = ["FAILURE", "INIT", "SKIPPED", "TRACKED", "Outcome", "Unit", "from_the_start", "read_outcome", "without_nan"]
__all__ += ["write_outcome"]

TRACKED, INIT, FAILURE, SKIPPED = 0, 1, 2, 3  # what a frame is to the protocol


@dataclass(frozen=True, order=True)
class Unit:
    """One piece of work: a tracker on a sequence in one run of a protocol.

    Attributes:
        tracker: name and hash of its configuration (``crt-1f3a9c2e``).
        dataset, sequence: their names.
        protocol: ``ope``, ``sre``, ``tre``, ``vot-supervised``, ``vot-unsupervised``.
        run: number of the run in the protocol (SRE 0 … 11, TRE 0 … 19, repetitions of VOT).
        seed: of the generators, set before the run.
    """

    tracker: str
    dataset: str
    sequence: str
    protocol: str
    run: int = 0
    seed: int = 0

    @property
    def path(self) -> Path:
        """Where its outcome lies, relative to the folder of all of them."""
        return Path(self.tracker) / self.dataset / self.protocol / f"{self.sequence}.{self.run:02d}.s{self.seed}.json"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a unit.

    Attributes:
        unit: the piece of work.
        first: position in the sequence of the first row below.
        boxes: (n, 4) float64 x, y, w, h in px, 0-based edge coordinates, one row per frame from ``first`` on; NaN where
            the tracker was not running. The row of a frame on which it was started is the box it was given.
        states: (n,) int8, ``INIT``, ``TRACKED``, ``FAILURE`` or ``SKIPPED``.
        seconds: (n,) time of the tracker alone in each frame, ``init`` for those of state ``INIT``; NaN where it was
            not running or the boxes came from files.
        scores: (n,) confidence; NaN where there is none.
        lost: (n,) bool, the tracker said that it does not see the target.
        exclusive: nothing else of the evaluation ran on the machine meanwhile: only then do the times count as speed.
        machine: what it ran on.
        error: traceback of what ended the unit early, None where all went well.
    """

    unit: Unit
    first: int
    boxes: NDArray[np.float64]
    states: NDArray[np.int8]
    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    lost: NDArray[np.bool_]
    exclusive: bool = False
    machine: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def from_the_start(outcome: Outcome) -> Outcome:
    """The outcome with a row for every frame from 0 on: those before its first are ``SKIPPED``."""
    before = outcome.first

    def pad(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.full((before, *column.shape[1:]), np.nan), column])

    return replace(
        outcome,
        first=0,
        boxes=pad(outcome.boxes),
        states=np.concatenate([np.full(before, SKIPPED, np.int8), outcome.states]),
        seconds=pad(outcome.seconds),
        scores=pad(outcome.scores),
        lost=np.concatenate([np.zeros(before, np.bool_), outcome.lost]),
    )


_COLUMNS = {"boxes": np.float64, "states": np.int8, "seconds": np.float64, "scores": np.float64, "lost": np.bool_}


def write_outcome(folder: Path, outcome: Outcome) -> Path:
    """Write the outcome to its place under ``folder``; an older one is replaced. Raises OutputError."""
    record: dict[str, Any] = {"unit": asdict(outcome.unit), "first": outcome.first, "exclusive": outcome.exclusive}
    record |= {"machine": dict(outcome.machine), "error": outcome.error}
    for name in _COLUMNS:
        column = getattr(outcome, name)
        record[name] = without_nan(column.tolist()) if column.dtype.kind == "f" else column.tolist()
    path = folder / outcome.unit.path
    write_whole(path, json.dumps(record, allow_nan=False, separators=(",", ":")))
    return path


def without_nan(values: list[Any]) -> list[Any]:
    """Nested lists with None for NaN, which JSON does not have."""
    return [without_nan(v) if isinstance(v, list) else None if v != v else v for v in values]


def read_outcome(path: Path) -> Outcome:
    """Read what ``write_outcome`` wrote.

    Raises:
        SourceError: missing, truncated, or columns of different lengths, naming the file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        columns: dict[str, Any] = {name: np.array(record[name], dtype=kind) for name, kind in _COLUMNS.items()}
        columns["boxes"] = columns["boxes"].reshape(-1, 4)
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("columns of different lengths")
        unit = Unit(**record["unit"])
        rest = {name: record[name] for name in ("first", "exclusive", "machine", "error")}
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not a whole outcome ({error})") from error
    return Outcome(unit=unit, **rest, **columns)

"""The folder of an evaluation: what was asked for (``run.json``) and what came of each unit (``units/``).

``run.json``::

    {"format": 1,
     "created": "2026-01-31T12:00:00+00:00",
     "versions": ["0.1.0"],                     of fasttrack, each one that worked in the folder
     "datasets": {"otb": {"spec": "otb=/data/otb", "protocol": "ope", "rules": "otb",
                          "sequences": {"Basketball": 725}}},      the frames of each one evaluated
     "trackers": {"crt-1f3a9c2e": {"name": "crt", "config": {}, "note": "weights at work"}},
     "protocols": {"ope": 1, "sre": 12},        with the number of runs of each
     "frames": null,                            only so many of each sequence (see ``shortened``)
     "seed": 0,
     "machines": {"host": {"cpu": "…"}}}        those that ran the command; each outcome has its own

``units/<Unit.path>`` holds one outcome each; one with ``error`` is what is left of a unit that failed. ``truth/`` holds
the ground truth (``evaluation/truth.py``); ``claims/`` and ``runners/`` belong to runners at work, else they are empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fasttrack.errors import SourceError
from fasttrack.evaluation.outcome import Outcome, Unit, read_outcome, write_outcome
from fasttrack.evaluation.whole import write_whole

__all__ = ["DAMAGED", "DONE", "FAILED", "FORMAT", "MISSING", "Store"]

FORMAT = 1
MISSING, DONE, FAILED, DAMAGED = "missing", "done", "failed", "damaged"  # what a unit's file is


class Store:
    """Outcomes in a folder, read one at a time; nothing is held.

    Args:
        folder: the folder; it need not be there yet.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @property
    def run_file(self) -> Path:
        """Where ``run.json`` lies."""
        return self.folder / "run.json"

    @property
    def run(self) -> dict[str, Any]:
        """What was asked for, read anew; the layout stands at the top of this file.

        Raises:
            SourceError: not the folder of an evaluation, or one of a later version.
        """
        try:
            record = json.loads(self.run_file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SourceError(f"{self.folder}: not the folder of an evaluation (no run.json in it)") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{self.run_file}: cannot be read ({error})") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else type(record).__name__
            raise SourceError(f"{self.run_file}: layout {found!r}, this version reads layout {FORMAT}")
        return record

    def write_run(self, record: dict[str, Any]) -> None:
        """Replace ``run.json``. Raises OutputError."""
        write_whole(self.run_file, json.dumps(record, indent=1, allow_nan=False) + "\n")

    def units(self) -> Iterator[Unit]:
        """Every unit that ``run.json`` asks for, done or not."""
        run = self.run
        for tracker in run["trackers"]:
            for dataset, facts in run["datasets"].items():
                for protocol, runs in run["protocols"].items():
                    for sequence in facts["sequences"]:
                        for k in range(runs):
                            yield Unit(tracker, dataset, sequence, protocol, k, run["seed"])

    def outcomes(self) -> Iterator[Outcome]:
        """Outcomes of the units that went well, by tracker, dataset, protocol, sequence.

        Raises:
            SourceError: a file is not a whole outcome; the message names it and the way out.
        """
        return (outcome for outcome in self._all() if outcome.error is None)

    def failures(self) -> Iterator[Outcome]:
        """What is left of the units that failed: ``error`` holds the traceback. Raises SourceError as above."""
        return (outcome for outcome in self._all() if outcome.error is not None)

    def _all(self) -> Iterator[Outcome]:
        for path in _files(self.folder / "units"):
            try:
                yield read_outcome(path)
            except SourceError as error:
                raise SourceError(f"{error}; fasttrack eval with --resume does the unit again") from error

    def path(self, unit: Unit) -> Path:
        """Where the outcome of the unit lies."""
        return self.folder / "units" / unit.path

    def state(self, unit: Unit) -> str:
        """``MISSING``, ``DONE``, ``FAILED``, or ``DAMAGED``: there, but not a whole outcome of this unit."""
        path = self.path(unit)
        if not path.exists():
            return MISSING
        try:
            outcome = read_outcome(path)
        except SourceError:
            return DAMAGED
        if outcome.unit != unit:
            return DAMAGED
        return DONE if outcome.error is None else FAILED

    def write(self, outcome: Outcome) -> Path:
        """Write the outcome to its place. Raises OutputError."""
        return write_outcome(self.folder / "units", outcome)


def _files(folder: Path) -> Iterator[Path]:
    """The .json files under a folder in the order of their names, one folder's names at a time in memory."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in names:
        if is_folder:
            yield from _files(folder / name)
        elif name.endswith(".json"):
            yield folder / name

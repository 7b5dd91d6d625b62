"""Reading the folder of an evaluation for a report: what was asked, and the state of each unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fasttrack.errors import ArgumentError, FasttrackError, SourceError
from fasttrack.evaluation.datasets import load_dataset
from fasttrack.evaluation.outcome import Outcome, Unit, read_outcome
from fasttrack.evaluation.report.model import Entry, Failure
from fasttrack.evaluation.runner.plan import shortened
from fasttrack.evaluation.runner.store import Store
from fasttrack.evaluation.sequence import Dataset
from fasttrack.evaluation.truth import kept_dataset

__all__ = ["DAMAGED", "FAILED", "MISSING", "Evaluation"]

MISSING, FAILED, DAMAGED = "missing", "failed", "damaged"  # why a unit has no scores

_TRACEBACK = 12_000  # letters kept of one
_NAMED = 20  # units named of those that failed alike
_KINDS = 60  # kinds of failures kept


@dataclass
class Evaluation:
    """The folder, and what was found wrong while it was read.

    Attributes:
        store: the folder.
        run: what was asked (layout: ``runner/store.py``).
        entries: ident → tracker, in the order asked.
        datasets: by name.
        gone: names of those that are not at hand, of which only the ground truth was kept.
        broken: one line for each file that is not a whole outcome.
        failures: kinds of failures, by tracker and last line of the traceback.
        machines: those that outcomes were made on, each once.
    """

    store: Store
    run: Mapping[str, Any]
    entries: Mapping[str, Entry]
    datasets: Mapping[str, Dataset]
    gone: Sequence[str] = ()
    broken: list[str] = field(default_factory=list)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    machines: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, data: Iterable[str] = ()) -> Evaluation:
        """Open the folder; ``data`` are ``name=PATH`` that replace where datasets lay during the run.

        Raises:
            SourceError: not the folder of an evaluation, or a dataset that cannot be read.
            ArgumentError: ``data`` names a dataset that is not in the evaluation.
        """
        store = Store(folder)
        run = store.run
        specs = {name: str(facts["spec"]) for name, facts in run["datasets"].items()}
        for text in data:
            name, _, path = text.partition("=")
            kinds = {known: _kind(spec) for known, spec in specs.items()}
            matching = [known for known, kind in kinds.items() if name in (known, kind.partition("[")[0])]
            if not path or not matching:
                wanted = "NAME=PATH with a name of the evaluation: " + ", ".join(specs)
                raise ArgumentError("report", "--data", wanted, repr(text))
            specs.update({known: f"{kinds[known]}={path}" for known in matching})
        datasets: dict[str, Dataset] = {}
        gone: list[str] = []
        for name, spec in specs.items():
            try:
                datasets[name] = shortened(load_dataset(spec), run["frames"])
            except FasttrackError as error:
                datasets[name] = _kept(store, name, run["datasets"][name], error)
                gone.append(name)
        return cls(store, run, _entries(run["trackers"]), datasets, gone)

    def outcome(self, unit: Unit) -> Outcome | str:
        """The outcome of a unit, or why there is none; notes down failures and broken files."""
        path = self.store.path(unit)
        if not path.exists():
            return MISSING
        try:
            outcome = read_outcome(path)
        except SourceError as error:
            self.broken.append(self._inside(str(error)))
            return DAMAGED
        if outcome.unit != unit:
            self.broken.append(f"{self._inside(str(path))}: the outcome of another unit, {outcome.unit.path}")
            return DAMAGED
        if outcome.machine:
            self.machines.setdefault(repr(sorted(outcome.machine.items())), outcome.machine)
        if outcome.error is not None:
            self._note_failure(unit, outcome.error)
            return FAILED
        return outcome

    def reject(self, unit: Unit, why: str) -> str:
        """Note that the outcome of a unit cannot be used; the word for its state."""
        self.broken.append(f"{self._inside(str(self.store.path(unit)))}: {why}")
        return DAMAGED

    def _inside(self, text: str) -> str:
        return text.replace(f"{self.store.folder / 'units'}/", "")

    def _note_failure(self, unit: Unit, error: str) -> None:
        lines = [line for line in error.strip().splitlines() if line.strip()]
        message = lines[-1].strip() if lines else "no message"
        # Failures that differ in a number or an address are of one kind.
        key = unit.tracker, re.sub(r"0x[0-9a-f]+|\d+", "0", message)
        old = self.failures.get(key)
        if old is None and len(self.failures) >= _KINDS:
            key = unit.tracker, ""
            old, message = self.failures.get(key), "and in yet other ways"
        where = f"{unit.dataset}/{unit.sequence} ({unit.protocol} {unit.run})"
        if old is None:
            text = error if len(error) <= _TRACEBACK else f"…{error[-_TRACEBACK:]}"
            name = self.entries[unit.tracker].name
            self.failures[key] = Failure(name, message, text, 1, [where])
        else:
            named = [*old.where, where] if len(old.where) < _NAMED else old.where
            self.failures[key] = Failure(old.tracker, old.message, old.traceback, old.count + 1, named)


def _kept(store: Store, name: str, facts: Mapping[str, Any], error: FasttrackError) -> Dataset:
    try:
        return kept_dataset(store.folder, name, facts)
    except SourceError:
        raise SourceError(f"{error} (say where dataset {name} lies now by --data NAME=PATH)") from error


def _kind(spec: str) -> str:
    """``folder[base=0]=PATH`` → ``folder[base=0]``."""
    match = re.match(r"\s*\w+\s*(\[[^\]]*\])?", spec)
    return match[0] if match else spec


def _entries(trackers: Mapping[str, Any]) -> dict[str, Entry]:
    """Trackers by ident; two of the same name are told apart by what differs: their idents."""
    names = [str(facts["name"]) for facts in trackers.values()]
    return {
        ident: Entry(k, ident, names[k] if names.count(names[k]) == 1 else ident, str(facts["note"]), facts["config"])
        for k, (ident, facts) in enumerate(trackers.items())
    }

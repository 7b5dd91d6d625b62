"""Boxes that exist already, as contestants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fasttrack.errors import ArgumentError, SourceError, UnknownName
from fasttrack.evaluation.contestants.base import Contestant
from fasttrack.evaluation.formats import Entry, Format, Track, detect, fill_starts, format_of
from fasttrack.evaluation.formats.files import open_tree
from fasttrack.evaluation.formats.vot import Vot
from fasttrack.evaluation.sequence import Sequence

__all__ = ["RecordedBoxes", "RecordedContestant"]

# One for all units of a process: the folder is listed once.
_OPENED: dict[str, RecordedBoxes] = {}


class RecordedBoxes:
    """Result files in a folder or an archive, read one sequence at a time."""

    def __init__(self, place: Path, form: Format) -> None:
        self._tree, self._form = open_tree(place), form
        self._place = place

    @property
    def restarts(self) -> bool:
        """Whether the files can say that the tracker failed and was started again."""
        return isinstance(self._form, Vot)

    @cached_property
    def _entries(self) -> Mapping[str, Entry]:
        """The first run of every sequence."""
        every = self._form.require(self._tree)
        return {entry.sequence: entry for entry in reversed(every) if entry.run == 0 and entry.anchor is None}

    def track(self, sequence: Sequence) -> Track:
        """What the files say of the sequence, a row for each of its frames.

        Raises:
            SourceError: no file for it, a file that is wrong, or one with another number of rows than the sequence has
                frames; names the file.
        """
        if sequence.name not in self._entries:
            wanted = self._form.place(sequence.name)
            raise SourceError(f"{self._place}: no {wanted} (format {self._form.name}) for sequence {sequence.name}")
        entry = self._entries[sequence.name]
        track = self._form.load(self._tree, entry)[0]
        if len(track) != len(sequence):
            rows = f"{len(track)} rows for the {len(sequence)} frames of sequence {sequence.name}"
            raise SourceError(f"{self._tree.label(entry.file)}: {rows}")
        return fill_starts(track, sequence.boxes)

    def digest(self) -> str:
        """SHA-256 over names and contents of all files of boxes."""
        whole = hashlib.sha256()
        for name, entry in sorted(self._entries.items()):
            whole.update(hashlib.sha256(f"{name}\n{self._tree.text(entry.file)}".encode()).digest())
        return whole.hexdigest()


@dataclass(frozen=True)
class RecordedContestant(Contestant):
    """Result files of another program: ``boxes:NAME=DIR``, ``boxes:NAME[format=otb,base=0]=DIR``.

    The format is one of ``fasttrack.evaluation.formats.FORMATS``; without one it is told by layout and names. ``base``
    is 1 where the corner counts px from 1, 0 where it counts from 0; without one it is that of the format. Of VOT's
    format, ``experiment`` names the folder (``baseline``), where there are several. ``config`` holds the SHA-256 of all
    the boxes. Of several repetitions the first is taken.
    """

    place: Path
    form: Format

    @classmethod
    def of(cls, name: str, label: str, place: str, options: Mapping[str, Any]) -> RecordedContestant:
        """The contestant; its files are listed and read through once.

        Raises:
            ArgumentError: no name or place, another option, or another base than 0 and 1.
            UnknownName: no such format.
            SourceError: nothing there, or no file of the format.
        """
        if not (label and place):
            raise ArgumentError("contestant", "text", "boxes:NAME=DIR", repr(name))
        path = Path(place).expanduser().absolute()
        form = format_of(str(options["format"])) if "format" in options else detect(path)
        known = ("format", "base", *(["experiment"] if isinstance(form, Vot) else []))
        for option in options:
            if option not in known:
                raise UnknownName(f"option of boxes in the format {form.name}", option, known)
        base = options.get("base", form.base)
        if isinstance(base, bool) or base not in (0, 1):
            raise ArgumentError(name, "base", "1 or 0: where corners count px from", repr(base))
        form = replace(form, base=int(base))
        if isinstance(form, Vot) and "experiment" in options:
            form = replace(form, experiment=str(options["experiment"]))
        config = {"kind": "boxes", "format": form.name, "base": form.base, "boxes": RecordedBoxes(path, form).digest()}
        return cls(label, label, config, path, form)

    def note(self) -> str:
        """That its boxes were not made here."""
        return f"boxes on disk ({self.form.name}, corners from {self.form.base})"

    def make(self) -> RecordedBoxes:
        """The files, listed once in a process."""
        if self.ident not in _OPENED:
            _OPENED[self.ident] = RecordedBoxes(self.place, self.form)
        return _OPENED[self.ident]

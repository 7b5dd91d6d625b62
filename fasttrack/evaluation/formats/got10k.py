"""The format of the GOT-10k toolkit and its server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fasttrack.errors import ArgumentError
from fasttrack.evaluation.formats.base import Entry, Format, shift, table_text
from fasttrack.evaluation.formats.files import Tree
from fasttrack.evaluation.formats.track import Track, make_track
from fasttrack.evaluation.tables import parse_table

__all__ = ["GOT10K", "Got10k"]

_FILE = re.compile(r"(?:(?P<folder>[^/]+)/)?(?P<name>[^/]+)_(?P<run>\d{3})\.txt")


@dataclass(frozen=True)
class Got10k(Format):
    """A folder per sequence with a file per run and the times of all runs beside each other."""

    holds_runs = True

    def place(self, sequence: str) -> str:
        """``NAME/NAME_001.txt``."""
        return f"{sequence}/{sequence}_001.txt"

    def entries(self, tree: Tree) -> list[Entry]:
        """``NAME/NAME_001.txt`` and further runs; a single file may lie anywhere."""
        names, found = set(tree.names), []
        for name in tree.names:
            match = _FILE.fullmatch(name)
            if match and (match["folder"] == match["name"] or (tree.single and match["folder"] is None)):
                times = f"{match['name']}/{match['name']}_time.txt"
                run = int(match["run"]) - 1
                found.append(Entry(match["name"], name, run, times=times if times in names else None))
        return sorted(found, key=lambda entry: (entry.sequence, entry.run))

    def load(self, tree: Tree, entry: Entry) -> list[Track]:
        """The track of a run; its times are its column of the file of times."""
        boxes = shift(parse_table(tree.text(entry.file), tree.label(entry.file), columns=4), -self.base)
        seconds = self.column(tree, entry.times, len(boxes), entry.run)
        return [make_track(entry.sequence, boxes, seconds=seconds, run=entry.run)]

    def files(self, tracks: Sequence[Track]) -> Iterator[tuple[str, str]]:
        """A file per run, and the times where those of any run are known."""
        name = tracks[0].sequence
        for track in tracks:
            if track.anchor is not None:
                raise ArgumentError("format got10k", "tracks", "runs from the first frame on", "a run from an anchor")
            yield f"{name}/{name}_{track.run + 1:03d}.txt", self.box_text(track.boxes)
        if any(not np.isnan(track.seconds).all() for track in tracks):
            columns = np.full((max(len(t) for t in tracks), max(t.run for t in tracks) + 1), np.nan)
            for track in tracks:
                columns[: len(track), track.run] = track.seconds
            yield f"{name}/{name}_time.txt", table_text(columns, ",", 8)


GOT10K = Got10k("got10k", "NAME/NAME_001.txt and NAME/NAME_time.txt, commas", decimals=4, times="must")
"""GOT-10k: ``NAME/NAME_001.txt`` (``_002``, ``_003`` for further runs) with commas, corners counted from 1, four
decimals.

``NAME/NAME_time.txt`` has a row per frame and a column per run, seconds. For the server: a zip with the folders of the
sequences in its root. A tracker that is not deterministic runs three times.
Source: GOT-10k toolkit, ``experiments/got10k.py``; corners counted from 1: its authors in issue 6.
"""

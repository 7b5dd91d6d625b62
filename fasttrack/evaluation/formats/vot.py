"""The format of the VOT toolkits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.formats.base import Entry, Format, number_text, shift
from fasttrack.evaluation.formats.files import Tree
from fasttrack.evaluation.formats.track import Track, make_track
from fasttrack.evaluation.formats.vot_regions import CODES, parse_region
from fasttrack.evaluation.metrics.polygon import around
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED
from fasttrack.evaluation.tables import parse_table, split_row

__all__ = ["VOT", "Vot"]

_FILE = re.compile(r"(?:(?P<path>.*)/)?(?P<name>[^/]+)_(?P<number>\d{3}|\d{8})\.(?:txt|bin)")


@dataclass(frozen=True)
class Vot(Format):
    """A folder per experiment and sequence, a file of regions per run.

    Attributes:
        experiment: folder that is read and written. None: the only one there is; written is ``baseline`` where the
            tracker was started more than once in a run or failed, else ``unsupervised``.
    """

    experiment: str | None = None

    holds_runs = True
    holds_polygons = True

    @property
    def holds_scores(self) -> bool:
        """They are the property ``confidence``."""
        return True

    def place(self, sequence: str) -> str:
        """``EXPERIMENT/NAME/NAME_001.txt``."""
        return f"{self.experiment or 'baseline'}/{sequence}/{sequence}_001.txt"

    def entries(self, tree: Tree) -> list[Entry]:
        """Runs (``_001``) and starts from anchors (``_00000050``) of one experiment; a single file may lie anywhere."""
        found = self.experiments(tree)
        if self.experiment is not None:
            entries = found.get(self.experiment, [])
        elif len(found) > 1:
            several = ", ".join(sorted(found))
            raise SourceError(f"{tree.root}: results of several experiments ({several}); name the one that is meant")
        else:
            entries = next(iter(found.values()), [])
        return entries

    def experiments(self, tree: Tree) -> dict[str, list[Entry]]:
        """The runs of each experiment; its name is empty where the folders of the sequences lie in the root."""
        names = set(tree.names)
        found: dict[str, list[Entry]] = {}
        for name in tree.names:
            match = _FILE.fullmatch(name)
            # Of a run that is there twice the toolkit reads the text.
            if match is None or (name.endswith(".bin") and f"{name[:-4]}.txt" in names):
                continue
            experiment, _, folder = (match["path"] or "").rpartition("/")
            if "/" not in experiment and (folder == match["name"] or (tree.single and not folder)):
                found.setdefault(experiment, []).append(self._entry(name, match, names))
        for entries in found.values():
            entries.sort(key=lambda entry: (entry.sequence, entry.anchor or 0, entry.run))
        return found

    @staticmethod
    def _entry(name: str, match: re.Match[str], names: set[str]) -> Entry:
        number, stem = int(match["number"]), name[:-4]
        multi_start = len(match["number"]) == 8
        times = [f"{stem}_time.value", f"{stem.removesuffix('_' + match['number'])}_time.txt"]
        return Entry(
            sequence=match["name"],
            file=name,
            run=0 if multi_start else number - 1,
            anchor=number if multi_start else None,
            times=next((file for file in times if file in names), None),
            scores=next((file for file in (f"{stem}_confidence.value",) if file in names), None),
        )

    def load(self, tree: Tree, entry: Entry) -> list[Track]:
        """The track of a run: codes become states, polygons keep their corners."""
        lines = tree.text(entry.file).rstrip().splitlines()
        boxes, states = np.full((len(lines), 4), np.nan), np.full(len(lines), TRACKED, np.int8)
        polygons: dict[int, NDArray[np.float64]] = {}
        for row, line in enumerate(lines):
            try:
                region = parse_region(split_row(line))
            except ValueError as error:
                raise SourceError(f"{tree.label(entry.file)}:{row + 1}: {error}: {line.strip()[:80]!r}") from None
            if len(region) == 1:
                states[row] = CODES[int(region[0])]
            elif len(region) == 4:
                boxes[row] = region
            else:
                points = region.reshape(-1, 2)
                boxes[row] = around(points)
                polygons[row] = points - self.base
        if not lines:
            raise SourceError(f"{tree.label(entry.file)}: holds no region")
        states[np.isnan(boxes).any(1) & (states == TRACKED)] = SKIPPED
        boxes = shift(boxes, -self.base)
        seconds, scores = (self._property(tree, name, len(lines), entry.run) for name in (entry.times, entry.scores))
        return [make_track(entry.sequence, boxes, states, seconds, scores, polygons, entry.run, anchor=entry.anchor)]

    def _property(self, tree: Tree, name: str | None, count: int, run: int) -> NDArray[np.float64]:
        """A property: a value a row, an empty row where there is none; of the older toolkit a column per run."""
        if name is None or not name.endswith(".value"):
            return self.column(tree, name, count, run)
        rows = tree.text(name).removesuffix("\n").split("\n")
        if len(rows) != count:
            raise SourceError(f"{tree.label(name)}: {len(rows)} rows for {count} regions")
        return parse_table("\n".join(row.strip() or "NaN" for row in rows), tree.label(name), columns=1)[:, 0]

    def files(self, tracks: Sequence[Track]) -> Iterator[tuple[str, str]]:
        """Regions and properties of every run."""
        restarts = any(np.isin(t.states, (FAILURE, SKIPPED)).any() or (t.states == INIT).sum() > 1 for t in tracks)
        folder = self.experiment or ("baseline" if restarts else "unsupervised")
        for track in tracks:
            number = f"{track.run + 1:03d}" if track.anchor is None else f"{track.anchor:08d}"
            stem = f"{folder}/{track.sequence}/{track.sequence}_{number}"
            yield f"{stem}.txt", "".join(self._region_text(track, row) + "\n" for row in range(len(track)))
            for name, column in (("time", track.seconds), ("confidence", track.scores)):
                if not np.isnan(column).all():
                    values = ["" if value != value else number_text(value) for value in column.tolist()]
                    yield f"{stem}_{name}.value", "\n".join(values) + "\n"

    def _region_text(self, track: Track, row: int) -> str:
        state, box = int(track.states[row]), track.boxes[row]
        if state != TRACKED or np.isnan(box).any():
            return {INIT: "1", FAILURE: "2"}.get(state, "0")
        if row in track.polygons:
            values = np.round(track.polygons[row] + self.base, 10).ravel()
        else:
            values = shift(box[None], self.base)[0]
        return ",".join(number_text(value, self.decimals) for value in values.tolist())

    def also_reads(self, tree: Tree) -> set[str]:
        """Properties of any name."""
        return {name for name in tree.names if name.endswith(".value")}


VOT = Vot("vot", "EXPERIMENT/NAME/NAME_001.txt and NAME_001_time.value, commas", base=0, times="may")
"""VOT: ``baseline/NAME/NAME_001.txt``, a region a row with commas, corners counted from 0.

A row is ``1`` (the tracker was started), ``2`` (it failed), ``0`` (it was not running), ``x,y,w,h`` or the corners of a
polygon; a row with NaN counts as ``0``. Properties lie beside it, a value a row, empty where there is none:
``NAME_001_time.value`` (s), ``NAME_001_confidence.value``; ``NAME_time.txt`` of the older toolkit (a column per run) is
read. Multi-start runs are ``NAME_00000050.txt``, rows in the order of tracking from frame 50, forwards or backwards:
which of them only the dataset tells. ``.bin`` instead of ``.txt``, what the toolkit writes unless it is told not to, is
read alike. Of a mask the box around its px is read: masks are not held.
Source: vot-toolkit, ``tracker/results.py``, ``region/io.py``, ``experiment/multirun.py``, ``multistart.py``; pysot,
``tools/test.py``.
"""

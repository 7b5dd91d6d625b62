"""What a format of result files is: where files lie, and how a track becomes text and text a track."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import ArgumentError, SourceError
from fasttrack.evaluation.formats.files import Tree, open_tree, write_files
from fasttrack.evaluation.formats.track import Track
from fasttrack.evaluation.tables import parse_table

__all__ = ["Entry", "Format", "number_text", "rows_text", "shift", "table_text"]


@dataclass(frozen=True)
class Entry:
    """One file of boxes among those of a folder, and the files that go with it.

    Attributes:
        sequence: its name.
        file: the file, relative to the root of the tree.
        run: number of the repetition, from 0.
        anchor: first frame of a multi-start run (VOT).
        times, scores: files of the same run, where they are there.
    """

    sequence: str
    file: str
    run: int = 0
    anchor: int | None = None
    times: str | None = None
    scores: str | None = None


@dataclass(frozen=True)
class Format(ABC):
    """A format of result files; each kind of layout is a subclass, each format an instance in ``FORMATS``.

    Attributes:
        name: in the registry.
        about: one line: layout and separator.
        separators: between the numbers of a row; the first is written, all are right to its consumers.
        base: 1 where the corner counts px from 1; the package counts from 0.
        decimals: digits written behind the point of a box; None for as many as give back the same number.
        times: ``none`` (has no place for them), ``may`` or ``must`` (its consumer wants them).
        tolerance: px by which the first box may differ from the ground truth's, for what writers of the format round.
    """

    name: str
    about: str
    separators: tuple[str, ...] = (",",)
    base: int = 1
    decimals: int | None = None
    times: str = "none"
    tolerance: float = 0.01

    holds_runs = False
    holds_targets = False
    holds_polygons = False

    @property
    def holds_scores(self) -> bool:
        """Whether confidences have a place."""
        return False

    @abstractmethod
    def entries(self, tree: Tree) -> list[Entry]:
        """The files of boxes, ordered by sequence and run. Raises SourceError where they contradict each other."""

    @abstractmethod
    def load(self, tree: Tree, entry: Entry) -> list[Track]:
        """Read one of them: one track, or one per target. Raises SourceError naming file and line."""

    @abstractmethod
    def files(self, tracks: Sequence[Track]) -> Iterator[tuple[str, str]]:
        """Relative names and texts of the files for all tracks of one sequence."""

    @abstractmethod
    def place(self, sequence: str) -> str:
        """Relative name of the first file of a sequence."""

    def also_reads(self, tree: Tree) -> set[str]:
        """Names of files that belong to the format beside those of ``entries``."""
        return set()

    def read(self, path: str | Path) -> list[Track]:
        """Every track of a folder, an archive or a single file.

        Raises:
            SourceError: there is no file of this format, or one is wrong; names file and line.
        """
        tree = open_tree(path)
        return [track for entry in self.require(tree) for track in self.load(tree, entry)]

    def require(self, tree: Tree) -> list[Entry]:
        """``entries``, refused where there are none."""
        entries = self.entries(tree)
        if not entries:
            raise SourceError(f"{tree.root}: no file of the format {self.name} ({self.about})")
        return entries

    def write(self, path: str | Path, tracks: Iterable[Track]) -> int:
        """Write tracks under a folder, or into an archive where the path ends in ``.zip``.

        Args:
            path: folder or archive; files of the same name are replaced, each whole or not at all.
            tracks: those of one sequence one after the other; they are taken as they come.

        Returns:
            How many files were written.

        Raises:
            ArgumentError: a track that the format cannot hold (a second run, a run from an anchor).
            OutputError: a file cannot be written.
        """
        return write_files(Path(path), self.render(tracks))

    def render(self, tracks: Iterable[Track]) -> Iterator[tuple[str, str]]:
        """Names and texts of the files that ``write`` writes; of each sequence and run first the boxes."""
        for _, group in groupby(tracks, key=lambda track: track.sequence):
            together = list(group)
            for part in [together] if self.holds_targets else _by_target(together):
                yield from self.files(part)

    def single(self, tracks: Sequence[Track]) -> Track:
        """The one run from the first frame that formats of one file per sequence can hold."""
        track = tracks[0]
        if len(tracks) > 1:
            raise ArgumentError(
                f"format {self.name}", "tracks", "one run per sequence", f"{len(tracks)} of one sequence"
            )
        if track.anchor is not None:
            raise ArgumentError(f"format {self.name}", "tracks", "runs from the first frame on", "a run from an anchor")
        return track

    def box_text(self, boxes: NDArray[np.float64]) -> str:
        """Rows of boxes as the format writes them."""
        return table_text(shift(boxes, self.base), self.separators[0], self.decimals)

    def column(self, tree: Tree, name: str | None, count: int, index: int = 0) -> NDArray[np.float64]:
        """A column of a file of numbers that goes with ``count`` boxes; NaN where there is no such file."""
        if name is None:
            return np.full(count, np.nan)
        table = parse_table(tree.text(name), tree.label(name))
        if len(table) != count:
            raise SourceError(f"{tree.label(name)}: {len(table)} rows for {count} boxes")
        return table[:, index] if index < table.shape[1] else np.full(count, np.nan)


def _by_target(tracks: Sequence[Track]) -> Iterator[list[Track]]:
    """Apart by target; several targets of one video become sequences of their own (``NAME.1``, ``NAME.2``)."""
    targets = sorted({track.target for track in tracks})
    for target in targets:
        own = [track for track in tracks if track.target == target]
        yield own if len(targets) == 1 else [replace(t, sequence=f"{t.sequence}.{target}", target=1) for t in own]


def shift(boxes: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """Boxes with ``by`` added to the corner, rounded to 1e-10 px: 0.1 + 1 − 1 is to give 0.1 again."""
    if by == 0:
        return boxes
    moved: NDArray[np.float64] = boxes.copy()
    moved[:, :2] = np.round(moved[:, :2] + by, 10)
    return moved


def number_text(value: float, decimals: int | None = None) -> str:
    """A number without exponent: with ``decimals`` digits, or as few as give back the same number; ``NaN``."""
    if value != value:
        return "NaN"
    if decimals is not None:
        return f"{value + 0.0:.{decimals}f}"
    text = repr(float(value) + 0.0)  # + 0.0: no -0
    if "e" in text or "n" in text:
        return str(np.format_float_positional(value, trim="-"))
    return text.removesuffix(".0")


def rows_text(rows: Iterable[Sequence[float]], separator: str, decimals: int | None = None) -> str:
    """Rows as text, each ended by a newline."""
    return "".join(separator.join([number_text(value, decimals) for value in row]) + "\n" for row in rows)


def table_text(table: NDArray[np.float64], separator: str, decimals: int | None = None) -> str:
    """A table as text; see ``rows_text``."""
    return rows_text(table.tolist(), separator, decimals)

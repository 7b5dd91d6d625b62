"""Formats with one file of boxes per sequence: OTB, pytracking, LaSOT, TrackingNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fasttrack.evaluation.formats.base import Entry, Format, shift, table_text
from fasttrack.evaluation.formats.files import Tree
from fasttrack.evaluation.formats.track import Track, make_track
from fasttrack.evaluation.tables import parse_table

__all__ = ["LASOT", "OTB", "PYTRACKING", "TRACKINGNET", "Flat"]


@dataclass(frozen=True)
class Flat(Format):
    """One text file of x, y, w, h rows per sequence, a row per frame.

    Attributes:
        times_file, scores_file: where the times and confidences of a sequence lie (``{}`` is its name); empty where
            the format has no place for them.
        times_decimals: digits of a time.
    """

    times_file: str = ""
    scores_file: str = ""
    times_decimals: int = 8

    def place(self, sequence: str) -> str:
        """``NAME.txt``."""
        return f"{sequence}.txt"

    def entries(self, tree: Tree) -> list[Entry]:
        """Text files of the root, without those that are times or scores of another."""
        names = set(tree.names)
        stems = {name.removesuffix(".txt") for name in names if name.endswith(".txt") and "/" not in name}
        return [
            Entry(
                sequence=stem,
                file=self.place(stem),
                times=self._there(self.times_file, stem, names),
                scores=self._there(self.scores_file, stem, names),
            )
            for stem in sorted(stems)
            if not any(stem.endswith(end) and stem.removesuffix(end) in stems for end in _BESIDE)
        ]

    @staticmethod
    def _there(pattern: str, stem: str, names: set[str]) -> str | None:
        name = pattern.format(stem)
        return name if pattern and name in names else None

    def load(self, tree: Tree, entry: Entry) -> list[Track]:
        """The track of a file; separators of any kind are read."""
        boxes = shift(parse_table(tree.text(entry.file), tree.label(entry.file), columns=4), -self.base)
        seconds = self.column(tree, entry.times, len(boxes))
        scores = self.column(tree, entry.scores, len(boxes))
        return [make_track(entry.sequence, boxes, seconds=seconds, scores=scores)]

    def files(self, tracks: Sequence[Track]) -> Iterator[tuple[str, str]]:
        """The file of boxes, and those of times and scores where they are known."""
        track = self.single(tracks)
        yield self.place(track.sequence), self.box_text(track.boxes)
        for pattern, column, decimals in (
            (self.times_file, track.seconds, self.times_decimals),
            (self.scores_file, track.scores, None),
        ):
            if pattern and not np.isnan(column).all():
                yield pattern.format(track.sequence), table_text(column[:, None], ",", decimals)

    @property
    def holds_scores(self) -> bool:
        """Whether confidences have a place."""
        return bool(self.scores_file)


_BESIDE = ("_time", "_object_presence_scores")  # a file of this end goes with the one of the name before it

OTB = Flat(
    name="otb",
    about="NAME.txt; commas, tabs or spaces; times/NAME_time.txt",
    separators=(",", "\t", " "),
    times="may",
    times_file="times/{}_time.txt",
)
"""OTB: ``NAME.txt``, x, y, w, h of each frame separated by commas (tabs and spaces are read as well), corners
counted from 1.

Double targets are sequences of their own (``Jogging.1.txt``). Times, seconds a row, in ``times/NAME_time.txt`` as the
GOT-10k toolkit keeps them for OTB. The benchmark's own ``.mat`` files are not read.
Source: text results and readers of the OTB toolkit (Wu et al. 2013, 2015); GOT-10k toolkit, ``experiments/otb.py``.
"""

PYTRACKING = Flat(
    name="pytracking",
    about="NAME.txt and NAME_time.txt, tabs",
    separators=("\t", ","),
    times="may",
    tolerance=1.0,
    times_file="{}_time.txt",
    scores_file="{}_object_presence_scores.txt",
)
"""pytracking: ``NAME.txt`` with tabs, ``NAME_time.txt`` (s), ``NAME_object_presence_scores.txt``, a row per frame.

Its own trackers save integers cut towards 0 (their first box may be 1 px off); its analysis reads floats, with tabs
or commas. Coordinates are those of the ground truth file it compares with: corners counted from 1 for OTB, LaSOT,
GOT-10k, UAV123; take base 0 for datasets that count from 0 (TrackingNet, NFS).
Source: pytracking, ``evaluation/running.py`` and ``analysis/extract_results.py``.
"""

LASOT = Flat("lasot", "NAME.txt, commas")
"""LaSOT: ``NAME.txt`` (``airplane-1.txt``) with commas, corners counted from 1.

The folder is ``TRACKER_tracking_result``. The smallest coordinate is 1, as its authors say. A row that is NaN or
without area counts as the one before it.
Source: LaSOT evaluation toolkit, ``utils/eval_tracker.m``, ``utils/calc_seq_err_robust.m`` and issue 14.
"""

TRACKINGNET = Flat("trackingnet", "NAME.txt, commas; a zip of them, no folder inside", base=0)
"""TrackingNet: ``NAME.txt`` with commas in the root of a zip archive, corners counted from 0 (its
boxes come from fractions of the width).

The server rounds to whole px, takes a missing file for boxes of no size and replaces the first row by the truth.
Source: TrackingNet devkit, ``metrics.py``; layout as pytracking's ``pack_trackingnet_results.py`` packs it.
"""

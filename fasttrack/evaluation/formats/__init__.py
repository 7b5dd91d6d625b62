"""Result files: what other toolkits and servers read and write, and the way between them.

Every format gives and takes ``Track``s: boxes in 0-based edge coordinates, a row per frame.
``FORMATS["otb"].read(path)`` reads a folder, a zip archive or a single file, ``.write(path, tracks)`` writes a folder
or an archive, ``detect(path)`` says which format a folder has. Where a format counts from 1 the corner is shifted, and
only the corner: a box over the px 1 … w, 1 … h of a 1-based image, (1, 1, w, h), is (0, 0, w, h) here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fasttrack.errors import SourceError, UnknownName
from fasttrack.evaluation.formats.base import Entry, Format
from fasttrack.evaluation.formats.files import Tree, is_archive, open_tree
from fasttrack.evaluation.formats.flat import LASOT, OTB, PYTRACKING, TRACKINGNET
from fasttrack.evaluation.formats.got10k import GOT10K
from fasttrack.evaluation.formats.mot import MOT
from fasttrack.evaluation.formats.track import Track, fill_starts, make_track, track_of
from fasttrack.evaluation.formats.vot import VOT
from fasttrack.evaluation.tables import split_row

__all__ = [
    "FORMATS",
    "Entry",
    "Format",
    "Track",
    "detect",
    "fill_starts",
    "format_of",
    "make_track",
    "track_of",
]

FORMATS: Mapping[str, Format] = MappingProxyType(
    {format.name: format for format in (OTB, PYTRACKING, GOT10K, LASOT, TRACKINGNET, VOT, MOT)}
)


def format_of(name: str) -> Format:
    """The format of that name. Raises UnknownName listing those there are."""
    if name not in FORMATS:
        raise UnknownName("result format", name, FORMATS)
    return FORMATS[name]


def detect(path: str | Path) -> Format:
    """Which format a folder, an archive or a file of results has, by its layout and its first rows.

    OTB, LaSOT and TrackingNet lie alike: LaSOT is told by names like ``airplane-1``, TrackingNet by names of eleven
    characters, ``_`` and a number, or by a zip archive; everything else is OTB. Name the format where that may be
    wrong.

    Raises:
        SourceError: nothing there looks like results.
    """
    tree = open_tree(path)
    nested = [entry for entries in VOT.experiments(tree).values() for entry in entries]
    if nested:
        return VOT if _is_vot(tree, nested[0]) else GOT10K
    entries = OTB.entries(tree)
    if not entries:
        raise SourceError(f"{path}: no result files of any known format ({', '.join(FORMATS)})")
    row = _first_row(tree, entries[0])
    if len(split_row(row)) >= 7:
        return MOT
    if "\t" in row:
        return PYTRACKING
    names = [entry.sequence for entry in entries]
    if is_archive(Path(path)) or all(re.fullmatch(r".{11}_\d+", name) for name in names):
        return TRACKINGNET
    return LASOT if all(re.fullmatch(r"[a-z]+-\d+", name) for name in names) else OTB


def _first_row(tree: Tree, entry: Entry) -> str:
    return next((line for line in tree.text(entry.file).splitlines() if line.strip()), "")


def _is_vot(tree: Tree, entry: Entry) -> bool:
    """A run of VOT is binary, begins with a code, lies a folder deeper than one of GOT-10k, or from an anchor."""
    if entry.file.endswith(".bin"):
        return True
    return entry.file.count("/") == 2 or entry.anchor is not None or len(split_row(_first_row(tree, entry))) == 1

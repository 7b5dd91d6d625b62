"""VOT-2015 … VOT-2019, short-term challenge: Kristan et al., "A Novel Performance Evaluation Methodology", TPAMI 2016.

Layout: ``list.txt`` with names; in ``NAME/`` the images ``color/00000001.jpg`` (without ``color/`` in older copies), or
as ``sequence`` says (``channels.color=color/%08d.jpg``); ``groundtruth.txt`` with rows x1,y1,…,x4,y4 or x,y,w,h;
``TAG.tag`` or ``TAG.label`` with a 0 or 1 per frame, the rest being 0 where the file is short. The picture's corner is
(0, 0). The box of a polygon is the smallest upright one around it, as the toolkit hands it to trackers that take boxes.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.metrics.polygon import around, corners
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence
from fasttrack.evaluation.tables import read_table, read_text

__all__ = ["load"]


def load(spec: Spec) -> Dataset:
    """The sequences of ``list.txt`` that are there."""
    names = files.read_names(spec.path / "list.txt", f"names of the sequences of {spec.kind}")
    there = set(files.folders(spec.path))
    found = [
        Sequence(name, partial(_frames, spec.path / name), partial(_annotations, spec.path / name))
        for name in names
        if name in there
    ]
    missing = [name for name in names if name not in there]
    wanted = f"the folders that {spec.path / 'list.txt'} names"
    return build(spec, spec.kind, found, missing, protocol="vot-supervised", wanted=wanted)


def _properties(folder: Path) -> dict[str, str]:
    path = folder / "sequence"
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in read_text(path).splitlines() if not line.lstrip().startswith("#"))
    return {key.strip(): value.strip() for key, mark, value in pairs if mark}


def _frames(folder: Path) -> ImageFrames:
    pattern = _properties(folder).get("channels.color", "").replace("\\", "/")
    place = folder / pattern
    if "%" not in pattern:
        if not pattern:
            place = folder / "color" if (folder / "color").is_dir() else folder
        return files.all_frames(place)
    form = re.fullmatch(r"([^%]*)%0?(\d*)d([^%]*)", place.name)
    if form is None:
        raise SourceError(f"{folder / 'sequence'}: channels.color={pattern} is not a pattern such as color/%08d.jpg")
    before, digits, after = form.groups()
    name = re.compile(rf"{re.escape(before)}\d{{{digits or 1},}}{re.escape(after)}")
    images = tuple(path for path in files.all_frames(place.parent).paths if name.fullmatch(path.name))
    if not images:
        raise SourceError(f"{place.parent}: no image {place.name}, of which {folder / 'sequence'} tells")
    return ImageFrames(images)


def _annotations(folder: Path) -> Annotations:
    truth, frames = folder / _properties(folder).get("groundtruth", "groundtruth.txt"), len(_frames(folder))
    table = read_table(truth, (4, 8))
    files.check_count(truth, len(table), frames)
    polygons = table if table.shape[1] == 8 else None
    boxes = files.boxes_of(table if polygons is None else around(corners(polygons)), truth, base=0)
    return Annotations(boxes, polygons=polygons, visible=files.seen(boxes), tags=_tags(folder, frames))


def _tags(folder: Path, frames: int) -> dict[str, NDArray[np.bool_]]:
    paths = sorted([*folder.glob("*.tag"), *folder.glob("*.label")])
    return {path.stem: files.read_flags(path, frames, pad=True) > 0 for path in paths}

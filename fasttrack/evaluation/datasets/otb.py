"""OTB-2013, OTB-50 and OTB-100: Wu, Lim, Yang, "Object Tracking Benchmark", CVPR 2013 and TPAMI 2015.

Layout: ``NAME/img/0001.jpg`` (``00001.jpg`` in Board, ``.png`` in KiteSurf) and ``NAME/groundtruth_rect.txt`` with
rows x, y, w, h separated by commas, tabs or spaces, the top-left pixel being (1, 1). Two targets of one video have
``groundtruth_rect.1.txt`` and ``groundtruth_rect.2.txt``; of Human4 only the second is annotated. The last row of Board
and of Twinnings is 0 0 0 0: no box, as the benchmark's own scoring has it.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.otb_facts import ATTRIBUTES, OTB50, OTB2013, RANGES
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence

__all__ = ["load"]

_LISTS = {"otb2013": OTB2013, "otb50": OTB50}  # every other kind: all of them


def load(spec: Spec) -> Dataset:
    """Targets of the kind's list whose folders are there; ``otb`` has no list to be complete of."""
    wanted = _LISTS.get(spec.kind, tuple(ATTRIBUTES))
    there = set(files.folders(spec.path))
    found = [_sequence(spec.path, name) for name in wanted if _video(name) in there]
    missing = [name for name in wanted if _video(name) not in there] if spec.kind != "otb" else []
    name = "otb100" if spec.kind == "otb2015" else spec.kind
    return build(spec, name, found, missing, wanted="folders such as Basketball/ with img/ and groundtruth_rect.txt")


def _video(target: str) -> str:
    return re.sub(r"\.\d$", "", target)


def _sequence(root: Path, target: str) -> Sequence:
    folder = root / _video(target)
    truth = folder / f"groundtruth_rect{target[len(folder.name) :]}.txt"
    return Sequence(
        target,
        partial(_frames, folder),
        partial(_annotations, folder, truth),
        frozenset(ATTRIBUTES[target]),
    )


def _frames(folder: Path) -> ImageFrames:
    if folder.name in RANGES:
        return files.frames_between(folder / "img", *RANGES[folder.name], cut=True)
    return files.all_frames(folder / "img")


def _annotations(folder: Path, truth: Path) -> Annotations:
    return files.read_annotations(truth, len(_frames(folder)), base=1)

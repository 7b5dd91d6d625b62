"""GOT-10k: Huang, Zhao, Huang, "GOT-10k: A Large High-Diversity Benchmark for Generic Object Tracking", TPAMI 2019.

Layout of a split (``train``, ``val``, ``test``): ``list.txt`` with names, ``NAME/00000001.jpg``,
``NAME/groundtruth.txt`` with rows x,y,w,h, the top-left pixel being (1, 1) as its authors state; ``NAME/absence.label``
(1 where the target is absent), ``NAME/cut_by_image.label``, ``NAME/cover.label`` (0: nothing of the target visible …
8: all of it) and ``NAME/meta_info.ini``. The test set publishes the first box only, and no labels.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence
from fasttrack.evaluation.tables import read_table, read_text

__all__ = ["load"]

_SPLITS = ("train", "val", "test")
_WHOLE = 8  # of cover.label: the target is visible as a whole


def load(spec: Spec) -> Dataset:
    """The sequences of the split's list that are there.

    The path is the folder of a split, or that of all of them with the option ``split``.

    Raises:
        SourceError: no ``list.txt`` at the path, and none of a split that was asked for.
    """
    root = spec.path / spec.split if spec.split else spec.path
    if not (root / "list.txt").is_file():
        splits = [name for name in _SPLITS if (spec.path / name / "list.txt").is_file()]
        hint = f"; it has the splits {', '.join(splits)}: write got10k[split={splits[0]}]=…" if splits else ""
        raise SourceError(f"{root / 'list.txt'}: no such file (names of the sequences of GOT-10k){hint}")
    names = files.read_names(root / "list.txt", "names of the sequences of GOT-10k")
    there = set(files.folders(root))
    split = root.resolve().name
    found = [_sequence(root / name, split == "test") for name in names if name in there]
    missing = [name for name in names if name not in there]
    name = f"got10k-{split}" if split in _SPLITS else "got10k"
    return build(spec, name, found, missing, rules="got10k", wanted=f"the folders that {root / 'list.txt'} names")


def _sequence(folder: Path, test: bool) -> Sequence:
    return Sequence(
        folder.name,
        partial(files.all_frames, folder),
        partial(_annotations, folder, test),
        _attributes(folder / "meta_info.ini"),
    )


def _annotations(folder: Path, test: bool) -> Annotations:
    truth, frames = folder / "groundtruth.txt", len(files.all_frames(folder))
    table = read_table(truth, 4)
    files.check_count(truth, len(table), frames, init_only=test)
    boxes = files.boxes_of(table, truth, base=1)
    tags = _tags(folder, frames) if len(boxes) == frames else {}
    # The toolkit scores the frames of which something is visible (cover above 0).
    hidden = [tags[name] for name in ("absence", "hidden") if name in tags]
    return Annotations(boxes, visible=files.seen(boxes, hidden), tags=tags)


def _tags(folder: Path, frames: int) -> dict[str, NDArray[np.bool_]]:
    """By the label files that are there: ``absence``, ``cut_by_image``, ``cover`` (a part is covered), ``hidden``."""
    tags = {
        name: files.read_flags(folder / f"{name}.label", frames) > 0
        for name in ("absence", "cut_by_image")
        if (folder / f"{name}.label").is_file()
    }
    if (folder / "cover.label").is_file():
        visible = files.read_flags(folder / "cover.label", frames, range(_WHOLE + 1))
        tags["cover"], tags["hidden"] = visible < _WHOLE, visible == 0
    return tags


def _attributes(meta: Path) -> frozenset[str]:
    """What is tracked and how it moves, where the sequence says so."""
    if not meta.is_file():
        return frozenset()
    pairs = (line.partition(":") for line in read_text(meta).splitlines())
    return frozenset(value.strip() for key, _, value in pairs if key.strip() in ("object_class", "motion_class"))

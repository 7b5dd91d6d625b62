"""Ground truth kept with an evaluation, so that it can be scored where the dataset is not.

``truth/DATASET/SEQUENCE.json`` in the folder of an evaluation::

    {"frames": 725, "size": [640, 360], "attributes": ["OCC"], "boxes": [[x, y, w, h], …],
     "polygons": null, "visible": null, "tags": {}}
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.outcome import without_nan
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence
from fasttrack.evaluation.whole import write_whole

__all__ = ["GoneFrames", "keep_truth", "kept_dataset"]


@dataclass(frozen=True)
class GoneFrames:
    """As many frames as there were; none can be seen.

    Attributes:
        count: how many.
        size: width and height of the first one in px, where known.
    """

    count: int
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        raise SourceError(f"frame {index} is not at hand")


def keep_truth(folder: Path, dataset: str, sequence: Sequence) -> None:
    """Write what the dataset says of a sequence, unless it is there already.

    Raises:
        OutputError: it cannot be written. SourceError: the sequence has no ground truth that can be read.
    """
    path = _place(folder, dataset, sequence.name)
    if path.exists():
        return
    own = copy.copy(sequence)  # what is read must not stay with the caller's sequence
    truth = own.annotations
    record: dict[str, Any] = {
        "frames": len(own),
        "size": _size(own),
        "attributes": sorted(own.attributes),
        "boxes": without_nan(truth.boxes.tolist()),
        "polygons": None if truth.polygons is None else without_nan(truth.polygons.tolist()),
        "visible": None if truth.visible is None else truth.visible.tolist(),
        "tags": {name: flags.tolist() for name, flags in truth.tags.items()},
    }
    write_whole(path, json.dumps(record, allow_nan=False, separators=(",", ":")))


def _size(sequence: Sequence) -> list[int] | None:
    try:
        height, width = sequence.frames[0].shape[:2]
    except SourceError:  # boxes on disk need no pictures
        return None
    return [width, height]


def kept_dataset(folder: Path, name: str, facts: Mapping[str, Any]) -> Dataset:
    """The dataset as far as it was kept; ``facts`` are those of ``run.json`` (layout: ``runner/store.py``).

    Raises:
        SourceError: nothing of it was kept.
    """
    found = []
    for sequence in facts["sequences"]:
        path = _place(folder, name, sequence)
        if path.exists():
            attributes = frozenset(_read(path)["attributes"])
            found.append(Sequence(sequence, partial(_frames, path), partial(_annotations, path), attributes))
    if not found:
        raise SourceError(f"{folder}: no ground truth of dataset {name} was kept")
    return Dataset(name, found, protocol=facts["protocol"], rules=facts["rules"])


def _place(folder: Path, dataset: str, sequence: str) -> Path:
    return folder / "truth" / dataset / f"{sequence}.json"


def _frames(path: Path) -> GoneFrames:
    record = _read(path)
    size = record["size"]
    return GoneFrames(int(record["frames"]), None if size is None else (int(size[0]), int(size[1])))


def _annotations(path: Path) -> Annotations:
    record = _read(path)
    return Annotations(
        boxes=np.array(record["boxes"], np.float64).reshape(-1, 4),
        polygons=None if record["polygons"] is None else np.array(record["polygons"], np.float64).reshape(-1, 8),
        visible=None if record["visible"] is None else np.array(record["visible"], np.bool_),
        tags={name: np.array(flags, np.bool_) for name, flags in record["tags"].items()},
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or {"frames", "size", "attributes", "boxes"} - record.keys():
            raise ValueError("something is missing in it")
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not a whole file of ground truth ({error})") from error
    return record

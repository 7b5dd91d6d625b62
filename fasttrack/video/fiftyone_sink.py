"""A dataset that FiftyOne imports: the video and its boxes, in FiftyOne's own format for labelled videos."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fasttrack.errors import ArgumentError, OutputError
from fasttrack.geometry import Box
from fasttrack.video.overlay import OverlaySink
from fasttrack.video.sinks import Sink, TrackResult, writing
from fasttrack.video.source import Frame

__all__ = ["FiftyOneSink"]

_KIND = "fiftyone.types.dataset_types.FiftyOneVideoLabelsDataset"
_TAIL = "\n}}\n"


class FiftyOneSink(Sink):
    """One video of a dataset in the format ``FiftyOneVideoLabelsDataset``; FiftyOne itself is not needed to write it.

    ::

        dataset = fiftyone.Dataset.from_dir(folder, dataset_type=fiftyone.types.FiftyOneVideoLabelsDataset)

    Every frame gets the field ``targets`` with one ``Detection`` a target: ``label``, ``index`` = 1, 2, …,
    ``bounding_box`` in fractions of the picture, ``confidence`` (the score), and the attributes ``lost`` and ``psr``.
    FiftyOne numbers the frames from 1 as they stand in the video; ``source_frame`` keeps the number in the source.
    Frames come in RGB and are encoded as MPEG-4 part 2, which FiftyOne reads; for its App, which plays what a browser
    does, ``fiftyone.utils.video.reencode_videos(dataset)`` makes H.264 of it. The labels are a whole JSON document
    after every frame.

    Args:
        path: folder of the dataset; made where it is missing. Other videos of a dataset that is there stay in it.
        name: of the video in the dataset; one of that name is replaced.
        fps: frames per second of the video; None gives 25.
        label: what the targets are called.

    Raises:
        ArgumentError: a name that is not letters, digits, ``-``, ``_`` and ``.``.
        OutputError: the folder cannot be written, or holds another kind of dataset.
    """

    def __init__(self, path: str | Path, name: str = "video", fps: float | None = None, label: str = "target") -> None:
        super().__init__(path)
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
            raise ArgumentError("FiftyOneSink", "name", "letters, digits, - and _ and .", repr(name))
        self.label = label
        video, labels = Path("data") / f"{name}.mp4", Path("labels") / f"{name}.json"
        with writing(self.path):
            for folder in ("data", "labels"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            _enter(self.path / "manifest.json", video, labels)
            self._labels = (self.path / labels).open("w", encoding="utf-8")
            self._labels.write('{"frames": {' + _TAIL)
            self._labels.flush()
        self._video = OverlaySink(self.path / video, fps)
        self._size = (0, 0)

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Add one frame, without anything drawn in, and its labels."""
        height, width = frame.image.shape[:2]
        self._video.write_drawn(frame.image)
        if self._size == (0, 0):
            self._size = (width, height)
        objects = [
            self._object(frame, _letterboxed(r.box, width, height, *self._size), number, r)
            for number, r in enumerate(results, 1)
        ]
        number = self._video.written
        record = json.dumps({"frame_number": number, "objects": {"objects": objects}})
        with writing(self.path):
            self._labels.seek(self._labels.tell() - len(_TAIL))
            self._labels.write(f'{"," if number > 1 else ""}\n"{number}": {record}{_TAIL}')
            self._labels.flush()

    def _object(self, frame: Frame, box: Box, number: int, result: TrackResult) -> dict[str, Any]:
        # The codec wants even sides: the last row or column of an odd one is there twice.
        width, height = (side + side % 2 for side in self._size)
        left, top, right, bottom = box.xyxy
        attributes: list[tuple[str, str, Any]] = [
            ("Boolean", "lost", bool(result.lost)),
            ("Numeric", "source_frame", frame.index),
            *([("Numeric", "psr", float(result.psr))] if math.isfinite(result.psr) else []),
        ]
        return {
            "type": "eta.core.objects.DetectedObject",
            "name": "targets",
            "label": self.label,
            "index": number,
            "bounding_box": {
                "top_left": {"x": left / width, "y": top / height},
                "bottom_right": {"x": right / width, "y": bottom / height},
            },
            **({"confidence": float(result.score)} if math.isfinite(result.score) else {}),
            "attrs": {
                "attrs": [
                    {"type": f"eta.core.data.{kind}Attribute", "name": name, "value": value}
                    for kind, name, value in attributes
                ]
            },
        }

    def close(self) -> None:
        """Finish the video and the labels."""
        with writing(self.path):
            self._labels.close()
        self._video.close()


def _enter(manifest: Path, video: Path, labels: Path) -> None:
    """Have the dataset's list of videos name this one, once."""
    record = {"data": video.as_posix(), "labels": labels.as_posix()}
    listed: dict[str, Any] = {"type": _KIND, "description": "", "index": []}
    if manifest.exists():
        try:
            listed = json.loads(manifest.read_text(encoding="utf-8"))
            others = [entry for entry in listed["index"] if entry["data"] != record["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{manifest}: is not the list of a FiftyOneVideoLabelsDataset") from error
    else:
        others = []
    manifest.write_text(json.dumps({**listed, "index": [*others, record]}, indent=2), encoding="utf-8")


def _letterboxed(box: Box, width: int, height: int, to_width: int, to_height: int) -> Box:
    """The box of a ``width × height`` picture where ``draw.fit`` puts it in one of another size."""
    if (width, height) == (to_width, to_height):
        return box
    scale = min(to_width / width, to_height / height)
    w, h = max(round(width * scale), 1), max(round(height * scale), 1)
    sx, sy = w / width, h / height
    return Box((to_width - w) // 2 + box.x * sx, (to_height - h) // 2 + box.y * sy, box.w * sx, box.h * sy)

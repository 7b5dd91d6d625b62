"""Sequences in memory and trackers that do as they are told, for the tests of evaluation."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fasttrack.errors import SourceError
from fasttrack.evaluation.sequence import Annotations, Sequence
from fasttrack.geometry import Box
from fasttrack.trackers import Result


@dataclass(frozen=True)
class MadeFrames:
    """Grey pictures whose first pixel holds their number; ``broken`` ones cannot be decoded."""

    count: int
    size: tuple = (100, 80)
    broken: tuple = ()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise SourceError(f"img/{index:04d}.jpg: the JPEG file is cut off")
        frame = np.full((self.size[1], self.size[0], 3), 90, np.uint8)
        frame[0, 0] = index
        return frame


def make_sequence(boxes, count=None, size=(100, 80), broken=(), **annotations):
    boxes = np.asarray(boxes, np.float64)
    count = len(boxes) if count is None else count
    return Sequence("made", partial(MadeFrames, count, size, broken), partial(Annotations, boxes, **annotations))


@dataclass
class Scripted:
    """Gives the box of ``script`` for the frame whose number the picture holds; keeps what it was asked."""

    script: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)

    def init(self, frame, box):
        self.calls.append(("init", int(frame[0, 0, 0]), box.as_tuple()))
        self.box = box

    def update(self, frame):
        index = int(frame[0, 0, 0])
        self.calls.append(("update", index))
        box = Box(*self.script.get(index, self.box.as_tuple()))
        return Result(box, index / 10, 1.0, index % 2 == 1, 0.0)

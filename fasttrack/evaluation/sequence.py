"""One target in one video of a dataset, read only when asked, and the dataset as a collection of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError, UnknownName
from fasttrack.video.files import read_image

__all__ = ["Annotations", "Dataset", "Frames", "ImageFrames", "Sequence"]


class Frames(Protocol):
    """Pictures by position; decoded one at a time, when asked."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB. Raises SourceError naming a file that cannot be decoded."""


@dataclass(frozen=True)
class ImageFrames:
    """Frames in image files, in the order given."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return read_image(self.paths[index])


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a dataset says of one target.

    Attributes:
        boxes: (N, 4) float64 x, y, w, h in px, 0-based edge coordinates; NaN where the target has no box. Fewer rows
            than frames where the dataset publishes only the beginning (test sets: one row).
        polygons: (N, 8) float64 x1, y1, …, x4, y4 in the same coordinates, where the dataset has rotated boxes.
        visible: (N,) bool, False where the dataset says that the target cannot be seen; None where it does not say.
        tags: name → (N,) bool, attributes of single frames (VOT, GOT-10k).
    """

    boxes: NDArray[np.float64]
    polygons: NDArray[np.float64] | None = None
    visible: NDArray[np.bool_] | None = None
    tags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sequence:
    """One target in one video.

    Attributes:
        name: unique in its dataset; a video with two targets gives two (``Jogging.1``, ``Jogging.2``).
        list_frames: gives the frames; called once, when they are first asked for.
        read_annotations: gives the annotations; called once, when they are first asked for. Both travel to other
            processes, so they are functions of a module or ``functools.partial`` of such.
        attributes: names of the challenges that the dataset lists for the sequence (``OCC``, ``FM``, …).
    """

    name: str
    list_frames: Callable[[], Frames]
    read_annotations: Callable[[], Annotations]
    attributes: frozenset[str] = frozenset()

    @cached_property
    def frames(self) -> Frames:
        """The pictures."""
        frames = self.list_frames()
        if len(frames) == 0:
            raise SourceError(f"sequence {self.name}: not one frame")
        return frames

    @cached_property
    def annotations(self) -> Annotations:
        """Boxes and what goes with them.

        Raises:
            SourceError: more boxes than frames (fewer are what test sets have), or none.
        """
        read = self.read_annotations()
        if not 0 < len(read.boxes) <= len(self.frames):
            raise SourceError(f"sequence {self.name}: {len(read.boxes)} boxes for {len(self.frames)} frames")
        return read

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Ground truth, (N, 4); see ``Annotations.boxes``."""
        return self.annotations.boxes

    def __len__(self) -> int:
        return len(self.frames)

    def __getstate__(self) -> dict[str, Any]:
        # What was read stays behind: the other side reads for itself.
        return {name: self.__dict__[name] for name in ("name", "list_frames", "read_annotations", "attributes")}


@dataclass(frozen=True)
class Dataset:
    """Sequences under one name.

    Attributes:
        name: what reports call it (``otb100``, ``vot2018``).
        sequences: in the order in which the dataset lists them.
        protocol: the protocol it is made for (``ope``, ``vot-supervised``, …).
        rules: the variant of one-pass scoring its toolkit uses (a name of ``metrics.RULES``).
        missing: names of sequences of the dataset that are not where it was loaded from. Whoever reports a result on
            a part tells that it is one.
    """

    name: str
    sequences: Ordered[Sequence]
    protocol: str = "ope"
    rules: str = "otb"
    missing: Ordered[str] = ()

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.sequences)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, name: str) -> Sequence:
        """The sequence of that name (UnknownName where there is none)."""
        for sequence in self.sequences:
            if sequence.name == name:
                return sequence
        raise UnknownName(f"dataset {self.name}", name, (sequence.name for sequence in self.sequences))

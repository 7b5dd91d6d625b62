"""The one frame loop: input checks, what happens to a lost target, the clamping of sizes, and the clock."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fasttrack.errors import ArgumentError, BoxError, FrameError
from fasttrack.geometry import Box
from fasttrack.vision.crop import Scene
from fasttrack.vision.localise import Found, Response

__all__ = ["SMALLEST_SIDE_PX", "Boxes", "Frame", "Result", "Tracker"]

SMALLEST_SIDE_PX = 10.0

Frame = npt.NDArray[np.uint8]
Boxes = Box | Sequence[float] | npt.NDArray[Any] | Tensor


@dataclass(frozen=True, slots=True)
class Result:
    """What one update says about one target.

    Attributes:
        box: where the target is; while it is lost, where it was last seen.
        score: how well the best place fits (for a regression of Gaussian labels: 1 is perfect).
        psr: peak-to-sidelobe ratio of the response.
        lost: the score is below the tracker's threshold: box size and model are left as they were.
        seconds: time the update took, for all targets together.
    """

    box: Box
    score: float
    psr: float
    lost: bool
    seconds: float


class Tracker(ABC):
    """Follows one target, or T targets in lock-step, through the frames of a video.

    A subclass says how to start on the targets of a frame, where they are in the next one, and how to learn from
    it; this class owns the boxes and runs the loop: check → locate → judge → learn. Frames are uint8 RGB
    H×W×3 or grey H×W; their size may change from frame to frame (boxes are pixels of the current frame).
    """

    name: ClassVar[str]
    lost_threshold: float  # a target whose score is not at least this is lost
    weights_note: str  # which network weights are at work, to be said beside every result ("" for none)
    responses: list[Response | None]  # response map of every target in the last update; valid until the next

    def __init__(self) -> None:
        self.weights_note = ""
        self.responses = []
        self._boxes: list[Box] = []
        self._many = False

    def init(self, frame: Frame, box: Boxes) -> None:
        """Start on ``box`` (x, y, w, h) in px, or on a (T, 4) array of T boxes; may be called again at any time.

        Raises:
            FrameError: the frame is not a uint8 image of one or three channels.
            BoxError: a box is not four finite numbers, has no area, or lies entirely outside the frame.
        """
        image = checked_frame(f"{self.name}.init", frame)
        boxes, many = checked_boxes(f"{self.name}.init", box, image)
        self._start(Scene([image]), boxes)
        self._boxes, self._many, self.responses = boxes, many, []

    def init_each(self, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> None:
        """Start on one target in each of T frames, of T videos that go on in lock-step (see ``run_lockstep``).

        Raises:
            FrameError, BoxError: as ``init``.
            ArgumentError: no frame, or another number of boxes; a box that is an array of several.
        """
        op = f"{self.name}.init_each"
        if not frames or len(boxes) != len(frames):
            raise ArgumentError(op, "boxes", "one for each frame, and at least one", f"{len(boxes)} for {len(frames)}")
        images, rows = [checked_frame(op, frame) for frame in frames], []
        for image, box in zip(images, boxes, strict=True):
            own, many = checked_boxes(op, box, image)
            if many:
                raise ArgumentError(op, "boxes", "one box for each frame", f"an array of {len(own)}")
            rows += own
        self._start(Scene(images), rows)
        self._boxes, self._many, self.responses = rows, True, []

    def keep(self, targets: Sequence[int]) -> None:
        """Go on with these targets only, in this order; the others are forgotten.

        Raises:
            ArgumentError: not at least one of the targets there are, each once.
        """
        if not targets or len(set(targets)) < len(targets) or not set(targets) <= set(range(len(self._boxes))):
            wanted = f"some of 0..{len(self._boxes) - 1}, each once"
            raise ArgumentError(f"{self.name}.keep", "targets", wanted, str(list(targets)))
        self._keep(list(targets))
        self._boxes = [self._boxes[k] for k in targets]

    def update(self, frame: Frame) -> Any:
        """Find the target(s) in the next frame.

        Returns:
            A :class:`Result`; after ``init`` with a (T, 4) array a list of T.

        Raises:
            ArgumentError: ``init`` was not called.
            FrameError: the frame is not a uint8 image of one or three channels.
        """
        if not self._boxes:
            raise ArgumentError(f"{self.name}.update", "tracker", "started by init(frame, box)", "a tracker at rest")
        results = self._advance([frame])
        return results if self._many else results[0]

    def update_each(self, frames: Sequence[Frame]) -> list[Result]:
        """Find every target in the next frame of its own video; one frame per target, in order.

        Raises:
            ArgumentError: ``init_each`` was not called, or another number of frames than targets.
            FrameError: as ``update``.
        """
        if len(frames) != len(self._boxes) or not frames:
            wanted = f"a frame for each of {len(self._boxes)} targets"
            raise ArgumentError(f"{self.name}.update_each", "frames", wanted, f"{len(frames)}")
        return self._advance(frames)

    def _advance(self, frames: Sequence[Frame]) -> list[Result]:
        started = time.perf_counter()
        scene = Scene([checked_frame(f"{self.name}.update", frame) for frame in frames])
        found = self._locate(scene, self._boxes)
        self.responses = [f.response for f in found]
        # Written so that a NaN score is lost too.
        lost = [not f.score >= self.lost_threshold for f in found]
        boxes = [
            old if gone else clamped(f.box, old, scene.image(k))
            for k, (f, old, gone) in enumerate(zip(found, self._boxes, lost, strict=True))
        ]
        self._learn(scene, boxes, found, lost)
        self._boxes = boxes
        seconds = time.perf_counter() - started
        return [Result(b, f.score, f.psr, gone, seconds) for b, f, gone in zip(boxes, found, lost, strict=True)]

    def run(self, frames: Iterable[Frame], box: Boxes) -> Iterator[Any]:
        """``init`` on the first frame, then the result of ``update`` for every further one."""
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            raise FrameError(f"{self.name}.run", "frames", "at least one frame", "none")
        self.init(first, box)
        for frame in rest:
            yield self.update(frame)

    @abstractmethod
    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        """Forget everything and learn the targets from their first frame."""

    @abstractmethod
    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        """Where the targets are, given where they were."""

    @abstractmethod
    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        """Learn from the frame; a lost target teaches nothing."""

    @abstractmethod
    def _keep(self, targets: list[int]) -> None:
        """Forget all targets but these, which are numbered anew in this order."""


def checked_frame(op: str, frame: Any) -> Tensor:
    """(H, W, 3) uint8 tensor over the memory of an RGB frame; a grey one is repeated in three channels."""
    wanted = "a uint8 numpy array, H×W×3 (RGB) or H×W (grey)"
    if not isinstance(frame, np.ndarray):
        raise FrameError(op, "frame", wanted, type(frame).__name__)
    shape = frame.shape
    if frame.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        hint = "" if frame.dtype == np.uint8 else "scale the values that carry the scene to 0..255"
        raise FrameError(op, "frame", wanted, f"{frame.dtype} array of shape {shape}", hint)
    if frame.size == 0:
        raise FrameError(op, "frame", "an image with pixels", f"shape {shape}")
    # torch takes no negative strides (a flipped view), and warns at read-only memory.
    usable = frame.flags.writeable and min(frame.strides) >= 0
    image = torch.from_numpy(frame if usable else frame.copy())
    if len(shape) == 2:
        image = image[:, :, None]
    return image if shape[-1] == 3 and len(shape) == 3 else image.expand(-1, -1, 3)


def checked_boxes(op: str, box: Any, frame: Tensor) -> tuple[list[Box], bool]:
    """The boxes of the targets, and whether they came as an array of several rows."""
    if isinstance(box, Box):
        rows, many = [Box.parse(box.as_tuple(), op)], False
    else:
        table = np.asarray(box, dtype=np.float64)
        many = table.ndim == 2
        if table.ndim not in (1, 2) or (many and table.shape[1] != 4) or len(table) == 0:
            raise BoxError(op, "box", "four numbers x, y, w, h or a (T, 4) array", f"shape {table.shape}")
        rows = [Box.parse(row, op) for row in (table if many else table[None])]
    height, width = frame.shape[:2]
    for row in rows:
        if row.clipped(width, height).area <= 0:
            wanted = f"a box that overlaps the frame of {width}×{height} px"
            raise BoxError(op, "box", wanted, str(row.as_tuple()))
    return rows, many


def clamped(found: Box, last: Box, frame: Tensor) -> Box:
    """The found box with its centre inside the frame and its size within [10 px, frame], aspect kept.

    A target that was smaller or larger before is not forced in, but goes no further out.
    """
    height, width, _ = frame.shape
    w, h = found.w, found.h
    largest = min(1.0, max(width, last.w) / w, max(height, last.h) / h)
    smallest = min(SMALLEST_SIDE_PX, last.w, last.h) / min(w, h)
    factor = max(largest, smallest)
    cx, cy = found.center
    cx, cy = min(max(cx, 0.0), float(width)), min(max(cy, 0.0), float(height))
    return Box.from_center(cx, cy, w * factor, h * factor)

"""Pictures of the worst sequences: evenly spread frames with the boxes of all trackers and the ground truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import OutputError, SourceError
from fasttrack.evaluation.report.model import Entry, Picture
from fasttrack.evaluation.report.palette import COLOURS, TRUTH, colour_of, rgb
from fasttrack.geometry import Box
from fasttrack.video.draw import outline
from fasttrack.video.sheet import spread

if TYPE_CHECKING:
    from fasttrack.evaluation.sequence import Frames

    Image = NDArray[np.uint8]
    Boxes = NDArray[np.float64]

__all__ = ["Album"]

_LONG_SIDE = 340  # px of a picture's longer side
_QUALITY = 72


class Album:
    """Makes the pictures of a report and keeps count of their bytes.

    Args:
        room: bytes of JPEG in all; a sequence for which no room is left has no pictures.
        frames: pictures of a sequence.
    """

    def __init__(self, room: int = 2_200_000, frames: int = 8) -> None:
        self.room, self.frames = room, frames

    def pictures(
        self, frames: Frames, truth: Boxes, boxes: Mapping[str, Boxes], entries: Mapping[str, Entry]
    ) -> tuple[list[Picture], str]:
        """Pictures of a sequence, and why there are none.

        Args:
            frames: of the sequence.
            truth: (N, 4) ground truth, drawn in white.
            boxes: tracker (ident) → (N, 4), drawn in its colour; NaN rows are left out.
            entries: ident → tracker.
        """
        made: list[Picture] = []
        count = min([len(truth), *(len(rows) for rows in boxes.values())])
        for index in spread(count, self.frames):
            try:
                image = frames[index]
            except (SourceError, IndexError) as error:
                return made, f"Frame {index} cannot be read: {error}"
            drawn = [(truth[index], TRUTH, False)]
            for ident, rows in boxes.items():
                number = entries[ident].number
                drawn.append((rows[index], rgb(colour_of(number)), number >= len(COLOURS)))
            picture = _picture(index, image, drawn)
            if len(picture.jpeg) > self.room:
                return made, "No room for more pictures on this page."
            self.room -= len(picture.jpeg)
            made.append(picture)
        return made, ""


def _picture(
    index: int, image: Image, drawn: Sequence[tuple[NDArray[np.float64], tuple[int, int, int], bool]]
) -> Picture:
    import cv2

    height, width = image.shape[:2]
    scale = _LONG_SIDE / max(width, height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for values, colour, dashed in drawn:
        if all(math.isfinite(v) for v in values):
            outline(small, _within(values * scale, max(size)), colour, 2, dashed)
    good, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise OutputError(f"frame {index}: cannot be encoded as JPEG")
    return Picture(index, size[0], size[1], data.tobytes())


def _within(values: NDArray[np.float64], side: int) -> Box:
    """The box with edges far outside the picture brought near it: boxes of files may be of any size."""
    left, top, right, bottom = np.clip([*values[:2], *(values[:2] + values[2:])], -side, 2 * side)
    return Box(float(left), float(top), float(right - left), float(bottom - top))

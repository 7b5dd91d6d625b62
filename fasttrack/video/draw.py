"""Boxes, labels and captions on a picture; sizes follow the picture, so that they stay readable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fasttrack.video.sinks import TrackResult

    Image = NDArray[np.uint8]

__all__ = ["COLOURS", "LOST_COLOUR", "Style", "annotate", "fit", "outline", "put_text", "text_size"]

RGB = tuple[int, int, int]

# Told apart by people with the common colour blindnesses as well, by lightness.
COLOURS: tuple[RGB, ...] = (
    (60, 220, 120),
    (255, 176, 0),
    (86, 180, 255),
    (255, 110, 180),
    (240, 228, 66),
    (180, 150, 255),
    (0, 220, 220),
    (255, 140, 100),
)
LOST_COLOUR: RGB = (235, 64, 52)
_INK: RGB = (16, 18, 22)
_PAPER: RGB = (245, 245, 245)
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV


@dataclass(frozen=True)
class Style:
    """Sizes in px for a picture of a given size."""

    text_px: int  # height of a capital letter
    line_px: int

    @classmethod
    def of(cls, width: int, height: int) -> Style:
        """Text of about 1/40 of the shorter side, between 8 and 40 px."""
        short = min(width, height)
        return cls(text_px=min(max(round(short / 42), 8), 40), line_px=max(round(short / 250), 1 if short < 160 else 2))


def _font(text_px: int) -> tuple[int, float, int]:
    cv2 = opencv()
    thickness = max(round(text_px / 10), 1)
    return cv2.FONT_HERSHEY_SIMPLEX, float(text_px) / 21.0, thickness


def text_size(text: str, text_px: int) -> int:
    """Width in px of a text whose capitals are ``text_px`` high."""
    font, scale, thickness = _font(text_px)
    return int(opencv().getTextSize(text, font, scale, thickness)[0][0])


def put_text(image: Image, text: str, x: int, y: int, text_px: int, colour: RGB) -> None:
    """Draw a line of text with its capitals' lower left corner at (x, y)."""
    cv2 = opencv()
    font, scale, thickness = _font(text_px)
    cv2.putText(image, text, (x, y), font, scale, colour, thickness, cv2.LINE_AA)


def _chip(image: Image, text: str, x: int, y: int, text_px: int, fill: RGB, ink: RGB) -> None:
    """Text on a filled plate with its top left corner at (x, y), shifted to lie inside the picture."""
    cv2 = opencv()
    pad = max(round(text_px * 0.45), 2)
    width, height = text_size(text, text_px) + 2 * pad, text_px + 2 * pad
    x = min(max(x, 0), max(image.shape[1] - width, 0))
    y = min(max(y, 0), max(image.shape[0] - height, 0))
    cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), fill, -1)
    put_text(image, text, x + pad, y + pad + text_px, text_px, ink)


def outline(image: Image, box: Box, colour: RGB, line_px: int, dashed: bool) -> None:
    """Rectangle on the box's edges to 1/16 px, over a dark line that keeps it visible on any ground."""
    import numpy as np

    cv2 = opencv()
    # Edge coordinates → OpenCV's, where an integer is a pixel's centre; half a line inside the box.
    inset = line_px / 2 - 0.5
    left, top = box.x + inset, box.y + inset
    right, bottom = box.x + box.w - 1 - inset, box.y + box.h - 1 - inset
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    # A line of one pixel would drown in its own shadow.
    strokes = ((line_px + 2, _INK), (line_px, colour)) if line_px > 1 else ((1, colour),)
    for width, ink in strokes:
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            pieces = max(round(math.hypot(x1 - x0, y1 - y0) / (6 * line_px + 4)), 1) if dashed else 1
            for piece in range(0, pieces, 2):
                a, b = piece / pieces, (piece + 1) / pieces
                ends = np.array([[x0 + (x1 - x0) * t, y0 + (y1 - y0) * t] for t in (a, b)])
                fixed = [(int(x), int(y)) for x, y in np.rint(np.clip(ends, -30000, 30000) * 2**_SHIFT)]
                cv2.line(image, fixed[0], fixed[1], ink, width, cv2.LINE_AA, _SHIFT)


def annotate(image: Image, results: Sequence[TrackResult], caption: str = "") -> Image:
    """A copy of the picture with a box and a label for each target, and a caption in its corner.

    The label holds the target's number where there are several, and the score; a lost target has a
    dashed red box and the word LOST.
    """
    drawn: Image = image.copy()
    style = Style.of(drawn.shape[1], drawn.shape[0])
    for number, result in enumerate(results):
        colour = LOST_COLOUR if result.lost else COLOURS[number % len(COLOURS)]
        outline(drawn, result.box, colour, style.line_px, result.lost)
    for number, result in enumerate(results):
        colour = COLOURS[number % len(COLOURS)]
        words = [f"#{number + 1}"] if len(results) > 1 else []
        words += [f"{result.score:.2f}"] if math.isfinite(result.score) else []
        words += ["LOST"] if result.lost else []
        fill, ink = (LOST_COLOUR, _PAPER) if result.lost else (colour, _INK)
        plate = style.text_px + 2 * max(round(style.text_px * 0.45), 2)
        above = math.floor(result.box.y) - plate - 1
        y = above if above >= 0 else math.ceil(result.box.y + result.box.h) + 1
        if words:
            _chip(drawn, " ".join(words), math.floor(result.box.x) - 1, y, style.text_px, fill, ink)
    if caption:
        _chip(drawn, caption, 0, drawn.shape[0], style.text_px, _INK, _PAPER)
    return drawn


def fit(image: Image, width: int, height: int) -> Image:
    """The picture scaled to lie inside ``width × height``, centred on black (letterbox)."""
    import numpy as np

    cv2 = opencv()
    if image.shape[:2] == (height, width):
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    w, h = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    small: Image = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    boxed: Image = np.zeros((height, width, 3), np.uint8)
    y, x = (height - h) // 2, (width - w) // 2
    boxed[y : y + h, x : x + w] = small
    return boxed

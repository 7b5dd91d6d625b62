"""Boxes and the one map between frame, patch and feature cell.

Two conventions of position meet in tracking, half a pixel apart; here there is one.
Everything is in **edge coordinates**: pixel ``k`` of an image covers ``[k, k + 1)`` and its centre
is ``k + ½``. A box ``(x, y, w, h)`` covers ``[x, x + w) × [y, y + h)``, so its centre is
``(x + w/2, y + h/2)``, and cell ``k`` of a feature map of stride ``s`` covers ``[k·s, (k + 1)·s)``
of its patch. No tracker does arithmetic on strides and offsets of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fasttrack.errors import BoxError, RangeError

__all__ = ["Box", "Window"]


@dataclass(frozen=True, slots=True)
class Box:
    """Axis-aligned box in pixels of the frame: left edge, top edge, width, height (0-based, floats).

    Examples:
        >>> box = Box(10, 20, 40, 30)
        >>> box.center, box.xyxy, box.iou(Box(30, 20, 40, 30))
        ((30.0, 35.0), (10, 20, 50, 50), 0.3333333333333333)
        >>> Box.parse([10, 20, 0, 30])
        Traceback (most recent call last):
            ...
        fasttrack.errors.BoxError: Box: box must be a box of positive width and height, got (10.0, 20.0, 0.0, 30.0)
    """

    x: float
    y: float
    w: float
    h: float

    @classmethod
    def from_center(cls, cx: float, cy: float, w: float, h: float) -> Box:
        """Box of size ``w × h`` px around the point ``(cx, cy)``."""
        return cls(cx - w / 2, cy - h / 2, w, h)

    @classmethod
    def parse(cls, values: Sequence[float], where: str = "Box") -> Box:
        """Box from four finite numbers ``x, y, w, h`` with positive size.

        Raises:
            BoxError: not four numbers, NaN or infinite, or a width or height that is not positive.
        """
        got = tuple(float(v) for v in values)
        if len(got) != 4:
            raise BoxError(where, "box", "four numbers x, y, w, h", f"{len(got)} numbers")
        if not all(math.isfinite(v) for v in got):
            raise BoxError(where, "box", "four finite numbers x, y, w, h", str(got))
        if got[2] <= 0 or got[3] <= 0:
            raise BoxError(where, "box", "a box of positive width and height", str(got))
        return cls(*got)

    @property
    def center(self) -> tuple[float, float]:
        """Centre ``(cx, cy)`` in px."""
        return self.x + self.w / 2, self.y + self.h / 2

    @property
    def area(self) -> float:
        """Area in px²."""
        return self.w * self.h

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Edges ``(left, top, right, bottom)`` in px."""
        return self.x, self.y, self.x + self.w, self.y + self.h

    def as_tuple(self) -> tuple[float, float, float, float]:
        """``(x, y, w, h)``."""
        return self.x, self.y, self.w, self.h

    def scaled(self, factor: float) -> Box:
        """The box with its sides times a factor, around its centre."""
        return Box.from_center(*self.center, self.w * factor, self.h * factor)

    def intersection(self, other: Box) -> float:
        """Area common to both boxes, in px²."""
        w = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        h = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        return w * h if w > 0 and h > 0 else 0.0

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 … 1 (0 where the union is empty)."""
        common = self.intersection(other)
        union = self.area + other.area - common
        return common / union if union > 0 else 0.0

    def clipped(self, width: float, height: float) -> Box:
        """The part of the box inside a frame of ``width × height`` px (may be empty: zero size)."""
        x0, y0 = min(max(self.x, 0.0), width), min(max(self.y, 0.0), height)
        x1, y1 = min(max(self.x + self.w, 0.0), width), min(max(self.y + self.h, 0.0), height)
        return Box(x0, y0, x1 - x0, y1 - y0)


@dataclass(frozen=True, slots=True)
class Window:
    """A region of the frame and the patch it is sampled to: the map frame px ↔ patch px ↔ cell.

    The region ``[x, x + w) × [y, y + h)`` of the frame becomes a patch of ``out_w × out_h`` pixels;
    patch pixel ``(i, j)`` samples the frame at pixel-centre position
    ``x + (j + ½)·w/out_w − ½, y + (i + ½)·h/out_h − ½`` (what ``ops.crop_resize`` does).

    Examples:
        >>> window = Window.around(100, 80, w=64, h=64, out_w=32, out_h=32)  # two px of the frame per px of the patch
        >>> window.to_frame(16, 16), window.to_patch(100, 80)
        ((100.0, 80.0), (16.0, 16.0))
        >>> window.cell_to_frame(0.5, 0.5, stride_px=4)  # the centre of the first cell
        (72.0, 52.0)
    """

    x: float
    y: float
    w: float
    h: float
    out_w: int
    out_h: int

    def __post_init__(self) -> None:
        if not (self.w > 0 and self.h > 0 and self.out_w > 0 and self.out_h > 0):
            raise RangeError(
                "Window", "size", "positive region and patch sizes", f"{self.w}×{self.h} → {self.out_w}×{self.out_h}"
            )

    @classmethod
    def around(cls, cx: float, cy: float, w: float, h: float, out_w: int, out_h: int) -> Window:
        """Window of ``w × h`` frame px centred at ``(cx, cy)``, sampled to ``out_w × out_h``."""
        return cls(cx - w / 2, cy - h / 2, w, h, out_w, out_h)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """``(x, y, w, h)`` of the region in frame px, the row that ``ops.crop_resize`` takes."""
        return self.x, self.y, self.w, self.h

    @property
    def scale(self) -> tuple[float, float]:
        """Frame px per patch px, ``(horizontal, vertical)``."""
        return self.w / self.out_w, self.h / self.out_h

    def to_patch(self, fx: float, fy: float) -> tuple[float, float]:
        """Frame position → patch position, both edge coordinates in px."""
        sx, sy = self.scale
        return (fx - self.x) / sx, (fy - self.y) / sy

    def to_frame(self, px: float, py: float) -> tuple[float, float]:
        """Patch position → frame position, both edge coordinates in px."""
        sx, sy = self.scale
        return self.x + px * sx, self.y + py * sy

    def cell_to_frame(self, col: float, row: float, stride_px: float) -> tuple[float, float]:
        """Frame position of the point ``(col, row)`` of a feature map, in cells.

        ``col = k + ½`` is the centre of cell ``k``; ``stride_px`` is in patch px.
        """
        return self.to_frame(col * stride_px, row * stride_px)

    def frame_to_cell(self, fx: float, fy: float, stride_px: float) -> tuple[float, float]:
        """Point of a feature map, in cells, that lies at a frame position (inverse of ``cell_to_frame``)."""
        px, py = self.to_patch(fx, fy)
        return px / stride_px, py / stride_px

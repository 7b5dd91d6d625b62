"""The contact sheet: evenly spaced frames with their boxes on one page, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fasttrack.errors import ArgumentError, OutputError
from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv
from fasttrack.video.draw import annotate, fit, put_text, text_size
from fasttrack.video.sinks import Sink, TrackResult, writing
from fasttrack.video.source import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

__all__ = ["SheetSink", "check_sheet_name", "spread"]

_SUFFIXES = (".png", ".jpg", ".jpeg")
_CELL_W = 384  # px of a picture's longer side
_GAP, _CAPTION, _HEADER = 14, 22, 46
_GROUND, _BRIGHT, _DIM = (22, 24, 29), (236, 238, 242), (150, 156, 168)


def check_sheet_name(path: str | Path) -> None:
    """Refuse a name that is not a PNG or JPEG one (ArgumentError)."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise ArgumentError("track", "--sheet", f"a name ending in {', '.join(_SUFFIXES)}", repr(str(path)))


def spread(count: int, wanted: int) -> list[int]:
    """``min(count, wanted)`` positions of 0 … count − 1, evenly spaced, with the first and the last."""
    if count <= wanted:
        return list(range(count))
    return [round(k * (count - 1) / (wanted - 1)) for k in range(wanted)] if wanted > 1 else [0]


class _Scaled:
    """A result with its box in the px of a thumbnail."""

    def __init__(self, result: TrackResult, scale: float) -> None:
        x, y, w, h = result.box.as_tuple()
        self.box = Box(x * scale, y * scale, w * scale, h * scale)
        self.score, self.psr, self.lost, self.seconds = result.score, result.psr, result.lost, result.seconds


class SheetSink(Sink):
    """A grid of ``cells`` evenly spaced frames; works without knowing how many will come.

    Thumbnails are kept at every ``stride``-th frame; when four times ``cells`` are held, every other
    one goes and the stride doubles. So at most ``4·cells`` are held, whatever the length, and the
    spacing on the page is even to half a step.

    Args:
        path: ``.png`` or ``.jpg``; written when the sink closes.
        cells: frames on the sheet, at least 1.
        title: header of the page.
    """

    def __init__(self, path: str | Path, cells: int = 12, title: str = "") -> None:
        check_sheet_name(path)
        super().__init__(path)
        if cells < 1:
            raise ArgumentError("SheetSink", "cells", "at least 1", str(cells))
        self.cells, self.title = cells, title
        self._kept: list[tuple[Image, str]] = []
        self._last: tuple[Image, str] | None = None
        self._seen, self._stride = 0, 1
        self._done = False
        with writing(self.path):
            self.path.open("ab").close()

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Consider one frame."""
        thumbnail = self._thumbnail(frame, results)
        if self._seen % self._stride == 0:
            if len(self._kept) == 4 * self.cells:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self._kept.append(thumbnail)
        self._last = thumbnail
        self._seen += 1

    def _thumbnail(self, frame: Frame, results: Sequence[TrackResult]) -> tuple[Image, str]:
        cv2 = opencv()
        height, width = frame.image.shape[:2]
        scale = _CELL_W / max(width, height)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        lost = sum(result.lost for result in results)
        note = "" if not lost else "lost" if len(results) == 1 else f"{lost} of {len(results)} lost"
        return annotate(small, [_Scaled(r, scale) for r in results]), f"frame {frame.index}  {note}".rstrip()

    def close(self) -> None:
        """Write the page."""
        if self._done:
            return
        self._done = True
        if self._last is None:
            return
        cells = list(self._kept)
        if (self._seen - 1) % self._stride:
            cells.append(self._last)
        page = self._page([cells[k] for k in spread(len(cells), self.cells)])
        cv2 = opencv()
        good, data = cv2.imencode(self.path.suffix.lower(), cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
        if not good:
            raise OutputError(f"{self.path}: the contact sheet cannot be encoded")
        with writing(self.path):
            self.path.write_bytes(data.tobytes())

    def _page(self, cells: list[tuple[Image, str]]) -> Image:
        import numpy as np

        cell_w = max(image.shape[1] for image, _ in cells)
        cell_h = max(image.shape[0] for image, _ in cells)
        # Columns for a page of about 4:3.
        ideal = math.sqrt(len(cells) * (4 / 3) * (cell_h + _CAPTION + _GAP) / (cell_w + _GAP))
        cols = min(max(round(ideal), 1), len(cells))
        rows = math.ceil(len(cells) / cols)
        header = _HEADER if self.title else 0
        width = cols * (cell_w + _GAP) + _GAP
        page = np.full((header + rows * (cell_h + _CAPTION + _GAP) + _GAP, width, 3), _GROUND, np.uint8)
        if self.title:
            room, title = width - 2 * _GAP, self.title
            while text_size(title, 14) > room and len(title) > 4:
                title = title[: len(title) - 4] + "..."
            put_text(page, title, _GAP, _GAP + 22, 14, _BRIGHT)
        for k, (image, caption) in enumerate(cells):
            x = _GAP + (k % cols) * (cell_w + _GAP)
            y = header + _GAP + (k // cols) * (cell_h + _CAPTION + _GAP)
            page[y : y + cell_h, x : x + cell_w] = fit(image, cell_w, cell_h)
            put_text(page, caption, x + 2, y + cell_h + 16, 9, _DIM)
        return page

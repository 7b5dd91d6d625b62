"""Regions of the VOT toolkits, as words of a row and as bytes of a binary trajectory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED

__all__ = ["CODES", "parse_region", "trajectory_text"]

CODES = {0: SKIPPED, 1: INIT, 2: FAILURE}  # rows of one number


def parse_region(words: Sequence[str]) -> NDArray[np.float64]:
    """Numbers of a region: a code, x, y, w, h, or the corners of a polygon.

    A mask (``mX,Y,W,H`` and the lengths of its runs of 0 and 1 in turn, row by row) gives the smallest box that covers
    its px, NaN where it has none.

    Raises:
        ValueError: it is none of them; what it says goes into the message with file and line.
    """
    mask = bool(words) and words[0].startswith("m")
    try:
        values = np.array([float(word) for word in ([words[0][1:], *words[1:]] if mask else words)])
    except ValueError:
        raise ValueError("not a region") from None
    if np.isinf(values).any():
        raise ValueError("not finite")
    if mask:
        return _around_mask(values)
    if len(values) == 1 and values[0] not in CODES:
        raise ValueError("a code that is not 0, 1 or 2")
    if len(values) not in (1, 4) and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"{len(values)} numbers, wanted 1 (code), 4 (rectangle) or the corners of a polygon")
    return values


def _around_mask(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Box around the px of a mask; the runs are not written out, so that a wrong size takes no memory."""
    if len(values) < 4 or (values != np.round(values)).any() or (values[2:] < 0).any():
        raise ValueError("a mask that is not x, y, w, h and lengths of runs, whole numbers")
    x, y, width, height = values[:4]
    lengths = values[4:]
    if lengths.sum() > width * height:
        raise ValueError(f"a mask with runs of {lengths.sum():g} px for {width:g} × {height:g}")
    ends = np.cumsum(lengths)
    first, last = (ends - lengths)[1::2], (ends - 1)[1::2]
    first, last = first[lengths[1::2] > 0], last[lengths[1::2] > 0]
    if not len(first):
        return np.full(4, np.nan)
    in_one_row = first // width == last // width
    left, right = np.where(in_one_row, first % width, 0).min(), np.where(in_one_row, last % width, width - 1).max()
    top, bottom = first[0] // width, last[-1] // width
    return np.array([x + left, y + top, right - left + 1, bottom - top + 1])


def trajectory_text(data: bytes, name: str) -> str:
    """The rows of a binary trajectory as the text form has them.

    Little endian: int16 1 (the version), uint32 count; of each region a byte for its kind and what belongs to it: 0,
    uint32 code; 1, four float32 x, y, w, h; 2, uint16 count and as many pairs of float32; 3, int16 x, y, uint16 w, h,
    count and as many uint16 lengths of runs.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        SourceError: not such a file, or not a whole one.

    Source: vot-toolkit 0.7.4, ``region/io.py``.
    """
    rows: list[str] = []
    at = 0

    def take(form: str) -> tuple[float, ...]:
        nonlocal at
        found = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(f"<{form}")
        return found

    try:
        version, count = take("hI")
        if version != 1:
            raise SourceError(f"{name}: not a binary trajectory of VOT (version {version}, wanted 1)")
        for _ in range(int(count)):
            rows.append(_row(take, f"{name}: region {len(rows) + 1}"))
    except struct.error:
        raise SourceError(f"{name}: ends within region {len(rows) + 1}") from None
    if at < len(data):
        raise SourceError(f"{name}: {len(data) - at} bytes behind the last region")
    return "".join(f"{row}\n" for row in rows)


def _row(take: Callable[[str], tuple[float, ...]], name: str) -> str:
    (kind,) = take("B")
    if kind == 0:
        values = take("I")
    elif kind == 1:
        values = take("4f")
    elif kind == 2:
        values = take(f"{2 * int(take('H')[0])}f")
    elif kind == 3:
        *place, runs = take("2h3H")
        values = (*place, *take(f"{int(runs)}H"))
    else:
        raise SourceError(f"{name}: of kind {kind}, wanted 0 (code), 1 (rectangle), 2 (polygon) or 3 (mask)")
    return ("m" if kind == 3 else "") + ",".join(repr(value) for value in values)

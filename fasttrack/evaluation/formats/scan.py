"""What is wrong with the rows of one result file, line by line."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from fasttrack.evaluation.formats.base import Format
from fasttrack.evaluation.formats.vot_regions import CODES, parse_region
from fasttrack.evaluation.tables import split_row

__all__ = ["Problem", "Scan", "scan_boxes", "scan_mot", "scan_regions", "scan_times"]

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "spaces"}


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one line.

    Attributes:
        check: which check found it (key of ``CHECKS``).
        line: from 1; 0 for the file as a whole.
        text: what it is, the same for all lines with the same fault.
    """

    check: str
    line: int
    text: str


@dataclass
class Scan:
    """Rows of a file and what is wrong with them; a row that cannot be read is None."""

    rows: list[list[float] | None] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, check: str, line: int, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(check, line, text))


def _scan(text: str, format: Format, widths: Collection[int] | None, wanted: str) -> Scan:
    """Separators, columns and numbers of every line; ``widths`` None takes any count."""
    scan, before = Scan(), None
    for number, line in enumerate(text.rstrip().splitlines(), 1):
        words = split_row(line)
        if not words:
            scan.add("columns", number, "blank line")
            scan.rows.append(None)
            continue
        separator = next((mark for mark in _NAMES if mark in line.strip()), None)
        if separator is not None:
            if separator not in format.separators:
                right = " or ".join(_NAMES[mark] for mark in format.separators)
                scan.add("separators", number, f"separated by {_NAMES[separator]}, wanted {right}")
            elif before is not None and separator != before:
                scan.add("separators", number, f"separated by {_NAMES[separator]}, rows before by {_NAMES[before]}")
            before = before or separator
        if widths is not None and len(words) not in widths:
            scan.add("columns", number, f"{len(words)} columns, wanted {wanted}")
            scan.rows.append(None)
            continue
        scan.rows.append(_numbers(scan, number, words))
    if not scan.rows:
        scan.add("rows", 0, "empty")
    return scan


def _numbers(scan: Scan, line: int, words: list[str]) -> list[float] | None:
    """The numbers of a row; None where one of them is none, which is noted."""
    row = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            scan.add("numbers", line, f"not a number: {word[:20]!r}")
            return None
        if not math.isfinite(value) or "_" in word:
            scan.add("numbers", line, "NaN" if value != value else "not finite" if "_" not in word else "not a number")
            return None
        row.append(value)
    return row


def _check_size(scan: Scan, line: int, width: float, height: float) -> None:
    if width <= 0 or height <= 0:
        scan.add("sizes", line, "width or height not above 0")


def scan_boxes(text: str, format: Format) -> Scan:
    """A file of x, y, w, h rows."""
    scan = _scan(text, format, (4,), "4")
    for line, row in enumerate(scan.rows, 1):
        if row is not None:
            _check_size(scan, line, row[2], row[3])
    return scan


def scan_regions(text: str, format: Format, restarts: bool) -> Scan:
    """A file of VOT regions; with ``restarts`` a tracker that stopped runs again only after it was started."""
    widths = {1, 4, *range(6, 200, 2)}
    text = "\n".join(map(_unmasked, text.rstrip().splitlines()))
    scan = _scan(text, format, widths, "1 (a code), 4 (a rectangle) or the corners of a polygon")
    stopped = False
    for line, row in enumerate(scan.rows, 1):
        if row is None:
            continue
        if len(row) == 1 and row[0] not in CODES:
            scan.add("numbers", line, "a code that is not 0, 1 or 2")
        elif len(row) == 4:
            _check_size(scan, line, row[2], row[3])
        elif len(row) > 4:
            _check_size(scan, line, max(row[::2]) - min(row[::2]), max(row[1::2]) - min(row[1::2]))
        if restarts and stopped and row not in ([0.0], [1.0]):
            scan.add("numbers", line, "neither 0 nor 1 after the tracker failed or was not running")
        stopped = row in ([0.0], [2.0])
    return scan


def _unmasked(line: str) -> str:
    """The box around a mask in the place of its row; other rows, and masks that are none, as they are."""
    if not line.startswith("m"):
        return line
    try:
        return ",".join(map(repr, parse_region(split_row(line)).tolist()))
    except ValueError:
        return line


def scan_mot(text: str, format: Format, length: int) -> Scan:
    """A file of the MOTChallenge for a video of ``length`` frames."""
    scan, seen = _scan(text, format, (10,), "10"), set()
    for line, row in enumerate(scan.rows, 1):
        if row is None:
            continue
        frame, target = row[0], row[1]
        if frame != int(frame) or target != int(target) or target < 1:
            scan.add("numbers", line, "frame and id are not whole numbers from 1 on")
        elif not 1 <= frame <= length:
            scan.add("rows", line, f"a frame that is not one of 1 … {length}")
        elif (frame, target) in seen:
            scan.add("rows", line, "this frame of this target has a row already")
        seen.add((frame, target))
        _check_size(scan, line, row[4], row[5])
    return scan


def scan_times(text: str, format: Format, length: int, runs: int) -> Scan:
    """A file of times: a row per frame, a column per run (or one for all)."""
    widths = {1, runs}
    scan = _scan(text, format, widths, " or ".join(str(width) for width in sorted(widths)))
    if scan.rows and len(scan.rows) != length:
        scan.add("rows", 0, f"{len(scan.rows)} rows, wanted {length}")
    for line, row in enumerate(scan.rows, 1):
        if row is not None and min(row) < 0:
            scan.add("numbers", line, "a time below 0")
    # Whatever is wrong in it is a fault of the times.
    scan.problems = [Problem("times", problem.line, problem.text) for problem in scan.problems]
    return scan

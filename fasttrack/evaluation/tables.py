"""Tables of numbers in text files, as ground truth and result files have them: one reader for all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError

__all__ = ["parse_table", "read_table", "read_text", "split_row"]

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


def read_table(path: str | Path, columns: int | Collection[int] | None = None) -> NDArray[np.float64]:
    """Read a file of numbers, one row a line; see ``parse_table``.

    Raises:
        SourceError: the file cannot be read, or as ``parse_table``; the message names file and line.
    """
    return parse_table(read_text(path), path, columns)


def read_text(path: str | Path) -> str:
    """The text of a file, a byte order mark at its beginning removed. Raises SourceError naming the file."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not a text file ({error})") from error


def parse_table(text: str, name: str | Path, columns: int | Collection[int] | None = None) -> NDArray[np.float64]:
    """Numbers of a text, one row a line, separated by commas, semicolons, tabs or spaces, each with spaces around it.

    One separator at the end of a row and blank lines at the end of the text mean nothing. A blank line between rows is
    refused: skipping it would shift every frame behind it.

    Args:
        text: the rows; ``NaN`` in any case is a number, infinity is not.
        name: of the file, for messages.
        columns: how many each row has, or the counts that are allowed (``(4, 8)``: rectangles or polygons); None for
            as many as the first row has. All rows have the same.

    Returns:
        (rows, columns) float64.

    Raises:
        SourceError: no row, a blank line between rows, a word that is not a number, or a wrong count of columns,
            naming file and line.
    """
    allowed = None if columns is None else (columns,) if isinstance(columns, int) else tuple(columns)
    lines = text.rstrip().splitlines()
    quick = _parse_quickly(lines)
    if quick is not None and (allowed is None or quick.shape[1] in allowed):
        return quick
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        words = split_row(line)
        if not words:
            raise SourceError(f"{name}:{number}: blank line before the last row")
        try:
            row = [_number(word) for word in words]
        except ValueError:
            raise SourceError(f"{name}:{number}: not a row of numbers: {line.strip()[:80]!r}") from None
        if allowed is not None and len(row) not in allowed:
            wanted = " or ".join(str(count) for count in allowed)
            raise SourceError(f"{name}:{number}: {len(row)} columns, wanted {wanted}: {line.strip()[:80]!r}")
        if rows and len(row) != len(rows[0]):
            raise SourceError(f"{name}:{number}: {len(row)} columns where the rows before have {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise SourceError(f"{name}: holds no numbers")
    return np.array(rows, np.float64)


def _parse_quickly(lines: list[str]) -> NDArray[np.float64] | None:
    """The table where nothing is unusual in it, several times faster; None where the rows need a closer look."""
    if not lines or any("_" in line for line in lines):
        return None
    delimiter = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
    try:
        table: NDArray[np.float64] = np.loadtxt(lines, dtype=np.float64, comments=None, delimiter=delimiter, ndmin=2)
    except ValueError:
        return None
    # NumPy leaves out blank lines.
    return table if len(table) == len(lines) and table.size > 0 and not np.isinf(table).any() else None


def split_row(line: str) -> list[str]:
    """Words of one line; none for a blank one, an empty word between two commas."""
    line = line.strip()
    if line[-1:] in (",", ";"):
        line = line[:-1].rstrip()
    return _SEPARATOR.split(line) if line else []


def _number(word: str) -> float:
    value = float(word)
    if math.isinf(value) or "_" in word:  # Python takes 1_000 for a number; no format does
        raise ValueError(word)
    return value

"""What a report says, free of how it was scored and of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Attribute", "Board", "Column", "Curves", "Entry", "Failure", "Picture", "Points", "Report", "Row", "Sheet"]
__all__ += ["Standing", "best_two"]


@dataclass(frozen=True)
class Entry:
    """A tracker of the report; ``number`` decides its colour."""

    number: int
    ident: str
    name: str
    note: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A measure: its key in ``values``, what heads its column, what it means, and how it is written."""

    key: str
    label: str
    meaning: str
    digits: int = 3
    higher_is_better: bool = True
    judged: bool = True  # best and second are marked

    def text(self, value: float | None) -> str:
        """The value as tables show it; a dash where there is none."""
        return "–" if value is None or value != value else f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Standing:
    """One tracker's line of a ranking; ``rank`` is None where it is not ranked."""

    entry: Entry
    rank: int | None
    values: Mapping[str, float | None]
    done: int
    missing: int
    failed: int


@dataclass(frozen=True)
class Curves:
    """Lines over one axis, one per tracker (by ident), with the number their legend shows."""

    key: str
    title: str
    x_label: str
    y_label: str
    x: NDArray[np.float64]
    lines: Mapping[str, NDArray[np.float64]]
    legend: str
    marker: float | None = None  # threshold whose value is quoted


@dataclass(frozen=True)
class Points:
    """Trackers in a plane: (ident, x, y, hollow)."""

    key: str
    title: str
    x_label: str
    y_label: str
    points: Sequence[tuple[str, float, float, bool]]
    log_x: bool = False
    note: str = ""


@dataclass(frozen=True)
class Attribute:
    """The mean of a measure over the sequences with one challenge."""

    name: str
    sequences: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """One sequence: per tracker the values in the order of ``Board.row_keys``, or the word for why there is none."""

    name: str
    frames: int
    attributes: Sequence[str]
    cells: Mapping[str, tuple[float, ...] | str]


@dataclass(frozen=True)
class Picture:
    """A frame with all boxes, as JPEG."""

    frame: int
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class Sheet:
    """A sequence looked at; ``note`` says why there are no pictures."""

    name: str
    value: float
    values: Mapping[str, float]
    pictures: Sequence[Picture] = ()
    note: str = ""


@dataclass(frozen=True)
class Board:
    """One protocol on one dataset.

    Attributes:
        columns, standings: the ranking, by ``columns[0]``, over the ``common`` sequences of ``expected``.
        attribute_key: the measure of ``attributes``.
        row_keys, rows: measures of single sequences (keys of ``columns``).
        sheets: the worst sequences.
        notices: what the reader must know before believing the numbers.
    """

    key: str
    dataset: str
    protocol: str
    rules: str
    columns: Sequence[Column]
    standings: Sequence[Standing]
    common: int
    expected: int
    frames: int = 0
    curves: Sequence[Curves] = ()
    points: Sequence[Points] = ()
    attribute_key: str = ""
    attributes: Sequence[Attribute] = ()
    row_keys: Sequence[str] = ()
    rows: Sequence[Row] = ()
    sheets: Sequence[Sheet] = ()
    notices: Sequence[str] = ()

    def column(self, key: str) -> Column:
        """The column of that key."""
        return next(column for column in self.columns if column.key == key)


@dataclass(frozen=True)
class Failure:
    """Units that ended in the same way."""

    tracker: str
    message: str
    traceback: str
    count: int
    where: Sequence[str]


@dataclass(frozen=True)
class Report:
    """The whole of it."""

    title: str
    made: str
    version: str
    entries: Sequence[Entry]
    boards: Sequence[Board]
    notices: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    broken: Sequence[str] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    machines: Sequence[Mapping[str, Any]] = ()

    def entry(self, ident: str) -> Entry:
        """The tracker of that ident."""
        return next(entry for entry in self.entries if entry.ident == ident)


def best_two(column: Column, values: Sequence[float | None]) -> tuple[set[int], set[int]]:
    """Positions of the best and of the second value as written in the table; ties share a place.

    A column in which all are equal, or with one value, has no best.
    """
    if not column.judged:
        return set(), set()
    written = {k: round(v, column.digits) for k, v in enumerate(values) if v is not None and v == v}
    places = sorted(set(written.values()), reverse=column.higher_is_better)
    if len(places) < 2:
        return set(), set()
    first, second = ({k for k, v in written.items() if v == place} for place in places[:2])
    return first, second

"""Where everything of a plot lies on its canvas; the page's template and its style turn it into SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fasttrack.evaluation.report.model import Attribute, Curves, Entry, Points
from fasttrack.evaluation.report.palette import dash_of

__all__ = ["Chart", "Dot", "Line", "Tick", "Words", "curve_chart", "nice_ticks", "point_chart", "radar_chart"]
__all__ += ["tick_label"]

WIDTH, HEIGHT = 380, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 44
RADAR_WIDTH, RADAR_HEIGHT = 380, 320
_LINE = 15  # px between labels


@dataclass(frozen=True)
class Tick:
    """A grid line at ``at`` px with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A path of one tracker (its number)."""

    number: int
    path: str
    dash: str
    name: str


@dataclass(frozen=True)
class Dot:
    """A tracker as a point with its name beside it."""

    number: int
    x: float
    y: float
    hollow: bool
    name: str
    label_x: float
    label_y: float
    anchor: str
    title: str


@dataclass(frozen=True)
class Words:
    """A text on the canvas."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True)
class Chart:
    """All of a plot. ``rings`` are closed grid lines, ``spokes`` straight ones (of a radar)."""

    width: int
    height: int
    title: str
    x_label: str = ""
    y_label: str = ""
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    rings: Sequence[str] = ()
    words: Sequence[Words] = ()
    marker: float | None = None
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``wanted`` of them, in steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def tick_label(value: float) -> str:
    """``1000``, ``10k``, ``1M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * size or value == size == 1e6:
            return f"{value / size:g}{letter}"
    return f"{value:.10g}"


def curve_chart(curves: Curves, entries: Mapping[str, Entry]) -> Chart:
    """Lines from the left edge to the right one; the ordinate starts at 0."""
    low, high = float(curves.x[0]), float(curves.x[-1])
    finite = [float(np.nanmax(line)) for line in curves.lines.values() if np.isfinite(line).any()]
    top = min(1.0, _ceiling(max(finite, default=1.0)))
    across = _scale(low, high, _LEFT, WIDTH - _RIGHT)
    up = _scale(0.0, top, HEIGHT - _BOTTOM, _TOP)
    lines = [
        Line(entries[ident].number, _path(curves.x, y, across, up), dash_of(entries[ident].number), entries[ident].name)
        for ident, y in curves.lines.items()
    ]
    return Chart(
        WIDTH,
        HEIGHT,
        curves.title,
        curves.x_label,
        curves.y_label,
        [Tick(across(v), tick_label(v)) for v in nice_ticks(low, high)],
        [Tick(up(v), tick_label(v)) for v in nice_ticks(0.0, top)],
        lines,
        marker=None if curves.marker is None else across(curves.marker),
    )


def _ceiling(value: float) -> float:
    """The next round number at or above a positive value."""
    if not value > 0:
        return 1.0
    step = nice_ticks(0.0, value)[1] if len(nice_ticks(0.0, value)) > 1 else value
    return math.ceil(value / step - 1e-9) * step


class _Scale:
    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.begin = low, begin
        self.slope = (end - begin) / (high - low)

    def __call__(self, value: float) -> float:
        return round(self.begin + (value - self.low) * self.slope, 1)


def _scale(low: float, high: float, begin: float, end: float) -> _Scale:
    return _Scale(low, high if high > low else low + 1.0, begin, end)


def _path(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, across: _Scale, up: _Scale) -> str:
    """SVG path; NaN interrupts it."""
    words, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if not math.isfinite(b):
            pen = "M"
            continue
        words.append(f"{pen}{across(float(a)):g} {up(float(b)):g}")
        pen = "L"
    return "".join(words)


def point_chart(points: Points, entries: Mapping[str, Entry]) -> Chart:
    """Points with their names beside them, pushed apart where they would lie on each other."""
    xs = [math.log10(x) if points.log_x else x for _, x, _, _ in points.points]
    ys = [y for _, _, y, _ in points.points]
    low, high = _margins(xs, 0.12)
    floor, ceiling = _margins(ys, 0.15)
    floor = max(floor, 0.0)
    across = _scale(low, high, _LEFT, WIDTH - _RIGHT)
    up = _scale(floor, ceiling, HEIGHT - _BOTTOM, _TOP)
    if points.log_x:
        x_ticks = [Tick(across(math.log10(v)), tick_label(v)) for v in _log_ticks(low, high)]
    else:
        x_ticks = [Tick(across(v), tick_label(v)) for v in nice_ticks(low, high)]
    places = [(across(x), up(y)) for x, y in zip(xs, ys, strict=True)]
    dots = []
    for (ident, x, y, hollow), (px, py), label_y in zip(points.points, places, _spread_labels(places), strict=True):
        entry = entries[ident]
        left_of = px > WIDTH * 0.62
        title = f"{entry.name}: {points.x_label} {x:.3g}, {points.y_label} {y:.3f}"
        label_x = px - 9 if left_of else px + 9
        dots.append(
            Dot(entry.number, px, py, hollow, entry.name, label_x, label_y, "end" if left_of else "start", title)
        )
    y_ticks = [Tick(up(v), tick_label(v)) for v in nice_ticks(floor, ceiling)]
    return Chart(WIDTH, HEIGHT, points.title, points.x_label, points.y_label, x_ticks, y_ticks, dots=dots)


def _margins(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * share if high > low else 0.5 * abs(high) + 0.05
    return low - room, high + room


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    inside = [v for v in ticks if low <= math.log10(v) <= high]
    whole = [v for v in inside if math.log10(v) == round(math.log10(v))]
    return whole if len(inside) > 8 else inside


def _spread_labels(places: Sequence[tuple[float, float]]) -> list[float]:
    """Ordinates of the names: at their points, moved down where a name above is nearer than a line."""
    labels = [0.0] * len(places)
    put: list[tuple[float, float]] = []
    for k in sorted(range(len(places)), key=lambda i: places[i][1]):
        x, y = places[k]
        near = [b for a, b in put if abs(a - x) < 120]
        y = max([y, *(b + _LINE for b in near if y - b < _LINE)])
        put.append((x, y))
        labels[k] = y
    return labels


def radar_chart(attributes: Sequence[Attribute], entries: Mapping[str, Entry], label: str) -> Chart | None:
    """One spoke per attribute, from 0 in the middle to a round number outside; None under three attributes."""
    if len(attributes) < 3:
        return None
    middle_x, middle_y, radius = RADAR_WIDTH / 2, RADAR_HEIGHT / 2, 116.0
    values = [v for attribute in attributes for v in attribute.values.values() if math.isfinite(v)]
    top = min(1.0, _ceiling(max(values, default=1.0)))
    turn = [2 * math.pi * k / len(attributes) - math.pi / 2 for k in range(len(attributes))]

    def place(k: int, share: float) -> tuple[float, float]:
        length = radius * share
        return round(middle_x + length * math.cos(turn[k]), 1), round(middle_y + length * math.sin(turn[k]), 1)

    def closed(shares: Sequence[float]) -> str:
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in (place(k, s) for k, s in enumerate(shares))) + "Z"

    rings = [v for v in nice_ticks(0.0, top, 4) if v > 0]
    spokes = [f"M{middle_x:g} {middle_y:g}L{x:g} {y:g}" for x, y in (place(k, 1.0) for k in range(len(turn)))]
    lines = []
    for ident, entry in entries.items():
        mine = [attribute.values.get(ident, math.nan) for attribute in attributes]
        if all(math.isfinite(v) for v in mine):
            lines.append(Line(entry.number, closed([v / top for v in mine]), dash_of(entry.number), entry.name))
    # Between the first two spokes, where no name stands.
    aside = math.pi / len(attributes)
    words = []
    for v in rings[:-1]:
        away = radius * v / top * math.cos(aside)
        x, y = middle_x + away * math.sin(aside), middle_y - away * math.cos(aside) + 4
        words.append(Words(round(x, 1), round(y, 1), "middle", tick_label(v)))
    for k, attribute in enumerate(attributes):
        x, y = place(k, 1.1)
        side = math.cos(turn[k])
        anchor = "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"
        words.append(Words(x, y + 4, anchor, f"{attribute.name} ({attribute.sequences})"))
    grid = [*(closed([v / top] * len(turn)) for v in rings), *spokes]
    return Chart(RADAR_WIDTH, RADAR_HEIGHT, f"{label} by attribute", lines=lines, rings=grid, words=words)

"""The plots of a report as PNG and SVG files, for papers."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttrack.errors import BackendUnavailable, OutputError
from fasttrack.evaluation.report.charts import tick_label
from fasttrack.evaluation.report.model import Attribute, Board, Curves, Entry, Points, Report
from fasttrack.evaluation.report.palette import COLOURS, colour_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_figures"]

_STROKES = ("-", "--", ":", "-.")
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fasttrack",  # two runs give the same file
    "text.parse_math": False,  # a $ in a name is a $, not the start of a formula
    "savefig.bbox": "tight",  # names beside a radar are not counted by the layout
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


def write_figures(report: Report, folder: Path) -> list[Path]:
    """Draw every plot of every board as ``<board>-<plot>.png`` and ``.svg``; the files written.

    Raises:
        BackendUnavailable: matplotlib is missing; says what to install.
        OutputError: a file cannot be written.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise BackendUnavailable(f"report: needs matplotlib (pip install 'fasttrack[eval]'): {error}") from error
    written = []
    with rc_context(_STYLE):
        for board in report.boards:
            for key, figure in _figures(board, {entry.ident: entry for entry in report.entries}):
                stem = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{board.key}-{key}")
                written += [_save(figure, folder / f"{stem}.{kind}") for kind in ("png", "svg")]
    return written


def _save(figure: Figure, path: Path) -> Path:
    data = io.BytesIO()
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(data, format=path.suffix[1:], dpi=200, metadata=metadata)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.getvalue())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def _figures(board: Board, entries: Mapping[str, Entry]) -> list[tuple[str, Figure]]:
    figures = [(curves.key, _curves(board, curves, entries)) for curves in board.curves if curves.lines]
    ranked = [line.entry for line in board.standings if line.rank is not None]
    if len(board.attributes) >= 3 and ranked:
        figures.append(("attributes", _radar(board.attributes, ranked)))
    figures += [(points.key, _points(points, entries)) for points in board.points if points.points]
    return figures


def _stroke(entry: Entry) -> dict[str, Any]:
    style = _STROKES[entry.number // len(COLOURS) % len(_STROKES)]
    return {"color": colour_of(entry.number), "linestyle": style, "linewidth": 1.6}


def _new(width: float, height: float, **axes_options: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot(**axes_options)


def _curves(board: Board, curves: Curves, entries: Mapping[str, Entry]) -> Figure:
    figure, axes = _new(4.6, 3.5)
    column = board.column(curves.legend)
    values = {line.entry.ident: line.values.get(column.key) for line in board.standings}
    order = sorted(curves.lines, key=lambda ident: -(values.get(ident) or 0.0))
    for ident in order:
        label = f"[{column.text(values.get(ident))}] {entries[ident].name}"
        axes.plot(curves.x, curves.lines[ident], label=label, **_stroke(entries[ident]))
    axes.set(xlabel=curves.x_label, ylabel=curves.y_label, xlim=(curves.x[0], curves.x[-1]))
    axes.set_ylim(bottom=0)
    axes.set_title(f"{curves.title}, {board.dataset}", fontsize=10)
    axes.legend(fontsize=7.5, frameon=False)
    return figure


def _radar(attributes: Sequence[Attribute], ranked: Sequence[Entry]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, axes = _new(5.4, 4.4, projection="polar")
    turn = np.linspace(0, 2 * np.pi, len(attributes), endpoint=False)
    for entry in ranked:
        values = [attribute.values.get(entry.ident, np.nan) for attribute in attributes]
        # matplotlib leaves a label that begins with _ out of the legend.
        axes.plot([*turn, turn[0]], [*values, values[0]], label=f" {entry.name}", **_stroke(entry))
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_xticks(turn)
    axes.set_xticklabels([f"{a.name} ({a.sequences})" for a in attributes])
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", pad=6)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    figure.legend(fontsize=7.5, frameon=False, loc="outside right center")
    return figure


def _points(points: Points, entries: Mapping[str, Entry]) -> Figure:
    from matplotlib.ticker import NullFormatter

    figure, axes = _new(4.6, 3.5)
    if points.log_x:
        axes.set_xscale("log")
    for ident, x, y, hollow in points.points:
        entry = entries[ident]
        colour = colour_of(entry.number)
        axes.plot([x], [y], "o", color=colour, markerfacecolor="none" if hollow else colour)
        axes.annotate(entry.name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
    xs = [x for _, x, _, _ in points.points]
    if points.log_x:
        # The usual labels of a logarithmic axis are formulas.
        axes.xaxis.set_major_formatter(lambda value, _: tick_label(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(xs) / 2, max(xs) * 2)  # room for names; one point alone has no range of its own
    axes.margins(y=0.15)
    axes.set(xlabel=points.x_label, ylabel=points.y_label, title=points.title)
    return figure

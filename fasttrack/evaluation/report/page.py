"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fasttrack.errors import BackendUnavailable
from fasttrack.evaluation.report.charts import curve_chart, point_chart, radar_chart
from fasttrack.evaluation.report.model import Board, Column, Entry, Report, Sheet, best_two
from fasttrack.evaluation.report.palette import COLOURS

__all__ = ["CELLS", "FIRST_ROWS", "ROWS", "render_page"]

CELLS, ROWS = 250_000, 20_000  # numbers and lines of single sequences in a page: about 1.5 MB
FIRST_ROWS = 50  # rows shown before, or without, the script

_PROTOCOLS = {
    "ope": "one pass (OPE)",
    "sre": "spatial robustness (SRE)",
    "tre": "temporal robustness (TRE)",
    "vot-supervised": "VOT supervised",
    "vot-unsupervised": "VOT unsupervised",
}


def render_page(report: Report) -> str:
    """HTML of the report.

    Names, notes and tracebacks are data: they are escaped wherever they stand. Raises BackendUnavailable, naming
    what to install, where jinja2 is missing.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise BackendUnavailable(f"report: needs jinja2 (pip install 'fasttrack[eval]'): {error}") from error
    environment = Environment(
        loader=PackageLoader("fasttrack.evaluation.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clip": _clip, "plain": _plain}
    environment.globals["colours"] = len(COLOURS)
    loader = environment.loader
    assert loader is not None
    style, script = (loader.get_source(environment, name)[0] for name in ("style.css", "page.js"))
    variables = ":root{" + "".join(f"--t{k}:{colour};" for k, colour in enumerate(COLOURS)) + "}\n"
    return environment.get_template("page.html").render(
        report=report,
        boards=[_board(report, board) for board in report.boards],
        tiles=_tiles(report),
        style=Markup(variables + style),  # ours, not data
        script=Markup(script),
    )


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _plain(value: Any) -> str:
    """A value of a configuration: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _tiles(report: Report) -> list[tuple[str, str]]:
    tiles = [("Trackers", str(len(report.entries)))]
    if report.boards:
        board = report.boards[0]
        tiles.append(("Sequences", f"{max(b.expected for b in report.boards):,}"))
        if board.frames:
            tiles.append(("Frames", f"{board.frames:,}"))
        leader = next((line for line in board.standings if line.rank == 1), None)
        if leader is not None:
            first = board.columns[0]
            best = first.text(leader.values[first.key])
            tiles.append((f"Best {first.label}", f"{best} {_clip(leader.entry.name, 18)}"))
    return tiles


def _board(report: Report, board: Board) -> dict[str, Any]:
    entries = {entry.ident: entry for entry in report.entries}
    ranked = [line.entry for line in board.standings if line.rank is not None]
    known = {entry.ident: entry for entry in ranked}
    subtitle = f"{board.common} of {board.expected} sequences in the ranking"
    if board.rules:
        subtitle += f", scored by the rules “{board.rules}”"
    view: dict[str, Any] = {
        "anchor": board.key,
        "title": f"{board.dataset}: {_PROTOCOLS.get(board.protocol, board.protocol)}",
        "subtitle": subtitle + ".",
        "columns": board.columns,
        "standings": _standings(board),
        "plots": _plots(board, entries, known),
        "attributes": board.attributes,
        "attribute_label": board.column(board.attribute_key).label if board.attribute_key else "",
        "attribute_lines": _attribute_lines(board, ranked),
        "sheets": [_sheet(board, sheet, report.entries) for sheet in board.sheets],
        "drawn": [entry for entry in report.entries if any(entry.ident in s.values for s in board.sheets)],
    }
    return view | _rows(board, report.entries)


def _marked(column: Column, values: Sequence[float | None], bar: bool = True) -> list[dict[str, Any]]:
    """Cells of one column: text, whether it is the best or the second, and its share of a whole bar."""
    best, second = best_two(column, values)
    places = {**dict.fromkeys(second, "second"), **dict.fromkeys(best, "best")}
    shares = [v if bar and v is not None and 0 <= v <= 1 and column.judged else None for v in values]
    return [
        {"text": column.text(v), "place": places.get(k, ""), "share": None if share is None else round(share, 3)}
        for k, (v, share) in enumerate(zip(values, shares, strict=True))
    ]


def _standings(board: Board) -> list[dict[str, Any]]:
    by_column = []
    for number, column in enumerate(board.columns):
        values = [line.values.get(column.key) if line.rank is not None else None for line in board.standings]
        by_column.append(_marked(column, values, bar=number == 0))
    return [
        {
            "entry": line.entry,
            "rank": line.rank,
            "cells": [cells[k] for cells in by_column],
            "done": line.done,
            "missing": line.missing,
            "failed": line.failed,
        }
        for k, line in enumerate(board.standings)
    ]


def _plots(board: Board, entries: Mapping[str, Entry], known: Mapping[str, Entry]) -> list[dict[str, Any]]:
    plots = []
    for curves in board.curves:
        column = board.column(curves.legend)
        values = {line.entry.ident: line.values.get(column.key) for line in board.standings}
        order = sorted(curves.lines, key=lambda ident: -_number(values.get(ident)))
        legend = [(entries[ident], column.text(values.get(ident))) for ident in order]
        note = f"Legend: {column.label}." + (" Dotted: its threshold." if curves.marker is not None else "")
        plots.append({"title": curves.title, "chart": curve_chart(curves, entries), "legend": legend, "note": note})
    if board.attributes:
        radar = radar_chart(board.attributes, known, board.column(board.attribute_key).label)
        if radar is not None:
            note = "In brackets the number of sequences with the attribute."
            plots.append({"title": radar.title, "chart": radar, "legend": None, "note": note})
    for points in board.points:
        if points.points:
            chart = point_chart(points, entries)
            plots.append({"title": points.title, "chart": chart, "legend": None, "note": points.note})
    return plots


def _number(value: float | None) -> float:
    return -math.inf if value is None or value != value else value


def _attribute_lines(board: Board, ranked: Sequence[Entry]) -> list[tuple[Entry, list[dict[str, Any]]]]:
    if not board.attributes:
        return []
    column = board.column(board.attribute_key)
    columns = [_marked(column, [a.values.get(e.ident) for e in ranked]) for a in board.attributes]
    return [(entry, [cells[k] for cells in columns]) for k, entry in enumerate(ranked)]


def _sheet(board: Board, sheet: Sheet, entries: Sequence[Entry]) -> dict[str, Any]:
    column = board.column(board.attribute_key)
    pictures = [
        {
            "uri": "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode(),
            "width": picture.width,
            "height": picture.height,
            "frame": picture.frame,
        }
        for picture in sheet.pictures
    ]
    values = [(entry, column.text(sheet.values[entry.ident])) for entry in entries if entry.ident in sheet.values]
    return {"name": sheet.name, "value": sheet.value, "marks": values, "note": sheet.note, "pictures": pictures}


def _rows(board: Board, entries: Sequence[Entry]) -> dict[str, Any]:
    """Data of the table that sorts, cut to what a page can hold."""
    rows, keys, notes = board.rows, list(board.row_keys), []
    each = max(len(entries), 1)
    if len(rows) * each * len(keys) > CELLS and len(keys) > 1:
        notes.append(f"So many sequences: the page has {board.column(keys[0]).label} only.")
        keys = keys[:1]
    room = min(CELLS // (each * len(keys)), ROWS) if keys else len(rows)
    if len(rows) > room:
        notes.append(f"The page has the first {room:,} of {len(rows):,} sequences.")
        rows = rows[:room]
    if notes:
        notes.append("sequences.csv has everything.")
    count = len(keys)
    data = [
        [row.name, row.frames, " ".join(row.attributes), [_cell(row.cells.get(e.ident, "–"), count) for e in entries]]
        for row in rows
    ]
    first = [
        {
            "name": row.name,
            "frames": row.frames,
            "attributes": row.attributes,
            "texts": [_first_text(row.cells.get(e.ident, "–")) for e in entries],
        }
        for row in rows[:FIRST_ROWS]
    ]
    return {
        "rows": first,
        "row_count": len(rows),
        "row_columns": [board.column(key) for key in keys],
        "row_note": " ".join(notes),
        "row_data": {"rows": data, "measures": [_measure(board.column(key)) for key in keys]},
    }


def _measure(column: Column) -> dict[str, Any]:
    return {"digits": column.digits, "lower": not column.higher_is_better}


def _cell(cell: tuple[float, ...] | str, keys: int) -> list[float | None] | str:
    if isinstance(cell, str):
        return cell
    return [round(v, 3) if math.isfinite(v) else None for v in cell[:keys]]


def _first_text(cell: tuple[float, ...] | str) -> str:
    return cell if isinstance(cell, str) else "–" if cell[0] != cell[0] else f"{cell[0]:.3f}"

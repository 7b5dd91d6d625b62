"""The tables of a report as files: CSV, JSON, LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from fasttrack.evaluation.report.model import Board, Report, Standing, best_two

__all__ = ["ranking_csv", "ranking_json", "ranking_tex", "sequences_csv"]


def ranking_csv(report: Report) -> str:
    """All rankings, one line per tracker, dataset and protocol; full precision, empty where there is no value."""
    keys = list(dict.fromkeys(column.key for board in report.boards for column in board.columns))
    head = ["dataset", "protocol", "rules", "rank", "tracker", "ident", *keys]
    lines: list[list[Any]] = [[*head, "sequences", "done", "missing", "failed", "weights"]]
    for board in report.boards:
        for line in board.standings:
            entry = line.entry
            start = [board.dataset, board.protocol, board.rules, line.rank, entry.name, entry.ident]
            values = [_finite(line.values.get(key)) for key in keys]
            lines.append([*start, *values, board.common, line.done, line.missing, line.failed, entry.note])
    return _csv(lines)


def sequences_csv(report: Report) -> str:
    """Every sequence of every board, one line per tracker; ``state`` is ``done`` or why there is no value."""
    keys = list(dict.fromkeys(key for board in report.boards for key in board.row_keys))
    lines: list[list[Any]] = [["dataset", "protocol", "sequence", "frames", "attributes", "tracker", "state", *keys]]
    for board in report.boards:
        places = {key: k for k, key in enumerate(board.row_keys)}
        for row in board.rows:
            start = [board.dataset, board.protocol, row.name, row.frames, " ".join(row.attributes)]
            for entry in report.entries:
                cell = row.cells.get(entry.ident)
                if cell is None:
                    continue
                if isinstance(cell, str):
                    lines.append([*start, entry.name, cell, *([None] * len(keys))])
                else:
                    values = [_finite(cell[places[key]]) if key in places else None for key in keys]
                    lines.append([*start, entry.name, "done", *values])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def ranking_json(report: Report) -> str:
    """Rankings, curves and attributes, for programs."""
    boards = []
    for board in report.boards:
        boards.append(
            {
                "dataset": board.dataset,
                "protocol": board.protocol,
                "rules": board.rules,
                "sequences": {"ranked_on": board.common, "expected": board.expected},
                "notices": list(board.notices),
                "ranking": [_standing(line) for line in board.standings],
                "attributes": [
                    {"name": a.name, "sequences": a.sequences, board.attribute_key: dict(a.values)}
                    for a in board.attributes
                ],
                "curves": {
                    c.key: {"x": c.x.tolist(), **{"y": {k: _numbers(y) for k, y in c.lines.items()}}}
                    for c in board.curves
                },
            }
        )
    record = {"title": report.title, "made": report.made, "fasttrack": report.version, "notices": list(report.notices)}
    return json.dumps(record | {"boards": boards}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _standing(line: Standing) -> dict[str, Any]:
    start = {"rank": line.rank, "tracker": line.entry.name, "ident": line.entry.ident, "weights": line.entry.note}
    counts = {"done": line.done, "missing": line.missing, "failed": line.failed}
    return start | {key: _finite(value) for key, value in line.values.items()} | counts


def _numbers(values: Any) -> list[float | None]:
    return [_finite(float(v)) for v in values]


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
}


def ranking_tex(report: Report) -> str:
    """One booktabs table per board: best in bold, second underlined."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_tex_table(board) for board in report.boards)


def _tex_table(board: Board) -> str:
    ranked = [line for line in board.standings if line.rank is not None]
    columns = [column for column in board.columns if any(line.values.get(column.key) is not None for line in ranked)]
    written = []
    for column in columns:
        values = [line.values.get(column.key) for line in ranked]
        best, second = best_two(column, values)
        texts = [_tex(column.text(value)) for value in values]
        written.append(
            [
                rf"\textbf{{{text}}}" if k in best else rf"\underline{{{text}}}" if k in second else text
                for k, text in enumerate(texts)
            ]
        )
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    lines.append(" & ".join(["Tracker", *(_tex(column.label) for column in columns)]) + r" \\")
    lines.append(r"\midrule")
    for k, line in enumerate(ranked):
        lines.append(" & ".join([_tex(line.entry.name), *(cells[k] for cells in written)]) + r" \\")
    about = f"{board.dataset}, {board.protocol}, {board.common} of {board.expected} sequences"
    about += f", rules {board.rules}" if board.rules else ""
    # A line break in a name would end the comment.
    return "\n".join([f"% {' '.join(about.split())}", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))

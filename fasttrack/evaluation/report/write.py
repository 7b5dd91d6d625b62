"""From the folder of an evaluation to the files of its report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from fasttrack._version import __version__
from fasttrack.errors import RangeError, UnknownName
from fasttrack.evaluation.metrics.one_pass import RULES
from fasttrack.evaluation.report.boards import Task
from fasttrack.evaluation.report.figures import write_figures
from fasttrack.evaluation.report.folder import Evaluation
from fasttrack.evaluation.report.model import Board, Report
from fasttrack.evaluation.report.one_pass import one_pass_board
from fasttrack.evaluation.report.page import render_page
from fasttrack.evaluation.report.sheets import Album
from fasttrack.evaluation.report.tables import ranking_csv, ranking_json, ranking_tex, sequences_csv
from fasttrack.evaluation.report.vot import vot_board
from fasttrack.evaluation.whole import write_whole

__all__ = ["Written", "write_report"]


@dataclass(frozen=True)
class Written:
    """The report and its files, the page first."""

    report: Report
    files: tuple[Path, ...]


def write_report(
    folder: Path,
    out: Path | None = None,
    rules: str | None = None,
    title: str | None = None,
    data: Iterable[str] = (),
    worst: int = 8,
    figures: bool = True,
) -> Written:
    """Write the report of an evaluation.

    Args:
        folder: of the evaluation (``fasttrack eval --out``).
        out: where the report goes, ``folder/report`` by default; its files of an older report are replaced.
        rules: of one-pass scoring, one of ``RULES``; those of each dataset by default.
        title: of the page.
        data: ``NAME=PATH``, where datasets lie now.
        worst: how many of the worst sequences are shown with pictures.
        figures: also draw the plots as files; without, matplotlib is not needed.

    Raises:
        SourceError: not the folder of an evaluation; ground truth that cannot be read.
        UnknownName, RangeError: of ``rules``, ``worst``.
        BackendUnavailable: jinja2 or matplotlib is missing.
        OutputError: a file cannot be written.
    """
    if rules is not None and rules not in RULES:
        raise UnknownName("rules", rules, RULES)
    if worst < 0:
        raise RangeError("report", "worst", "0 or more", str(worst))
    evaluation = Evaluation.open(folder, data)
    report = _report(evaluation, rules, title, worst)
    target = folder / "report" if out is None else out
    files = [target / "index.html"]
    write_whole(files[0], render_page(report))
    tables = {"table.csv": ranking_csv, "table.json": ranking_json, "table.tex": ranking_tex}
    for name, write in {**tables, "sequences.csv": sequences_csv}.items():
        write_whole(target / name, write(report))
        files.append(target / name)
    if figures:
        files += write_figures(report, target / "figures")
    return Written(report, tuple(files))


def _report(evaluation: Evaluation, rules: str | None, title: str | None, worst: int) -> Report:
    run, album = evaluation.run, Album()
    boards = []
    for name, dataset in evaluation.datasets.items():
        for protocol in run["protocols"]:
            task = Task(evaluation, name, protocol, rules or dataset.rules, album, worst)
            boards.append(vot_board(task) if protocol.startswith("vot-") else one_pass_board(task))
    asked = {
        "datasets": ", ".join(str(facts["spec"]) for facts in run["datasets"].values()),
        "protocols": ", ".join(f"{name} (runs: {count})" for name, count in run["protocols"].items()),
        "frames of each sequence": "all" if run["frames"] is None else run["frames"],
        "seed": run["seed"],
        "begun": run["created"],
        "fasttrack": ", ".join(run["versions"]),
    }
    machines = list(evaluation.machines.values())
    return Report(
        title=title if title is not None else f"Tracking on {', '.join(evaluation.datasets)}",
        made=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
        version=__version__,
        entries=list(evaluation.entries.values()),
        boards=boards,
        notices=_notices(evaluation, boards),
        failures=sorted(evaluation.failures.values(), key=lambda failure: -failure.count),
        broken=list(dict.fromkeys(evaluation.broken)),
        asked=asked,
        machines=machines if machines else list(run["machines"].values()),
    )


def _notices(evaluation: Evaluation, boards: Iterable[Board]) -> list[str]:
    """What is incomplete, for the top of the page."""
    lines = []
    for board in boards:
        lines += [f"{board.dataset}, {board.protocol}: {line}" for line in board.notices]
    for name in evaluation.gone:
        lines.append(f"{name}: not at hand; scored by the ground truth that was kept, without pictures.")
    for name, dataset in evaluation.datasets.items():
        if dataset.missing:
            whole = len(dataset) + len(dataset.missing)
            lines.append(f"{name}: {len(dataset.missing)} of its {whole} sequences are not in its folder.")
        asked = len(evaluation.run["datasets"][name]["sequences"])
        if asked < len(dataset):
            lines.append(f"{name}: only {asked} of {len(dataset)} sequences were asked for.")
    if failed := sum(failure.count for failure in evaluation.failures.values()):
        lines.append(f"{_number(failed, 'unit')} failed: see the tracebacks at the end of the page.")
    if broken := len(set(evaluation.broken)):
        lines.append(f"{_number(broken, 'file')} left out as damaged: see the list at the end of the page.")
    if evaluation.run["frames"] is not None:
        lines.append(f"A quick look: only the first {evaluation.run['frames']} frames of each sequence.")
    return lines


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"

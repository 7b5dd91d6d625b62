"""``fasttrack report``: an HTML page, figures and tables of an evaluation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]

_EPILOG = """\
DIR is a folder written by fasttrack eval; it may be incomplete, the page says what is missing. Written:

  index.html     one page without any other file or network
  figures/       its plots as PNG and SVG
  table.csv .json .tex, sequences.csv

examples:
  fasttrack report runs/otb100
  fasttrack report runs/uav123 --rules pysot --title "UAV123, rules of pysot" --out pages/uav123
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="write the page, figures and tables of an evaluation",
        description="Score what fasttrack eval left in a folder and write one HTML page, figures and tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the evaluation")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: DIR/report)")
    parser.add_argument(
        "--rules",
        metavar="NAME",
        help="variant of one-pass scoring: otb, pytracking, pysot, got10k, lasot, trackingnet (default: that of each "
        "dataset)",
    )
    parser.add_argument("--title", metavar="TEXT", help="title of the page")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=PATH", help="where a dataset lies now; repeat for more"
    )
    parser.add_argument(
        "--worst", type=int, default=8, metavar="N", help="sequences shown with pictures (default: %(default)s)"
    )
    parser.add_argument("--no-figures", action="store_true", help="leave out the folder figures/")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from fasttrack.evaluation.report import write_report

    figures = not args.no_figures
    written = write_report(args.folder, args.out, args.rules, args.title, args.data, args.worst, figures)
    for board in written.report.boards:
        first = board.columns[0]
        print(f"{board.dataset}, {board.protocol}: {board.common} of {board.expected} sequences")
        for line in board.standings:
            rank = "-" if line.rank is None else str(line.rank)
            print(f"  {rank:>3}  {line.entry.name:32} {first.label} {first.text(line.values.get(first.key))}")
    for notice in written.report.notices:
        print(f"note: {notice}")
    print(f"written: {written.files[0]} and {len(written.files) - 1} files beside it")
    return 0

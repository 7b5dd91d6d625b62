"""``fasttrack validate``: check result files before they are uploaded."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fasttrack.cli.convert import FORMAT_TABLE, configured

if TYPE_CHECKING:
    from fasttrack.evaluation.formats.validate import Report

__all__ = ["add_parser", "run"]

_EPILOG = f"""\
Checked: every sequence has its file; no file that does not belong; separators, columns, numbers (NaN),
sizes above 0; as many rows as frames; the first row is the ground truth's; times are there. Every fault is
told with its file and line; the exit code is 1 where there is one.

{FORMAT_TABLE}
examples:
  fasttrack validate submission --format got10k --data 'got10k[split=test]=/data/got10k'
  fasttrack validate kcf.zip --format trackingnet --names names.txt
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "validate",
        help="check result files before they are uploaded",
        description="Check a folder or .zip of result files before it is uploaded.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="folder or .zip of results")
    parser.add_argument("--format", required=True, metavar="FORMAT", help="what they are to be")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--data", metavar="KIND=PATH", help="the dataset: names, lengths and first boxes")
    known.add_argument("--names", metavar="FILE", help="rows of a sequence's name and how many frames it has")
    parser.add_argument("--base", type=int, choices=(0, 1), help="what corners are counted from, if not the format")
    parser.add_argument("--experiment", metavar="NAME", help="VOT: folder of the experiment (baseline, …)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 where there is a fault."""
    from fasttrack.evaluation.formats import format_of
    from fasttrack.evaluation.formats.validate import expected_of, read_names, validate

    format = configured(format_of(args.format), args.base, experiment=args.experiment)
    if args.names is not None:
        expected = read_names(args.names)
    else:
        from fasttrack.evaluation.datasets import load_dataset

        expected = expected_of(load_dataset(args.data))
    report = validate(args.path, format, expected)
    print("\n".join(_lines(args.path, report)))
    return 1 if report.findings else 0


def _lines(path: str, report: Report) -> list[str]:
    faults = len(report.findings)
    head = f"{path} as {report.format}, {report.sequences} sequences: "
    lines = [head + ("fine" if not faults else f"{faults} fault{'s' if faults > 1 else ''}")]
    lines += [str(finding) for finding in report.findings]
    lines += [f"  fine         {text}" for text in report.fine]
    return lines + [f"  not checked  {text}: {why}" for text, why in report.unchecked.items()]

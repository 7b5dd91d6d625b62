"""``fasttrack convert``: result files of one format, or an evaluation, as those of another."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrack.errors import ArgumentError

if TYPE_CHECKING:
    from fasttrack.evaluation.formats import Format
    from fasttrack.evaluation.formats.convert import Conversion

__all__ = ["add_parser", "configured", "run"]

# The table repeats ``FORMATS``, whose import would make `fasttrack --help` wait for numpy; a test holds them together.
FORMAT_TABLE = """\
formats:
  otb          NAME.txt; commas, tabs or spaces; times/NAME_time.txt    corners from 1
  pytracking   NAME.txt and NAME_time.txt; tabs                         corners from 1
  got10k       NAME/NAME_001.txt and NAME/NAME_time.txt; commas         corners from 1
  lasot        NAME.txt; commas                                         corners from 1
  trackingnet  NAME.txt; commas; a zip with the files in its root       corners from 0
  vot          EXPERIMENT/NAME/NAME_001.txt, NAME_001_time.value        corners from 0
  mot          NAME.txt: frame,id,x,y,w,h,conf,-1,-1,-1                 frames and corners from 1
"""

_EPILOG = f"""\
SRC is a folder, a .zip or a single file of results, or the folder of fasttrack eval: every tracker, dataset
and protocol of it becomes the folder DST/TRACKER/DATASET/PROTOCOL. DST is a folder, or a .zip to upload; for
a single file it may be a .txt. Existing files of the same name are replaced.

What the other format cannot hold is told at the end. Corners are shifted where one format counts them from
1 and the other from 0.

{FORMAT_TABLE}
examples:
  fasttrack convert results/kcf kcf.zip --from otb --to trackingnet
  fasttrack convert runs/mine submission --to got10k
  fasttrack convert vot/results/kcf boxes --from vot --to otb --data vot2018=/data/vot2018
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="turn result files of one toolkit into those of another",
        description="Turn result files of one toolkit, or an evaluation, into those of another.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", help="results to read")
    parser.add_argument("out", metavar="DST", help="where to write")
    parser.add_argument("--from", dest="given", metavar="FORMAT", help="format of SRC (default: told by its layout)")
    parser.add_argument("--to", dest="target", required=True, metavar="FORMAT", help="format to write")
    parser.add_argument("--data", metavar="KIND=PATH", help="dataset, for the boxes of starts that VOT does not tell")
    parser.add_argument("--from-base", type=int, choices=(0, 1), help="what SRC counts corners from, if not its format")
    parser.add_argument("--to-base", type=int, choices=(0, 1), help="what to count corners from, if not the format")
    parser.add_argument("--decimals", type=int, metavar="N", help="digits of a box (default: all; got10k 4)")
    parser.add_argument("--experiment", metavar="NAME", help="VOT: folder of the experiment (baseline, …)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 where units of an evaluation had to be left out."""
    from fasttrack.evaluation.formats import detect, format_of
    from fasttrack.evaluation.formats.convert import convert, is_evaluation

    if args.decimals is not None and not 0 <= args.decimals <= 17:
        raise ArgumentError("convert", "--decimals", "0 … 17", str(args.decimals))
    target = configured(format_of(args.target), args.to_base, args.decimals, args.experiment)
    given, name = None, "evaluation"
    if args.given is not None or not is_evaluation(Path(args.source)):
        given = detect(args.source) if args.given is None else format_of(args.given)
        given, name = configured(given, args.from_base, None, args.experiment), given.name
    dataset = None
    if args.data is not None:
        from fasttrack.evaluation.datasets import load_dataset

        dataset = load_dataset(args.data)
    done = convert(args.source, args.out, target, given, dataset)
    print("\n".join(_summary(args, name, target, done)))
    return 1 if done.skipped else 0


def _summary(args: argparse.Namespace, name: str, target: Format, done: Conversion) -> list[str]:
    lines = [f"{args.source} ({name}) → {args.out} ({target.name}): {done.tracks} runs, {done.files} files"]
    lines += [f"  not in {target.name}: {count} {what}" for what, count in done.lost.items()]
    return [*lines, *(f"  left out, ended in an error: {unit}" for unit in done.skipped)]


def configured(
    format: Format, base: int | None = None, decimals: int | None = None, experiment: str | None = None
) -> Format:
    """The format with what the command line says otherwise."""
    changes: dict[str, Any] = {"base": base, "decimals": decimals}
    if any(field.name == "experiment" for field in fields(format)):
        changes["experiment"] = experiment
    return replace(format, **{name: value for name, value in changes.items() if value is not None})

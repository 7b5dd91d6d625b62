"""``fasttrack eval``: run trackers through protocols on datasets, into a folder, and go on after any stop."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fasttrack.errors import ArgumentError, OutputError

if TYPE_CHECKING:
    from fasttrack.evaluation.protocols import Protocol
    from fasttrack.evaluation.runner import Summary
    from fasttrack.evaluation.runner.slots import Slots
    from fasttrack.evaluation.sequence import Dataset

__all__ = ["add_parser", "run"]

_EPILOG = """\
The folder gets a file for each unit of work (a tracker on a sequence in one run of a protocol), written
whole when the unit is over: whatever ends the run, only the units at work are lost, and the same command with
--resume does what is missing, what failed, and what is damaged. Trackers, datasets, sequences and protocols
may be added that way. Several runs may work in one folder: none does what another is doing.

  --workers N      processes on this machine (default: one per core); one that dies is replaced, and its unit
                   tried once more
  --ray ADDRESS    actors on a Ray cluster (auto, host:port, ray://host:port, local); data and weights lie under
                   the same paths on all its machines
  --shard i/n      the i-th of n parts, counted from 1, all into one folder, without --resume:
                   fasttrack eval … --shard $SLURM_ARRAY_TASK_ID/8     (sbatch --array=1-8)
  --exclusive      one process, and nothing else evaluated on the machine: the times count as the speed of trackers

exit codes: 0 all well, 1 a unit failed or the folder cannot be written, 2 misuse, 130 ended by Ctrl-C

examples:
  fasttrack eval --data otb100=OTB100 --trackers crt,kcf,cv2:CSRT --out runs/otb
  fasttrack eval --data otb=OTB --trackers 'crt[threshold=0.05],kcf' --protocol ope,tre --out runs/tre --workers 8
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "eval",
        help="evaluate trackers on datasets",
        description="Evaluate trackers on datasets: run them, keep what they did, go on after any stop.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what")
    what.add_argument("--data", action="append", required=True, metavar="KIND=PATH", help="dataset; repeat for more")
    what.add_argument("--trackers", required=True, metavar="LIST", help="between commas: crt,kcf[rate=0.03],cv2:CSRT")
    what.add_argument("--protocol", metavar="LIST", help="between commas (default: the one the datasets are made for)")
    what.add_argument("--sequences", metavar="LIST", help="only these, between commas")
    what.add_argument("--frames", type=int, metavar="N", help="only the first N of each sequence")
    what.add_argument("--seed", type=int, default=0, metavar="S", help="of all generators (default: %(default)s)")
    where = parser.add_argument_group("where")
    where.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the outcomes")
    where.add_argument("--resume", action="store_true", help="go on in a folder that is there")
    where.add_argument("--shard", metavar="i/n", help="only the i-th of n parts of the work")
    how = parser.add_argument_group("how")
    how.add_argument("--workers", type=int, metavar="N", help="processes, or actors with --ray")
    how.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster")
    how.add_argument("--gpus-per-worker", type=float, default=0.0, metavar="F", help="GPU share of each Ray actor")
    how.add_argument("--threads-per-worker", type=int, metavar="K", help="threads of each (default: cores / workers)")
    how.add_argument("--exclusive", action="store_true", help="measure speed: one process, alone on the machine")
    how.add_argument("--quiet", action="store_true", help="print warnings, failures and errors only")
    parser.set_defaults(run=run)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a batch system sends it before it kills."""


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from fasttrack.cli.progress import UnitProgress
    from fasttrack.evaluation.contestants import parse_contestants
    from fasttrack.evaluation.runner import Summary, evaluate, parse_shard

    _check(args)
    part = None if args.shard is None else parse_shard(args.shard)
    contestants = parse_contestants(args.trackers)
    datasets = _datasets(args.data, _names(args.sequences))
    protocols = _protocols(args.protocol, datasets.values())
    slots = _slots(args)
    summary = Summary(args.out)
    with _terminable(), UnitProgress(args.out.name or str(args.out), args.quiet) as progress:
        try:
            evaluate(
                datasets,
                contestants,
                protocols,
                args.out,
                watch=progress,
                slots=slots,
                resume=args.resume,
                part=part,
                frames=args.frames,
                seed=args.seed,
                exclusive=args.exclusive,
                summary=summary,
            )
        except KeyboardInterrupt as stop:
            progress.close()
            _say(args, summary, "interrupted")
            return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
        except OutputError as error:
            raise OutputError(f"{error}; {summary.done} done now are whole, go on with --resume") from error
    _say(args, summary, "evaluated")
    return summary.exit_code


def _check(args: argparse.Namespace) -> None:
    for option, least in (("frames", 1), ("workers", 1), ("threads_per_worker", 1), ("gpus_per_worker", 0)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise ArgumentError("eval", f"--{option.replace('_', '-')}", f"at least {least}", str(value))
    if not 0 <= args.seed < 2**31:
        raise ArgumentError("eval", "--seed", "in 0 … 2³¹ − 1", str(args.seed))
    if args.exclusive and (args.ray is not None or args.workers not in (None, 1)):
        raise ArgumentError("eval", "--exclusive", "used with one worker", "--ray or --workers beside it")
    if args.gpus_per_worker and args.ray is None:
        raise ArgumentError("eval", "--gpus-per-worker", "used with --ray", "no --ray")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _datasets(specs: Sequence[str], names: Sequence[str] | None) -> dict[str, Dataset]:
    """The datasets by their specifications with whole paths, for whoever reads the folder from elsewhere."""
    from fasttrack.evaluation.datasets import load_dataset

    found = {}
    for spec in map(_whole, specs):
        if spec in found:
            raise ArgumentError("eval", "--data", "each dataset once", f"{spec} twice")
        found[spec] = load_dataset(spec)
    if names is None:
        return found
    known = {sequence.name for dataset in found.values() for sequence in dataset}
    for name in names:
        if name not in known:
            some = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
            raise ArgumentError("eval", "--sequences", f"names of sequences ({some})", repr(name))
    kept = {spec: replace(data, sequences=[s for s in data if s.name in names]) for spec, data in found.items()}
    return {spec: data for spec, data in kept.items() if len(data)}


def _whole(spec: str) -> str:
    """``otb[base=0]=here`` → ``otb[base=0]=/data/here``."""
    head, bracket, tail = spec.partition("]")
    options, text = (head + bracket, tail) if bracket else ("", spec)
    kind, equals, path = text.partition("=")
    if not equals or not path.strip():
        return spec  # load_dataset says what it wants
    return f"{options}{kind}={Path(path.strip()).expanduser().resolve()}"


def _protocols(text: str | None, datasets: Iterator[Dataset] | Any) -> Mapping[str, Protocol]:
    from fasttrack.errors import UnknownName
    from fasttrack.evaluation.protocols import PROTOCOLS

    names = _names(text)
    if names is None:
        names = sorted({dataset.protocol for dataset in datasets})
        if len(names) > 1:
            raise ArgumentError("eval", "--protocol", "given, as the datasets are made for several", ", ".join(names))
    for name in names:
        if name not in PROTOCOLS:
            raise UnknownName("protocol", name, PROTOCOLS)
    return {name: PROTOCOLS[name] for name in names}


def _slots(args: argparse.Namespace) -> Slots:
    from fasttrack.evaluation.runner import Here, Processes, RayActors
    from fasttrack.evaluation.runner.machine import cores

    if args.ray is not None:
        threads = 1 if args.threads_per_worker is None else args.threads_per_worker
        return RayActors(args.ray, args.workers, threads, args.gpus_per_worker)
    given = cores() if args.workers is None else args.workers
    workers = 1 if args.exclusive else given
    threads = max(cores() // workers, 1) if args.threads_per_worker is None else args.threads_per_worker
    return Here(threads) if workers == 1 else Processes(workers, threads)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(args: argparse.Namespace, summary: Summary, state: str) -> None:
    """What the run came to; failures also with --quiet."""
    from fasttrack.cli.progress import clock

    lines = [f"{summary.folder}: {state}, {summary.done} of {summary.planned} units done in {clock(summary.seconds)}"]
    if summary.kept:
        lines.append(f"  kept       {summary.kept} that were there")
    if summary.elsewhere:
        lines.append(f"  elsewhere  {summary.elsewhere} done by another run in the folder, or at work there")
    shown = [] if args.quiet else lines
    if summary.failed:
        shown.append(f"  failed     {len(summary.failed)}; --resume tries them again; tracebacks are in their files")
        shown += [f"    {unit.path.with_suffix('')}: {why}" for unit, why in summary.failed[:20]]
        shown += [f"    and {len(summary.failed) - 20} more"] if len(summary.failed) > 20 else []
    if state == "interrupted":
        shown.append("  go on      with the same command and --resume")
    print("\n".join(shown), end="\n" if shown else "")

"""Run a program with the foreign names in place: python -m fasttrack.compat [OPTION …] SCRIPT|-m MODULE [ARGS …]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from fasttrack.compat import _run, install, names

__all__ = ["main"]

_USAGE = "python -m fasttrack.compat [OPTION ...] (SCRIPT | -m MODULE) [ARGS ...]"


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fasttrack.compat: error: {message} (see python -m fasttrack.compat --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m fasttrack.compat",
        usage=_USAGE,
        allow_abbrev=False,
        description="Runs an unmodified Python program whose imports of PreciseRoIPooling, pytracking and PySOT find "
        "fasttrack's modules. All after SCRIPT or MODULE belongs to the program.",
        epilog="Processes that the program starts afresh (the spawn method of multiprocessing) do not have the names.",
    )
    for group in names.GROUPS:
        switch = argparse.BooleanOptionalAction
        on = group != "mmcv"
        parser.add_argument(f"--{group}", action=switch, default=on, help=f"names of {group} ({'on' if on else 'off'})")
    parser.add_argument("--legacy-torch", action="store_true", help="torch.rfft, gesv, … for the whole run")
    parser.add_argument("--list", action="store_true", help="print what is replaced (before a program: on stderr)")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    return parser


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options, and from the program on the rest: the first word that is no option, or what ``-m`` names."""
    for at, word in enumerate(argv):
        if word == "-m":
            return list(argv[: at + 2]), list(argv[at + 2 :])
        if word.startswith("-m"):
            return list(argv[: at + 1]), list(argv[at + 1 :])
        if not word.startswith("-"):
            return list(argv[:at]), list(argv[at:])
    return list(argv), []


def main(argv: Sequence[str]) -> None:
    """Install, then run the program in ``argv`` as ``__main__``; the names stay until the process ends."""
    ours, program = _split(argv)
    parser = _parser()
    options = parser.parse_args(ours)
    if options.module is None and not program and not options.list:
        parser.error("a SCRIPT or -m MODULE is missing")
    _run.hide_frames_of(__file__)
    running = options.module is not None or bool(program)
    if running and options.module is None:
        _run.enter_folder(program[0])
    installed = install(**{group: getattr(options, group) for group in names.GROUPS})
    if options.list:
        print(installed, file=sys.stderr if running else sys.stdout)
    if options.legacy_torch and running:
        _run.open_legacy_torch()
    if options.module is not None:
        _run.run_module(options.module, program)
    elif running:
        _run.run_script(program[0], program[1:])


if __name__ == "__main__":
    main(sys.argv[1:])

"""The command ``fasttrack``: track · demo · eval · report · doctor · weights · convert · validate.

Exit codes: 0 done, 1 failure, 2 misuse, 130 ended by Ctrl-C (143 by SIGTERM) with everything done so
far kept. An error is one line on stderr; ``FASTTRACK_DEBUG=1`` shows the traceback.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from fasttrack.errors import FasttrackError

__all__ = ["main"]

_COMMANDS = ("track", "demo", "eval", "report", "doctor", "weights", "convert", "validate")


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line in the form of all our errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fasttrack: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    from fasttrack._version import __version__

    parser = _Parser(
        prog="fasttrack",
        description="Visual object tracking on compiled kernels.",
        epilog="fasttrack COMMAND --help describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"fasttrack {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        importlib.import_module(f"fasttrack.cli.{name}").add_parser(commands)
    return parser


def _join_negative_boxes(argv: Sequence[str]) -> list[str]:
    """``--box -5,3,10,10`` → ``--box=-5,3,10,10``: argparse takes a leading minus for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--box" and word[:1] == "-" and word[1:2] in set("0123456789.in"):
            joined[-1] = f"--box={word}"
        else:
            joined.append(word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    # Threads that spin while they wait cost several times the work as soon as anything else runs on the machine.
    # OpenMP reads this when torch is loaded, which no command has done yet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name or a · must not end a run under LANG=C
    try:
        args = _parser().parse_args(_join_negative_boxes(words))
        code: int = args.run(args)
        sys.stdout.flush()
    except FasttrackError as error:
        if os.environ.get("FASTTRACK_DEBUG") == "1":
            raise
        print(f"fasttrack: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fasttrack: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`); stop the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code

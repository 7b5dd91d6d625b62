"""``python -m fasttrack.compat.vot TRACKER``: a tracker program for vot-toolkit, and its entry in ``trackers.ini``."""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fasttrack.errors import ArgumentError, FasttrackError, OutputError

__all__ = ["main", "tracker_entry", "write_entry"]

_EPILOG = """\
Write the toolkit's entry once, then test it and evaluate it in a workspace of yours:

  python -m fasttrack.compat.vot crt --set features=hog --write-ini trackers.ini
  vot test crt
  vot evaluate --workspace . crt
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a tracker over TraX, or write its entry; the exit code.

    Args:
        arguments: those of the command line where it is None.
    """
    # Read when OpenMP starts: threads that spin while the toolkit works slow it down.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser(
        prog="python -m fasttrack.compat.vot",
        description="A tracker program for vot-toolkit: answers its requests over TraX.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tracker", metavar="TRACKER", help="name of the tracker")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="field of the tracker's Config")
    parser.add_argument("--single", action="store_true", help="say that only one object is taken at a time")
    parser.add_argument("--write-ini", metavar="FILE", help="add the entry to FILE (made where it is missing) and end")
    parser.add_argument("--name", help="what the entry is called (default: TRACKER)")
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except FasttrackError as error:
        print(f"fasttrack.compat.vot: error: {error}", file=sys.stderr)
        return error.exit_code


def _run(given: argparse.Namespace) -> int:
    from fasttrack.trackers.options import parse_options
    from fasttrack.trackers.registry import tracker_config

    options = parse_options(given.set, "fasttrack.compat.vot", "--set")
    if given.write_ini is None:
        from fasttrack.compat.adapters import as_vot

        as_vot(given.tracker, multiobject=not given.single, **options).serve()
        return 0
    tracker_config(given.tracker, options)  # refuses what could not be served
    own = [given.tracker, *(part for text in given.set for part in ("--set", text)), *["--single"] * given.single]
    name = given.tracker if given.name is None else given.name
    write_entry(Path(given.write_ini), name, own)
    print(f"wrote [{name}] to {given.write_ini}")
    return 0


def tracker_entry(name: str, arguments: Sequence[str]) -> str:
    """The section of ``trackers.ini`` by which vot-toolkit starts this Python with ``main(arguments)``.

    Raises:
        ArgumentError: a name that the toolkit does not take.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", name):
        raise ArgumentError("trackers.ini", "name", "letters, digits, - and _ (what vot-toolkit takes)", repr(name))
    call = f"from fasttrack.compat.vot import main; raise SystemExit(main({list(arguments)!r}))"
    # The toolkit puts the call between double quotes, whose backslashes its shlex takes away.
    values = {
        "label": name,
        "protocol": "traxpython",
        "python": shlex.quote(sys.executable),
        "command": call.replace("\\", "\\\\"),
    }
    # configparser reads % as a reference.
    return f"[{name}]\n" + "".join(f"{key} = {value.replace('%', '%%')}\n" for key, value in values.items())


def write_entry(path: Path, name: str, arguments: Sequence[str]) -> None:
    """Add the entry at the end of the file, whose other lines stay as they are.

    Raises:
        ArgumentError: a name that the toolkit does not take.
        OutputError: there is an entry of that name, or the file cannot be read or written.
    """
    entry = tracker_entry(name, arguments)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        there = configparser.ConfigParser()
        there.read_string(before)
        if there.has_section(name):
            raise OutputError(f"{path}: has an entry [{name}] already; choose another name with --name")
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(gap + entry)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: is not a trackers.ini: {error}") from error
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    raise SystemExit(main())

"""Contestants by the texts of the command line."""

from __future__ import annotations

import re

from fasttrack.errors import ArgumentError, UnknownName
from fasttrack.evaluation.contestants.base import Contestant
from fasttrack.evaluation.contestants.identity import IdentityContestant
from fasttrack.evaluation.contestants.opencv import OPENCV_TRACKERS, OpenCVContestant
from fasttrack.evaluation.contestants.own import OwnTracker
from fasttrack.evaluation.contestants.recorded import RecordedContestant
from fasttrack.trackers import list_trackers
from fasttrack.trackers.options import parse_options, split_list

__all__ = ["list_contestants", "parse_contestant", "parse_contestants"]

_FORM = re.compile(r"(?P<head>[^\[\]=]+)(?:\[(?P<options>.*?)\](?=$|=))?(?:=(?P<rest>.*))?", re.DOTALL)


def list_contestants() -> tuple[str, ...]:
    """The forms that ``parse_contestant`` takes."""
    peers = ("cv2:" + name + ("=" + ";".join(files) if files else "") for name, files in OPENCV_TRACKERS.items())
    return (*list_trackers(), *peers, "identity", "boxes:NAME=DIR")


def parse_contestants(text: str) -> tuple[Contestant, ...]:
    """Contestants from texts between commas (``crt,kcf[rate=0.03],cv2:MIL``).

    Raises:
        ArgumentError: two that are the same in all they depend on, or a text that cannot be taken apart.
        As ``parse_contestant``.
    """
    found: dict[str, Contestant] = {}
    for part in split_list(text, "contestants", "text"):
        one = parse_contestant(part)
        if one.ident in found:
            got = f"{found[one.ident].name} and {one.name}"
            raise ArgumentError("contestants", "text", "contestants that differ", got)
        found[one.ident] = one
    return tuple(found.values())


def parse_contestant(text: str) -> Contestant:
    """The contestant of a text.

    ============================ ======================================================================
    ``crt``                      a tracker of ours
    ``crt[threshold=0.2,a=2]``   with options of its Config, values written as for ``fasttrack track --set``
    ``cv2:CSRT``                 one of OpenCV's
    ``cv2:Nano=a.onnx;b.onnx``   with its model files (backbone and head)
    ``identity``                 stays where it was started
    ``boxes:NAME=DIR``           result files in a folder or zip archive, shown as NAME
    ``boxes:NAME[base=0]=DIR``   with the px that corners count from (1 or 0; default: the format's own), ``format=``
                                 (``otb``, ``got10k``, …; default: told by the layout), ``experiment=`` (VOT)
    ============================ ======================================================================

    Raises:
        UnknownName: none of these; the message lists them.
        ArgumentError, RangeError: an option that is not one, or out of its range.
        BackendUnavailable: this OpenCV lacks the tracker; the message says what to install.
        WeightsError: a model file cannot be read.
        SourceError: there are no result files of the format, or they cannot be read.
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise ArgumentError("contestant", "text", "NAME, NAME[KEY=VALUE,...] or NAME=FILES", repr(text))
    name, head, inner, rest = form[0], form["head"].strip(), form["options"], form["rest"]
    options = parse_options(split_list(inner, name, "options"), name, "options") if inner else {}
    if head in list_trackers() and rest is None:
        return OwnTracker.of(name, head, options)
    if head == "identity" and rest is None and not options:
        return IdentityContestant(name, "identity", {"kind": "identity"})
    if head.startswith("cv2:") and not options:
        return OpenCVContestant.of(name, head.removeprefix("cv2:"), rest.split(";") if rest else [])
    if head.startswith("boxes:"):
        return RecordedContestant.of(name, head.removeprefix("boxes:").strip(), rest or "", options)
    raise UnknownName("contestant", text, list_contestants())

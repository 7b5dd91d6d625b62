"""The text that names a dataset, ``KIND=PATH``, and the options it may carry."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from pathlib import Path

from fasttrack.errors import ArgumentError, SourceError
from fasttrack.evaluation.sequence import Dataset, Sequence

__all__ = ["Spec", "build", "parse_spec"]

_FORM = re.compile(r"\s*(?P<kind>\w+)\s*(?:\[(?P<options>[^\]]*)\])?\s*=(?P<path>.+)", re.DOTALL)
_VALUES: dict[str, tuple[str, ...]] = {"base": ("0", "1"), "split": ("train", "val", "test"), "complete": ("yes", "no")}


@dataclass(frozen=True)
class Spec:
    """What a spec says.

    Attributes:
        kind: of the dataset, in lower case.
        path: its folder.
        base: coordinates of the top-left pixel in the files of an OTB-style folder, 0 or 1.
        split: ``train``, ``val`` or ``test``, where the dataset has them and one was asked for.
        complete: a sequence that is not there is an error.
    """

    kind: str
    path: Path
    base: int = 1
    split: str | None = None
    complete: bool = False


def parse_spec(text: str, options: dict[str, Collection[str]]) -> Spec:
    """Read ``KIND=PATH`` or ``KIND[option,option=value]=PATH``; ``complete`` alone means ``complete=yes``.

    Args:
        text: the spec.
        options: those that each kind takes beside ``complete``; a kind that is not in it is the caller's to refuse.

    Raises:
        ArgumentError: not of that form, an option that the kind does not take, or a value that it does not have.
    """
    match = _FORM.fullmatch(text)
    if match is None or not match["path"].strip():
        raise ArgumentError("load_dataset", "spec", "KIND=PATH, such as otb100=/data/OTB100", repr(text))
    kind = match["kind"].lower()
    chosen: dict[str, str] = {}
    for item in (match["options"] or "").split(","):
        name, _, value = (part.strip() for part in item.partition("="))
        if not name:
            continue
        allowed = ("complete", *options.get(kind, ()))
        if name not in allowed:
            raise ArgumentError("load_dataset", f"option of {kind}", f"one of {', '.join(allowed)}", repr(name))
        chosen[name] = value or ("yes" if name == "complete" else "")
        if chosen[name] not in _VALUES[name]:
            wanted = "one of " + ", ".join(_VALUES[name])
            raise ArgumentError("load_dataset", f"option {name} of {kind}", wanted, repr(value))
    return Spec(
        kind=kind,
        path=Path(match["path"].strip()).expanduser(),
        base=int(chosen.get("base", "1")),
        split=chosen.get("split"),
        complete=chosen.get("complete") == "yes",
    )


def build(
    spec: Spec,
    name: str,
    sequences: Iterable[Sequence],
    missing: Ordered[str] = (),
    protocol: str = "ope",
    rules: str = "otb",
    wanted: str = "its sequences",
) -> Dataset:
    """The dataset of the sequences that are there.

    Raises:
        SourceError: none is there (``wanted`` tells what would be one), or some are missing and ``spec.complete``.
    """
    found = tuple(sequences)
    if not found:
        raise SourceError(f"{spec.path}: no sequence of {name} in it (wanted {wanted})")
    if missing and spec.complete:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise SourceError(
            f"{spec.path}: {len(missing)} of {len(found) + len(missing)} sequences of {name} are missing: {shown}"
        )
    return Dataset(name, found, protocol=protocol, rules=rules, missing=tuple(missing))

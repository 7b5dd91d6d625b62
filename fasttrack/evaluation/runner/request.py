"""What was asked of an evaluation, as ``run.json`` keeps it; a later run in the same folder must agree with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from fasttrack._version import __version__
from fasttrack.errors import ArgumentError
from fasttrack.evaluation.runner.machine import facts
from fasttrack.evaluation.runner.parts import Contestant, Procedure
from fasttrack.evaluation.runner.store import FORMAT
from fasttrack.evaluation.sequence import Dataset

__all__ = ["describe", "merged"]

_ADDED = ("trackers", "datasets", "protocols")


def describe(
    datasets: Mapping[str, Dataset],
    lengths: Mapping[tuple[str, str], int],
    contestants: Iterable[Contestant],
    protocols: Mapping[str, Procedure],
    frames: int | None,
    seed: int,
) -> dict[str, Any]:
    """The record of ``run.json`` (its layout: ``runner/store.py``).

    Args:
        datasets: by the specification that loads them again.
        lengths: frames of each sequence, by names of dataset and sequence.
        contestants: who takes part.
        protocols: by name.
        frames: how many of each sequence, None for all.
        seed: of the generators.
    """
    here = facts()
    record = {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": [__version__],
        "datasets": {
            data.name: {
                "spec": spec,
                "protocol": data.protocol,
                "rules": data.rules,
                "sequences": {sequence.name: lengths[data.name, sequence.name] for sequence in data},
            }
            for spec, data in datasets.items()
        },
        "trackers": {c.ident: {"name": c.name, "config": dict(c.config), "note": c.note()} for c in contestants},
        "protocols": {name: protocol.runs for name, protocol in protocols.items()},
        "frames": frames,
        "seed": seed,
        "machines": {str(here["host"]): here},
    }
    # As a reader will see it: tuples become lists, what JSON does not know becomes text.
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The record of both together, and what should be said about it.

    Trackers, datasets, sequences and protocols may be added; what is in both must be the same.

    Raises:
        ArgumentError: they disagree: the results would not be of one evaluation.
    """
    record, said = dict(old), []
    for key in ("seed", "frames"):
        _same(key, old[key], new[key])
    for group in _ADDED:
        record[group] = {**old[group], **new[group]}
    for name in old["datasets"].keys() & new["datasets"].keys():
        was, now = old["datasets"][name], new["datasets"][name]
        for key in ("spec", "protocol", "rules"):
            _same(f"{key} of dataset {name}", was[key], now[key])
        for sequence in was["sequences"].keys() & now["sequences"].keys():
            before, after = was["sequences"][sequence], now["sequences"][sequence]
            if before and after:  # 0: its frames could not be listed at the time
                _same(f"frames of {name}/{sequence}", before, after)
        record["datasets"][name] = {**was, "sequences": {**was["sequences"], **now["sequences"]}}
    for ident in old["trackers"].keys() & new["trackers"].keys():
        for key in ("config", "note"):
            _same(f"{key} of {ident}", old["trackers"][ident][key], new["trackers"][ident][key])
    for name in old["protocols"].keys() & new["protocols"].keys():
        _same(f"runs of {name}", old["protocols"][name], new["protocols"][name])
    record["machines"] = {**old["machines"], **new["machines"]}
    if unknown := [version for version in new["versions"] if version not in old["versions"]]:
        record["versions"] = [*old["versions"], *unknown]
        said.append(
            f"the folder holds outcomes of fasttrack {', '.join(old['versions'])}; this is {', '.join(unknown)}"
        )
    return record, said


def _same(what: str, was: Any, now: Any) -> None:
    if was != now:
        raise ArgumentError("eval", what, f"that of the folder, {was!r}", repr(now), "use another folder")

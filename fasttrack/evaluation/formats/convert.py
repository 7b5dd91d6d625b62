"""From one format of result files, or the folder of an evaluation, to another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from fasttrack.errors import ArgumentError, OutputError, SourceError
from fasttrack.evaluation.formats.base import Format
from fasttrack.evaluation.formats.files import is_archive, open_tree, write_files
from fasttrack.evaluation.formats.track import Track, fill_starts, track_of
from fasttrack.evaluation.formats.vot import Vot
from fasttrack.evaluation.outcome import FAILURE, SKIPPED, TRACKED, Outcome, read_outcome
from fasttrack.evaluation.sequence import Dataset

__all__ = ["Conversion", "convert", "is_evaluation"]

_UNIT = re.compile(r"(?P<sequence>.+)\.(?P<run>\d+)\.s(?P<seed>-?\d+)\.json")
_EXPERIMENTS = {"vot-supervised": "baseline", "vot-unsupervised": "unsupervised"}


@dataclass
class Conversion:
    """What came of it.

    Attributes:
        files: how many were written.
        tracks: how many runs on sequences they hold.
        lost: what the format could not hold → how often.
        skipped: units that ended in an error and were left out, with its last line.
    """

    files: int = 0
    tracks: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """One file to read, when its turn comes."""

    sequence: str
    run: int
    load: Callable[[], list[Track]]


def convert(
    source: str | Path,
    out: str | Path,
    target: Format,
    given: Format | None = None,
    dataset: Dataset | None = None,
) -> Conversion:
    """Write the results under ``source`` again as ``target``; one sequence at a time is held in memory.

    Args:
        source: folder, zip archive or single file of results, or the folder of ``fasttrack eval``.
        out: folder, ``.zip`` archive, or for a single file the ``.txt`` file. Of an evaluation each tracker, dataset
            and protocol gets the folder ``TRACKER/DATASET/PROTOCOL``; where ``target`` holds one run per sequence, each
            of several runs gets a folder ``run-001``.
        target: the format to write.
        given: the format of ``source``; an evaluation is known by itself.
        dataset: to fill in the boxes from which a tracker was started, where the files do not tell them (VOT).

    Raises:
        SourceError: nothing to read, or a broken file, named with its line; what was written before stays.
        OutputError: a file cannot be written, or ``out`` is ``source``.
        ArgumentError: ``target`` cannot hold it.
    """
    source, out = Path(source), Path(out)
    if out.resolve() == source.resolve():
        raise OutputError(f"{out}: is what is read")
    done = Conversion()
    if is_evaluation(source):
        for part, pieces, protocol in _evaluation(source, out, done):
            own = target
            if isinstance(target, Vot) and target.experiment is None:
                own = replace(target, experiment=_EXPERIMENTS.get(protocol))
            _write(part, pieces, own, dataset, done)
        return done
    if given is None:
        raise ArgumentError("convert", "given", "the format of the source", "none")
    tree = open_tree(source)
    pieces = [_Piece(entry.sequence, entry.run, partial(given.load, tree, entry)) for entry in given.require(tree)]
    if tree.single and out.suffix == ".txt":
        _write_single(out, pieces[0], target, dataset, done)
    else:
        _write(out, pieces, target, dataset, done)
    return done


def is_evaluation(source: Path) -> bool:
    """Whether it is the folder of ``fasttrack eval`` (or the ``units`` in it)."""
    return (source / "units").is_dir() or (source.is_dir() and source.name == "units")


def _evaluation(source: Path, out: Path, done: Conversion) -> Iterator[tuple[Path, list[_Piece], str]]:
    """Place, outcomes and protocol of each tracker, dataset and protocol."""
    units = source / "units" if (source / "units").is_dir() else source
    groups: dict[Path, list[tuple[re.Match[str], Path]]] = {}
    for path in sorted(units.glob("*/*/*/*.json")):
        match = _UNIT.fullmatch(path.name)
        if match:
            groups.setdefault(path.parent.relative_to(units), []).append((match, path))
    if not groups:
        raise SourceError(f"{source}: an evaluation without one outcome")
    if is_archive(out) and len(groups) > 1:
        several = ", ".join(group.as_posix() for group in groups)
        raise ArgumentError("convert", "out", "a folder for more than one tracker, dataset or protocol", several)
    for group, members in groups.items():
        # Seeds are repetitions like runs: together they are counted through.
        keys = [(int(match["run"]), int(match["seed"])) for match, _ in members]
        numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
        pieces = [
            _Piece(match["sequence"], numbers[key], partial(_load_outcome, path, numbers[key], done))
            for key, (match, path) in zip(keys, members, strict=True)
        ]
        yield out if is_archive(out) else out / group, pieces, group.name


def _load_outcome(path: Path, run: int, done: Conversion) -> list[Track]:
    outcome: Outcome = read_outcome(path)
    if outcome.error is not None:
        last = outcome.error.strip().splitlines()[-1:] or ["unknown error"]
        done.skipped.append(f"{path}: {last[0]}")
        return []
    return [track_of(outcome, run)]


def _write(out: Path, pieces: list[_Piece], target: Format, dataset: Dataset | None, done: Conversion) -> None:
    """Write pieces, those of each run apart where the format holds only one."""
    pieces = sorted(pieces, key=lambda piece: (piece.sequence, piece.run))
    runs = sorted({piece.run for piece in pieces})
    if target.holds_runs or len(runs) == 1:
        done.files += target.write(out, _tracks(pieces, target, dataset, done))
        return
    for run in runs:
        name = f"run-{run + 1:03d}"
        place = out.with_name(f"{out.stem}-{name}.zip") if is_archive(out) else out / name
        own = [piece for piece in pieces if piece.run == run]
        done.files += target.write(place, _tracks(own, target, dataset, done))


def _write_single(out: Path, piece: _Piece, target: Format, dataset: Dataset | None, done: Conversion) -> None:
    """Write the boxes of one file into the file that was named."""
    tracks = list(_tracks([piece], target, dataset, done))
    files = list(target.render(tracks))
    if len(tracks) != 1 and not target.holds_targets:
        raise ArgumentError("convert", "out", f"a folder for {len(tracks)} targets", str(out))
    if len(files) > 1:
        done.lost["files of times and scores (name a folder to have them)"] += len(files) - 1
    done.files += write_files(out.parent, [(out.name, files[0][1])])


def _tracks(pieces: Iterable[_Piece], target: Format, dataset: Dataset | None, done: Conversion) -> Iterator[Track]:
    """Tracks one after the other, counting what will not be in the files."""
    known = {} if dataset is None else {sequence.name: sequence for sequence in dataset}
    for piece in pieces:
        for track in piece.load():
            if track.sequence in known:
                track = fill_starts(track, known[track.sequence].boxes)
            done.tracks += 1
            done.lost.update(_losses(track, target))
            yield track


def _losses(track: Track, target: Format) -> Counter[str]:
    lost: Counter[str] = Counter()
    if not target.holds_polygons:
        lost["polygons, now the upright boxes around them"] = len(track.polygons)
    if not isinstance(target, Vot):
        lost["failures and gaps of restarted runs, now rows without a box"] = int(
            np.isin(track.states, (FAILURE, SKIPPED)).sum()
        )
        without = np.isnan(track.boxes).any(1) & ~np.isin(track.states, (FAILURE, SKIPPED))
        lost["boxes that the source does not tell (the dataset fills in those of starts)"] = int(without.sum())
    else:
        lost["tracked frames without a box, now 0"] = int(
            (np.isnan(track.boxes).any(1) & (track.states == TRACKED)).sum()
        )
    if target.times == "none":
        lost["times"] = int((~np.isnan(track.seconds)).sum())
    if not target.holds_scores:
        lost["scores"] = int((~np.isnan(track.scores)).sum())
    return +lost

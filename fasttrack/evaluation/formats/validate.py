"""Whether a folder or archive of results can be uploaded: every fault with its file and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.formats.base import Entry, Format, shift
from fasttrack.evaluation.formats.files import Tree, is_archive, open_tree
from fasttrack.evaluation.formats.mot import Mot
from fasttrack.evaluation.formats.scan import Problem, Scan, scan_boxes, scan_mot, scan_regions, scan_times
from fasttrack.evaluation.formats.vot import Vot
from fasttrack.evaluation.sequence import Dataset
from fasttrack.evaluation.tables import read_text

__all__ = ["CHECKS", "Expected", "Finding", "Report", "expected_of", "read_names", "validate"]

CHECKS: Mapping[str, str] = MappingProxyType(
    {
        "files": "every sequence has its file",
        "strangers": "no file that does not belong",
        "runs": "as many runs of every sequence",
        "separators": "rows are separated as the format wants",
        "columns": "rows have as many columns as the format wants",
        "numbers": "every value is a finite number or a code of the format",
        "rows": "as many rows as frames",
        "sizes": "every box has a width and a height",
        "first": "first rows are the ground truth's",
        "times": "times are there, one for every frame",
    }
)


@dataclass(frozen=True, eq=False)
class Expected:
    """What the results of one sequence must fit.

    Attributes:
        name: of the sequence.
        length: its frames.
        first: box of its first frame, 0-based; None where it is not known.
    """

    name: str
    length: int
    first: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Finding:
    """A fault of one file, in all lines where it is.

    Attributes:
        check: key of ``CHECKS``.
        file: path.
        lines: numbers from 1; none where the whole file is meant.
        text: what is wrong.
    """

    check: str
    file: str
    lines: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        if not self.lines:
            return f"{self.file}: {self.text}"
        more = f" (also in {_ranges(self.lines[1:])})" if len(self.lines) > 1 else ""
        return f"{self.file}:{self.lines[0]}: {self.text}{more}"


@dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        format: name of the format.
        sequences: how many were expected.
        findings: all faults, by file.
        made: keys of the checks that were made.
        unchecked: checks that were not made → why.
    """

    format: str
    sequences: int
    findings: tuple[Finding, ...]
    made: tuple[str, ...]
    unchecked: Mapping[str, str]

    @property
    def fine(self) -> list[str]:
        """What was checked and found without fault."""
        bad = {finding.check for finding in self.findings}
        return [CHECKS[check] for check in self.made if check not in bad]


def expected_of(dataset: Dataset) -> list[Expected]:
    """Names, lengths and first boxes of a dataset's sequences."""
    return [Expected(sequence.name, len(sequence), sequence.boxes[0]) for sequence in dataset]


def read_names(path: str | Path) -> list[Expected]:
    """Names and lengths from a file of ``name length`` rows.

    Raises:
        SourceError: a row is not such, or a name comes twice; names file and line.
    """
    found: dict[str, Expected] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, _, length = line.strip().replace(",", " ").replace("\t", " ").rpartition(" ")
        name = name.strip()
        if not name or not length.isdecimal() or int(length) < 1:
            raise SourceError(f"{path}:{number}: wanted a name and how many frames it has, got {line.strip()[:80]!r}")
        if name in found:
            raise SourceError(f"{path}:{number}: {name} is there already")
        found[name] = Expected(name, int(length))
    if not found:
        raise SourceError(f"{path}: not one sequence")
    return list(found.values())


def validate(path: str | Path, format: Format, expected: Sequence[Expected]) -> Report:
    """Check results before they are uploaded.

    Args:
        path: folder or archive, laid out as the format wants.
        format: what it is to be.
        expected: the sequences, which have to be there, each once.

    Raises:
        SourceError: the folder or archive cannot be read at all.
    """
    tree = open_tree(path)
    entries = format.entries(tree)
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.sequence, []).append(entry)
    wanted = {sequence.name: sequence for sequence in expected}
    findings = [*_missing(tree, format, wanted, by_name), *_strangers(tree, format, wanted, entries)]
    findings += _uneven(tree, format, wanted, by_name)
    has_times = format.times == "must" or any(entry.times for entry in entries)
    for name, own in by_name.items():
        if name in wanted:
            for entry in own:
                findings += _check_file(tree, format, wanted[name], entry)
            if has_times:
                findings += _check_times(tree, format, wanted[name], own)
    findings.sort(key=lambda finding: (finding.file, finding.lines))
    unchecked = _unchecked(format, expected, has_times)
    left_out = {*unchecked, *(() if format.holds_runs else ("runs",))}
    made = tuple(check for check in CHECKS if check not in left_out)
    return Report(format.name, len(wanted), tuple(findings), made, {CHECKS[key]: why for key, why in unchecked.items()})


def _unchecked(format: Format, expected: Sequence[Expected], has_times: bool) -> dict[str, str]:
    unchecked = {}
    if not isinstance(format, Vot) and all(sequence.first is None for sequence in expected):
        unchecked["first"] = "the ground truth is not known"
    if not has_times:
        unchecked["times"] = "the format has no times" if format.times == "none" else "there are none"
    return unchecked


def _missing(
    tree: Tree, format: Format, wanted: Mapping[str, Expected], there: Mapping[str, list[Entry]]
) -> Iterator[Finding]:
    for name in wanted:
        if name not in there:
            yield Finding("files", tree.label(format.place(name)), (), f"missing: no result for the sequence {name}")


def _strangers(tree: Tree, format: Format, wanted: Mapping[str, Expected], entries: list[Entry]) -> Iterator[Finding]:
    used = set(format.also_reads(tree))
    for entry in entries:
        used |= {name for name in (entry.file, entry.times, entry.scores) if name is not None}
        if entry.sequence not in wanted:
            yield Finding("strangers", tree.label(entry.file), (), f"no sequence is called {entry.sequence}")
    rest = [name for name in tree.names if name not in used]
    tops = {name.partition("/")[0] for name in tree.names}
    deep = is_archive(tree.root) and not entries and len(tops) == 1
    for name in rest:
        hint = "; the files belong in the root of the archive" if deep else ""
        yield Finding("strangers", tree.label(name), (), f"not a file of the format{hint}")


def _uneven(
    tree: Tree, format: Format, wanted: Mapping[str, Expected], there: Mapping[str, list[Entry]]
) -> Iterator[Finding]:
    counts = {name: sum(entry.anchor is None for entry in own) for name, own in there.items() if name in wanted}
    if not format.holds_runs or not counts:
        return
    most = Counter(counts.values()).most_common(1)[0][0]
    for name, count in counts.items():
        if count != most:
            yield Finding("runs", tree.label(there[name][0].file), (), f"{count} runs of {name}, {most} of the others")


def _check_file(tree: Tree, format: Format, expected: Expected, entry: Entry) -> list[Finding]:
    """Everything about one file of boxes."""
    try:
        text = tree.text(entry.file)
    except SourceError as error:
        return [Finding("files", tree.label(entry.file), (), str(error).removeprefix(f"{tree.label(entry.file)}: "))]
    if isinstance(format, Mot):
        scan = scan_mot(text, format, expected.length)
    else:
        if isinstance(format, Vot):
            experiment = entry.file.split("/")[0] if entry.file.count("/") == 2 else format.experiment
            scan = scan_regions(text, format, restarts=experiment == "baseline")
        else:
            scan = scan_boxes(text, format)
        lengths = {expected.length}
        if entry.anchor is not None:  # forwards to the end, or backwards to the beginning
            lengths = {expected.length - entry.anchor, entry.anchor + 1}
        if scan.rows and len(scan.rows) not in lengths:
            right = " or ".join(str(length) for length in sorted(lengths))
            scan.add("rows", 0, f"{len(scan.rows)} rows, wanted {right}")
    _check_first(scan, format, expected)
    return _gather(tree.label(entry.file), scan.problems)


def _check_first(scan: Scan, format: Format, expected: Expected) -> None:
    """The first row against the ground truth."""
    if isinstance(format, Vot):
        if scan.rows and scan.rows[0] not in (None, [1.0]):
            scan.add("first", 1, "not 1, the code of the frame in which the tracker was started")
        return
    if expected.first is None or np.isnan(expected.first).any():
        return
    line, row = 1, scan.rows[0] if scan.rows else None
    if isinstance(format, Mot):
        targets = {row[1] for row in scan.rows if row is not None}
        starts = [(n, row[2:6]) for n, row in enumerate(scan.rows, 1) if row is not None and row[0] == 1]
        if len(targets) != 1:
            return  # whose box the ground truth is cannot be known
        line, row = starts[0] if starts else (1, None)
        if row is None:
            scan.add("first", 0, "no row for the first frame")
    if row is None:
        return
    truth = shift(expected.first[None], format.base)[0]
    gap = np.array(row) - truth
    if np.abs(gap).max() > format.tolerance + 1e-9:
        shown = [",".join(f"{value:.6g}" for value in box) for box in (row, truth.tolist())]
        off = np.abs(np.abs(gap) - [1, 1, 0, 0]).max() <= 0.01 and gap[0] == gap[1]
        hint = f"; corners of this format are counted from {format.base}" if off else ""
        scan.add("first", line, f"{shown[0]}, the ground truth's first box is {shown[1]}{hint}")


def _check_times(tree: Tree, format: Format, expected: Expected, entries: list[Entry]) -> list[Finding]:
    """The files of times of one sequence."""
    found: list[Finding] = []
    seen: set[str] = set()
    for entry in entries:
        if entry.times is None:
            found.append(Finding("times", tree.label(entry.file), (), "no file of times goes with it"))
        elif entry.times not in seen:
            seen.add(entry.times)
            text, length = tree.text(entry.times), expected.length
            if entry.anchor is not None:
                length = len(tree.text(entry.file).rstrip().splitlines())
            if entry.times.endswith(".value"):  # empty where nothing ran
                rows = text.removesuffix("\n").split("\n")
                text = "\n".join(row.strip() or "0" for row in rows)
            own_runs = max(entry.run for entry in entries) + 1
            anything = replace(format, separators=(",", "\t", " ", ";")) if not format.holds_runs else format
            found += _gather(tree.label(entry.times), scan_times(text, anything, length, own_runs).problems)
    return found


def _gather(file: str, problems: Iterable[Problem]) -> list[Finding]:
    """One finding for all lines with the same fault."""
    lines: dict[tuple[str, str], list[int]] = {}
    for problem in problems:
        lines.setdefault((problem.check, problem.text), []).append(problem.line)
    return [Finding(check, file, tuple(n for n in where if n), text) for (check, text), where in lines.items()]


def _ranges(lines: Sequence[int]) -> str:
    """``3, 5-7, 9``."""
    spans: list[list[int]] = []
    for line in lines:
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)

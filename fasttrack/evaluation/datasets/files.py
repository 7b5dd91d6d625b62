"""What the files of all datasets have in common: folders of numbered images, rows of boxes, columns of flags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.sequence import Annotations, ImageFrames
from fasttrack.evaluation.tables import parse_table, read_table, read_text
from fasttrack.video.files import IMAGE_SUFFIXES, natural_key

__all__ = [
    "all_frames",
    "boxes_of",
    "check_count",
    "folders",
    "frames_between",
    "need_folder",
    "read_annotations",
    "read_challenges",
    "read_flags",
    "read_names",
    "seen",
]


def need_folder(path: Path, why: str) -> Path:
    """The path itself. Raises SourceError, saying what the folder is for, where it is none."""
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder ({why})")
    return path


def folders(path: Path) -> list[str]:
    """Names of the folders in a folder, ``a2`` before ``a10``; hidden ones left out. Raises SourceError."""
    try:
        names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    return sorted(names, key=natural_key)


def read_names(path: Path, why: str) -> list[str]:
    """Names in a file, one a line, blank lines left out.

    Raises:
        SourceError: the file is missing (``why`` tells what it is for), holds no name or one name twice.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file ({why})")
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise SourceError(f"{path}: holds no name")
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise SourceError(f"{path}: {', '.join(sorted(twice))} more than once")
    return names


def _images(folder: Path) -> list[Path]:
    try:
        # Names with a leading dot are what macOS leaves beside each image on foreign disks.
        inside = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{folder}: no images ({error.strerror or error})") from error
    if not inside:
        raise SourceError(f"{folder}: holds no images")
    return sorted(inside, key=lambda path: natural_key(path.name))


def all_frames(folder: Path) -> ImageFrames:
    """All images of a folder by their numbers (``9.jpg`` before ``10.jpg``). Raises SourceError: there are none."""
    return ImageFrames(tuple(_images(folder)))


def frames_between(folder: Path, first: int, last: int, cut: bool = False) -> ImageFrames:
    """Images whose names end with the numbers ``first`` … ``last``, whatever the digits and the suffix.

    Args:
        folder: where they lie.
        first: number of the first one.
        last: number of the last one, which belongs to the sequence.
        cut: a folder that has exactly as many images, whatever their numbers, is taken for one that has already been
            cut to the range.

    Raises:
        SourceError: no images, or one of the range is missing; the message names it.
    """
    images = _images(folder)
    numbered = {int(found[0]): path for path in images if (found := re.findall(r"\d+", path.stem)[-1:])}
    wanted = range(first, last + 1)
    missing = [number for number in wanted if number not in numbered]
    if not missing:
        return ImageFrames(tuple(numbered[number] for number in wanted))
    if cut and len(images) == len(wanted):
        return ImageFrames(tuple(images))
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    raise SourceError(
        f"{folder}: no image of number {missing[0]}{more} (the sequence is {first} … {last}; "
        f"the folder holds {len(images)}, {images[0].name} … {images[-1].name})"
    )


def boxes_of(table: NDArray[np.float64], name: Path, base: int) -> NDArray[np.float64]:
    """Boxes of rows x, y, w, h whose top-left pixel has the coordinates (base, base).

    A row with NaN in it, or without area (datasets write 0 0 0 0 where the target is absent), gives a row of NaN.

    Raises:
        SourceError: the first row is such a row, so that there is nothing to start a tracker with.
    """
    boxes: NDArray[np.float64] = table.copy()
    boxes[:, :2] -= base
    boxes[np.isnan(table).any(axis=1) | (table[:, 2:] <= 0).any(axis=1)] = np.nan
    if np.isnan(boxes[0]).any():
        raise SourceError(f"{name}:1: no box in the first frame, so nothing to start a tracker with")
    return boxes


def seen(boxes: NDArray[np.float64], hidden: Iterable[NDArray[np.bool_]] = ()) -> NDArray[np.bool_] | None:
    """Where the target can be seen: it has a box and no flag hides it; None where nothing is said of that."""
    flags = list(hidden)
    absent = np.isnan(boxes).any(axis=1)
    if not flags and not absent.any():
        return None
    visible: NDArray[np.bool_] = ~np.logical_or.reduce([absent, *flags])
    return visible


def check_count(name: Path, rows: int, frames: int, init_only: bool = False) -> None:
    """Refuse (SourceError) a file whose rows are not one per frame; ``init_only`` lets one row for the first pass."""
    if rows != frames and not (init_only and rows == 1):
        raise SourceError(f"{name}: {rows} rows for {frames} frames")


def read_annotations(path: Path, frames: int, base: int, init_only: bool = False) -> Annotations:
    """Boxes of a file of rows x, y, w, h; see ``boxes_of`` and ``check_count``."""
    table = read_table(path, 4)
    check_count(path, len(table), frames, init_only)
    boxes = boxes_of(table, path, base)
    return Annotations(boxes, visible=seen(boxes))


def read_challenges(path: Path, names: Ordered[str]) -> frozenset[str]:
    """Challenges of a sequence, from a row with a flag for each of ``names``; none where the file is not there.

    Raises:
        SourceError: not one row of as many numbers.
    """
    if not path.is_file():
        return frozenset()
    flags = read_table(path, len(names))
    if len(flags) != 1:
        raise SourceError(f"{path}: {len(flags)} rows, wanted one of {len(names)} flags")
    return frozenset(name for name, flag in zip(names, flags[0], strict=True) if flag > 0)


def read_flags(path: Path, frames: int, values: Ordered[float] = (0, 1), pad: bool = False) -> NDArray[np.int64]:
    """A number per frame, one a line or all in one line.

    Args:
        path: the file.
        frames: how many there must be.
        values: those allowed.
        pad: fewer may be there, the rest is 0 (never more).

    Raises:
        SourceError: naming the file and what is wrong with it.
    """
    text = read_text(path)
    if pad and not text.strip():
        return np.zeros(frames, np.int64)
    table = parse_table(text, path)
    if 1 not in table.shape:
        raise SourceError(f"{path}: {table.shape[1]} columns, wanted one number per frame")
    flags = table.reshape(-1)
    wrong = ~np.isin(flags, values)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise SourceError(f"{path}: {flags[at]:g} for frame {at + 1}, wanted {values[0]:g} … {values[-1]:g}")
    if pad and len(flags) < frames:
        flags = np.concatenate([flags, np.zeros(frames - len(flags))])
    check_count(path, len(flags), frames)
    return flags.astype(np.int64)

"""Folders and zip archives of text files, read and written alike."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from fasttrack.errors import SourceError
from fasttrack.evaluation.formats.vot_regions import trajectory_text
from fasttrack.evaluation.tables import read_text
from fasttrack.evaluation.whole import replacing, write_whole

__all__ = ["Tree", "is_archive", "open_tree", "write_files"]


def is_archive(path: Path) -> bool:
    """Whether the path names a zip archive."""
    return path.suffix.lower() == ".zip"


class Tree:
    """Text files under a folder or in an archive; VOT's binary trajectories (``.bin``) are read as the same text.

    Attributes:
        root: the folder or archive.
        names: of the files relative to it, with ``/`` between parts, in alphabetical order.
        single: it is one file that was named alone, not a folder.
    """

    def __init__(
        self, root: Path, names: Iterable[str], contents: dict[str, bytes] | None = None, single: bool = False
    ) -> None:
        self.root = root
        self.single = single
        self.names = sorted(names)
        self._contents = contents

    def text(self, name: str) -> str:
        """Text of a file. Raises SourceError naming it."""
        if name.endswith(".bin"):
            return trajectory_text(self._bytes(name), self.label(name))
        if self._contents is None:
            return read_text(self.root / name)
        return self._contents[name].decode("utf-8-sig", errors="replace")

    def _bytes(self, name: str) -> bytes:
        if self._contents is not None:
            return self._contents[name]
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise SourceError(f"{self.label(name)}: cannot be read ({error.strerror or error})") from error

    def label(self, name: str) -> str:
        """What messages call the file."""
        return str(self.root / name)


def open_tree(path: str | Path) -> Tree:
    """The files of a folder, of a zip archive, or one file alone.

    Raises:
        SourceError: there is nothing of that name, it cannot be read, or it is not a whole archive.
    """
    path = Path(path)
    if path.is_dir():
        return Tree(path, _files_under(path))
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if is_archive(path):
        return _open_archive(path)
    return Tree(path.parent, [path.name], single=True)


def _files_under(folder: Path) -> list[str]:
    names = []

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be read ({error.strerror or error})") from error

    for parent, _, files in os.walk(folder, onerror=refuse):
        names += [(Path(parent) / file).relative_to(folder).as_posix() for file in files]
    return names


def _open_archive(path: Path) -> Tree:
    contents = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    contents[entry.filename] = archive.read(entry)
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: not a whole zip archive ({error})") from error
    return Tree(path, contents, contents)


def write_files(path: Path, files: Iterable[tuple[str, str]]) -> int:
    """Write files (relative name, text) under a folder, or into an archive where the path ends in ``.zip``.

    Each file, or the archive, is written beside its place first: a stop leaves no half of one.

    Returns:
        How many there were.

    Raises:
        OutputError: naming the file and why.
    """
    if is_archive(path):
        return _write_archive(path, files)
    count = 0
    for name, text in files:
        write_whole(path / name, text)
        count += 1
    return count


def _write_archive(path: Path, files: Iterable[tuple[str, str]]) -> int:
    count = 0
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files:
            # A fixed date: the same results give the same archive.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED)
            count += 1
    return count

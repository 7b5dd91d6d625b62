"""Reader of MATLAB 5 ``.mat`` files (what MATLAB writes with ``-v6`` and ``-v7``), in Python alone.

Written for files from strangers: SciPy's compiled reader can crash the process on an altered file, this
one checks every length. A file is a header of 128 bytes and elements: a tag (type, bytes; for up to four
bytes of data both in the first word), then the data padded to eight bytes. An element of type 14 is an
array (flags, dimensions, name, content), one of type 15 the same compressed.

Source: MathWorks, "MAT-File Format", level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import WeightsError

__all__ = ["read_mat"]

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)
_COMPLEX = 0x0800
_DEEPEST = 32  # levels of cells in cells; a network has four


class _Malformed(Exception):
    """The bytes are not what the format says (internal; becomes a WeightsError)."""


class _Reader:
    """A cursor over the elements of one byte order."""

    def __init__(self, data: memoryview, order: str, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise _Malformed(f"more than {_DEEPEST} levels of cells")
        self.data, self.order, self.at, self.depth = data, order, 0, depth

    @property
    def more(self) -> bool:
        return self.at < len(self.data)

    def element(self) -> tuple[int, memoryview]:
        """Type and data of the next element."""
        left = len(self.data) - self.at
        if left < 8:
            raise _Malformed(f"a tag of 8 bytes is wanted, {left} are left")
        first, size = struct.unpack_from(self.order + "II", self.data, self.at)
        if first >> 16:  # the small form
            kind, size, start = first & 0xFFFF, first >> 16, self.at + 4
            end = self.at + 8
        else:
            kind, start = first, self.at + 8
            end = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(self.data) or (size > 4 and start == self.at + 4):
            raise _Malformed(f"an element of {size} bytes is announced, {len(self.data) - start} are left")
        self.at = min(end, len(self.data))
        return kind, self.data[start : start + size]

    def numbers(self) -> NDArray[Any]:
        """The next element, which must hold numbers."""
        kind, data = self.element()
        if kind not in _TYPES:
            raise _Malformed(f"numbers are wanted, got an element of type {kind}")
        dtype = np.dtype(self.order + _TYPES[kind])
        if len(data) % dtype.itemsize:
            raise _Malformed(f"{len(data)} bytes of {dtype} numbers")
        return np.frombuffer(data, dtype=dtype)

    def text(self) -> str:
        """The next element, which must hold characters."""
        kind, data = self.element()
        if kind not in _TEXT:
            raise _Malformed(f"text is wanted, got an element of type {kind}")
        codec = _TEXT[kind]
        if codec in ("utf-16", "utf-32"):
            codec += "-le" if self.order == "<" else "-be"
        return bytes(data).decode(codec, errors="replace")

    def matrix(self) -> tuple[str, Any]:
        """Name and value of the next element, which must be an array (compressed or not)."""
        kind, data = self.element()
        if kind == _COMPRESSED:
            try:
                data = memoryview(zlib.decompress(data))
            except zlib.error as error:
                raise _Malformed(str(error)) from error
            return _Reader(data, self.order, self.depth + 1).matrix()
        if kind != _MATRIX:
            raise _Malformed(f"an array is wanted, got an element of type {kind}")
        return _Reader(data, self.order, self.depth + 1)._array() if len(data) else ("", np.zeros((0, 0)))

    def _array(self) -> tuple[str, Any]:
        flags, dims = self.numbers(), [int(n) for n in self.numbers()]
        if flags.size < 1 or len(dims) < 2 or min(dims) < 0:
            raise _Malformed(f"array flags {flags.tolist()}, dimensions {dims}")
        name, kind = self.text().rstrip("\0"), int(flags[0]) & 0xFF
        if kind in _NUMERIC:
            return name, self._numeric(dims, bool(int(flags[0]) & _COMPLEX))
        if kind == _CHAR:
            return name, self.text()
        if kind == _CELL:
            return name, [self.matrix()[1] for _ in range(math.prod(dims))]
        if kind == _STRUCT:
            return name, self._structs(math.prod(dims))
        return name, None  # objects, functions, sparse arrays: nothing that a network needs

    def _numeric(self, dims: list[int], imaginary: bool) -> NDArray[Any]:
        values = self.numbers()
        if values.size != math.prod(dims) or imaginary:
            raise _Malformed(f"{values.size} real numbers for dimensions {dims}")
        return values.reshape(dims, order="F")

    def _structs(self, count: int) -> list[dict[str, Any]]:
        length = self.numbers()
        _, joined = self.element()
        if length.size != 1 or int(length[0]) < 1 or len(joined) % int(length[0]):
            raise _Malformed(f"field names of length {length.tolist()} in {len(joined)} bytes")
        step = int(length[0])
        names = [bytes(joined[i : i + step]).split(b"\0")[0].decode("latin-1") for i in range(0, len(joined), step)]
        if not names:
            return []
        return [{name: self.matrix()[1] for name in names} for _ in range(count)]


def read_mat(path: Path) -> dict[str, Any]:
    """Variables of a MATLAB 5 file: arrays as numpy arrays, text as str, cells as lists in column order.

    A struct array is a list of dicts (a single struct: a list of one); objects and sparse arrays are None.

    Raises:
        WeightsError: unreadable, truncated or altered, or a MATLAB 7.3 (HDF5) or MATLAB 4 file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if data[:10] == b"MATLAB 7.3" or data[512:516] == b"\x89HDF":
        raise WeightsError(
            f"{path}: a MATLAB 7.3 (HDF5) file, which is not read here; in MATLAB: "
            "x = load(file); save(newfile, '-struct', 'x', '-v7')"
        )
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise WeightsError(f"{path}: truncated or not a MATLAB 5 file (no byte order mark at byte 126)")
    reader, variables = _Reader(memoryview(data)[128:], order), {}
    try:
        while reader.more:
            name, value = reader.matrix()
            variables[name] = value
    except _Malformed as error:
        reached = f"behind variable {list(variables)[-1]!r}" if variables else "in the first variable"
        raise WeightsError(f"{path}: truncated or altered MATLAB file, {reached}: {error}") from error
    return variables

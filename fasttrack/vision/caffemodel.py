"""Reader of the weights in a ``.caffemodel`` file, without caffe and without protobuf.

The file is one protobuf message (wire format: a key ``field << 3 | type``, then a varint, 8 bytes, a
length and as many bytes, or 4 bytes). Only the fields that carry weights are looked at:

* NetParameter: ``layers`` = 2 (V1LayerParameter), ``layer`` = 100 (LayerParameter)
* V1LayerParameter: ``name`` = 4, ``blobs`` = 6; LayerParameter: ``name`` = 1, ``blobs`` = 7
* BlobProto: ``num, channels, height, width`` = 1..4, ``data`` = 5 (floats, packed or not),
  ``shape`` = 7 (BlobShape: ``dim`` = 1), ``double_data`` = 8

The file is mapped, not read: skipped layers (the 400 MB of fully connected ones) cost nothing.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import WeightsError

__all__ = ["read_caffemodel"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_V1_LAYERS, _LAYER = 2, 100
_NAME_BLOBS = {_V1_LAYERS: (4, 6), _LAYER: (1, 7)}
_SHAPE, _DATA, _DOUBLE_DATA = 7, 5, 8

_Arrays = dict[str, NDArray[np.float32]]
# A field of a message: number, wire type, value (int for a varint, else the bytes).
_Field = tuple[int, int, "int | memoryview"]


class _Malformed(Exception):
    """The bytes are not a protobuf message (internal; becomes a WeightsError naming the layer)."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """``(value, next position)`` of the varint at ``at``."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise _Malformed("the file ends inside a number")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise _Malformed("a number of more than ten bytes")


def _fields(data: memoryview) -> Iterator[_Field]:
    """All fields of one message in order."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _Malformed(f"wire type {kind} in field {number}")
        if at + size > len(data):
            raise _Malformed(f"field {number} wants {size} bytes, {len(data) - at} are left")
        yield number, kind, data[at : at + size]
        at += size


def _dims(message: memoryview) -> list[int]:
    """``dim`` of a BlobShape: varints, packed or one by one."""
    dims: list[int] = []
    for number, _, value in _fields(message):
        if number != 1:
            continue
        if isinstance(value, int):
            dims.append(value)
            continue
        at = 0
        while at < len(value):
            dim, at = _varint(value, at)
            dims.append(dim)
    return dims


def _blob(message: memoryview) -> NDArray[np.float32]:
    """One BlobProto as an array of its own shape."""
    legacy = {1: 0, 2: 0, 3: 0, 4: 0}
    shape: list[int] | None = None
    parts: list[NDArray[np.float32]] = []
    for number, kind, value in _fields(message):
        if isinstance(value, int):
            if number in legacy:
                legacy[number] = value
        elif number == _SHAPE:
            shape = _dims(value)
        elif number in (_DATA, _DOUBLE_DATA):
            dtype = "<f4" if number == _DATA else "<f8"
            if len(value) % np.dtype(dtype).itemsize:
                raise _Malformed(f"{len(value)} bytes of numbers, not a multiple of their size (wire type {kind})")
            parts.append(np.frombuffer(value, dtype=dtype).astype(np.float32))
    if shape is None:
        shape = list(legacy.values())
    data = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    # Python integers: a forged shape must not wrap round to the right product.
    wanted = 1
    for dim in shape:
        wanted *= dim
    if wanted != data.size:
        raise _Malformed(f"shape {tuple(shape)} wants {wanted} numbers, {data.size} are there")
    return data.reshape(shape)


def _layer(message: memoryview, name_field: int, blobs_field: int) -> tuple[str, list[memoryview]]:
    """Name and undecoded blobs of one layer."""
    name, blobs = "", []
    for number, _, value in _fields(message):
        if isinstance(value, int):
            continue
        if number == name_field:
            name = bytes(value).decode("utf-8", errors="replace")
        elif number == blobs_field:
            blobs.append(value)
    return name, blobs


def _convolution(blobs: list[memoryview]) -> tuple[NDArray[np.float32], ...]:
    """Decoded blobs; an old file writes a bias as (1, 1, 1, n)."""
    arrays = [_blob(blob) for blob in blobs]
    return (arrays[0], *(a.reshape(-1) if a.size == max(a.shape, default=0) else a for a in arrays[1:]))


def _read(data: memoryview, path: Path, wanted: frozenset[str]) -> tuple[_Arrays, list[str]]:
    tensors: _Arrays = {}
    names: list[str] = []
    last = "the start of the file"
    try:
        for number, _, value in _fields(data):
            if number not in _NAME_BLOBS or isinstance(value, int):
                continue
            name, blobs = _layer(value, *_NAME_BLOBS[number])
            last = f"layer {name!r}" if name else last
            if blobs:
                names.append(name)
            if name not in wanted or not blobs:
                continue
            for suffix, array in zip(("weight", "bias"), _convolution(blobs), strict=False):
                tensors[f"{name}.{suffix}"] = array
    except (_Malformed, struct.error) as error:
        raise WeightsError(f"{path}: truncated or not a caffemodel, at or behind {last}: {error}") from error
    return tensors, names


def read_caffemodel(path: Path, wanted: frozenset[str]) -> tuple[_Arrays, list[str]]:
    """Weights of the named layers of a caffemodel, and the names of all layers that have weights.

    The weights are ``{"conv1_1.weight": (O, I, kh, kw), "conv1_1.bias": (O,), …}``, values as in the file
    (a first layer of caffe takes BGR); a layer that is not there is left out.

    Raises:
        WeightsError: the file cannot be read, is cut short or is not a protobuf message; names the layer reached.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise WeightsError(f"{path}: empty file")
            # Not closed by hand: views of it live on in an error's traceback; it goes with the last of them.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _read(memoryview(mapped), path, wanted)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error

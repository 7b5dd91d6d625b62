"""What takes part in an evaluation: its name, the hash of what it is, and how its tracker is made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import ArgumentError
from fasttrack.geometry import Box
from fasttrack.trackers import Result

__all__ = ["Contestant", "Follower", "digest", "plain"]


class Follower(Protocol):
    """What a protocol runs: the two methods of every tracker of ours. Frames are (H, W, 3) uint8 RGB."""

    def init(self, frame: NDArray[np.uint8], box: Box) -> None:
        """Start on a box, px; may be called again at any time, and forgets all that was before."""

    def update(self, frame: NDArray[np.uint8]) -> Result:
        """Find the target in the next frame."""


@dataclass(frozen=True)
class Contestant(ABC):
    """One that takes part. Travels to other processes, where ``make`` is called.

    Attributes:
        name: what reports show: the text it was asked for by.
        stem: first part of ``ident``.
        config: everything its boxes depend on, in what JSON can hold.
    """

    name: str
    stem: str
    config: Mapping[str, Any] = dataclasses.field(hash=False)

    @property
    def ident(self) -> str:
        """``stem-1f3a9c2e``: usable as a file's name; the same for the same ``config`` everywhere and at any time."""
        return f"{re.sub(r'[^A-Za-z0-9_.+]+', '-', self.stem).strip('.-')}-{digest(self.config)}"

    def note(self) -> str:
        """What must be said beside every result: the network weights at work ("" where there is nothing to say)."""
        return ""

    @abstractmethod
    def make(self) -> Any:
        """What the protocols run: a ``Follower``, or ``RecordedBoxes`` where the boxes exist already.

        Cheap from the second call in a process on; one process runs one unit of work at a time.
        """


def digest(config: Mapping[str, Any]) -> str:
    """First 8 hex digits of the SHA-256 of a configuration written as JSON with sorted keys; 1 and 1.0 are one value.

    Raises:
        ArgumentError: a value that ``plain`` refuses.
    """
    text = json.dumps(_numbers(plain(config)), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:8]


def plain(value: Any) -> Any:
    """A value of a configuration as JSON can hold it: tuples as lists, paths as text, dataclasses as mappings.

    Raises:
        ArgumentError: a value that is none of None, bool, number, text, path, sequence, mapping, dataclass.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Path):
        return value.as_posix()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(one) for one in value]
    raise ArgumentError("contestant", "option", "a number, text, tuple, list or dict", repr(value))


def _numbers(value: Any) -> Any:
    """Whole floats as integers: 1 and 1.0 do not differ as options."""
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

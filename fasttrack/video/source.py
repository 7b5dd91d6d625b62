"""What a source of frames is, and which kind an address means.

A source is iterated once and gives ``Frame`` s in RGB. Frames that cannot be decoded are skipped,
counted in ``broken`` and reported through ``warn``, or end the run with ``strict=True``.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrack.errors import RangeError, SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Frame", "Source", "Warn", "open_source", "to_rgb8"]

Warn = Callable[[str], None]

_URL_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
_WARNED_BROKEN = 5  # broken frames reported one by one; the rest only counted


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        index: 0-based position in the source; skipped and dropped frames leave gaps.
        image: (H, W, 3) uint8 RGB.
        name: file name of the image, or the six-digit index.
        time_s: seconds since the start of the source, None where it has no clock (images).
    """

    index: int
    image: NDArray[np.uint8]
    name: str
    time_s: float | None


class Source(ABC):
    """A sequence of frames, read once.

    Attributes:
        name: the path or address, as given.
        fps: frames per second, None where the source does not say.
        size: (width, height) in px as announced, None until known.
        count: frames it announces from ``start`` on, None where unknown (live sources).
        live: True where frames come at their own pace and are dropped rather than queued.
        broken: frames that could not be decoded and were skipped.
        missing: frames the container announces beyond the last one that could be read.
        dropped: frames of a live source that came while an earlier one was in work.
        reconnects: times a live source was opened again.
    """

    live = False

    def __init__(self, name: str, *, strict: bool, start: int, warn: Warn) -> None:
        if start < 0:
            raise RangeError("open_source", "start", "0 or more", str(start))
        self.name, self.strict, self.start, self.warn = name, strict, start, warn
        self.fps: float | None = None
        self.size: tuple[int, int] | None = None
        self.count: int | None = None
        self.broken = self.missing = self.dropped = self.reconnects = 0
        self._stopped = threading.Event()

    @property
    def inputs(self) -> list[Path]:
        """Files this source reads, which no output may overwrite."""
        return []

    def __iter__(self) -> Iterator[Frame]:
        """The frames; raises SourceError where not one can be decoded."""
        first: tuple[int, ...] | None = None
        mixed = False
        for frame in self._frames():
            height, width = frame.image.shape[:2]
            if first is None:
                first, self.size = (width, height), (width, height)
            elif (width, height) != first and not mixed:
                mixed = True
                self.warn(
                    f"{self.name}: frames change size ({first[0]}×{first[1]}, then {width}×{height} at {frame.name}); "
                    "boxes stay in pixels of each frame"
                )
            yield frame
            if self._stopped.is_set():
                return
        if first is None and not self._stopped.is_set():
            raise SourceError(f"{self.name}: not one frame can be decoded ({self.broken} tried)")

    def stop(self) -> None:
        """End the iteration before the next frame; may be called from a signal handler or a thread."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of files and devices; may be called twice."""
        self.stop()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Frames in order; broken ones go through ``_skip``."""

    def _skip(self, name: str, why: str) -> None:
        if self.strict:
            raise SourceError(f"{self.name}: frame {name}: {why}")
        self.broken += 1
        if self.broken <= _WARNED_BROKEN:
            more = "; further ones are only counted" if self.broken == _WARNED_BROKEN else ""
            self.warn(f"{self.name}: frame {name}: {why}; skipped{more}")


def to_rgb8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 RGB of what OpenCV decodes: BGR or grey, 8 or 16 bits (65535 → 255, i.e. divided by 257).

    Raises:
        ValueError: another element type; floating-point pictures have no fixed white.
    """
    import numpy as np

    from fasttrack.video._opencv import opencv

    cv2 = opencv()
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(f"pixels are {image.dtype}, wanted 8 or 16 bits without sign")
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        raise ValueError(f"picture has {channels} channels, wanted 1, 3 or 4")
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, code)
    return rgb


def open_source(spec: str | Path, *, strict: bool = False, start: int = 0, warn: Warn | None = None) -> Source:
    """Open a source of frames by its address.

    Args:
        spec: a number (webcam; write ``./0`` for a file of that name), an RTSP, RTMP, UDP or HTTP(S)
            address, a video file, an image, a folder of images, or a glob of images (quoted), both in
            natural order (``img2`` before ``img10``).
        strict: a broken frame or a cut-off file is an error.
        start: skip this many frames; not for live sources.
        warn: takes each warning; default: a logging warning of ``fasttrack.video``.

    Returns:
        The source; nothing is read from an image folder before it is iterated.

    Raises:
        SourceError: missing, empty or undecodable, naming the path.
        RangeError: ``start`` is negative or behind the end, or given for a live source.

    Pictures of 16 bits are divided by 257, grey becomes RGB, alpha is dropped, and the EXIF
    orientation of pictures and the rotation of videos are applied.
    """
    from fasttrack.video import files, live

    say: Warn = logging.getLogger("fasttrack.video").warning if warn is None else warn
    text = str(spec)
    if isinstance(spec, str) and text.isascii() and text.isdigit():
        return live.open_camera(int(text), strict=strict, start=start, warn=say)
    if text.lower().startswith(_URL_SCHEMES):
        return live.open_address(text, strict=strict, start=start, warn=say)
    return files.open_path(text, strict=strict, start=start, warn=say)

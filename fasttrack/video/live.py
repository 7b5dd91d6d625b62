"""Live sources: webcams and network streams, of which only the latest frame counts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fasttrack.errors import RangeError, SourceError
from fasttrack.video._opencv import opencv
from fasttrack.video.files import VideoSource
from fasttrack.video.source import Frame, Source, Warn, to_rgb8

__all__ = ["RETRY_WAITS_S", "LiveSource", "open_address", "open_camera"]

RETRY_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each attempt to connect again
_TIMEOUT_MS = 10_000  # to open an address, and between two frames of it
_POLL_S = 0.1


def open_camera(number: int, *, strict: bool, start: int, warn: Warn) -> Source:
    """Webcam by its number, as the operating system counts them."""
    cv2 = opencv()
    return LiveSource(f"webcam {number}", lambda: cv2.VideoCapture(number), strict=strict, start=start, warn=warn)


def open_address(address: str, *, strict: bool, start: int, warn: Warn) -> Source:
    """Network stream; an address that announces its number of frames is a file and read as one."""
    cv2 = opencv()
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]

    def connect() -> Any:
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)

    shown = re.sub(r"//[^/@]*@", "//***@", address)  # messages and logs are no place for a password
    capture = connect()
    if not capture.isOpened():
        raise SourceError(f"{shown}: cannot be opened (no answer within {_TIMEOUT_MS // 1000} s, or not a video)")
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return VideoSource(shown, strict=strict, start=start, warn=warn, capture=capture)
    return LiveSource(shown, connect, capture=capture, strict=strict, start=start, warn=warn)


class LiveSource(Source):
    """Frames at the pace of the camera: a thread reads, the consumer gets the latest one.

    Args:
        name: what messages call the source.
        connect: opens the capture; called again after the stream broke.
        capture: the first capture, where one is open already.
        waits_s: pauses before each attempt to connect again; when all are used up in a row without
            a frame, the source ends with SourceError. One good frame starts the count anew.
    """

    live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Any],
        *,
        capture: Any = None,
        strict: bool = False,
        start: int = 0,
        warn: Warn,
        waits_s: Sequence[float] | None = None,
    ) -> None:
        super().__init__(name, strict=strict, start=start, warn=warn)
        if start:
            raise RangeError("open_source", "start", f"0 for the live source {name}", str(start))
        self._connect = connect
        self._waits_s = tuple(RETRY_WAITS_S if waits_s is None else waits_s)
        self._capture = connect() if capture is None else capture
        if not self._capture.isOpened():
            raise SourceError(f"{name}: cannot be opened")
        cv2 = opencv()
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < 1000 else None
        self._news = threading.Condition()
        self._latest: tuple[int, Any, float] | None = None
        self._ended: str | None = None
        self._unseen: list[str] = []  # warnings of the reader, handed on by the consumer's thread
        self._reader = threading.Thread(target=self._read, name=f"fasttrack {name}", daemon=True)

    def close(self) -> None:
        """Stop the reader; it releases the device itself when its current read returns."""
        super().close()
        if self._reader.is_alive():
            self._reader.join(timeout=1.0)
        elif self._reader.ident is None:
            self._capture.release()

    def _frames(self) -> Iterator[Frame]:
        self._reader.start()
        began: float | None = None
        while not self._stopped.is_set():
            taken = self._take()
            for message in self._drain():
                self.warn(message)
            if taken is None:
                if self._ended is not None:
                    raise SourceError(self._ended)
                continue
            index, image, at = taken
            began = at if began is None else began
            try:
                rgb = to_rgb8(image)
            except ValueError as error:
                self._skip(f"{index:06d}", str(error))
                continue
            yield Frame(index, rgb, f"{index:06d}", at - began)

    def _take(self) -> tuple[int, Any, float] | None:
        with self._news:
            if self._latest is None and self._ended is None:
                self._news.wait(timeout=_POLL_S)
            taken, self._latest = self._latest, None
            return taken

    def _drain(self) -> list[str]:
        with self._news:
            messages, self._unseen = self._unseen, []
            return messages

    def _read(self) -> None:
        index, failures = 0, 0
        while not self._stopped.is_set():
            good, image = self._capture.read() if self._capture.isOpened() else (False, None)
            if good:
                failures = 0
                self._publish(index, image)
                index += 1
                continue
            self._capture.release()
            if self.strict or failures == len(self._waits_s):
                tried = f"; connecting again failed {failures}×" if failures else ""
                self._end(f"{self.name}: the stream ended after {index} frames{tried}")
                return
            self._say(f"{self.name}: the stream broke after {index} frames; connecting again")
            if self._stopped.wait(self._waits_s[failures]):
                return
            failures += 1
            self._capture = self._connect()
            if self._capture.isOpened():
                self.reconnects += 1
        self._capture.release()

    def _publish(self, index: int, image: Any) -> None:
        with self._news:
            if self._latest is not None:
                self.dropped += 1
            self._latest = (index, image, time.monotonic())
            self._news.notify_all()

    def _say(self, message: str) -> None:
        with self._news:
            if message not in self._unseen:
                self._unseen.append(message)

    def _end(self, message: str) -> None:
        with self._news:
            self._ended = message
            self._news.notify_all()

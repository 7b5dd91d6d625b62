"""The overlay video: every frame with its boxes, written as it comes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrack.errors import ArgumentError, OutputError
from fasttrack.video._opencv import opencv
from fasttrack.video.draw import annotate, fit
from fasttrack.video.sinks import Sink, TrackResult
from fasttrack.video.source import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DEFAULT_FPS", "VIDEO_SUFFIXES", "OverlaySink", "check_video_name"]

DEFAULT_FPS = 25.0  # of the overlay, where the source has no rate of its own
# MPEG-4 part 2 is in every FFmpeg build that OpenCV ships; H.264 encoders are not.
VIDEO_SUFFIXES = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_FREE_BYTES = 1 << 20  # kept free, so that the index of the file still fits when the disk fills up


def check_video_name(path: str | Path) -> None:
    """Refuse a name whose suffix is not a container we write (ArgumentError)."""
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise ArgumentError("track", "--out", f"a name ending in {', '.join(VIDEO_SUFFIXES)}", repr(str(path)))


class OverlaySink(Sink):
    """Video with the boxes drawn in; the first frame sets the size, others are letterboxed to it.

    A side of odd length gets one repeated row or column, which the codecs need. OpenCV's writer does
    not report failures, so the disk is watched while writing and the frames are counted at the end.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv`` (MPEG-4), or ``.avi`` (Motion JPEG).
        fps: frames per second; None gives 25.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        check_video_name(path)
        super().__init__(path)
        self.fps = DEFAULT_FPS if fps is None else fps
        self.written = 0
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Draw and add one frame."""
        self.write_drawn(annotate(frame.image, results, f"frame {frame.index}"))

    def write_drawn(self, image: NDArray[np.uint8]) -> None:
        """Add a frame that is drawn already (uint8 RGB)."""
        cv2 = opencv()
        self._look_at_disk()
        if self._writer is None:
            self._open(image.shape[1], image.shape[0])
        fitted = fit(image, *self._size)
        odd_h, odd_w = fitted.shape[0] % 2, fitted.shape[1] % 2
        if odd_h or odd_w:
            fitted = cv2.copyMakeBorder(fitted, 0, odd_h, 0, odd_w, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(fitted, cv2.COLOR_RGB2BGR))
        self.written += 1

    def _open(self, width: int, height: int) -> None:
        cv2 = opencv()
        codec = VIDEO_SUFFIXES[self.path.suffix.lower()]
        even = (width + width % 2, height + height % 2)
        self._size = (width, height)
        writer = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), self.fps, even)
        if not writer.isOpened():
            raise OutputError(f"{self.path}: cannot be written as a {codec} video of {even[0]}×{even[1]} px")
        self._writer = writer

    def _look_at_disk(self) -> None:
        # A few microseconds. OpenCV keeps some frames back, hence the room for one raw frame as well.
        if shutil.disk_usage(self.path.parent).free < _FREE_BYTES + 3 * self._size[0] * self._size[1]:
            raise OutputError(f"{self.path}: cannot be written: no space left on device")

    def close(self) -> None:
        """Finish the file and count what is in it."""
        cv2 = opencv()
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        reader = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        found = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        # Matroska gives its length in milliseconds, hence one frame of slack.
        if found < max(self.written - 1, 1):
            raise OutputError(f"{self.path}: holds {max(found, 0)} of the {self.written} frames written (disk full?)")

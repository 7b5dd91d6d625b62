"""Sources on disk: image folders, globs, single images and video files."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrack.errors import RangeError, SourceError
from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv
from fasttrack.video.clip import CLIP_FPS, CLIP_FRAMES, CLIP_SIZE, make_clip
from fasttrack.video.source import Frame, Source, Warn, to_rgb8

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IMAGE_SUFFIXES", "ClipSource", "ImageSource", "VideoSource", "natural_key", "open_path", "read_image"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
_BLIND_RETRIES = 64  # failed reads in a row before a video of unknown length counts as ended


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts ``img2`` before ``img10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def open_path(spec: str, *, strict: bool, start: int, warn: Warn) -> Source:
    """Folder, glob, image or video file, told apart by what is there (see ``open_source``)."""
    path = Path(spec)
    options: dict[str, Any] = {"strict": strict, "start": start, "warn": warn}
    if path.is_dir():
        inside = [entry for entry in path.iterdir() if _is_image(entry)]
        if not inside:
            raise SourceError(f"{spec}: the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return ImageSource(spec, inside, **options)
    if not path.exists() and glob.has_magic(spec):
        found = [Path(name) for name in glob.glob(spec, recursive=True) if Path(name).is_file()]
        if not found:
            raise SourceError(f"{spec}: no file matches")
        return ImageSource(spec, found, **options)
    if not path.exists():
        raise SourceError(f"{spec}: no such file or folder")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(spec, [path], **options)
    return VideoSource(spec, **options)


def _is_image(path: Path) -> bool:
    # Names with a leading dot are hidden: macOS leaves one of these beside each image on foreign disks.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


class ImageSource(Source):
    """Images in natural order of their paths; ``index`` is the position in that order."""

    def __init__(self, name: str, paths: Sequence[Path], *, strict: bool, start: int, warn: Warn) -> None:
        super().__init__(name, strict=strict, start=start, warn=warn)
        self.paths = sorted(paths, key=lambda path: natural_key(str(path)))
        if start >= len(self.paths):
            raise RangeError("open_source", "start", f"under the {len(self.paths)} frames of {name}", str(start))
        self.count = len(self.paths) - start

    @property
    def inputs(self) -> list[Path]:
        """All images, those before ``start`` too."""
        return list(self.paths)

    def _frames(self) -> Iterator[Frame]:
        for index in range(self.start, len(self.paths)):
            path = self.paths[index]
            try:
                image = _decode(path)
            except (OSError, ValueError) as error:
                self._skip(path.name, str(error))
            else:
                yield Frame(index, image, path.name, None)


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file. Raises SourceError, naming the file and why it cannot be decoded."""
    try:
        return _decode(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from error


def _decode(path: Path) -> NDArray[np.uint8]:
    import numpy as np

    cv2 = opencv()
    data = path.read_bytes()
    if not data:
        raise ValueError("the file is empty")
    # libjpeg fills a cut-off picture with grey and calls it decoded; only the end marker tells.
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        raise ValueError("the JPEG file is cut off")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise ValueError("the image cannot be decoded")
    return to_rgb8(image)


class VideoSource(Source):
    """A video file (or a finite video at an address), read to its end.

    A read that fails while frames are still announced is retried: the decoder has then passed one
    packet. Failures followed by a good frame count as ``broken``, those at the end as ``missing``.
    """

    def __init__(self, name: str, *, strict: bool, start: int, warn: Warn, capture: Any = None) -> None:
        super().__init__(name, strict=strict, start=start, warn=warn)
        cv2 = opencv()
        self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG) if capture is None else capture
        if not self._capture.isOpened():
            raise SourceError(f"{name}: not a video that can be decoded{_size_note(name)}")
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < 1000 else None
        announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._announced = announced if announced > 0 else None
        if self._announced is not None:
            if start >= self._announced:
                raise RangeError("open_source", "start", f"under the {announced} frames of {name}", str(start))
            self.count = self._announced - start
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )

    @property
    def inputs(self) -> list[Path]:
        """The video file."""
        return [Path(self.name)]

    def close(self) -> None:
        """Release the decoder."""
        super().close()
        self._capture.release()

    def _frames(self) -> Iterator[Frame]:
        cv2 = opencv()
        for index in range(self.start):
            if self._stopped.is_set():
                return
            if not self._capture.grab() and self._announced is None:
                raise RangeError("open_source", "start", f"under the {index} frames of {self.name}", str(self.start))
        index, failed = self.start, 0
        while not self._stopped.is_set():
            good, image = self._capture.read()
            if not good:
                failed += 1
                if index + failed >= self._end(index):
                    break
                continue
            for lost in range(index, index + failed):
                self._skip(f"{lost:06d}", "cannot be decoded")
            index, failed = index + failed, 0
            time_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            yield Frame(index, to_rgb8(image), f"{index:06d}", time_s)
            index += 1
        self._note_early_end(index)

    def _end(self, index: int) -> int:
        return index + _BLIND_RETRIES if self._announced is None else self._announced

    def _note_early_end(self, index: int) -> None:
        """Say so where clearly fewer frames came than announced (some containers only estimate)."""
        if self._announced is None or self._stopped.is_set() or index == self.start:
            return
        missing = self._announced - index
        if missing <= max(2, self._announced // 100):
            return
        why = f"{self.name}: ended after {index} of {self._announced} announced frames (cut off or damaged)"
        if self.strict:
            raise SourceError(why)
        self.missing = missing
        self.warn(why)


def _size_note(name: str) -> str:
    path = Path(name)
    return " (the file is empty)" if path.is_file() and path.stat().st_size == 0 else ""


class ClipSource(Source):
    """The built-in clip as a source; ``truth`` grows with the exact box of each frame handed out."""

    def __init__(self, frames: int = CLIP_FRAMES, size: tuple[int, int] = CLIP_SIZE, seed: int = 0) -> None:
        super().__init__("built-in clip", strict=False, start=0, warn=logging.getLogger("fasttrack.video").warning)
        self._clip = make_clip(frames, size, seed)
        self.count, self.size, self.fps = frames, size, CLIP_FPS
        self.truth: list[Box] = []

    def _frames(self) -> Iterator[Frame]:
        for index, (image, box) in enumerate(self._clip):
            self.truth.append(box)
            yield Frame(index, image, f"{index:06d}", index / CLIP_FPS)

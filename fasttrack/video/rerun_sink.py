"""A Rerun recording of a run: frames, boxes and curves, to be looked at in the Rerun viewer."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fasttrack.errors import ArgumentError, BackendUnavailable, OutputError
from fasttrack.video.draw import COLOURS, LOST_COLOUR
from fasttrack.video.sinks import Sink, TrackResult, writing
from fasttrack.video.source import Frame

__all__ = ["RerunSink", "check_rerun"]

_FREE_BYTES = 1 << 20  # kept free for the boxes, the curves and the file's end
_PATIENCE_S = 30.0  # for one frame to reach the disk


def check_rerun(path: str | Path, op: str = "RerunSink", argument: str = "path") -> ModuleType:
    """The package, once the name is one of a recording.

    Raises:
        ArgumentError: the name does not end in ``.rrd``.
        BackendUnavailable: rerun-sdk is not installed; says what to install.
    """
    if Path(path).suffix.lower() != ".rrd":
        raise ArgumentError(op, argument, "a name ending in .rrd", repr(str(path)))
    try:
        import rerun
    except ImportError as error:
        raise BackendUnavailable(f"{op}: needs Rerun (pip install 'fasttrack[rerun]'): {error}") from error
    module: ModuleType = rerun
    return module


class RerunSink(Sink):
    """Recording for ``rerun FILE.rrd``; written as it comes and readable up to the last frame, whatever ends the run.

    What is in it, on the timeline ``frame`` (and ``time``, where the source has a clock):

    - ``frame``: the picture (RGB, as ``Frame`` has it);
    - ``frame/targets``: the boxes (px), one class and label a target, red and "lost" where it is lost;
    - ``score/T``, ``psr/T``, ``lost/T``: curves of target T = 1, 2, …; score and psr have no point where there is no
      number.

    Args:
        path: a name ending in ``.rrd``; an existing file is replaced.
        jpeg_quality: 1 … 100 of the pictures; None keeps them as they are, which takes some seven times the space.
        name: what the viewer calls the recording; the file's name where it is None.

    Raises:
        ArgumentError: another name, a quality outside its range.
        BackendUnavailable: rerun-sdk is not installed; says what to install.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str | Path, jpeg_quality: int | None = 90, name: str | None = None) -> None:
        super().__init__(path)
        self._rerun: Any = check_rerun(path)
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ArgumentError("RerunSink", "jpeg_quality", "1..100 or None", str(jpeg_quality))
        self.jpeg_quality = jpeg_quality
        with writing(self.path):
            # Rerun itself does not say why a file cannot be made.
            self.path.open("wb").close()
        self._stream: Any = self._rerun.RecordingStream("fasttrack")
        self._stream.save(str(self.path))
        self._stream.send_recording_name(self.path.stem if name is None else name)

    def write(self, frame: Frame, results: Sequence[TrackResult]) -> None:
        """Add one frame with its boxes and numbers."""
        rerun, stream = self._rerun, self._stream
        if stream is None:
            raise OutputError(f"{self.path}: is closed")
        # Rerun's writer ends at a full disk, and Rerun then waits for it for ever, also when Python ends: so the room
        # for the raw frame is looked for first.
        if shutil.disk_usage(self.path.parent).free < _FREE_BYTES + frame.image.nbytes:
            raise OutputError(f"{self.path}: cannot be written: no space left on device")
        stream.reset_time()
        stream.set_time("frame", sequence=frame.index)
        if frame.time_s is not None:
            stream.set_time("time", duration=frame.time_s)
        image = rerun.Image(frame.image)
        stream.log("frame", image if self.jpeg_quality is None else image.compress(jpeg_quality=self.jpeg_quality))
        numbers = range(1, len(results) + 1)
        boxes = rerun.Boxes2D(
            array=[r.box.as_tuple() for r in results],
            array_format=rerun.Box2DFormat.XYWH,
            labels=[f"{number} lost" if r.lost else str(number) for number, r in zip(numbers, results, strict=True)],
            colors=[LOST_COLOUR if r.lost else COLOURS[k % len(COLOURS)] for k, r in enumerate(results)],
            class_ids=list(numbers),
        )
        stream.log("frame/targets", boxes)
        for number, r in zip(numbers, results, strict=True):
            for curve, value in (("score", r.score), ("psr", r.psr), ("lost", float(r.lost))):
                if math.isfinite(value):
                    stream.log(f"{curve}/{number}", rerun.Scalars(value))
        self._flush()

    def _flush(self) -> None:
        try:
            self._stream.flush(timeout_sec=_PATIENCE_S)
        except RuntimeError as error:
            self._stream = None
            raise OutputError(f"{self.path}: cannot be written: {error}") from error

    def close(self) -> None:
        """Finish the file."""
        if self._stream is None:
            return
        self._flush()
        stream, self._stream = self._stream, None
        stream.disconnect()
        if not self.path.exists() or self.path.stat().st_size == 0:
            raise OutputError(f"{self.path}: holds nothing of the recording (disk full?)")

"""The run shared by ``track`` and ``demo``: frames in, results out, interrupted without loss."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fasttrack.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fasttrack.cli.progress import Progress
    from fasttrack.geometry import Box
    from fasttrack.video import Frame, Sink, Source, TrackResult

__all__ = ["Given", "Interrupt", "Outputs", "Tally", "interruptible", "response_painter", "run"]

View = Callable[["Frame", Sequence["TrackResult"]], bool]
Paint = Callable[["NDArray[np.uint8]"], "NDArray[np.uint8]"]


class Tracker(Protocol):
    """What the run needs of a tracker."""

    def init(self, frame: NDArray[np.uint8], box: Any) -> Any:
        """Start on a box, or on an array of boxes (T, 4)."""

    def update(self, frame: NDArray[np.uint8]) -> Any:
        """One result, or a list of T."""


@dataclass(frozen=True)
class Given:
    """The result of the first frame: the box that was given, with full score."""

    box: Box
    seconds: float
    score: float = 1.0
    psr: float = math.nan
    lost: bool = False


@dataclass
class Tally:
    """What a run adds up to.

    Attributes:
        frames: frames with results, the first one included.
        lost: per target, frames in which it was lost.
        init_s, update_s: time in the tracker's ``init`` and in all its updates together.
        wall_s: the whole run, with decoding and writing.
    """

    frames: int = 0
    lost: list[int] = field(default_factory=list)
    init_s: float = 0.0
    update_s: float = 0.0
    wall_s: float = 0.0

    @property
    def tracker_fps(self) -> float | None:
        """Updates per second of tracker time, None without updates."""
        return (self.frames - 1) / self.update_s if self.frames > 1 and self.update_s > 0 else None

    @property
    def loop_fps(self) -> float | None:
        """Frames per second of the whole run, None where it took no time."""
        return self.frames / self.wall_s if self.frames and self.wall_s > 0 else None


class Outputs:
    """The open sinks of a run: closed together, each one whatever happens to the others.

    Attributes:
        sinks: those open, in order.
        damaged: path → why, of those that could not be finished.
    """

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.damaged: dict[Path, str] = {}

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = []
        for sink in self.sinks:
            try:
                sink.close()
            except OutputError as failure:
                failures.append(failure)
                self.damaged[sink.path] = str(failure)
        # An error that is on its way already is the cause; a failure to close is said in the summary.
        if failures and error is None:
            raise failures[0]

    def lines(self) -> list[str]:
        """One line per file for the summary."""
        return [
            f"  damaged    {self.damaged[sink.path]}" if sink.path in self.damaged else f"  wrote      {sink.path}"
            for sink in self.sinks
        ]


class Interrupt:
    """Which signal ended the run, if any."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells count (130 for Ctrl-C); 0 where there was none."""
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def interruptible(source: Source) -> Iterator[Interrupt]:
    """Let Ctrl-C and SIGTERM end the run after the frame in work; a second Ctrl-C ends it at once."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if interrupt.signal is not None:
            raise KeyboardInterrupt
        interrupt.signal = number
        source.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    first: Frame,
    rest: Iterable[Frame],
    tracker: Tracker,
    boxes: Sequence[Box],
    sinks: Iterable[Sink],
    outputs: Outputs,
    progress: Progress,
    view: View | None = None,
    tally: Tally | None = None,
    paint: Paint | None = None,
) -> Tally:
    """Track through the frames, writing each result before the next frame is read.

    Args:
        first: frame on which ``boxes`` lie.
        rest: the frames behind it.
        tracker: started here.
        boxes: one per target; several are tracked in lock-step.
        sinks: opened one by one once the tracker has taken the boxes, so that a refused box overwrites nothing.
        outputs: takes them, and closes them when the caller leaves it.
        progress: is told of each frame.
        view: shows a frame; False ends the run.
        tally: filled as the run goes, so that the caller has it whatever ends the run.
        paint: changes the picture that sinks and view get, once the tracker has seen it.
    """
    sums = Tally() if tally is None else tally
    sums.lost = [0] * len(boxes)
    began = time.perf_counter()
    target = boxes[0] if len(boxes) == 1 else _stack(boxes)
    tracker.init(first.image, target)
    sums.init_s = time.perf_counter() - began
    for sink in sinks:
        outputs.sinks.append(sink)
    results: Sequence[TrackResult] = [Given(box, sums.init_s) for box in boxes]
    _emit(sums, first, results, outputs.sinks, began)
    progress.step()
    if view is not None and not view(first, results):
        return sums
    for frame in rest:
        before = time.perf_counter()
        found = tracker.update(frame.image)
        sums.update_s += time.perf_counter() - before
        results = found if isinstance(found, list) else [found]
        if paint is not None:
            frame = replace(frame, image=paint(frame.image))
        _emit(sums, frame, results, outputs.sinks, began)
        progress.step()
        if view is not None and not view(frame, results):
            break
    return sums


def response_painter(tracker: Any) -> Paint:
    """Lays the response maps of the tracker's last update over a frame."""
    from fasttrack.video.heat import heated

    def paint(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen = [response for response in tracker.responses if response is not None]
        return heated(image, [(response.map.float().cpu().numpy(), response.region) for response in seen])

    return paint


def _emit(sums: Tally, frame: Frame, results: Sequence[TrackResult], sinks: Sequence[Sink], began: float) -> None:
    for sink in sinks:
        sink.write(frame, results)
    sums.frames += 1
    for target, result in enumerate(results):
        sums.lost[target] += int(result.lost)
    sums.wall_s = time.perf_counter() - began


def _stack(boxes: Sequence[Box]) -> NDArray[np.float64]:
    import numpy as np

    return np.array([box.as_tuple() for box in boxes], dtype=np.float64)

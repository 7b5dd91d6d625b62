"""What a run says while it works: a bar on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from typing_extensions import Self

    from fasttrack.evaluation.outcome import Unit

__all__ = ["Progress", "UnitProgress", "clock"]

_LINE_S = 5.0  # between plain lines
_SMOOTH = 0.9  # weight of the past in the shown rate


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Shows frames done, frames per second and the time left on stderr.

    Args:
        label: what is being worked on.
        quiet: show no progress; warnings are still shown.
    """

    counted = "frames"

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.total: int | None = None
        self.quiet, self.label = quiet, label
        self._done, self._step_s = 0, 0.0
        self._began = self._before = self._line = time.perf_counter()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, total: int | None) -> None:
        """Begin to count; ``total`` is the number of frames to come, None where unknown."""
        self.total = total
        self._began = self._before = self._line = time.perf_counter()
        if not self.quiet and sys.stderr.isatty():
            self._start_bar()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", justify="right", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(self.label, total=self.total, rate="", left="")
        self._bar.start()

    def step(self) -> None:
        """One more frame is done; the first one, in which the tracker learns, is left out of the rate."""
        now = time.perf_counter()
        took, self._before = now - self._before, now
        if self._done == 0:
            self._began = now
        else:
            self._step_s = took if self._done == 1 else _SMOOTH * self._step_s + (1 - _SMOOTH) * took
        self._done += 1
        rate = f"{1 / self._step_s:.1f} FPS" if self._step_s > 0 else ""
        left = "" if self.total is None or not rate else f"ETA {clock(self._left_s(self.total))}"
        self._show(now, rate, left)

    def _show(self, now: float, rate: str, left: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=rate.rjust(9), left=left)
        elif not self.quiet and now - self._line >= _LINE_S:
            self._line = now
            of = "" if self.total is None else f"/{self.total}"
            said = ", ".join(part for part in (f"{self._done}{of} {self.counted}", rate, left) if part)
            print(f"{self.label}: {said}", file=sys.stderr)

    def _left_s(self, total: int) -> float:
        mean_s = (time.perf_counter() - self._began) / max(self._done - 1, 1)
        return max(total - self._done, 0) * mean_s

    def warn(self, message: str) -> None:
        """Show a warning without breaking the bar."""
        line = f"fasttrack: warning: {message}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr)

    def close(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class UnitProgress(Progress):
    """The same for the units of an evaluation, whose length differs: their runner says what is left.

    Args:
        label: what is being worked on.
        quiet: show no progress; failures and warnings are still shown.
    """

    counted = "units"

    def __init__(self, label: str, quiet: bool = False) -> None:
        super().__init__(label, quiet)
        self._failed = 0

    def begin(self, total: int) -> None:
        """So many units are to be done."""
        self.start(total)

    def unit(self, unit: Unit, error: str | None, left_s: float | None) -> None:
        """One is over, with its traceback where it failed."""
        self._done += 1
        if error is not None:
            self._failed += 1
            self.warn(f"{unit.path.with_suffix('')}: {error.strip().splitlines()[-1]}")
        failed = f"{self._failed} failed" if self._failed else ""
        self._show(time.perf_counter(), failed, "" if left_s is None else f"ETA {clock(left_s)}")

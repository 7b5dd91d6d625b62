"""The live window (``--show``) and the mouse (``--select``), where OpenCV and the machine have windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fasttrack.errors import ArgumentError
from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv, why_no_window
from fasttrack.video.draw import annotate

if TYPE_CHECKING:
    from fasttrack.video import Frame, TrackResult

__all__ = ["Window", "require_window", "select_boxes"]

_TITLE = "fasttrack (space: pause, q: quit)"
_QUIT = frozenset({ord("q"), ord("Q"), 27})


def require_window(option: str) -> None:
    """Refuse ``option`` with the reason and the way out where no window can be opened (ArgumentError)."""
    reason = why_no_window()
    if reason is not None:
        raise ArgumentError("track", option, "used where a window can be opened", "none", reason)


def select_boxes(frame: Frame) -> list[Box]:
    """Boxes drawn with the mouse on a frame: space or Enter takes one, Esc ends."""
    cv2 = opencv()
    title = "draw a box: space takes it, Esc ends"
    drawn = cv2.selectROIs(title, cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), False)
    cv2.destroyWindow(title)
    boxes = [Box.parse([float(v) for v in row], "track --select") for row in drawn if row[2] > 0 and row[3] > 0]
    if not boxes:
        raise ArgumentError("track", "--select", "at least one box drawn with the mouse", "none")
    return boxes


class Window:
    """Shows the frames with their boxes."""

    def show(self, frame: Frame, results: Sequence[TrackResult]) -> bool:
        """Show one frame; False where the user asked to quit."""
        cv2 = opencv()
        drawn = annotate(frame.image, results, f"frame {frame.index}")
        cv2.imshow(_TITLE, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        if key == ord(" "):
            key = cv2.waitKey(0) & 0xFF
        return key not in _QUIT

    def close(self) -> None:
        """Close the window."""
        opencv().destroyAllWindows()

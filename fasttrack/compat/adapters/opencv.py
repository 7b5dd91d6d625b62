"""The trackers as ``cv2.Tracker``: BGR frames, boxes of whole pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fasttrack.compat.adapters._tracker import Followable, made, name_of
from fasttrack.errors import ArgumentError, BoxError, FrameError

__all__ = ["CvTracker", "as_cv2"]


def as_cv2(tracker: str | Followable, **options: Any) -> CvTracker:
    """A tracker with the methods of ``cv2.Tracker``, to stand where ``cv2.TrackerKCF_create()`` stood.

    **Frames are BGR**, as ``cv2.imread`` and ``cv2.VideoCapture`` give them, or grey.

    Args:
        tracker: name (see ``fasttrack.list_trackers``) or a tracker of yours, which then belongs to the adapter.
        options: with a name, fields of the tracker's ``Config``.

    Raises:
        ArgumentError: options beside a tracker that is made already.
        UnknownTracker, RangeError: as ``create_tracker``.

    Example:
        ``tracker = as_cv2("kcf"); tracker.init(frame, (120, 80, 64, 48)); found, box = tracker.update(frame)``
    """
    return CvTracker(made("as_cv2", tracker, options))


class CvTracker:
    """What :func:`as_cv2` gives; ``tracker`` is the one behind it, ``result`` its last full result (None at first).

    Where OpenCV 5 crashes the process (``update`` before ``init``) or goes on in silence (a box outside of the frame),
    an error is raised.
    """

    def __init__(self, tracker: Followable) -> None:
        self.tracker = tracker
        self.result: Any = None
        self._started = False

    def init(self, image: npt.NDArray[np.uint8], boundingBox: Sequence[float]) -> None:
        """Start on a box.

        Args:
            image: uint8, H×W×3 in the order **BGR**, or grey H×W.
            boundingBox: (x, y, w, h) in px from the top left corner of the image; whole or not.

        Raises:
            FrameError: the image is something else.
            BoxError: not four finite numbers of positive size that overlap the image.
        """
        frame = _rgb(f"as_cv2({name_of(self.tracker)!r}).init", image)
        if np.ndim(boundingBox) != 1:
            raise BoxError("as_cv2.init", "boundingBox", "four numbers x, y, w, h", f"shape {np.shape(boundingBox)}")
        self.tracker.init(frame, boundingBox)
        self._started, self.result = True, None

    def update(self, image: npt.NDArray[np.uint8]) -> tuple[bool, tuple[int, int, int, int]]:
        """Find the target in the next frame (uint8, **BGR** or grey).

        Returns:
            Whether the target was found, and its box with each of x, y, w and h rounded (halves up) to whole px, sizes
            at least 1. Of a lost target it is the box where it was last seen; ``result`` holds it unrounded.

        Raises:
            ArgumentError: ``init`` was not called.
            FrameError: as ``init``.
        """
        op = f"as_cv2({name_of(self.tracker)!r}).update"
        if not self._started:
            raise ArgumentError(op, "tracker", "started by init(image, boundingBox)", "a tracker at rest")
        self.result = self.tracker.update(_rgb(op, image))
        x, y, w, h = (math.floor(side + 0.5) for side in self.result.box.as_tuple())
        return not self.result.lost, (x, y, max(w, 1), max(h, 1))

    def getTrackingScore(self) -> float:
        """Score of the last ``update``; -1 before the first, which is OpenCV's number for "none"."""
        return -1.0 if self.result is None else float(self.result.score)


def _rgb(op: str, image: Any) -> npt.NDArray[np.uint8]:
    """The image in RGB, or grey as it is; raises FrameError."""
    wanted = "a uint8 numpy array, H×W×3 (BGR) or H×W (grey)"
    if not isinstance(image, np.ndarray):
        raise FrameError(op, "image", wanted, type(image).__name__)
    shape = image.shape
    if image.dtype != np.uint8 or image.size == 0 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        raise FrameError(op, "image", wanted, f"{image.dtype} array of shape {shape}")
    return image[..., ::-1] if shape[-1] == 3 and len(shape) == 3 else image

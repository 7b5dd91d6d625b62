"""OpenCV's trackers as contestants."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import ArgumentError, BackendUnavailable, UnknownName, WeightsError
from fasttrack.evaluation.contestants.base import Contestant
from fasttrack.geometry import Box
from fasttrack.trackers import Result
from fasttrack.video._opencv import opencv

__all__ = ["OPENCV_TRACKERS", "OpenCVContestant", "OpenCVTracker"]

# Name → parameters that take the user's model files, in the order in which they are given.
OPENCV_TRACKERS: Mapping[str, tuple[str, ...]] = {
    "CSRT": (),
    "KCF": (),
    "MIL": (),
    "MOSSE": (),
    "Nano": ("backbone", "neckhead"),
    "DaSiamRPN": ("model", "kernel_cls1", "kernel_r1"),
    "Vit": ("net",),
}


class OpenCVTracker:
    """One of OpenCV's trackers behind the two methods of ours.

    OpenCV wants BGR frames and boxes of whole px within the frame, so the box is rounded and clipped, and the colours
    are swapped; both count to its time, as everything a tracker does to its frames. A new tracker is made for every
    target. Where OpenCV says that it did not find the target, the result is lost, at the last box.
    """

    def __init__(self, create: Callable[[], Any], scored: bool = False, haar: bool = False) -> None:
        self._create, self._scored, self._haar = create, scored, haar
        self._tracker: Any = None
        self._box = Box(0.0, 0.0, 0.0, 0.0)

    def init(self, frame: NDArray[np.uint8], box: Box) -> None:
        """Start on a box, px.

        Raises:
            ArgumentError: nothing of the box is in the frame, or OpenCV cannot start on it.
        """
        whole = whole_box(box, frame.shape[1], frame.shape[0])
        if self._haar and not _holds_features(whole[2], whole[3]):
            wanted = "larger: OpenCV's MIL would look for its features for ever"
            raise ArgumentError("cv2 tracker", "box", wanted, str(box.as_tuple()))
        self._tracker = self._create()
        # OpenCV 5 returns nothing, OpenCV 4's legacy trackers whether it went well.
        if self._tracker.init(_bgr(frame), whole) is False:
            raise ArgumentError("cv2 tracker", "box", "one that OpenCV can start on", str(box.as_tuple()))
        self._box = box

    def update(self, frame: NDArray[np.uint8]) -> Result:
        """Find the target; psr is NaN, and so is the score of trackers that have none."""
        started = time.perf_counter()
        found, box = self._tracker.update(_bgr(frame))
        if found:
            self._box = Box(*map(float, box))
        # OpenCV 5 gives all of them the method, which says -1 for those without a score.
        score = float(self._tracker.getTrackingScore()) if self._scored else math.nan
        return Result(self._box, score, math.nan, not found, time.perf_counter() - started)


def _bgr(frame: NDArray[np.uint8]) -> Any:
    cv2 = opencv()
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)


def _holds_features(width: int, height: int) -> bool:
    """Whether MIL can find a Haar feature: two halves of at least 5 px side by side, ending before the last px."""
    return max((width - 1) * ((height - 1) // 2), (height - 1) * ((width - 1) // 2)) >= 5


def whole_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box with its corner and size rounded (halves up) to whole px, at least 1 × 1, clipped to the frame.

    Raises:
        ArgumentError: nothing of the box is in the frame.
    """
    x, y = math.floor(box.x + 0.5), math.floor(box.y + 0.5)
    right, bottom = x + max(1, math.floor(box.w + 0.5)), y + max(1, math.floor(box.h + 0.5))
    x, y, right, bottom = max(x, 0), max(y, 0), min(right, width), min(bottom, height)
    if right <= x or bottom <= y:
        raise ArgumentError("cv2 tracker", "box", f"one inside the {width}×{height} frame", str(box.as_tuple()))
    return x, y, right - x, bottom - y


@dataclass(frozen=True)
class OpenCVContestant(Contestant):
    """One of OpenCV's trackers by name (``cv2:CSRT``), with its model files where it needs some.

    ``config`` holds the version of OpenCV and the SHA-256 of the files, not their places.
    """

    tracker: str
    files: Mapping[str, str] = field(hash=False)

    @classmethod
    def of(cls, name: str, tracker: str, files: list[str]) -> OpenCVContestant:
        """The contestant, proved to be in this OpenCV.

        Raises:
            UnknownName: OpenCV has no such tracker.
            ArgumentError: another number of files than it needs.
            WeightsError: a file cannot be read.
            BackendUnavailable: this build of OpenCV lacks it; says what to install.
        """
        if tracker not in OPENCV_TRACKERS:
            raise UnknownName("OpenCV tracker", tracker, OPENCV_TRACKERS)
        wanted = OPENCV_TRACKERS[tracker]
        if len(files) != len(wanted):
            form = f"cv2:{tracker}" + ("=" + ";".join(f"{part}.onnx" for part in wanted) if wanted else "")
            raise ArgumentError("contestant", "text", f"of the form {form}", repr(name))
        places = {part: str(Path(file).expanduser().absolute()) for part, file in zip(wanted, files, strict=True)}
        config = {"kind": "cv2", "tracker": tracker, "opencv": opencv().__version__}
        if places:
            config["files"] = {part: _sha256(Path(file)) for part, file in places.items()}
        _factory(tracker)
        return cls(name, f"cv2-{tracker}", config, tracker, places)

    def note(self) -> str:
        """The version of OpenCV, and the model files."""
        files = ", ".join(Path(file).name for file in self.files.values())
        return f"OpenCV {self.config['opencv']}" + (f": {files}" if files else "")

    def make(self) -> OpenCVTracker:
        """A new one; raises BackendUnavailable where this build of OpenCV lacks it."""
        factory, files = _factory(self.tracker), self.files
        if not files:
            return OpenCVTracker(factory, haar=self.tracker == "MIL")
        params = getattr(opencv(), f"Tracker{self.tracker}_Params")()
        for part, file in files.items():
            setattr(params, part, file)
        return OpenCVTracker(lambda: factory(params), scored=True)


def _factory(tracker: str) -> Callable[..., Any]:
    """What makes the tracker; the current ones before those that OpenCV calls legacy."""
    cv2 = opencv()
    for module in (cv2, getattr(cv2, "legacy", None)):
        if (create := getattr(module, f"Tracker{tracker}_create", None)) is not None:
            found: Callable[..., Any] = create
            return found
    raise BackendUnavailable(
        f"cv2:{tracker}: the installed OpenCV {cv2.__version__} is built without this tracker: "
        "pip uninstall opencv-python-headless opencv-python && pip install opencv-contrib-python-headless"
    )


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error

"""The trackers with the interface of pytracking's ``BaseTracker``."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fasttrack.compat.adapters._flock import Flock
from fasttrack.compat.adapters._tracker import Followable, made, name_of
from fasttrack.errors import ArgumentError

__all__ = ["Params", "PytrackingTracker", "as_pytracking"]


class Params:
    """What pytracking's evaluation reads of a tracker's parameters, at rest: no window, no debugging."""

    def __init__(self, tracker_name: str) -> None:
        self.tracker_name = tracker_name
        self.visualization = False
        self.debug = 0
        self.visdom_info: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether there is a parameter of this name."""
        return hasattr(self, name)

    def get(self, name: str, *default: Any) -> Any:
        """The parameter of this name, or the default where one is given (else AttributeError)."""
        return getattr(self, name, *default)


def as_pytracking(tracker: str | Followable, params: Any = None, **options: Any) -> PytrackingTracker:
    """A tracker with the interface of pytracking's ``BaseTracker``: ``initialize`` and ``track``.

    **Frames are RGB**, as pytracking's evaluation reads them. (Its webcam and video loops hand over OpenCV's BGR frames
    as they are, to every tracker.) Boxes are [x, y, w, h], floats, from the top left corner (0, 0).

    A module of ``pytracking.tracker`` becomes one of ours with
    ``def get_tracker_class(): return functools.partial(as_pytracking, "kcf")``.

    Args:
        tracker: name (see ``fasttrack.list_trackers``) or a tracker of yours, which then belongs to the adapter.
        params: pytracking's parameters of the tracker, kept as ``params``; plain ones are made where it is None.
        options: with a name, fields of the tracker's ``Config``.

    Raises:
        ArgumentError: options beside a tracker that is made already.
        UnknownTracker, RangeError: as ``create_tracker``.
    """
    return PytrackingTracker(made("as_pytracking", tracker, options), params, tracker, options)


class PytrackingTracker:
    """What :func:`as_pytracking` gives; ``tracker`` is the one behind it.

    Attributes:
        params: what pytracking reads its settings from.
        visdom: a visdom display, which pytracking puts here.
        multiobj_mode: "default": several objects are taken together and share every call.
    """

    multiobj_mode = "default"

    def __init__(self, tracker: Followable, params: Any, name: str | Followable, options: Mapping[str, Any]) -> None:
        self.tracker = tracker
        self.params = Params(name_of(tracker)) if params is None else params
        self.visdom: Any = None
        self.pause_mode = self.step = False
        first = [tracker]
        self._flock = Flock("as_pytracking", lambda: first.pop() if first else _another(name, options))
        self._ids: list[Any] | None = None
        self._single = True

    def initialize(self, image: npt.NDArray[np.uint8], info: Mapping[str, Any]) -> dict[str, Any]:
        """Start on the object(s) of the first frame.

        Args:
            image: uint8, H×W×3 in the order **RGB**, or grey.
            info: ``init_bbox``: [x, y, w, h], or a mapping of object ids to such boxes (pytracking's several objects).

        Returns:
            ``target_bbox`` (as it came) and ``time`` in seconds.

        Raises:
            ArgumentError: ``info`` has no ``init_bbox``.
            FrameError, BoxError: as the tracker's ``init``.
        """
        began = time.perf_counter()
        given = info.get("init_bbox")
        if given is None:
            keys = ", ".join(map(str, info))
            raise ArgumentError("as_pytracking.initialize", "info", "a mapping with init_bbox", f"the keys {keys}")
        self._single = not isinstance(given, Mapping)
        boxes = given if isinstance(given, Mapping) else {1: given}
        self._ids = None
        self._flock.start(image, [_numbers(box) for box in boxes.values()])
        self._ids = list(boxes)
        return {"target_bbox": given, "time": time.perf_counter() - began}

    def track(self, image: npt.NDArray[np.uint8], info: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Find the object(s) in the next frame (uint8, **RGB** or grey).

        Args:
            image: the frame.
            info: a mapping ``init_bbox`` in it brings objects that join in this frame (several objects only).

        Returns:
            ``target_bbox``: [x, y, w, h], or an ordered mapping of ids to such boxes; ``object_presence_score`` (the
            tracker's score) likewise; ``time`` in seconds. A lost target is where it was last seen.

        Raises:
            ArgumentError: ``initialize`` was not called; an object joins that is there already.
            FrameError, BoxError: as ``initialize``.
        """
        began, op = time.perf_counter(), "as_pytracking.track"
        if self._ids is None:
            raise ArgumentError(op, "tracker", "started by initialize(image, info)", "a tracker at rest")
        results = self._flock.update(image)
        given = None if info is None or self._single else info.get("init_bbox")
        if given:
            if there := [key for key in given if key in self._ids]:
                raise ArgumentError(op, "init_bbox", "of objects that are not there yet", f"{there}")
            results += self._flock.join(image, [_numbers(box) for box in given.values()])
            self._ids += list(given)
        boxes = OrderedDict((key, list(r.box.as_tuple())) for key, r in zip(self._ids, results, strict=True))
        scores = OrderedDict((key, float(r.score)) for key, r in zip(self._ids, results, strict=True))
        seconds = time.perf_counter() - began
        if self._single:
            return {"target_bbox": boxes[1], "object_presence_score": scores[1], "time": seconds}
        return {"target_bbox": boxes, "object_presence_score": scores, "time": seconds}

    def visdom_draw_tracking(self, image: npt.NDArray[np.uint8], box: Any, segmentation: Any = None) -> None:
        """Show the frame with its box(es) in ``visdom``, where there is one."""
        if self.visdom is not None:
            boxes = list(box.values()) if isinstance(box, Mapping) else [box]
            self.visdom.register((image, *boxes), "Tracking", 1, "Tracking")


def _another(name: str | Followable, options: Mapping[str, Any]) -> Followable:
    if not isinstance(name, str):
        wanted = "given by name where objects join later"
        raise ArgumentError("as_pytracking.track", "tracker", wanted, f"one made already ({type(name).__name__})")
    return made("as_pytracking", name, options)


def _numbers(box: Any) -> list[float]:
    return [float(side) for side in np.asarray(box, dtype=np.float64).ravel()]

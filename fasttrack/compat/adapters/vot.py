"""The trackers in vot-toolkit, over the TraX protocol."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fasttrack.compat.adapters._flock import Flock
from fasttrack.compat.adapters._tracker import Followable, made
from fasttrack.errors import ArgumentError, BackendUnavailable, BoxError, SourceError
from fasttrack.geometry import Box

__all__ = ["VotTracker", "as_vot"]


def as_vot(tracker: str | Callable[[], Followable], *, multiobject: bool = True, **options: Any) -> VotTracker:
    """A tracker that vot-toolkit (0.7.4, ``protocol = traxpython`` or ``trax``) talks to over TraX.

    ``as_vot("kcf").serve()`` is a whole tracker program; ``python -m fasttrack.compat.vot kcf`` is the same one ready
    made, and with ``--write-ini trackers.ini`` it adds the toolkit's entry for it.

    **Frames are RGB inside**: files and encoded pictures are decoded to RGB, and TraX's pictures in memory are RGB. A
    region is answered as a rectangle (x, y, w, h) from the top left corner (0, 0); a polygon or mask to start on is
    replaced by its bounding box. Each answer has a property ``confidence``, the tracker's score. A lost target is where
    it was last seen.

    Args:
        tracker: name (see ``fasttrack.list_trackers``), or what makes a tracker of yours when called: one is made for
            each frame in which objects join.
        multiobject: tell the toolkit that several objects are taken, also such as join later. Those that come together
            share every call. False: one object, and the toolkit splits a sequence itself.
        options: with a name, fields of the tracker's ``Config``.

    Raises:
        ArgumentError: options beside something that makes a tracker, or neither a name nor that.
        UnknownTracker, RangeError: as ``create_tracker``.
    """
    if isinstance(tracker, str):
        first = [made("as_vot", tracker, options)]
        return VotTracker(tracker, lambda: first.pop() if first else made("as_vot", tracker, options), multiobject)
    if not callable(tracker):
        raise ArgumentError("as_vot", "tracker", "a name, or a function that makes one", type(tracker).__name__)
    if options:
        wanted, names = "none beside a function that makes a tracker", ", ".join(options)
        raise ArgumentError("as_vot", "options", wanted, names, "give the tracker's name")
    return VotTracker(getattr(tracker, "__name__", type(tracker).__name__), tracker, multiobject)


class VotTracker:
    """What :func:`as_vot` gives: ``serve`` talks to the toolkit, ``initialize`` and ``update`` answer its requests."""

    def __init__(self, name: str, make: Callable[[], Followable], multiobject: bool) -> None:
        self.name = name
        self.multiobject = multiobject
        self._flock = Flock(f"as_vot({name!r})", make)
        self._started = False

    def initialize(self, image: npt.NDArray[np.uint8], boxes: Sequence[Box]) -> list[Any]:
        """Forget all objects and start on these (RGB or grey frame); their results are the boxes themselves.

        Raises:
            FrameError, BoxError: as the tracker's ``init``.
        """
        self._started = False
        results = self._flock.start(image, boxes)
        self._started = True
        return results

    def update(self, image: npt.NDArray[np.uint8], new: Sequence[Box] = ()) -> list[Any]:
        """Results in the next frame (RGB or grey): of the objects there are, then of those that join in it.

        Raises:
            ArgumentError: ``initialize`` was not called.
            FrameError, BoxError: as the tracker's ``init`` and ``update``.
        """
        if not self._started:
            op = f"as_vot({self.name!r}).update"
            raise ArgumentError(op, "tracker", "started by initialize(image, boxes)", "a tracker at rest")
        return [*self._flock.update(image), *self._flock.join(image, new)]

    def serve(self) -> None:
        """Answer the requests that come over TraX (standard input and output) until the toolkit ends the session.

        Raises:
            BackendUnavailable: vot-trax is not installed; says what to install.
            SourceError: a picture cannot be read.
            FasttrackError: what the tracker raises; the toolkit is told the reason first.
        """
        try:
            from trax import Image, Rectangle, Region, Server, TraxStatus
        except ImportError as error:
            raise BackendUnavailable(
                f"as_vot: needs TraX (pip install vot-trax, vot-toolkit has it): {error}"
            ) from error
        regions = [Region.RECTANGLE, Region.POLYGON, Region.MASK]
        images = [Image.PATH, Image.MEMORY, Image.BUFFER]
        with _ascii_only(), ExitStack() as stack:
            server = Server(regions, images, tracker_name=self.name, multiobject=self.multiobject)
            stack.push(lambda _, error, __: server.quit(None if error is None else _ascii(str(error))))
            while (request := server.wait()).type in (TraxStatus.INITIALIZE, TraxStatus.FRAME):
                picture = rgb_of(request.image["color"])
                # A frame in which no object joins has None.
                boxes = [bounding_box(region) for region, _ in request.objects] if request.objects else []
                answer = self.initialize if request.type == TraxStatus.INITIALIZE else self.update
                server.status([(Rectangle.create(*r.box.as_tuple()), properties(r)) for r in answer(picture, boxes)])


@contextmanager
def _ascii_only() -> Iterator[None]:
    """Have this process print ASCII: the toolkit's end of TraX loses the thread at any other byte."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [(stream.encoding, stream.errors) for stream in streams]
    for stream in streams:
        stream.reconfigure(encoding="ascii", errors="backslashreplace")
    try:
        yield
    finally:
        for stream, (encoding, errors) in zip(streams, before, strict=True):
            stream.reconfigure(encoding=encoding, errors=errors)


def _ascii(text: str) -> str:
    return text.replace("×", "x").encode("ascii", "backslashreplace").decode()


def properties(result: Any) -> Mapping[str, float]:
    """The properties of an answer: the score as ``confidence``, where there is one."""
    return {"confidence": float(result.score)} if math.isfinite(result.score) else {}


def bounding_box(region: Any) -> Box:
    """The smallest upright box around a TraX region (rectangle, polygon or mask), px.

    Pixel ``k`` of a mask covers ``[k, k + 1)``.

    Raises:
        BoxError: a mask without a pixel; a box without area; a region of another kind.
    """
    kind = getattr(region, "type", None)  # trax gives None for a kind that it does not know
    if kind == "rectangle":
        return Box.parse(region.bounds(), "as_vot")
    if kind == "polygon":
        points = np.array(list(region), dtype=np.float64)
        low, high = points.min(axis=0), points.max(axis=0)
        return Box.parse([*low, *(high - low)], "as_vot")
    if kind != "mask":
        raise BoxError("as_vot", "region", "a rectangle, polygon or mask", str(kind))
    rows, columns = np.nonzero(region.array())
    if rows.size == 0:
        raise BoxError("as_vot", "region", "a mask with pixels", "an empty one")
    x, y = region.offset()
    width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
    return Box.parse([x + columns.min(), y + rows.min(), width, height], "as_vot")


def rgb_of(image: Any) -> npt.NDArray[np.uint8]:
    """The pixels of a TraX image, **RGB** (grey where it is a grey one in memory).

    Raises:
        SourceError: the file or the buffer cannot be decoded.
    """
    import cv2

    kind = image.type()
    if kind == "memory":
        pixels: npt.NDArray[np.uint8] = image.array()
        return pixels
    if kind == "path":
        where, bgr = image.path(), cv2.imread(image.path(), cv2.IMREAD_COLOR)
    elif kind == "buffer":
        where, bgr = "a buffer", cv2.imdecode(np.frombuffer(image.buffer(), np.uint8), cv2.IMREAD_COLOR)
    else:
        raise SourceError(f"as_vot: wanted a picture as path, memory or buffer, got {kind}")
    if bgr is None:
        raise SourceError(f"as_vot: {where} cannot be read as a picture")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)

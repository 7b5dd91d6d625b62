"""The trackers in the GOT-10k toolkit: ``ExperimentOTB``, ``ExperimentGOT10k`` and the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fasttrack.compat.adapters._tracker import Followable, made, name_of
from fasttrack.errors import ArgumentError, BackendUnavailable
from fasttrack.geometry import Box

__all__ = ["as_got10k"]


def as_got10k(tracker: str | Followable, *, label: str | None = None, one_based: bool = True, **options: Any) -> Any:
    """A tracker as a ``got10k.trackers.Tracker``, to be run by the experiments of the GOT-10k toolkit (0.1.3).

    **Frames are RGB**: PIL images, as the toolkit hands them over (another mode is converted to RGB), or uint8 arrays.
    Boxes are (x, y, w, h) floats. The toolkit passes the numbers of the annotation files through, in which the top left
    pixel is (1, 1), and scores the answers against them: 1 px is taken off on the way in and put on again on the way
    out. It runs ``init`` anew for each sequence. A lost target is where it was last seen.

    Args:
        tracker: name (see ``fasttrack.list_trackers``) or a tracker of yours, which then belongs to the adapter.
        label: what the toolkit calls the tracker and its folder of results; the tracker's name where it is None.
        one_based: False where the boxes count from (0, 0).
        options: with a name, fields of the tracker's ``Config``.

    Raises:
        BackendUnavailable: got10k is not installed; says what to install.
        ArgumentError: options beside a tracker that is made already; ``update`` before ``init``.
        UnknownTracker, RangeError: as ``create_tracker``.
        FrameError, BoxError: from ``init`` and ``update``, at what is no image or no box.

    Example:
        ``ExperimentOTB("OTB100", version=2015).run(as_got10k("kcf"))``
    """
    try:
        from got10k.trackers import Tracker as Base
    except ImportError as error:
        raise BackendUnavailable(f"as_got10k: needs the GOT-10k toolkit (pip install got10k): {error}") from error
    followed, corner = made("as_got10k", tracker, options), 1.0 if one_based else 0.0

    class Got10kTracker(Base):  # type: ignore[misc]
        """A tracker of fasttrack in the GOT-10k toolkit."""

        def __init__(self) -> None:
            super().__init__(name=name_of(followed) if label is None else label, is_deterministic=True)
            self.tracker = followed
            self.started = False

        def init(self, image: Any, box: npt.ArrayLike) -> None:
            """Start on a box (x, y, w, h) of an RGB image."""
            given = Box.parse(np.ravel(box).tolist(), "as_got10k.init")
            followed.init(_rgb(image), Box(given.x - corner, given.y - corner, given.w, given.h))
            self.started = True

        def update(self, image: Any) -> npt.NDArray[np.float64]:
            """The box (x, y, w, h) in the next RGB image."""
            if not self.started:
                raise ArgumentError("as_got10k.update", "tracker", "started by init(image, box)", "a tracker at rest")
            x, y, w, h = followed.update(_rgb(image)).box.as_tuple()
            return np.array([x + corner, y + corner, w, h])

    return Got10kTracker()


def _rgb(image: Any) -> Any:
    from PIL import Image

    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return image

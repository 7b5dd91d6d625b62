"""The trackers behind the interfaces of OpenCV, the GOT-10k toolkit, pytracking, vot-toolkit and supervision.

Each name loads at first use. The packages they speak to are needed only where an adapter builds on their classes:
``as_cv2`` and ``as_pytracking`` need none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasttrack.compat.adapters.got10k import as_got10k
    from fasttrack.compat.adapters.opencv import CvTracker, as_cv2
    from fasttrack.compat.adapters.pytracking import PytrackingTracker, as_pytracking
    from fasttrack.compat.adapters.supervision import to_detections
    from fasttrack.compat.adapters.vot import VotTracker, as_vot

_WHERE = {
    "CvTracker": "opencv",
    "PytrackingTracker": "pytracking",
    "VotTracker": "vot",
    "as_cv2": "opencv",
    "as_got10k": "got10k",
    "as_pytracking": "pytracking",
    "as_vot": "vot",
    "to_detections": "supervision",
}

__all__ = [
    "CvTracker",
    "PytrackingTracker",
    "VotTracker",
    "as_cv2",
    "as_got10k",
    "as_pytracking",
    "as_vot",
    "to_detections",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"fasttrack.compat.adapters.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'fasttrack.compat.adapters' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

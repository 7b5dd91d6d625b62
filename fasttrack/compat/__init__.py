"""Drop-in names of other packages, and the trackers behind their interfaces.

``fasttrack.compat.install()`` lets ``import`` find our modules under the names of PreciseRoIPooling, pytracking and
PySOT (and mmcv); ``python -m fasttrack.compat SCRIPT`` runs a program with them in place. ``as_cv2`` and the others of
``fasttrack.compat.adapters`` put a tracker where another toolkit expects one. Importing this package does not load
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fasttrack.compat._install import Installed, Replaced, install, uninstall

if TYPE_CHECKING:
    from fasttrack.compat._legacy_torch import legacy_torch
    from fasttrack.compat.adapters import as_cv2, as_got10k, as_pytracking, as_vot, to_detections

__all__ = [
    "Installed",
    "Replaced",
    "as_cv2",
    "as_got10k",
    "as_pytracking",
    "as_vot",
    "install",
    "legacy_torch",
    "to_detections",
    "uninstall",
]

_ADAPTERS = ("as_cv2", "as_got10k", "as_pytracking", "as_vot", "to_detections")
_WHERE = {"legacy_torch": "fasttrack.compat._legacy_torch", **dict.fromkeys(_ADAPTERS, "fasttrack.compat.adapters")}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'fasttrack.compat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

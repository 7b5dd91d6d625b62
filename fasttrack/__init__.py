"""fasttrack: compiled kernels and online-learning trackers for visual object tracking.

``import fasttrack`` is instant: submodules, and with them torch, load at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fasttrack._version import __version__

if TYPE_CHECKING:
    from fasttrack import nn, ops
    from fasttrack.dispatch import use_backend
    from fasttrack.trackers import create_tracker, list_trackers

_WHERE = {
    "create_tracker": "fasttrack.trackers",
    "list_trackers": "fasttrack.trackers",
    "use_backend": "fasttrack.dispatch",
}
_MODULES = ("compat", "errors", "geometry", "models", "nn", "ops", "trackers", "vision")

__all__ = ["__version__", "create_tracker", "list_trackers", "nn", "ops", "use_backend"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fasttrack.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'fasttrack' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})

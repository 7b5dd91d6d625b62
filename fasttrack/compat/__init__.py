"""Drop-in names of other packages: existing tracking code runs on our kernels without a change.

``fasttrack.compat.install()`` lets ``import`` find our modules under the names of PreciseRoIPooling, pytracking and
PySOT (and mmcv); ``python -m fasttrack.compat SCRIPT`` runs a program with them in place. Importing this package does
not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fasttrack.compat._install import Installed, Replaced, install, uninstall

if TYPE_CHECKING:
    from fasttrack.compat._legacy_torch import legacy_torch

__all__ = ["Installed", "Replaced", "install", "legacy_torch", "uninstall"]

_WHERE = {"legacy_torch": "fasttrack.compat._legacy_torch"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'fasttrack.compat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

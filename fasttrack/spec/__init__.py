"""What is true: per op a dull float64-able reference, its cases, tolerances and cost.

Tests and benchmarks both read these files; no kernel does.
"""

from __future__ import annotations

import importlib
import pkgutil

from fasttrack.spec.base import Spec

__all__ = ["all_specs", "stems"]


def stems() -> tuple[str, ...]:
    """Names of the ops that have a spec file; files that begin with an underscore belong to one of them."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base" and not m.name.startswith("_"))
    )


def all_specs() -> tuple[Spec, ...]:
    """Every spec of every op."""
    return tuple(spec for stem in stems() for spec in importlib.import_module(f"{__name__}.{stem}").SPECS)

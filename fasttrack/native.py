"""The compiled extension ``fasttrack._C``: loaded once, at first use, keeping the first error."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from types import ModuleType
from typing import Any

from fasttrack.errors import BackendUnavailable

__all__ = ["interpreting", "lib", "triton_why_not", "why_not"]


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    # torch comes first so that its OpenMP library, which shares one thread pool with ours, is the one loaded.
    import torch  # noqa: F401

    try:
        return importlib.import_module("fasttrack._C"), None
    except ImportError as error:
        hint = "" if "FASTTRACK_ISA" in os.environ else "; build it with a C++ compiler: pip install ."
        return None, f"the compiled extension fasttrack._C did not load: {error}{hint}"


def why_not() -> str | None:
    """Why the compiled extension cannot be used, or None when it can."""
    return _load()[1]


def interpreting() -> bool:
    """Whether Triton kernels run in triton's interpreter, on CPU tensors (``TRITON_INTERPRET=1``)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def triton_why_not() -> str | None:
    """Why Triton kernels cannot be used on this machine, or None when they can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    import torch

    if interpreting() or torch.cuda.is_available():
        return None
    return "no CUDA device: torch.cuda.is_available() is False"


def lib() -> Any:
    """The extension module.

    Raises:
        BackendUnavailable: it is not built or did not load; the message holds the first error.
    """
    module, reason = _load()
    if module is None:
        raise BackendUnavailable(reason)
    return module

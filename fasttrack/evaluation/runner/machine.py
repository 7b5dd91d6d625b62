"""What a machine is, for reports: a time without it says nothing."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ["cores", "facts"]

_PACKAGES = {"torch": "torch", "numpy": "numpy", "opencv": "opencv-python-headless"}


def cores() -> int:
    """Processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


@cache
def _fixed() -> dict[str, str | int]:
    found: dict[str, str | int] = {"host": platform.node(), "system": platform.platform(), "cpu": _cpu()}
    found |= {"cores": cores(), "python": platform.python_version()}
    if gpus := _gpus():
        found["gpu"] = gpus
    for name, package in _PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def facts() -> dict[str, str | int]:
    """Host, system, processor, cores, graphics cards, and versions of what the trackers are built on."""
    return dict(_fixed())


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> str:
    """Names from NVIDIA's driver, which answers without a context on the card."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                names.append(line.partition(":")[2].strip())
    return ", ".join(names)

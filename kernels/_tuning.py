"""Launch sizes as data: tables per (kernel, shape, device) in ``tuned/*.json``, the nearest entry is used.

A kernel declares what can be tuned as a ``Space``; its launcher asks ``launch_config`` at every call. Nothing is
tried out at run time: where no table knows the device, the launcher's own default serves.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

__all__ = ["LISTENERS", "SPACES", "Space", "launch_config", "use_config"]

TABLES = Path(__file__).parent / "tuned"
SPACES: dict[str, Space] = {}
# Told of every launch: what the tuner and the tests listen with.
LISTENERS: list[Callable[[str, Mapping[str, int]], None]] = []
_TRIAL: dict[str, dict[str, int]] = {}


class Space:
    """What can be tuned of one kernel.

    Args:
        name: "<stem>.<kernel>".
        without: configurations, whole or in part, that are left out: those that spill registers.
        choices: values to try by name: constexpr arguments of the kernel, ``num_warps``, ``num_stages``.
    """

    def __init__(self, name: str, without: tuple[Mapping[str, int], ...] = (), **choices: tuple[int, ...]) -> None:
        self.name, self.without, self.choices = name, without, choices
        SPACES[name] = self

    def configurations(self) -> Iterator[dict[str, int]]:
        """Every choice that may be tried."""
        for values in itertools.product(*self.choices.values()):
            config = dict(zip(self.choices, values, strict=True))
            if not any(left_out.items() <= config.items() for left_out in self.without):
                yield config


def launch_config(space: Space, shape: Mapping[str, int], default: Mapping[str, int]) -> dict[str, int]:
    """Launch sizes of a kernel for a shape on the current device.

    Args:
        space: the kernel's space; the result has its names.
        shape: sizes that decide, by name; the same names at every call of this kernel.
        default: used where no table has an entry of this kernel for this device.

    Returns:
        The trial of ``use_config``, else the entry nearest in Σ |log₂ ratio of sizes|, else ``default``.
    """
    for listener in LISTENERS:
        listener(space.name, shape)
    trial = _TRIAL.get(space.name)
    if trial is not None:
        return dict(trial)
    entry = _nearest(space.name, tuple(sorted(shape.items())), _device())
    return dict(default) if entry is None else dict(entry)


@contextmanager
def use_config(name: str, config: Mapping[str, int]) -> Iterator[None]:
    """Launch one kernel with given sizes inside the ``with`` block (for tuning and tests).

    Raises:
        ValueError: no such kernel, or other names than its space has.
    """
    if name not in SPACES:
        raise ValueError(f"launch sizes: no kernel {name!r}; known: {', '.join(sorted(SPACES))}")
    if set(config) != set(SPACES[name].choices):
        raise ValueError(f"launch sizes of {name}: wanted {sorted(SPACES[name].choices)}, got {sorted(config)}")
    _TRIAL[name] = dict(config)
    try:
        yield
    finally:
        del _TRIAL[name]


def _device() -> str:
    return _device_name(torch.cuda.current_device()) if torch.cuda.is_available() else "interpreter"


@cache
def _device_name(index: int) -> str:
    return torch.cuda.get_device_name(index)


@cache
def _entries(name: str) -> tuple[tuple[str, dict[str, int], dict[str, int]], ...]:
    """(device, shape, config) of every entry of a kernel; an entry with other names than the space's is an error."""
    path = TABLES / f"{name.split('.')[0]}.json"
    if not path.exists():
        return ()
    entries = [e for e in json.loads(path.read_text(encoding="utf-8"))["entries"] if e["kernel"] == name]
    for entry in entries:
        if set(entry["config"]) != set(SPACES[name].choices):
            raise ValueError(
                f"{path.name}: {name}: wanted {sorted(SPACES[name].choices)}, got {sorted(entry['config'])}"
            )
    return tuple((e["device"], e["shape"], e["config"]) for e in entries)


@cache
def _nearest(name: str, shape: tuple[tuple[str, int], ...], device: str) -> dict[str, int] | None:
    wanted = dict(shape)

    def distance(at: Mapping[str, int]) -> float:
        return sum(abs(math.log2((wanted[key] + 1) / (at[key] + 1))) for key in wanted)

    known = [
        (distance(at), config) for where, at, config in _entries(name) if where == device and set(at) == set(wanted)
    ]
    return min(known, key=lambda pair: pair[0])[1] if known else None

"""Which of our backends a benchmark times, and where its arguments lie.

``FASTTRACK_BENCH_DEVICE`` is "cpu" (default) or "cuda". There TF32 is off: cuDNN's convolutions, alone of all that is
timed, would round their inputs to it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch

from fasttrack import gpu, native
from fasttrack.dispatch import use_backend
from fasttrack.spec.base import Case

__all__ = ["DEVICE", "OURS", "make", "on_backend", "place", "throughout", "wide"]

DEVICE = os.environ.get("FASTTRACK_BENCH_DEVICE", "cpu")
if DEVICE == "cuda":
    torch.backends.cudnn.allow_tf32 = False
_GPU = {"cuda": gpu.why_not, "triton": native.triton_why_not}
# A backend that is missing here is left out; FASTTRACK_REQUIRE makes that a failure, in the tests.
OURS = ("cpu",) if DEVICE == "cpu" else tuple(name for name, why_not in _GPU.items() if why_not() is None)


def place(value: Any) -> Any:
    """A tensor, or tensors in a list, tuple or dict, on the device of the benchmarks."""
    if isinstance(value, torch.Tensor):
        return value.to(DEVICE)
    if isinstance(value, dict):
        return {k: place(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(place(v) for v in value)
    return value


def make(case: Case) -> dict[str, Any]:
    """Arguments of a case on the device of the benchmarks."""
    return place(case.make())


def on_backend(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    """One of our public functions on one backend."""
    return functools.partial(function, backend=backend)


def throughout(run: Callable[[], Any], backend: str) -> Callable[[], Any]:
    """``run`` with one backend in its backward passes too: the choice goes with the graph."""
    if DEVICE == "cpu":
        return run

    def chosen() -> Any:
        with use_backend(backend):
            return run()

    return chosen


def wide(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments in float64."""
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}

"""Interleaved timing of several calls, on one thread of the CPU or by events on a GPU; ceilings of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

ROUNDS = 25  # per side, unless the time allowed is spent first
FEWEST = 3
SHORTEST = 1e-3  # seconds: shorter calls are repeated within one measurement


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call over the rounds; on a GPU also what the host spends per call."""

    median_ms: float
    p10_ms: float
    rounds: int
    host_ms: float | None = None


def interleaved(calls: dict[str, Callable[[], Any]], budget_s: float, device: str = "cpu") -> dict[str, Timing]:
    """Time every call in turn, round after round, so that a drift of the machine meets all of them alike.

    Args:
        calls: what to time, by name; each has run before (its output was checked).
        budget_s: time for the whole group; every call is measured at least three times, whatever it takes.
        device: "cpu", or "cuda" for times by events.
    """
    measure = _on_cpu if device == "cpu" else _on_gpu
    first = {name: max(measure(call, 1)[0], 1e-9) for name, call in calls.items()}
    repeats = {name: max(1, round(SHORTEST / seconds)) for name, seconds in first.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    host: dict[str, list[float]] = {name: [] for name in calls}
    share, spent = budget_s / len(calls), dict.fromkeys(calls, 0.0)
    for round_index in range(ROUNDS):
        for name, call in calls.items():
            if round_index >= FEWEST and spent[name] > share:
                continue
            took, by_host = measure(call, repeats[name])
            seconds[name].append(took)
            host[name].append(by_host)
            spent[name] += took * repeats[name]
    return {name: _summary(seconds[name], host[name] if device != "cpu" else None) for name in calls}


def _summary(seconds: list[float], host: list[float] | None) -> Timing:
    ordered = sorted(seconds)
    return Timing(
        median_ms=1e3 * statistics.median(ordered),
        p10_ms=1e3 * ordered[len(ordered) // 10],
        rounds=len(ordered),
        host_ms=None if host is None else 1e3 * statistics.median(host),
    )


def _on_cpu(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    took = (time.perf_counter() - start) / repeats
    return took, took


def _on_gpu(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    by_host = (time.perf_counter() - start) / repeats
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) * 1e-3 / repeats, by_host


@cache
def ceilings(device: str = "cpu") -> dict[str, float]:
    """Measured ceilings: float32 products in FLOP/s; copies in bytes/s (read + write), large and in cache."""
    measure = _on_cpu if device == "cpu" else _on_gpu
    side = 1024 if device == "cpu" else 8192
    a, b, c = (torch.randn(side, side, device=device) for _ in range(3))

    def best(call: Callable[[], Any], repeats: int) -> float:
        call()
        return min(measure(call, repeats)[0] for _ in range(5))

    def copy_rate(numbers: int, repeats: int) -> float:
        source, target = torch.ones(numbers, device=device), torch.ones(numbers, device=device)
        return 8.0 * numbers / best(lambda: target.copy_(source), repeats)

    return {
        "flops": 2.0 * side**3 / best(lambda: torch.mm(a, b, out=c), 2),
        "bytes": copy_rate(1 << 26, 2),
        "cache_bytes": copy_rate(1 << 19, 50),
    }


def floor_ms(flops: float, moved: float, device: str = "cpu") -> float:
    """Least time of a counted cost: the ceiling that binds. Up to 8 MB count as cache-resident."""
    top = ceilings(device)
    rate = top["cache_bytes"] if moved <= 8e6 else top["bytes"]
    return 1e3 * max(flops / top["flops"], moved / rate)

"""Collects what the benchmark tests would time, so that the sides of a row can be timed turn by turn.

pytest-benchmark times one side after the other; on a shared machine the clock drifts in between. Here its fixture is
replaced by one that keeps the call (after the test has checked the output), and ``timing`` interleaves the calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

BACKENDS = ("cuda", "triton", "cpu", "reference")


@dataclass
class Call:
    """One side of one row: what to call, and what the test said about it."""

    group: str
    side: str
    file: str
    run: Callable[[], Any]
    info: dict[str, Any]

    @property
    def steps(self) -> int:
        return int(self.info.get("steps_per_call", 1))


@dataclass
class Fixture:
    """Stands in for pytest-benchmark's fixture: same calls, nothing is timed."""

    recorder: Recorder
    request: Any
    group: str = ""
    extra_info: dict[str, Any] = field(default_factory=dict)

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.keep(functools.partial(function, *args, **kwargs))
        return None

    def pedantic(self, target: Callable[..., Any], args: Any = (), kwargs: Any = None, **_: Any) -> Any:
        return self(target, *args, **(kwargs or {}))

    def keep(self, run: Callable[[], Any]) -> None:
        node = self.request.node
        params = getattr(node, "callspec", None)
        side = self.extra_info.get("side", params.params.get("side") if params else None)
        if side is None:
            raise pytest.UsageError(f"{node.nodeid}: a benchmark needs a side, as parameter or in extra_info")
        group = self.group or node.name
        self.recorder.calls.append(Call(group.strip(), str(side), node.path.stem, run, dict(self.extra_info)))


class Recorder:
    """pytest plugin: the fixture, and what it has collected."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failures: list[str] = []

    @pytest.fixture(name="benchmark")
    def _benchmark(self, request: Any) -> Fixture:
        return Fixture(self, request)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failures.append(report.nodeid)

    def groups(self) -> dict[str, list[Call]]:
        """Row name → its sides, in the order of the tests."""
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.group, []).append(call)
        return found


def record(arguments: list[str]) -> Recorder:
    """Run the benchmark tests; a side whose output is wrong fails its test and is not in the record."""
    recorder = Recorder()
    code = pytest.main(
        ["-q", "-rs", "-o", "addopts=", "-p", "no:benchmark", "-p", "no:cacheprovider", *arguments], [recorder]
    )
    if code not in (0, 1, 5):  # 5: -k leaves nothing of this file
        raise SystemExit(f"pytest could not collect the benchmarks (exit {int(code)})")
    return recorder

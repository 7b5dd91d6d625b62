"""Measure the launch sizes of the Triton kernels on this GPU: python bench/tune.py [OP …].

For every kernel with a space, and every shape the benchmarks call it with, all choices are tried through the public
function (its output is checked before and with each choice); the fastest goes to ``kernels/tuned/<op>.json`` under this
device's name, other devices' entries stay.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ["FASTTRACK_BENCH_DEVICE"] = "cuda"

import torch
from recorder import Call, record
from timing import interleaved

HERE = Path(__file__).parent
TABLES = HERE.parent / "kernels" / "tuned"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", nargs="*", help="stems; none: all")
    parser.add_argument("--budget", type=float, default=0.2, help="seconds per choice")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("tuning measures on a GPU: torch.cuda.is_available() is False")
    files = [str(HERE / f"test_{op}.py") for op in args.op] or [str(HERE)]
    recorder = record([*files, "-k", "triton"])
    if recorder.failures:
        raise SystemExit("not tuned, because their output is wrong: " + ", ".join(recorder.failures))
    found: dict[tuple[str, tuple[tuple[str, int], ...]], tuple[float, dict[str, int]]] = {}
    for call in recorder.calls:
        for name, shape, config, ms in tuned(call, args.budget):
            key = (name, tuple(sorted(shape.items())))
            if key not in found or ms < found[key][0]:
                found[key] = (ms, config)
            print(f"{call.group}: {name} {shape} {config} {ms:.4g} ms", flush=True)
    write(torch.cuda.get_device_name(), found)


def tuned(call: Call, budget: float) -> Iterator[tuple[str, Mapping[str, int], dict[str, int], float]]:
    """Best choice of each kernel this call launches, the others as they are."""
    from fasttrack.kernels import _tuning

    for name, shape in launched(call.run):
        sides: dict[str, Callable[[], Any]] = {}
        for config in _tuning.SPACES[name].configurations():
            side = with_config(call.run, name, config)
            try:
                side()
            except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
                print(f"{name} {config}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            sides[json.dumps(config)] = side
        times = interleaved(sides, budget * len(sides), "cuda")
        best = min(times, key=lambda side: times[side].median_ms)
        yield name, shape, json.loads(best), times[best].median_ms


def launched(run: Callable[[], Any]) -> list[tuple[str, Mapping[str, int]]]:
    """(kernel, shape) of every launch that asks for its sizes during one call."""
    from fasttrack.kernels import _tuning

    seen: list[tuple[str, Mapping[str, int]]] = []
    _tuning.LISTENERS.append(lambda name, shape: seen.append((name, shape)))
    try:
        run()
    finally:
        _tuning.LISTENERS.pop()
    unique = {(name, tuple(sorted(shape.items()))): (name, shape) for name, shape in seen}
    return list(unique.values())


def with_config(run: Callable[[], Any], name: str, config: dict[str, int]) -> Callable[[], Any]:
    from fasttrack.kernels import _tuning

    def side() -> Any:
        with _tuning.use_config(name, config):
            return run()

    return side


def write(device: str, found: Mapping[tuple[str, tuple[tuple[str, int], ...]], tuple[float, dict[str, int]]]) -> None:
    TABLES.mkdir(exist_ok=True)
    for stem in sorted({name.split(".")[0] for name, _ in found}):
        path = TABLES / f"{stem}.json"
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"] if path.exists() else []
        made = [
            {"kernel": name, "device": device, "shape": dict(shape), "config": config}
            for (name, shape), (_, config) in found.items()
            if name.split(".")[0] == stem
        ]
        replaced = {(e["kernel"], e["device"]) for e in made}
        kept = [e for e in entries if (e["kernel"], e["device"]) not in replaced]
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"entries": [*kept, *made]}, indent=1) + "\n", encoding="utf-8")
        part.replace(path)


if __name__ == "__main__":
    main()

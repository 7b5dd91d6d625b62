"""Benchmarks side by side: python bench/run.py [OP …] [--out results.json] [--device cuda] [--threads N].

Every side's output is checked by its test before anything is timed. Rows are printed as a table: our backends, their
ratio to plain PyTorch and to the best PyTorch formulation, the target, and the share of the machine's ceiling reached.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from recorder import BACKENDS, Call, record
from timing import Timing, ceilings, floor_ms, interleaved

HERE = Path(__file__).parent
TARGETS = HERE / "targets.json"


def main() -> None:
    args = arguments()
    os.environ["FASTTRACK_BENCH_DEVICE"] = args.device
    # Trackers have no second side to be timed against.
    known = {path.stem[5:]: path for path in sorted(HERE.glob("test_*.py")) if path.stem != "test_trackers"}
    if unknown := sorted(set(args.op) - set(known)):
        raise SystemExit(f"no benchmark of {', '.join(unknown)}; known: {', '.join(known)}")
    result: dict[str, Any] = {"machine": machine(args), "failed": [], "rows": {}}
    for op in args.op or known:  # one file at a time: what its calls hold is free before the next
        recorder = record([str(known[op]), *(["-k", args.k] if args.k else [])])
        torch.set_num_threads(args.threads)
        result["failed"] += recorder.failures
        for group, calls in recorder.groups().items():
            result["rows"][group] = row = timed(calls, args)
            print(line(group, row), flush=True)
            keep(result, args.out)
    if result["failed"]:
        raise SystemExit("not timed, because their output is wrong: " + ", ".join(result["failed"]))


def keep(result: dict[str, Any], out: Path | None) -> None:
    """Write what there is so far: an interrupted run loses one row."""
    if out is not None:
        part = out.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", nargs="*", help="stems, such as prroi_pool; none: all")
    parser.add_argument("-k", default="", help="choose benchmarks as pytest -k does")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=6.0, help="seconds per row")
    return parser.parse_args()


def machine(args: argparse.Namespace) -> dict[str, Any]:
    import fasttrack
    from fasttrack import native

    found = {
        "device": args.device,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "isa": None if native.why_not() else native.lib().isa(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fasttrack": fasttrack.__version__,
        "date": date.today().isoformat(),
        "ceilings": ceilings(args.device),
    }
    if args.device == "cuda":
        import triton

        found.update(gpu=torch.cuda.get_device_name(), triton=triton.__version__)
    return found


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def timed(calls: list[Call], args: argparse.Namespace) -> dict[str, Any]:
    """Times of one row, with its floor and target where they are known."""
    sides: dict[str, Callable[[], Any]] = {call.side: call.run for call in calls}
    notes: dict[str, str] = {}
    if args.device == "cuda":
        sides, notes = with_graphs(sides)
    times = interleaved(sides, args.budget, args.device)
    steps = {call.side: call.steps for call in calls}
    row: dict[str, Any] = {"file": calls[0].file, "notes": notes, "sides": {}}
    for side, timing in times.items():
        row["sides"][side] = scaled(timing, steps.get(side.split(" + ")[0], 1))
    info = next((call.info for call in calls if "flops" in call.info), None)
    if info is not None:
        row["floor_ms"] = floor_ms(info["flops"], info["bytes"], args.device)
    targets = json.loads(TARGETS.read_text(encoding="utf-8"))["targets_ms"]
    if args.device == "cpu" and args.threads == 1 and calls[0].group in targets:
        row["target_ms"] = targets[calls[0].group]
    return row


def with_graphs(sides: dict[str, Callable[[], Any]]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Each side also as a CUDA graph, and rivals compiled; where that cannot be done, the reason."""
    more, notes = dict(sides), {}
    for name, call in sides.items():
        try:
            more[f"{name} + graph"] = graph_of(call)
        except RuntimeError as error:
            notes[f"{name} + graph"] = str(error).splitlines()[0]
            torch.cuda.synchronize()
    for name, call in sides.items():
        if is_ours(name):
            continue
        compiled = torch.compile(call)
        try:
            compiled()
        except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
            notes[f"{name} + compile"] = str(error).splitlines()[0]
            continue
        more[f"{name} + compile"] = compiled
    return more, notes


def graph_of(call: Callable[[], Any]) -> Callable[[], Any]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def scaled(timing: Timing, steps: int) -> dict[str, float]:
    out = {"median_ms": timing.median_ms / steps, "p10_ms": timing.p10_ms / steps, "rounds": timing.rounds}
    return out if timing.host_ms is None else {**out, "host_ms": timing.host_ms / steps}


def ratios(row: dict[str, Any], backend: str) -> dict[str, float]:
    """Of one backend: times faster than plain and than the best other PyTorch side, share of the floor, of the target.

    Medians. A row without a second PyTorch formulation has plain as its best.
    """
    sides = {name: times["median_ms"] for name, times in row["sides"].items()}
    ours, found = sides[backend], {}
    rivals = {name: ms for name, ms in sides.items() if not is_ours(name) and name != "numpy"}
    if "plain" in sides:
        found["plain"] = sides["plain"] / ours
    if rivals:
        found["torch"] = min(rivals.values()) / ours
    if "floor_ms" in row:
        found["floor"] = row["floor_ms"] / ours
    if "target_ms" in row:
        found["target"] = ours / row["target_ms"]
    return found


def is_ours(side: str) -> bool:
    """Whether a side is one of our backends, or a variant of one ("cpu + out", "cpu_refined")."""
    return any(side == name or side.startswith((f"{name} ", f"{name}_")) for name in BACKENDS)


def line(group: str, row: dict[str, Any]) -> str:
    text = [f"{group}:"]
    for side, times in row["sides"].items():
        text.append(f"{side} {times['median_ms']:.4g} ms")
        if side in BACKENDS:
            words = {"plain": "× plain", "torch": "× best torch", "floor": "of the floor", "target": "of the target"}
            text.append("(" + ", ".join(f"{v:.3g} {words[k]}" for k, v in ratios(row, side).items()) + ")")
    return "  ".join(text)


if __name__ == "__main__":
    main()

"""The table of docs/kernels.md: op × backend, correct or not, ratios, share of the floor.

python bench/run.py --out bench/results/cpu.json
python bench/table.py bench/results/cpu.json docs/kernels.md
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from run import ratios

HERE = Path(__file__).parent
BACKENDS = ("cpu", "triton", "cuda")


def main() -> None:
    *results, out = (Path(name) for name in sys.argv[1:])
    if not results:
        raise SystemExit(__doc__)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in results]
    out.parent.mkdir(exist_ok=True)
    text = [INTRODUCTION, *correctness()]
    for path, run in zip(results, runs, strict=True):
        text += ["", f"## Speed: `{path.name}`", "", describe(run["machine"]), "", *speed(run)]
    out.write_text("\n".join(text) + "\n", encoding="utf-8")


INTRODUCTION = """# Kernels

Made by `python bench/table.py`; nothing here is written by hand.

## Correct?

Forward and gradients of every small case of the spec, in every dtype the kernels take, against float64. *worst* is the
largest error as a share of its tolerance. Triton runs in its interpreter and CUDA in an emulation on the CPU where this
machine has no GPU. *memory* is the most that a call of the CPU kernels holds, forward and with its backward, over its
inputs, outputs and gradients (of cases of a megabyte and more; what may be held is twice that plus the caches that the
docstring names, and is marked where it is not kept).
"""


def correctness() -> list[str]:
    """Rows of op × backend, each backend tried in a process of its own."""
    found = {backend: tried(backend) for backend in BACKENDS}
    held = memory()
    columns = (*BACKENDS, "memory")
    lines = ["| op | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for function in found["cpu"]:
        cells = [cell(found[backend].get(function)) for backend in BACKENDS]
        lines.append(f"| `{function}` | " + " | ".join((*cells, held.get(function, ""))) + " |")
    return lines


def memory() -> dict[str, str]:
    """Per function, the worst case of bench/memory.py: forward, and with its backward."""
    done = subprocess.run([sys.executable, str(HERE / "memory.py")], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"memory: {done.stderr[-3000:]}")
    worst: dict[str, dict[bool, float]] = {}
    over: set[str] = set()
    for row in map(json.loads, done.stdout.splitlines()):
        ratios_of = worst.setdefault(row["function"], {})
        ratios_of[row["backward"]] = max(ratios_of.get(row["backward"], 0.0), row["held"] / row["shared"])
        if row["held"] > row["limit"]:
            over.add(row["function"])
    return {
        function: " / ".join(f"{at[key]:.2f}" for key in sorted(at)) + (" **over**" if function in over else "")
        for function, at in worst.items()
    }


def tried(backend: str) -> dict[str, dict[str, Any]]:
    import torch

    environment = dict(os.environ)
    if not torch.cuda.is_available():
        environment |= {"triton": {"TRITON_INTERPRET": "1"}, "cuda": {"FASTTRACK_CUDA_EMULATION": "1"}}.get(backend, {})
    command = [sys.executable, str(HERE / "correct.py"), backend]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{backend}: {done.stderr[-3000:]}")
    return {row["function"]: row for row in map(json.loads, done.stdout.splitlines())}


def cell(row: dict[str, Any] | None) -> str:
    if row is None or row["tried"] == 0:
        reasons = ", ".join(row["left_out"]) if row else ""
        return f"– ({reasons})" if reasons else "–"
    verdict = "yes" if row["worst"] <= 1 else "**no**"
    return f"{verdict}: {row['tried']} cases, worst {row['worst']:.2f}"


def describe(machine: dict[str, Any]) -> str:
    top = machine["ceilings"]
    where = machine.get("gpu", f"{machine['cpu']}, {machine['isa']}, {machine['threads']} thread(s)")
    gigas = [f"{top[key] / 1e9:.0f}" for key in ("flops", "bytes", "cache_bytes")]
    return (
        f"{where}; torch {machine['torch']}, Python {machine['python']}, {machine['date']}.\n"
        f"Ceilings measured in the same run: {gigas[0]} GFLOP/s, {gigas[1]} GB/s ({gigas[2]} in cache).\n"
        "Medians in ms of interleaved rounds; × = how many times faster ours is."
    )


def speed(run: dict[str, Any]) -> list[str]:
    lines = ["| row | backend | ms | × plain | × best torch | share of floor | target ms |", "| --- |" + " --- |" * 6]
    for group, row in run["rows"].items():
        for backend in (b for b in BACKENDS if b in row["sides"]):
            r = ratios(row, backend)
            cells = [f"{row['sides'][backend]['median_ms']:.3g}"]
            cells += [f"{r[k]:.3g}" if k in r else "" for k in ("plain", "torch")]
            cells += [f"{100 * r['floor']:.0f} %" if "floor" in r else "", verdict(row, r)]
            lines.append(f"| {group} | {backend} | " + " | ".join(cells) + " |")
    return lines


def verdict(row: dict[str, Any], found: dict[str, float]) -> str:
    if "target" not in found:
        return ""
    return f"{row['target_ms']:g} " + ("met" if found["target"] <= 1 else f"missed ×{found['target']:.2f}")


if __name__ == "__main__":
    main()

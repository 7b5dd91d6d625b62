"""One small table from a pytest-benchmark run: medians per side, and how much faster ours is than each rival.

pytest bench --benchmark-only --benchmark-json=run.json
python bench/summary.py run.json bench/results/cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

OURS = ("cpu", "cuda", "triton")


def rows(run: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Group → side → median and least ms of one step."""
    table: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for one in run["benchmarks"]:
        info, stats = one["extra_info"], one["stats"]
        side = info.get("side", one["params"].get("side"))
        scale = 1e3 / info.get("steps_per_call", 1)
        table[one["group"]][side] = {"median_ms": stats["median"] * scale, "min_ms": stats["min"] * scale}
    return dict(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    run = json.loads(args.run.read_text())
    table = rows(run)
    machine = {
        "cpu": run["machine_info"]["cpu"].get("brand_raw", platform.processor()),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": run["datetime"][:10],
    }
    args.out.write_text(json.dumps({"machine": machine, "rows": table}, indent=1) + "\n")
    print("| what | ours ms | rivals ms (× ours), medians |\n| --- | --- | --- |")
    for group, sides in table.items():
        ours = next((sides[s]["median_ms"] for s in OURS if s in sides), None)
        rivals = sorted((v["median_ms"], s) for s, v in sides.items() if s not in OURS)
        if ours is not None:
            text = ", ".join(f"{s} {ms:.3g} (×{ms / ours:.1f})" for ms, s in rivals)
            print(f"| {group.strip()} | {ours:.3g} | {text} |")


if __name__ == "__main__":
    main()

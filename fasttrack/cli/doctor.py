"""``fasttrack doctor``: which op runs on which backend here, and why not on the others."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import pkgutil
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from fasttrack.cli.backends import explain, gather
from fasttrack.errors import BackendUnavailable

__all__ = ["add_parser", "diagnose", "run", "unmet"]

_PACKAGES = {
    "torch": ("torch",),
    "triton": ("triton", "pytorch-triton"),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "numpy": ("numpy",),
    "cv2": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="show what runs on this machine",
        description="Show ops by backend with the reason of each missing one, versions, instruction set, threads and "
        "devices. Exit code 1 where a backend named in FASTTRACK_REQUIRE is missing.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    report = diagnose()
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_lines(report)))
    return 1 if report["unmet"] else 0


def diagnose() -> dict[str, Any]:
    """Everything the command shows, ready for JSON.

    Raises:
        BackendUnavailable: torch is not installed, so nothing can run.
    """
    if importlib.util.find_spec("torch") is None:
        raise BackendUnavailable("no backend can run: torch is not installed: pip install 'torch>=2.6'")
    import torch

    ops = _ops()
    return {
        "versions": _versions(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "extension": _extension(),
        "threads": {"torch": torch.get_num_threads(), "cpus": os.cpu_count()},
        "devices": _devices(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith("FASTTRACK_")},
        "window": _window(),
        "backends": {name: asdict(backend) for name, backend in explain(gather()).items()},
        "ops": ops,
        "unmet": unmet(ops),
    }


def _ops() -> dict[str, dict[str, str | None]]:
    """Op → backend → reason it cannot run here, None where it can."""
    import fasttrack.ops
    from fasttrack import dispatch

    for module in pkgutil.iter_modules(fasttrack.ops.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"fasttrack.ops.{module.name}")
    return {op: {row.backend: row.unavailable() for row in rows} for op, rows in sorted(dispatch.table().items())}


def unmet(ops: dict[str, dict[str, str | None]]) -> list[str]:
    """What FASTTRACK_REQUIRE asks for and this machine lacks, one line each."""
    from fasttrack import dispatch

    lines = []
    for backend in sorted(dispatch.required()):
        rows = {op: reasons[backend] for op, reasons in ops.items() if backend in reasons}
        if not rows:
            lines.append(f"{backend}: no op has this backend")
        lines += [f"{backend}: {op}: {reason}" for op, reason in rows.items() if reason is not None]
    return lines


def _versions() -> dict[str, str | None]:
    from fasttrack._version import __version__

    versions: dict[str, str | None] = {"fasttrack": __version__, "python": platform.python_version()}
    for name, packages in _PACKAGES.items():
        versions[name] = next((found for found in map(_installed, packages) if found is not None), None)
    return versions


def _installed(package: str) -> str | None:
    try:
        return f"{metadata.version(package)} ({package})"
    except metadata.PackageNotFoundError:
        return None


def _extension() -> dict[str, Any]:
    from fasttrack import native

    reason = native.why_not()
    if reason is not None:
        return {"loaded": False, "reason": reason, "isa": None, "isas": {}, "cuda": False}
    lib = native.lib()
    isas = {name: bool(ok) for name, ok in lib.isas()}
    return {"loaded": True, "reason": None, "isa": lib.isa(), "isas": isas, "cuda": bool(lib.cuda)}


def _devices() -> list[str]:
    import torch

    devices = [f"cpu: {_cpu_name()}"]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        devices.append(
            f"cuda:{index}: {found.name}, sm_{found.major}{found.minor}, {found.total_memory / 2**30:.0f} GiB"
        )
    return devices


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _window() -> str:
    from fasttrack.video._opencv import why_no_window

    return why_no_window() or "ok"


def _lines(report: dict[str, Any]) -> list[str]:
    extension = report["extension"]
    lines = ["versions"]
    lines += [f"  {name:<10} {version or 'not installed'}" for name, version in report["versions"].items()]
    lines += ["compiled extension"]
    if extension["loaded"]:
        isas = ", ".join(f"{name}{'' if ok else ' (not on this CPU)'}" for name, ok in extension["isas"].items())
        lines += [f"  {'in use':<10} {extension['isa']}", f"  {'built for':<10} {isas}"]
        lines += [f"  {'CUDA':<10} {'kernels built in' if extension['cuda'] else 'not built in (no nvcc then)'}"]
    else:
        lines += [f"  missing: {extension['reason']}"]
    threads = report["threads"]
    lines += ["machine", f"  {'system':<10} {report['machine']['system']}"]
    lines += [f"  {'threads':<10} {threads['torch']}, one pool for torch and our kernels; {threads['cpus']} CPUs"]
    lines += [f"  {'device':<10} {device}" for device in report["devices"]]
    lines += [f"  {'window':<10} {report['window']}"]
    lines += [f"  {name}={value}" for name, value in report["environment"].items()]
    lines += ["backends", *(_backend(name, found) for name, found in report["backends"].items())]
    lines += ["ops by backend", *_table(report["ops"])]
    if report["unmet"]:
        lines += ["FASTTRACK_REQUIRE is not met", *(f"  {line}" for line in report["unmet"])]
    return lines


def _backend(name: str, found: dict[str, Any]) -> str:
    cure = f" → {found['cure']}" if found["cure"] else ""
    return f"  {name:<10} {'yes' if found['available'] else 'no':<4} {found['reason']}{cure}"


def _table(ops: dict[str, dict[str, str | None]]) -> list[str]:
    """Grid of yes and numbered reasons, with the reasons below; a dot where there is no such row."""
    from fasttrack.dispatch import BACKENDS

    backends = [b for b in BACKENDS if any(b in rows for rows in ops.values())]
    wide = max((len(op) for op in ops), default=0) + 2
    reasons: list[str] = []
    lines = ["  " + " " * wide + "".join(f"{b:<11}" for b in backends)]
    for op, rows in ops.items():
        cells = []
        for backend in backends:
            if backend not in rows:
                cells.append(".")
                continue
            reason = rows[backend]
            if reason is None:
                cells.append("yes")
                continue
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f"no [{reasons.index(reason) + 1}]")
        lines.append("  " + f"{op:<{wide}}" + "".join(f"{cell:<11}" for cell in cells))
    return lines + [f"  [{k}] {reason}" for k, reason in enumerate(reasons, 1)]

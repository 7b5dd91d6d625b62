"""Ahead-of-time compilation of the kernels, no GPU needed: what each costs on each architecture.

Every file of kernels lists its ``BUILDS``; ``python -m fasttrack.kernels._aot`` compiles them all and prints one JSON
line per kernel and architecture.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

__all__ = ["ARCHITECTURES", "Build", "Resources", "builds", "resources"]

ARCHITECTURES = (80, 90, 100)
# Matrix instructions of Ampere, Hopper and Blackwell in machine code.
_MATRIX = re.compile(r"\b(HMMA|HGMMA|UTCHMMA|UTCQMMA|QGMMA|DMMA)\b")
_SPILL = re.compile(r"\b(LDL|STL)\b")


@dataclass(frozen=True)
class Build:
    """One way a kernel is compiled.

    Args:
        kernel: the ``@triton.jit`` function.
        signature: type of every argument that is not constexpr, in order: "*fp32", "i32", "fp32"…
        constants: values of the constexpr arguments.
        num_warps: warps per program.
        num_stages: stages of the software pipeline.
        tensor_cores: whether matrix instructions must show in the machine code.
    """

    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 2
    tensor_cores: bool = False

    @property
    def name(self) -> str:
        """Module and function."""
        return f"{self.kernel.fn.__module__.rsplit('.', 1)[-1]}.{self.kernel.fn.__name__}"


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel uses.

    Args:
        kernel: module and function.
        architecture: 90 for sm_90.
        registers: per thread.
        local_bytes: stack and spilled registers per thread, in bytes.
        spills: local loads and stores in the machine code.
        shared_bytes: shared memory per program.
        matrix: matrix instructions in the machine code.
        tensor_cores: whether some were asked for.
    """

    kernel: str
    architecture: int
    registers: int
    local_bytes: int
    spills: int
    shared_bytes: int
    matrix: int
    tensor_cores: bool


def builds() -> Iterator[Build]:
    """The builds of every file of kernels."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "_aot":
            yield from getattr(importlib.import_module(f"{__package__}.{module.name}"), "BUILDS", ())


def resources(build: Build, architecture: int) -> Resources:
    """Compile one build for one architecture and read its resources from the machine code."""
    from triton.compiler import ASTSource

    signature = {**build.signature, **dict.fromkeys(build.constants, "constexpr")}
    ordered = {name: signature[name] for name in build.kernel.arg_names}
    source = ASTSource(fn=build.kernel, signature=ordered, constexprs=dict(build.constants))
    options = {"num_warps": build.num_warps, "num_stages": build.num_stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    usage, code = _dump(compiled.asm["cubin"], "-res-usage"), _dump(compiled.asm["cubin"], "-sass")
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return Resources(
        kernel=build.name,
        architecture=architecture,
        registers=found["REG"],
        local_bytes=found["STACK"] + found["LOCAL"],
        spills=len(_SPILL.findall(code)),
        shared_bytes=compiled.metadata.shared,
        matrix=len(_MATRIX.findall(code)),
        tensor_cores=build.tensor_cores,
    )


def _dump(cubin: bytes, what: str) -> str:
    tool = Path(importlib.import_module("triton.backends.nvidia").__file__ or "").parent / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run([str(tool), what, str(path)], capture_output=True, text=True, check=True)
    return done.stdout


def main() -> None:
    """Print the resources of every build as JSON lines."""
    for build in builds():
        for architecture in ARCHITECTURES:
            sys.stdout.write(json.dumps(vars(resources(build, architecture))) + "\n")


if __name__ == "__main__":
    main()

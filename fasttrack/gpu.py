"""Launching the kernels of ``csrc/cuda``: one call, whoever compiled them.

A kernel takes one plain struct by value. It is packed here, and launched by the first of

- ``fasttrack._C``, when it was built with nvcc;
- CuPy, which compiles the same ``.cu`` files at first use with NVRTC (``pip install fasttrack[cuda]``).

``FASTTRACK_CUDA=extension`` or ``nvrtc`` picks one. A test may install a launcher of its own.
"""

from __future__ import annotations

import importlib.util
import os
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.errors import BackendUnavailable, UnknownName

__all__ = [
    "KERNELS",
    "Kernel",
    "Launch",
    "Launcher",
    "device_type",
    "install",
    "launch",
    "nvrtc_options",
    "resident_blocks",
    "why_not",
]

LAUNCHERS = ("extension", "nvrtc")
_SHARED_FOR_FREE = 48 * 1024  # bytes of dynamic shared memory that need not be asked for


@dataclass(frozen=True)
class Kernel:
    """One kernel ``ft_<name>`` of ``csrc/cuda/<source>.cu``.

    Args:
        name: as in ``csrc/cuda/api.h``.
        source: stem of the file that holds it.
        layout: its arguments in ``struct``'s notation, with the compiler's own alignment
            (``P`` address, ``q`` int64_t, ``d`` double, ``i`` int, ``f`` float, ``?`` bool).
    """

    name: str
    source: str
    layout: str
    packer: struct.Struct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # C rounds a struct up to its alignment, which is that of an address in every struct of ours.
        object.__setattr__(self, "packer", struct.Struct(f"@{self.layout}0P"))
        KERNELS[self.name] = self


KERNELS: dict[str, Kernel] = {}


@dataclass(frozen=True)
class Launch:
    """How one kernel is started.

    Args:
        grid: blocks along x, y, z.
        threads: per block.
        shared_bytes: dynamic shared memory per block.
        cooperative: all blocks must run at once (the kernel waits for its grid).
        device: index of the device.
        stream: address of the stream.
    """

    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    cooperative: bool
    device: int
    stream: int


class Launcher(Protocol):
    """Who compiled the kernels, and starts them."""

    device_type: str
    """Kind of the tensors the kernels read: "cuda", or "cpu" where they are emulated."""

    def launch(self, kernel: Kernel, how: Launch, arguments: bytes) -> None:
        """Start a kernel; waits for nothing."""

    def resident_blocks(self, kernel: Kernel, threads: int, shared_bytes: int, device: int) -> int:
        """How many blocks the device holds at once; 0 where one needs more shared memory than there is."""


class _Extension:
    """The kernels that nvcc built into ``fasttrack._C``."""

    device_type = "cuda"

    def launch(self, kernel: Kernel, how: Launch, arguments: bytes) -> None:
        native.lib().cuda_launch(
            kernel.name, how.grid, how.threads, how.shared_bytes, how.cooperative, how.device, how.stream, arguments
        )

    def resident_blocks(self, kernel: Kernel, threads: int, shared_bytes: int, device: int) -> int:
        blocks: int = native.lib().cuda_resident_blocks(kernel.name, threads, shared_bytes, device)
        return blocks


class _Nvrtc:
    """The same sources, compiled at first use through CuPy (not inside a graph capture: run once before)."""

    device_type = "cuda"

    def launch(self, kernel: Kernel, how: Launch, arguments: bytes) -> None:
        import cupy
        import numpy

        # CuPy passes a host array of one element by value, whatever its type.
        blob = numpy.frombuffer(arguments, dtype=f"V{len(arguments)}")
        with cupy.cuda.Device(how.device), cupy.cuda.ExternalStream(how.stream, how.device):
            self._function(kernel, how.device, how.shared_bytes).kernel(
                how.grid,
                (how.threads, 1, 1),
                (blob,),
                shared_mem=how.shared_bytes,
                enable_cooperative_groups=how.cooperative,
            )

    def resident_blocks(self, kernel: Kernel, threads: int, shared_bytes: int, device: int) -> int:
        import cupy

        limits = cupy.cuda.Device(device).attributes
        with cupy.cuda.Device(device):
            function = self._function(kernel, device, 0)
            if shared_bytes + function.shared_size_bytes > limits["MaxSharedMemoryPerBlockOptin"]:
                return 0
            function = self._function(kernel, device, shared_bytes)
            per_processor: int = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                function.kernel.ptr, threads, shared_bytes
            )
        blocks: int = per_processor * limits["MultiProcessorCount"]
        return blocks

    def _function(self, kernel: Kernel, device: int, shared_bytes: int) -> Any:
        function = self._module(kernel.source, device).get_function(f"ft_{kernel.name}")
        if shared_bytes > _SHARED_FOR_FREE:
            function.max_dynamic_shared_size_bytes = shared_bytes
        return function

    @staticmethod
    @cache
    def _module(source: str, device: int) -> Any:
        import cupy

        code = (_sources() / "cuda" / f"{source}.cu").read_text()
        return cupy.RawModule(code=code, options=nvrtc_options())


def nvrtc_options() -> tuple[str, ...]:
    """How NVRTC compiles the kernels."""
    return "-std=c++17", f"-I{_sources()}"


def _sources() -> Path:
    """The folder of the kernels' sources: within the package where it is installed, else in the source tree."""
    package = Path(__file__).parent
    installed = package / "csrc"
    return installed if installed.is_dir() else package.parent / "csrc"


_INSTALLED: list[Launcher] = []


def install(launcher: Launcher | None) -> None:
    """Launch every kernel through ``launcher`` from now on; None goes back to the usual choice."""
    _INSTALLED[:] = [] if launcher is None else [launcher]


@cache
def _usual() -> tuple[Launcher | None, str | None]:
    """The launcher of this machine, or why there is none."""
    asked = os.environ.get("FASTTRACK_CUDA") or None
    if asked is not None and asked not in LAUNCHERS:
        raise UnknownName("FASTTRACK_CUDA", asked, LAUNCHERS)
    if not torch.cuda.is_available():
        return None, "no CUDA device: torch.cuda.is_available() is False"
    reasons = []
    if asked != "nvrtc":
        reason = native.why_not()
        if reason is None and native.lib().cuda:
            return _Extension(), None
        reasons.append(reason or "the compiled extension was built without nvcc")
    if asked != "extension":
        if importlib.util.find_spec("cupy") is not None:
            return _Nvrtc(), None
        reasons.append("CuPy is not installed: pip install 'fasttrack[cuda]'")
    return None, "; ".join(reasons)


def _launcher() -> Launcher:
    if _INSTALLED:
        return _INSTALLED[0]
    launcher, reason = _usual()
    if launcher is None:
        raise BackendUnavailable(reason)
    return launcher


def why_not() -> str | None:
    """Why CUDA kernels cannot be used on this machine, or None when they can."""
    return None if _INSTALLED else _usual()[1]


def device_type() -> str:
    """Kind of the tensors that CUDA kernels read: "cuda", or "cpu" where they are emulated."""
    return _INSTALLED[0].device_type if _INSTALLED else "cuda"


def launch(
    kernel: Kernel,
    blocks: int | tuple[int, int, int],
    threads: int,
    arguments: tuple[Any, ...],
    like: Tensor,
    *,
    shared_bytes: int = 0,
    cooperative: bool = False,
) -> None:
    """Start a kernel on the current stream of a tensor's device.

    Args:
        kernel: which.
        blocks: of the grid, along x or along x, y, z.
        threads: per block.
        arguments: the members of its struct in order; a tensor stands for its address, None for null.
        like: a tensor on the device.
        shared_bytes: dynamic shared memory per block.
        cooperative: all blocks must run at once.
    """
    index = like.device.index or 0
    stream = torch._C._cuda_getCurrentRawStream(index) if like.is_cuda else 0
    grid = (blocks, 1, 1) if isinstance(blocks, int) else blocks
    members = [a.data_ptr() if isinstance(a, Tensor) else 0 if a is None else a for a in arguments]
    how = Launch(grid, threads, shared_bytes, cooperative, index, stream)
    _launcher().launch(kernel, how, kernel.packer.pack(*members))


def resident_blocks(kernel: Kernel, threads: int, shared_bytes: int, like: Tensor) -> int:
    """How many blocks of a kernel the device of ``like`` holds at once: the largest cooperative grid."""
    return _launcher().resident_blocks(kernel, threads, shared_bytes, like.device.index or 0)

"""The rows of a backend table: what each backend needs beyond its own predicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack import gpu, native
from fasttrack.dispatch import Row

__all__ = ["cpu_row", "cuda_row", "kernel_input", "on_cpu", "on_gpu", "reference_row", "triton_row", "wide"]


def kernel_input(tensor: Tensor) -> Tensor:
    """What a kernel reads: contiguous float32; the tensor itself where it is that already."""
    if tensor.dtype == torch.float32 and tensor.is_contiguous():
        return tensor
    return tensor.detach().contiguous().float()


def wide(tensor: Tensor) -> Tensor:
    """What arithmetic runs in: half types in float32, rounded once at the end, on every backend."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def on_cpu(tensor: Tensor, name: str) -> str | None:
    """Why a CPU kernel cannot read ``tensor``, the argument ``name``; None when it can."""
    if not tensor.is_cpu:
        return f"needs CPU tensors, got {name} on {tensor.device}"
    return "computes in float32, got float64" if tensor.dtype == torch.float64 else None


def on_gpu(tensor: Tensor, name: str) -> str | None:
    """Why a Triton or CUDA kernel cannot read ``tensor``, the argument ``name``; None when it can.

    Where kernels are interpreted or emulated on the CPU, they read CPU tensors.
    """
    wanted = "cpu" if native.interpreting() else gpu.device_type()
    if tensor.device.type != wanted:
        return f"needs {wanted.upper()} tensors, got {name} on {tensor.device}"
    return "computes in float32, got float64" if tensor.dtype == torch.float64 else None


def cpu_row(why_not: Callable[..., str | None], run: Callable[..., Any]) -> Row:
    """Row of a C++ kernel: it also needs the compiled extension."""

    def reason(*args: Any) -> str | None:
        return native.why_not() or why_not(*args)

    return Row("cpu", reason, run, native.why_not)


def cuda_row(why_not: Callable[..., str | None], run: Callable[..., Any]) -> Row:
    """Row of a CUDA kernel: it also needs a device, and nvcc's or CuPy's compilation of it."""

    def reason(*args: Any) -> str | None:
        return gpu.why_not() or why_not(*args)

    return Row("cuda", reason, _on_device_of(run), gpu.why_not)


def triton_row(why_not: Callable[..., str | None], run: Callable[..., Any]) -> Row:
    """Row of a Triton kernel: it also needs triton and a device, or triton's interpreter."""

    def reason(*args: Any) -> str | None:
        return native.triton_why_not() or why_not(*args)

    return Row("triton", reason, _on_device_of(run), native.triton_why_not)


def reference_row(run: Callable[..., Any]) -> Row:
    """Row of the reference: runs everywhere."""
    return Row("reference", lambda *_: None, run, lambda: None)


def _on_device_of(run: Callable[..., Any]) -> Callable[..., Any]:
    """``run`` with the device of its first CUDA tensor as the current one: kernels launch there."""

    def on_device(*args: Any) -> Any:
        index = next((a.device.index for a in args if isinstance(a, Tensor) and a.is_cuda), None)
        if index is None or index == torch.cuda.current_device():
            return run(*args)
        with torch.cuda.device(index):
            return run(*args)

    return on_device

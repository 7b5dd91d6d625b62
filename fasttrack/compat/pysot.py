"""PySOT's cross-correlations of a search map with a template, by the formulation that is fastest on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fasttrack import ops
from fasttrack.ops import _checks as check

__all__ = ["xcorr_depthwise", "xcorr_fast", "xcorr_slow"]


def xcorr_depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """Valid cross-correlation, channel by channel: out[b, c] = x[b, c] ⋆ kernel[b, c].

    On a CPU the gradients are two more correlations of this kind, which cost several times less than torch's own
    backward of a grouped convolution.

    Args:
        x: (B, C, H, W) search maps.
        kernel: (B, C, h, w) templates of the same dtype, h ≤ H, w ≤ W.

    Returns:
        (B, C, H − h + 1, W − w + 1), differentiable in both, of any order.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.

    Source: Li et al. 2019 (SiamRPN++) §3.4.
    """
    _check("xcorr_depthwise", x, kernel)
    if kernel.shape[1] != x.shape[1]:
        check.shape_error("xcorr_depthwise", "kernel", f"(B, {x.shape[1]}, h, w), the channels of x", kernel)
    wanted = torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad)
    if wanted and x.is_cpu and not torch.is_autocast_enabled("cpu"):
        return _correlate(x, kernel)
    return _grouped(x, kernel)


def xcorr_fast(x: Tensor, kernel: Tensor) -> Tensor:
    """Valid cross-correlation of each map with its own kernels, summed over channels.

    out[b, k] = Σ_c x[b, c] ⋆ kernel[b, k·C + c]

    Args:
        x: (B, C, H, W) search maps.
        kernel: (B, K·C, h, w) templates of the same dtype, h ≤ H, w ≤ W.

    Returns:
        (B, K, H − h + 1, W − w + 1), differentiable in both, of any order.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.

    Source: Bertinetto et al. 2016 (SiamFC); Li et al. 2018 (SiamRPN).
    """
    return _summed("xcorr_fast", x, kernel)


def xcorr_slow(x: Tensor, kernel: Tensor) -> Tensor:
    """``xcorr_fast`` under its other name: PySOT computes the same there, one map at a time."""
    return _summed("xcorr_slow", x, kernel)


class _Depthwise(torch.autograd.Function):
    """The correlation whose gradients are correlations: in x of the padded gradient, in the kernel of x with it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        return _grouped(x, kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        height, width = kernel.shape[2:]
        by_x = by_kernel = None
        if ctx.needs_input_grad[0]:
            around = functional.pad(grad, (width - 1, width - 1, height - 1, height - 1))
            by_x = _correlate(around, kernel.flip(2, 3))
        if ctx.needs_input_grad[1]:
            by_kernel = _correlate(x, grad)
        return by_x, by_kernel


_correlate: Callable[[Tensor, Tensor], Tensor] = _Depthwise.apply


def _grouped(x: Tensor, kernel: Tensor) -> Tensor:
    batch, channels, height, width = kernel.shape
    filters = kernel.reshape(batch * channels, 1, height, width)
    out = functional.conv2d(x.reshape(1, batch * channels, *x.shape[2:]), filters, groups=batch * channels)
    return out.view(batch, channels, *out.shape[2:])


def _summed(op: str, x: Tensor, kernel: Tensor) -> Tensor:
    _check(op, x, kernel)
    batch, channels = x.shape[:2]
    if channels == 0 or kernel.shape[1] % channels or kernel.shape[1] == 0:
        check.shape_error(op, "kernel", f"(B, K·{channels}, h, w), K times the channels of x", kernel)
    if x.is_cpu and x.dtype == torch.float32 and kernel.shape[1] == channels:
        return ops.conv_regression(x, kernel).unsqueeze(1)
    size = kernel.shape[2:]
    if x.is_cpu:  # one call per map costs less there than one of many groups
        pairs = zip(x.split(1), kernel.split(1), strict=True)
        return torch.cat([functional.conv2d(a, k.reshape(-1, channels, *size)) for a, k in pairs])
    filters = kernel.reshape(-1, channels, *size)
    out = functional.conv2d(x.reshape(1, batch * channels, *x.shape[2:]), filters, groups=batch)
    return out.view(batch, -1, *out.shape[2:])


def _check(op: str, x: Tensor, kernel: Tensor) -> None:
    check.tensor(op, "x", x, dims=(4,), layout="(B, C, H, W)")
    check.tensor(op, "kernel", kernel, dims=(4,), layout="(B, C, h, w)")
    check.same_dtype(op, "kernel", kernel, "x", x)
    check.same_device(op, "kernel", kernel, "x", x)
    batch, _, height, width = x.shape
    if len(kernel) != batch or batch == 0:
        check.shape_error(op, "kernel", f"({max(batch, 1)}, C, h, w), one template per map of x", kernel)
    if not (1 <= kernel.shape[2] <= height and 1 <= kernel.shape[3] <= width):
        check.shape_error(op, "kernel", f"(B, C, h, w) with 1 ≤ h ≤ {height} and 1 ≤ w ≤ {width}", kernel)

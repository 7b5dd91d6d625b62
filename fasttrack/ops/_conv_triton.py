"""The Triton rows of ``conv_regression`` and its adjoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fasttrack.ops._rows import kernel_input, on_gpu

__all__ = ["features_gradient", "forward", "weight_gradient", "why_not"]


def why_not(first: Tensor, *_: Any) -> str | None:
    """Why the Triton kernels cannot take these arguments (the first is ``features``, or the gradient)."""
    return on_gpu(first, "features")


def forward(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, C, H, W), (C, kh, kw), (1,) or None → (B, H − kh + 1, W − kw + 1)."""
    from fasttrack.kernels import conv_regression as kernels

    b = None if bias is None else kernel_input(bias)
    return kernels.forward(kernel_input(features), kernel_input(weight), b).to(features.dtype)


def weight_gradient(features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    """(B, C, H, W), (B, H − kh + 1, W − kw + 1) → (C, kh, kw)."""
    from fasttrack.kernels import conv_regression as kernels

    return kernels.weight_gradient(kernel_input(features), kernel_input(grad), kh, kw).to(features.dtype)


def features_gradient(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    """(B, H − kh + 1, W − kw + 1), (C, kh, kw) → (B, C, H, W)."""
    from fasttrack.kernels import conv_regression as kernels

    return kernels.features_gradient(kernel_input(grad), kernel_input(weight), height, width).to(grad.dtype)

"""The ops as ``torch.nn`` modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fasttrack import ops

__all__ = ["ConvRegression", "FocalRegressionLoss", "PrRoIPool2D", "ShrinkageLoss", "SquareLoss", "TruncatedLoss"]


class ConvRegression(nn.Module):
    """``ops.conv_regression`` with its weight (C, kh, kw) and bias (1,), which start at zero (CRT §3.1)."""

    def __init__(self, channels: int, kernel_size: tuple[int, int], bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, *kernel_size))
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def forward(self, features: Tensor) -> Tensor:
        """Response (B, H − kh + 1, W − kw + 1) of (B, C, H, W) features."""
        return ops.conv_regression(features, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        channels, *kernel = self.weight.shape
        return f"{channels}, kernel_size={tuple(kernel)}, bias={self.bias is not None}"


class PrRoIPool2D(nn.Module):
    """``ops.prroi_pool`` with fixed bins and scale; it has no parameters and no state."""

    def __init__(self, pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
        super().__init__()
        self.pooled_height, self.pooled_width = int(pooled_height), int(pooled_width)
        self.spatial_scale = float(spatial_scale)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Bin means (K, C, pooled_height, pooled_width) of (N, C, H, W) features over (K, 5) RoIs."""
        return ops.prroi_pool(features, rois, (self.pooled_height, self.pooled_width), self.spatial_scale)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"{self.pooled_height}, {self.pooled_width}, spatial_scale={self.spatial_scale}"


class TruncatedLoss(nn.Module):
    """``ops.truncated_loss`` with fixed threshold, label exponent and reduction (CRT eq. 3–5)."""

    def __init__(self, threshold: float = 0.1, a: float = 1.0, reduction: str = "sum") -> None:
        super().__init__()
        self.threshold, self.a, self.reduction = threshold, a, reduction

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of a response map against its labels."""
        return ops.truncated_loss(prediction, target, self.threshold, self.a, self.reduction, weight)

    def kernel_form(self) -> tuple[str, float, float]:
        """Form and parameters, as ``ConvRegressionProblem`` asks for them."""
        return "truncated", self.a, self.threshold

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"threshold={self.threshold}, a={self.a}, reduction={self.reduction!r}"


class ShrinkageLoss(nn.Module):
    """``ops.shrinkage_loss`` with fixed speed, centre, form and reduction (DSLT eq. 7, DCFST eq. 4)."""

    def __init__(self, a: float = 10.0, c: float = 0.2, form: str = "modified", reduction: str = "mean") -> None:
        super().__init__()
        self.a, self.c, self.form, self.reduction = a, c, form, reduction

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of a response map against its labels."""
        return ops.shrinkage_loss(prediction, target, self.a, self.c, self.form, self.reduction, weight)

    def kernel_form(self) -> tuple[str, float, float]:
        """Form and parameters, as ``ConvRegressionProblem`` asks for them."""
        return f"shrinkage_{self.form}", self.a, self.c

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"a={self.a}, c={self.c}, form={self.form!r}, reduction={self.reduction!r}"


class FocalRegressionLoss(nn.Module):
    """``ops.focal_regression_loss``: |p − y|³ with a fixed reduction."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of a response map against its labels."""
        return ops.focal_regression_loss(prediction, target, self.reduction, weight)

    def kernel_form(self) -> tuple[str, float, float]:
        """Form and parameters, as ``ConvRegressionProblem`` asks for them."""
        return "focal", 0.0, 0.0

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"reduction={self.reduction!r}"


class SquareLoss(nn.Module):
    """``ops.square_loss``: (p − y)² with a fixed reduction."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of a response map against its labels."""
        return ops.square_loss(prediction, target, self.reduction, weight)

    def kernel_form(self) -> tuple[str, float, float]:
        """Form and parameters, as ``ConvRegressionProblem`` asks for them."""
        return "square", 0.0, 0.0

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"reduction={self.reduction!r}"

"""The ops as ``torch.nn`` modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fasttrack import ops

__all__ = [
    "ConvRegression",
    "CorrelationFilter",
    "FocalRegressionLoss",
    "LRN",
    "PrRoIPool2D",
    "ReLULRNMaxPool",
    "RidgeRegression",
    "ShrinkageLoss",
    "SquareLoss",
    "TruncatedLoss",
]


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


class LRN(nn.Module):
    """``ops.lrn`` with fixed constants; ``alpha`` is per element (Caffe's and torch's alpha / size)."""

    def __init__(self, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        """Normalised maps of the shape of (B, C, H, W) maps."""
        return ops.lrn(x, self.size, self.k, self.alpha, self.beta)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"size={self.size}, k={self.k}, alpha={self.alpha}, beta={self.beta}"


class ReLULRNMaxPool(LRN):
    """``ops.relu_lrn_maxpool``: in place of ReLU, LRN and MaxPool2d behind a convolution."""

    def __init__(
        self,
        size: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        pool: int = 3,
        stride: int = 2,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(size, k, alpha, beta)
        self.pool, self.stride, self.ceil_mode = pool, stride, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """Pooled maps of (B, C, H, W) maps."""
        options = self.size, self.k, self.alpha, self.beta, self.pool, self.stride, self.ceil_mode
        return ops.relu_lrn_maxpool(x, *options)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"{super().extra_repr()}, pool={self.pool}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class CorrelationFilter(nn.Module):
    """``ops.correlation_filter`` with fixed λ, kernel and its width: a tracker's filter as a layer (CFNet, DCFNet)."""

    def __init__(self, lam: float = 1e-4, kernel: str = "linear", sigma: float = 0.5) -> None:
        super().__init__()
        self.lam, self.kernel, self.sigma = lam, kernel, sigma

    def forward(self, features: Tensor, label: Tensor, search: Tensor, window: Tensor | None = None) -> Tensor:
        """Responses in ``search`` of a filter trained on ``features``."""
        return ops.correlation_filter(features, label, search, self.lam, self.kernel, self.sigma, window)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"lam={self.lam}, kernel={self.kernel!r}, sigma={self.sigma}"


class PrRoIPool2D(nn.Module):
    """``ops.prroi_pool`` with fixed bins and scale; it has no parameters and no state.

    Examples:
        >>> pool = PrRoIPool2D(5, 5, spatial_scale=1 / 16)
        >>> pool(torch.rand(1, 64, 18, 18), torch.tensor([[0.0, 32.0, 32.0, 160.0, 128.0]])).shape
        torch.Size([1, 64, 5, 5])
        >>> pool
        PrRoIPool2D(5, 5, spatial_scale=0.0625)
    """

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
    """``ops.truncated_loss`` with fixed threshold, label exponent and reduction (CRT eq. 3–5).

    Examples:
        >>> loss = TruncatedLoss(threshold=0.1, a=1.0)
        >>> loss(torch.tensor([0.05, 0.5]), torch.zeros(2))  # the first error is easy and counts nothing
        tensor(0.2500)
    """

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
    """``ops.shrinkage_loss`` with fixed speed, centre, form and reduction (DSLT eq. 7, DCFST eq. 4).

    Examples:
        >>> loss = ShrinkageLoss(a=10.0, c=0.2, reduction="none")
        >>> errors = torch.tensor([0.01, 0.2, 0.9])
        >>> loss(errors, torch.zeros(3)) / errors**2  # what is left of the square
        tensor([0.1301, 0.5000, 0.9991])
    """

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


class RidgeRegression(nn.Module):
    """``ops.ridge_solve`` with its own λ, fixed or learnt as log λ (DCFST eq. 1).

    Examples:
        >>> samples = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> RidgeRegression(lam=1.0)(samples, torch.tensor([1.0, 1.0, 2.0]))
        tensor([0.7500, 0.7500])
    """

    def __init__(self, lam: float = 0.1, refine: bool = False, learn_lam: bool = False) -> None:
        super().__init__()
        self.lam, self.refine = lam, refine
        self.log_lam = nn.Parameter(torch.tensor(math.log(lam))) if learn_lam else None

    def forward(self, samples: Tensor, target: Tensor) -> Tensor:
        """Weights (…, D, M) of samples (…, N, D) and targets (…, N, M)."""
        lam = self.lam if self.log_lam is None else self.log_lam.exp()
        return ops.ridge_solve(samples, target, lam, self.refine)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"lam={self.lam}, refine={self.refine}, learn_lam={self.log_lam is not None}"

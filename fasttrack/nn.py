"""The ops as ``torch.nn`` modules."""

from __future__ import annotations

from torch import Tensor, nn

from fasttrack import ops

__all__ = ["FocalRegressionLoss", "ShrinkageLoss", "SquareLoss", "TruncatedLoss"]


class TruncatedLoss(nn.Module):
    """``ops.truncated_loss`` with fixed threshold, label exponent and reduction (CRT eq. 3–5)."""

    def __init__(self, threshold: float = 0.1, a: float = 1.0, reduction: str = "sum") -> None:
        super().__init__()
        self.threshold, self.a, self.reduction = threshold, a, reduction

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of a response map against its labels."""
        return ops.truncated_loss(prediction, target, self.threshold, self.a, self.reduction, weight)

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

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"reduction={self.reduction!r}"

"""The ops: public functions over the kernels. Each checks its arguments, then picks a backend."""

from fasttrack.ops.regression_loss import focal_regression_loss, shrinkage_loss, square_loss, truncated_loss

__all__ = [
    "focal_regression_loss",
    "shrinkage_loss",
    "square_loss",
    "truncated_loss",
]

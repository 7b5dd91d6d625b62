"""The ops: public functions over the kernels. Each checks its arguments, then picks a backend."""

from fasttrack.ops.conv_problem import ConvRegressionProblem, ConvRegressionResult
from fasttrack.ops.conv_regression import conv_regression
from fasttrack.ops.feature_spectra import FeatureSpectra
from fasttrack.ops.regression_loss import focal_regression_loss, shrinkage_loss, square_loss, truncated_loss

__all__ = [
    "ConvRegressionProblem",
    "ConvRegressionResult",
    "FeatureSpectra",
    "conv_regression",
    "focal_regression_loss",
    "shrinkage_loss",
    "square_loss",
    "truncated_loss",
]

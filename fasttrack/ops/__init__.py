"""The ops: public functions over the kernels. Each checks its arguments, then picks a backend."""

from fasttrack.ops.conv_batch import ConvRegressionBatch
from fasttrack.ops.conv_problem import AdamState, ConvRegressionProblem, ConvRegressionResult
from fasttrack.ops.conv_regression import conv_regression
from fasttrack.ops.crop_resize import crop_resize
from fasttrack.ops.feature_spectra import FeatureSpectra
from fasttrack.ops.hog import hog
from fasttrack.ops.regression_loss import focal_regression_loss, shrinkage_loss, square_loss, truncated_loss
from fasttrack.ops.response_peak import ResponsePeak, response_peak

__all__ = [
    "AdamState",
    "ConvRegressionBatch",
    "ConvRegressionProblem",
    "ConvRegressionResult",
    "FeatureSpectra",
    "ResponsePeak",
    "conv_regression",
    "crop_resize",
    "focal_regression_loss",
    "hog",
    "response_peak",
    "shrinkage_loss",
    "square_loss",
    "truncated_loss",
]

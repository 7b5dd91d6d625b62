"""The ops: public functions over the kernels. Each checks its arguments, then picks a backend."""

from fasttrack.ops.color_names import color_names
from fasttrack.ops.conv_problem import AdamState, ConvRegressionProblem, ConvRegressionResult
from fasttrack.ops.conv_regression import conv_regression
from fasttrack.ops.crop_resize import crop_resize
from fasttrack.ops.feature_spectra import FeatureSpectra
from fasttrack.ops.hog import hog
from fasttrack.ops.lrn import lrn, relu_lrn_maxpool
from fasttrack.ops.pca import PCAModel, pca_apply, pca_fit
from fasttrack.ops.regression_loss import focal_regression_loss, shrinkage_loss, square_loss, truncated_loss
from fasttrack.ops.response_peak import ResponsePeak, response_peak

__all__ = [
    "AdamState",
    "ConvRegressionProblem",
    "ConvRegressionResult",
    "FeatureSpectra",
    "PCAModel",
    "ResponsePeak",
    "color_names",
    "conv_regression",
    "crop_resize",
    "focal_regression_loss",
    "hog",
    "lrn",
    "pca_apply",
    "pca_fit",
    "relu_lrn_maxpool",
    "response_peak",
    "shrinkage_loss",
    "square_loss",
    "truncated_loss",
]

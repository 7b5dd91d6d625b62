"""The ops: public functions over the kernels. Each checks its arguments, then picks a backend.

Inside ``torch.autocast`` every op computes as outside of it: in float32 or wider, with results in the dtype of its
inputs. So does its backward, where it is called after the block, as torch advises. Where an op wants tensors of one
dtype, autocast has it take the widest of those it got.
"""

from fasttrack.ops.color_names import color_names
from fasttrack.ops.conv_batch import ConvRegressionBatch
from fasttrack.ops.conv_device_run import ConvDeviceRun, DeviceResult
from fasttrack.ops.conv_problem import AdamState, ConvRegressionProblem, ConvRegressionResult, Fusion
from fasttrack.ops.conv_regression import conv_regression
from fasttrack.ops.correlation_filter import (
    CorrelationFilter,
    cf_detect,
    cf_features_window,
    cf_learn_,
    cf_train,
    cf_update,
    cf_update_,
    correlation_filter,
    correlation_filter_learnt,
    fft_size,
)
from fasttrack.ops.crop_resize import crop_resize
from fasttrack.ops.feature_spectra import FeatureSpectra
from fasttrack.ops.grey import grey
from fasttrack.ops.grey_filter import grey_filter, grey_filter_detect, grey_filter_learn_
from fasttrack.ops.hog import hog
from fasttrack.ops.lrn import lrn, relu_lrn_maxpool
from fasttrack.ops.pca import PCAModel, pca_apply, pca_fit
from fasttrack.ops.prroi_pool import prroi_grid_rois, prroi_pool, prroi_pool_grid
from fasttrack.ops.prroi_score import prroi_filter_score, prroi_linear_score
from fasttrack.ops.regression_loss import focal_regression_loss, shrinkage_loss, square_loss, truncated_loss
from fasttrack.ops.response_peak import ResponsePeak, response_peak, response_table
from fasttrack.ops.ridge_solve import ridge_linear, ridge_solve

__all__ = [
    "AdamState",
    "ConvDeviceRun",
    "ConvRegressionBatch",
    "ConvRegressionProblem",
    "ConvRegressionResult",
    "CorrelationFilter",
    "DeviceResult",
    "FeatureSpectra",
    "Fusion",
    "PCAModel",
    "ResponsePeak",
    "cf_detect",
    "cf_features_window",
    "cf_learn_",
    "cf_train",
    "cf_update",
    "cf_update_",
    "color_names",
    "conv_regression",
    "correlation_filter",
    "correlation_filter_learnt",
    "crop_resize",
    "fft_size",
    "focal_regression_loss",
    "grey",
    "grey_filter",
    "grey_filter_detect",
    "grey_filter_learn_",
    "hog",
    "lrn",
    "pca_apply",
    "pca_fit",
    "relu_lrn_maxpool",
    "prroi_filter_score",
    "prroi_grid_rois",
    "prroi_linear_score",
    "prroi_pool",
    "prroi_pool_grid",
    "response_peak",
    "response_table",
    "ridge_linear",
    "ridge_solve",
    "shrinkage_loss",
    "square_loss",
    "truncated_loss",
]

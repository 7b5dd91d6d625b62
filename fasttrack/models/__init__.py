"""Target models: what is learnt about a target, behind one protocol ``fit · respond · update``."""

from fasttrack.models.base import Fit, TargetModel
from fasttrack.models.box_features import BoxFeatures
from fasttrack.models.box_refinement import BoxRefiner, RefinementConfig
from fasttrack.models.box_regressor import BoxRegressor
from fasttrack.models.conv_regressor import ConvRegressor, RegressorConfig
from fasttrack.models.dcfst_weights import HeadFile, load_head, open_head
from fasttrack.models.dense_classifier import DenseClassifier, DenseConfig
from fasttrack.models.filter_regressor import FilterConfig, FilterRegressor
from fasttrack.models.fused_regressor import FusedConfig, FusedRegressor
from fasttrack.models.iou_net import IoUNet
from fasttrack.models.location_network import LocationNetwork
from fasttrack.models.location_specific import LocationSpecificConfig, LocationSpecificTarget
from fasttrack.models.online_classifier import ClassifierConfig, OnlineClassifier, SampleMemory
from fasttrack.models.pooled_head import PooledHead
from fasttrack.models.pooled_samples import PooledSamples
from fasttrack.models.response_modules import FusedResponse, RidgeResponse
from fasttrack.models.ridge_locator import RidgeConfig, RidgeLocator
from fasttrack.models.scale_filter import ScaleFilter, ScaleFilterConfig
from fasttrack.models.window_filter import WindowFilter

__all__ = [
    "BoxFeatures",
    "BoxRefiner",
    "BoxRegressor",
    "ClassifierConfig",
    "ConvRegressor",
    "DenseClassifier",
    "DenseConfig",
    "FilterConfig",
    "FilterRegressor",
    "Fit",
    "FusedConfig",
    "FusedRegressor",
    "FusedResponse",
    "HeadFile",
    "IoUNet",
    "LocationNetwork",
    "LocationSpecificConfig",
    "LocationSpecificTarget",
    "OnlineClassifier",
    "PooledHead",
    "PooledSamples",
    "RefinementConfig",
    "RegressorConfig",
    "RidgeConfig",
    "RidgeLocator",
    "RidgeResponse",
    "SampleMemory",
    "ScaleFilter",
    "ScaleFilterConfig",
    "TargetModel",
    "WindowFilter",
    "load_head",
    "open_head",
]

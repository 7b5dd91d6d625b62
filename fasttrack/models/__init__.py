"""Target models: what is learnt about a target, behind one protocol ``fit · respond · update``."""

from fasttrack.models.base import Fit, TargetModel
from fasttrack.models.conv_regressor import ConvRegressor, RegressorConfig
from fasttrack.models.filter_regressor import FilterConfig, FilterRegressor
from fasttrack.models.pooled_samples import PooledSamples
from fasttrack.models.ridge_locator import RidgeConfig, RidgeLocator

__all__ = [
    "ConvRegressor",
    "FilterConfig",
    "FilterRegressor",
    "Fit",
    "PooledSamples",
    "RegressorConfig",
    "RidgeConfig",
    "RidgeLocator",
    "TargetModel",
]

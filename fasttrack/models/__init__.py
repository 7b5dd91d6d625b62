"""Target models: what is learnt about a target, behind one protocol ``fit · respond · update``."""

from fasttrack.models.base import Fit, TargetModel
from fasttrack.models.conv_regressor import ConvRegressor, RegressorConfig
from fasttrack.models.filter_regressor import FilterConfig, FilterRegressor

__all__ = ["ConvRegressor", "FilterConfig", "FilterRegressor", "Fit", "RegressorConfig", "TargetModel"]

"""The numbers of KCF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fasttrack.trackers import _config

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """Every number of KCF; "table 2" is the paper's, "ours" says why there is another."""

    features: str = "hog"  # name in fasttrack.vision.features; §7.1
    feature_options: Mapping[str, Any] = field(default_factory=dict)  # options of that feature
    region: float = 2.5  # side of the search region, object sides; table 2 (padding 1.5)
    region_cells: float = 576.0  # area of the search region, cells; ours: every object costs the same
    kernel: str = "gaussian"  # "gaussian" or "linear"; §6, §7
    kernel_sigma: float = 0.5  # σ of the Gaussian kernel; table 2
    ridge: float = 1e-4  # λ; table 2
    rate: float = 0.02  # of the running average; table 2
    label_sigma: float = 0.1  # σ of the label, in √(w·h) of the object; table 2
    scale_levels: int = 3  # sizes searched, odd; ours: the paper keeps the first size (1 does)
    scale_step: float = 1.05  # ratio of neighbouring sizes; ours, as DRVT eq. 9
    scale_penalty: float = 0.95  # factor on the response of a changed size; ours: against drift
    lost_score: float = 0.1  # response below which the target is lost; ours

    def __post_init__(self) -> None:
        _config.positive(self, "region", "region_cells", "kernel_sigma", "ridge", "label_sigma")
        _config.positive(self, "scale_step", "scale_penalty")
        _config.at_least(self, 0.0, "rate", "lost_score")
        _config.odd(self, "scale_levels")
        _config.choice(self, "kernel", ("gaussian", "linear"))

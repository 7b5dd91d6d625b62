"""The numbers of DRVT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fasttrack.errors import RangeError
from fasttrack.models import DenseConfig
from fasttrack.trackers import _config

__all__ = ["NETWORKS", "Config"]

# Network → its deep and shallow output, and the side of the patch whose middle is the middle of a deep cell, px.
NETWORKS = {
    "vgg-m": ("conv3", "conv1", 331),  # the paper's
    "resnet18": ("layer3", "conv1", 321),
    "squeezenet": ("fire8", "conv1", 319),
}


@dataclass(frozen=True)
class Config(DenseConfig):
    """Every number of DRVT, with those of its classifier (``DenseConfig``); "ours" is not in the paper."""

    mode: str = "dual"  # or one branch alone: "cf", "cnn"
    backbone: str = "resnet18"  # stand-in; the paper's is "vgg-m", §4
    backbone_options: Mapping[str, Any] = field(default_factory=dict)  # weights=, convention=
    region: float = 3.0  # side of the crop, object sides; §4
    least_region_px: float = 64.0  # least side of the crop, frame px; ours: small targets move by more than their size
    score_cells: int = 15  # side of the coarse map, deep cells; table 1
    augment: bool = True  # mirror, turn and blur the first frame for the classifier; ours
    mask_cells: float = 1.0  # side of the area A, deep cells; eq. 5
    psr: float = 0.1  # δ: below it the filter is not believed; §4
    filter_region: float = 2.5  # side of the filter's region, object sides; KCF (padding 1.5)
    filter_cells: int = 60  # side of the filter's region, cells; ours
    filter_rms: float = 0.2  # of the filter's features in the first frame: about HOG's, for which σ is meant; ours
    kernel: str = "gaussian"  # or "linear"; KCF
    kernel_sigma: float = 0.5  # σ of the Gaussian kernel; KCF
    ridge: float = 1e-4  # λ; KCF
    rate: float = 0.02  # of the filter's running average; KCF
    label_sigma: float = 0.1  # σ of the label, √(w·h) of the object; KCF
    scales: tuple[float, ...] = (0.95, 1.0, 1.05)  # ρ; eq. 9
    scale_penalty: float | None = None  # p; §3.4: 0.93. None: that for "vgg-m", 0.98 for the stand-ins (ours: the
    # responses on their features fall less with the size, and 0.93 hardly ever lets it change)
    lost_score: float = 0.005  # score ("cf": response) below which the target is lost; ours: the paper always follows

    def __post_init__(self) -> None:
        if 1.0 not in self.scales or min(self.scales) <= 0:
            raise RangeError("Config", "scales", "numbers > 0 and 1.0 among them", str(self.scales))
        _config.choice(self, "mode", ("dual", "cf", "cnn"))
        _config.choice(self, "backbone", tuple(NETWORKS))
        if self.scale_penalty is None:
            object.__setattr__(self, "scale_penalty", 0.93 if self.backbone == "vgg-m" else 0.98)
        _config.choice(self, "kernel", ("gaussian", "linear"))
        _config.whole(self, 1, "score_cells", "filter_cells", "width", "interval", "rounds", "positives", "negatives")
        _config.whole(self, 1, "pool", "kept_negatives", "positive_frames", "negative_frames")
        _config.whole(self, 0, "fit_iterations", "update_iterations")
        _config.positive(self, "region", "mask_cells", "filter_region", "filter_rms", "kernel_sigma", "ridge")
        _config.positive(self, "label_sigma", "scale_penalty", "fit_rate", "update_rate", "deep_rms", "last_layer_rate")
        _config.at_least(self, 0.0, "least_region_px", "psr", "rate", "lost_score", "dropout", "distractor_score")
        _config.at_least(self, 0.0, "doubt_score")

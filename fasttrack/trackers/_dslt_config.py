"""The numbers of DSLT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fasttrack.models import FusedConfig
from fasttrack.models.fused_regressor import LOSSES
from fasttrack.trackers import _config

__all__ = ["Config"]

# What the paper and the authors' code say differently; a field of Config that is None takes its variant's value.
_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"label_sigma": 0.1, "shares": (1.0, 1.0), "reduction": 1},
    "released": {"label_sigma": 0.08, "shares": (0.8, 0.2), "reduction": 3},
}


@dataclass(frozen=True)
class Config:
    """Every number of DSLT; "§" is the paper, "released" the authors' code, "ours" neither.

    The paper's maps are ``backbone="vgg16", outputs=("conv-10", "conv-13"), object_cells=None`` (conv4_3 and conv5_3;
    "vgg16-pools" for conv5_3 upsampled). The default is a stand-in, whose weights are at hand more often.

    Of the released code, its weight (y·exp(1.6·y)/max)² of the labels is not offered: what it calls a gradient has the
    sign of −|e|, so that no response is ever lowered; the loss stays the paper's, and Adam its β₁ = 0.9.

    Rates are the paper's, of maps of ``reference_rms``; every map is brought to RMS 1 and its rates with it.
    """

    variant: str = "paper"  # or "released": whose values the fields take that are None
    backbone: str = "resnet18"  # ours; §5.1: "vgg16"
    outputs: tuple[str, str] = ("layer2", "layer3")  # shallow and deep map, chosen once for all videos; ours
    backbone_options: Mapping[str, Any] = field(default_factory=dict)  # weights=, convention=
    stride: int | None = None  # patch px per cell; None: that of the shallow map
    object_cells: float | None = 49.0  # area of the kernel, cells; ours, for speed; None: as large as in the frame
    crop_px: float = 200.0  # a crop has at least the area of a square of this side, patch px; released
    region_width: int = 9  # width of train and search patch, object widths; released
    region_height: int = 5  # height of train and search patch, object heights; released
    reduction: int | None = None  # side of the kernel that reduces the channels, cells; §3.3 1, released 3
    reduced: int = 128  # channels of each map after its reduction; §5.1
    shares: tuple[float, float] | None = None  # of the two reduced maps in their sum; §3.3 (1, 1), released (.8, .2)
    loss: str = "shrinkage"  # or "square" (L2), "focal" (L3), "shrinkage-original" (eq. 7 as printed); §3.2, §5.3
    a: float = 10.0  # speed of the shrinkage; §3.2
    c: float = 0.2  # error at which it sets in, labels have peak 1; §3.2
    weight_decay: float = 0.0  # λ; eq. 7 (no value given)
    label_sigma: float | None = None  # σ of the regression target, object sizes; §5.1 .1, released .08
    motion_sigma: float = 0.65  # σ of the prior on the place, object sizes; released
    fit_lr: tuple[float, float] = (2e-8, 8e-7)  # Adam, first frame: shallow and deep branch; §5.1
    fit_steps: int = 100  # most iterations, first frame; released
    fit_loss: float = 0.03  # the first frame is learnt below this summed loss; released
    blur_sigmas_px: tuple[float, ...] = (10.0, 5.0, 1.0)  # blurred copies of the first patch, 5×5 taps; released
    mirror: bool = True  # a mirrored copy too; released
    update_lr: tuple[float, float] = (5e-9, 2e-7)  # Adam, later frames; §5.1
    update_steps: int = 2  # iterations per frame over the history; released
    history: int = 7  # T, frames an update learns from; §5.1
    reference_rms: tuple[float, float] = (500.0, 12.5)  # RMS of the maps the rates belong to; ours, their ratio §5.1's
    init_std: float = 1e-4  # σ of the zero-mean regressors at the start, for maps of RMS 1; ours
    seed: int = 0  # of regressors and reductions at the start
    scale_levels: int = 3  # sizes searched, odd; §5.1
    scale_step: float = 1.03  # ratio of neighbouring sizes; §5.1
    scale_penalty: float = 1.0  # factor on the peak of a changed size; ours
    scale_region: float = 3.0  # side of the patches of the scale search, object sizes; ours, for speed
    scale_score: float = 0.35  # the size is searched only where the peak is above this; released
    size_rate: float = 0.6  # share of the new size in the next; released
    lost_score: float = 0.1  # response below which the target is lost; ours

    def __post_init__(self) -> None:
        _config.choice(self, "variant", tuple(_VARIANTS))
        for name, value in _VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        _config.whole(self, 1, "region_width", "region_height", "reduced", "fit_steps", "update_steps", "history")
        _config.whole(self, 0, "seed")
        _config.odd(self, "scale_levels", "reduction")
        _config.positive(self, "crop_px", "a", "label_sigma", "motion_sigma", "fit_loss", "init_std", "scale_step")
        _config.positive(self, "scale_penalty", "scale_region")
        if self.object_cells is not None:
            _config.positive(self, "object_cells")
        if self.stride is not None:
            _config.whole(self, 1, "stride")
        _config.at_least(self, 0.0, "c", "weight_decay", "scale_score", "lost_score", "size_rate")
        _config.all_positive(self, 2, "shares", "fit_lr", "update_lr", "reference_rms")
        _config.choice(self, "loss", LOSSES)

    def learning(self) -> FusedConfig:
        """How the model learns: the rates brought to maps of RMS 1."""
        assert self.shares is not None
        own = {f.name: getattr(self, f.name) for f in fields(FusedConfig) if f.name != "mixing"}
        for name in ("fit_lr", "update_lr"):
            own[name] = tuple(rate * rms for rate, rms in zip(own[name], self.reference_rms, strict=True))
        # The sum of both maps goes to one regressor, the deep map alone to the other.
        return FusedConfig(mixing=((self.shares[0], 0.0), (self.shares[1], 1.0)), **own)

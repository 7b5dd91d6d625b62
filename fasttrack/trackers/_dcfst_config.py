"""The numbers of DCFST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fasttrack.models import RefinementConfig, RidgeConfig
from fasttrack.trackers import _config

__all__ = ["Config"]

# What the paper and the authors' code say differently; a field of Config that is None takes its variant's value.
_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {
        "rate": 0.01,
        "hard_rate": 0.01,
        "first_share": 0.0,
        "sweeps": 0,
        "window_clamped": False,
        "gradient_grain": 0.0,
        "search_rms": False,
    },
    "released": {
        "rate": 0.013,
        "hard_rate": 0.125,
        "first_share": 0.25,
        "sweeps": 30,
        "window_clamped": True,
        "gradient_grain": 0.01,
        "search_rms": True,
    },
}


@dataclass(frozen=True)
class Config:
    """Every number of DCFST; "released" is the authors' code where it says more than the paper, "ours" is neither.

    The released values are those of DCFST-18 on OTB-2015.
    """

    variant: str = "paper"  # or "released": whose values the fields take that are None
    backbone: str = "resnet18"  # or "resnet50"; §3.1
    backbone_options: Mapping[str, Any] = field(default_factory=dict)  # weights=, convention=
    head: str | None = None  # file of a trained head, or its name in the folders of weights; None: pooled features
    # Whether a head's columns are scaled by their RMS in the search itself (released), for which all rows are formed,
    # or by that of the frame learnt from last (ours): with random layers 3–5 % apart, scores 2–12 % of the peak.
    search_rms: bool | None = None
    refine: bool = True  # the box by the IoU-net, where the head's file holds one; §3.4
    region: float = 5.0  # side of the square search region, √(w·h) of the object; §4.1
    side_px: int = 288  # of the patch; §4.1
    grid: int = 31  # RoIs per side; §4.1 (N = 31²)
    bins: tuple[int, int] = (8, 4)  # pooled side at stride 8 and 16; §3.1 step 3
    ridge: float = 0.1  # λ; §4.1
    rate: float | None = None  # δ of the running average; §4.1 .01, released .013
    interval: int = 10  # frames between two solutions; released
    sweeps: int | None = None  # Gauss–Seidel sweeps of a later solution with a head; 0 (paper): exact; released 30
    label_sigma: float = 0.25  # σ of the label, √(w·h) of the object; released
    window_sigma: float = 1.05  # σ of the prior on the place, √(w·h) of the object; released
    window_floor: float = 0.5  # least value of the prior; released
    window_clamped: bool | None = None  # it is cut off at its floor (released) or raised onto it (ours)
    lost_score: float = 0.25  # score below which the target is not found; released
    hard_rate: float | None = None  # δ of a frame with a distractor, solved at once; released .125, paper: as others
    hard_score: float = 0.3  # score of a distractor; released
    hard_distance: float = 0.15  # least distance of a distractor, sides of the region; released
    first_share: float | None = None  # least weight of the first frame; released .25
    augment: bool = True  # mirror, turn and blur the first frame; released
    size_search: str = "filter"  # where no box is refined: DSST's filter, "pyramid" of RoIs, or "none"; ours
    scale_levels: int = 3  # sizes of the pyramid's RoIs, odd; ours
    scale_step: float = 1.03  # ratio of neighbouring sizes; ours
    scale_penalty: float = 0.98  # factor on the score of a changed size; ours
    refine_boxes: int = 10  # starts of the refinement: the box found and jittered ones; released
    refine_best: int = 3  # of them averaged; released
    refine_steps: int = 5  # of the ascent; released
    refine_position: float = 0.1  # jitter of the places, √(w·h); released
    refine_size: float = 0.5  # jitter of the sides, √(w·h); released
    refine_aspect: float = 6.0  # boxes longer than this are dropped; released
    gradient_grain: float | None = None  # gradients are rounded to multiples of it; released .01
    size_rate: float = 0.3  # share of the refined size in the new one; released
    seed: int = 0  # of the jitter

    def __post_init__(self) -> None:
        _config.choice(self, "variant", tuple(_VARIANTS))
        for name, value in _VARIANTS[self.variant].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        _config.choice(self, "backbone", ("resnet18", "resnet50"))
        _config.choice(self, "size_search", ("filter", "pyramid", "none"))
        _config.whole(self, 1, "side_px", "grid", "interval", "refine_boxes", "refine_best", "refine_steps")
        _config.whole(self, 0, "seed", "sweeps")
        _config.odd(self, "scale_levels")
        _config.positive(self, "region", "ridge", "label_sigma", "window_sigma", "scale_step", "scale_penalty")
        _config.positive(self, "refine_aspect")
        _config.at_least(self, 0.0, "rate", "hard_rate", "hard_score", "hard_distance", "window_floor", "lost_score")
        _config.at_least(self, 0.0, "first_share", "refine_position", "refine_size", "gradient_grain", "size_rate")

    def learning(self) -> RidgeConfig:
        """How the regression learns."""
        assert self.first_share is not None and self.sweeps is not None
        # Without a head a row has 12288 columns, and the matrix that the sweeps run over would take 600 MB.
        return RidgeConfig(self.ridge, self.interval, self.first_share, self.sweeps if self.head is not None else 0)

    def refinement(self) -> RefinementConfig:
        """How a box is refined."""
        assert self.gradient_grain is not None
        return RefinementConfig(
            boxes=self.refine_boxes,
            best=self.refine_best,
            steps=self.refine_steps,
            position_jitter=self.refine_position,
            size_jitter=self.refine_size,
            aspect=self.refine_aspect,
            gradient_grain=self.gradient_grain,
            size_rate=self.size_rate,
            seed=self.seed,
        )

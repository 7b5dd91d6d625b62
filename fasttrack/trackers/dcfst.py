"""DCFST: tracking by ridge regression of pooled samples (Zheng et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fasttrack.geometry import Box, Window
from fasttrack.models import PooledSamples, RidgeConfig, RidgeLocator
from fasttrack.trackers import _config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.augment import augmented
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import Backbone
from fasttrack.vision.labels import gaussian_map
from fasttrack.vision.localise import Found, localise
from fasttrack.vision.scale import ScalePyramid

__all__ = ["DCFST", "Config"]


@dataclass(frozen=True)
class Config:
    """Every number of DCFST; "released" is the authors' code where it says more than the paper, "ours" is neither."""

    backbone: str = "resnet18"  # or "resnet50"; §3.1
    backbone_options: Mapping[str, Any] = field(default_factory=dict)  # weights=, convention=
    region: float = 5.0  # side of the square search region, √(w·h) of the object; §4.1
    side_px: int = 288  # of the patch; §4.1
    grid: int = 31  # RoIs per side; §4.1 (N = 31²)
    bins: tuple[int, int] = (8, 4)  # pooled side at stride 8 and 16; §3.1 step 3
    ridge: float = 0.1  # λ; §4.1
    rate: float = 0.01  # δ of the running average; §4.1
    interval: int = 10  # frames between two solutions; released
    label_sigma: float = 0.25  # σ of the label, √(w·h) of the object; released
    window_sigma: float = 1.05  # σ of the prior on the place, √(w·h) of the object; released
    window_floor: float = 0.5  # least value of the prior; released
    lost_score: float = 0.25  # score below which the target is not found; released
    hard_rate: float = 0.01  # δ of a frame with a distractor (released: 0.125)
    hard_score: float = 0.3  # score of a distractor; released
    hard_distance: float = 0.15  # least distance of a distractor, sides of the region; released
    first_share: float = 0.0  # least weight of the first frame (released: 0.25)
    augment: bool = True  # mirror, turn and blur the first frame; released
    scale_levels: int = 3  # sizes of the RoIs searched, odd; ours, where no box refinement is trained (1: none)
    scale_step: float = 1.03  # ratio of neighbouring sizes; ours
    scale_penalty: float = 0.98  # factor on the score of a changed size; ours

    def __post_init__(self) -> None:
        _config.whole(self, 1, "side_px", "grid", "interval")
        _config.odd(self, "scale_levels")
        _config.positive(self, "region", "ridge", "label_sigma", "window_sigma", "scale_step", "scale_penalty")
        _config.at_least(self, 0.0, "rate", "hard_rate", "hard_score", "hard_distance", "window_floor", "lost_score")
        _config.choice(self, "backbone", ("resnet18", "resnet50"))


class DCFST(Tracker):
    """Learns to tell by ridge regression which of 961 RoIs is the target; scores are linear in pooled features."""

    name = "dcfst"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.lost_score
        self._backbone = Backbone(c.backbone, ("layer2", "layer3"), **c.backbone_options)
        note = "no trained head: ridge regression on pooled backbone features"
        self.weights_note = f"{self._backbone.weights_note}; {note}"
        self._samples = PooledSamples(self._backbone.taps, [(n, n) for n in c.bins])
        self._pyramid = ScalePyramid(c.scale_levels, c.scale_step, c.scale_penalty)
        self._object_px = c.side_px / c.region  # √(w·h) of every object in its patch
        self._step_px = (c.side_px - self._object_px) / max(c.grid - 1, 1)
        sigmas = [factor * self._object_px / self._step_px for factor in (c.label_sigma, c.window_sigma)]
        middle = torch.tensor([[(c.grid - 1) / 2] * 2])
        label, window = (gaussian_map((c.grid, c.grid), middle, (sigma, sigma))[0] for sigma in sigmas)
        self._label, self._prior = label, c.window_floor + (1 - c.window_floor) * window
        self._gains = torch.empty(0)
        self._found: list[bool] = []  # whether the last search of a target met a distractor
        self._model = RidgeLocator(RidgeConfig(c.ridge, c.interval, c.first_share), label.flatten())

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        patches = scene.sample([[self._window(box)] for box in boxes], range(len(boxes)))
        x, y = self._intervals(boxes, (1.0,))
        copies = augmented(patches) if self.config.augment else [patches]
        rows = sum((self._samples.rows(self._backbone(copy), x[0], y[0]) for copy in copies), torch.zeros(()))
        rows = rows / len(copies)
        self._gains = self._samples.gains(rows)
        self._model.fit(rows.mul_(self._gains))

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        windows = [self._window(box) for box in boxes]
        maps = self._backbone(scene.sample([[w] for w in windows], range(len(boxes))))
        weight = self._model.weight * self._gains[:, 0]
        scales = zip(*self._intervals(boxes, self._pyramid.factors), strict=True)
        scores = torch.stack([self._samples.scores(maps, x, y, weight) for x, y in scales], 1)
        grids = [[self._grid_window(w)] * len(self._pyramid.factors) for w in windows]
        places = localise(scores, grids, (1, 1), 1, self._prior, self._pyramid.penalties)
        self._found = [self._distracted(s[p.level], p.peak) for s, p in zip(scores, places, strict=True)]
        return [replace(p, box=self._pyramid.box(p, box)) for p, box in zip(places, boxes, strict=True)]

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        seen = [k for k in range(len(boxes)) if not lost[k]]
        if not seen:
            return
        maps = self._backbone(scene.sample([[self._window(boxes[k])] for k in seen], seen))
        x, y = self._intervals([boxes[k] for k in seen], (1.0,))
        rows = self._samples.rows(maps, x[0], y[0]).mul_(self._gains[seen])
        rates = [self.config.hard_rate if self._found[k] else self.config.rate for k in seen]
        self._model.update(rows, seen, rates)

    def _keep(self, targets: list[int]) -> None:
        self._gains = self._gains[targets]
        self._model.keep(targets)

    def _distracted(self, scores: Tensor, peak: tuple[float, float]) -> bool:
        """Whether a place far from the peak scores high."""
        c = self.config
        row, column = (torch.arange(c.grid) - at for at in peak)
        far = torch.hypot(row[:, None], column[None, :]) * self._step_px > c.hard_distance * c.side_px
        return bool((scores.cpu()[far] > c.hard_score).any())

    def _window(self, box: Box) -> Window:
        side = self.config.region * math.sqrt(box.area)
        return Window.around(*box.center, side, side, self.config.side_px, self.config.side_px)

    def _grid_window(self, window: Window) -> Window:
        """The part of the window that the grid's cells cover: one cell per RoI, around its centre."""
        cells, scale = self.config.grid, window.scale[0] * self._step_px
        centre = window.x + window.w / 2, window.y + window.h / 2
        return Window.around(*centre, cells * scale, cells * scale, cells, cells)

    def _intervals(self, boxes: list[Box], factors: tuple[float, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Columns and rows of the grid of RoIs, (T, grid, 2) px of the patch, for every factor on their size."""
        centres = self._object_px / 2 + self._step_px * torch.arange(self.config.grid)
        out: tuple[list[Tensor], list[Tensor]] = ([], [])
        for factor in factors:
            for axis, which in enumerate(out):
                # Sides of the object in the patch: their product is object_px², their ratio the box's.
                sides = [self._object_px * math.sqrt(b.w / b.h if axis == 0 else b.h / b.w) for b in boxes]
                half = torch.tensor(sides)[:, None] * factor / 2
                which.append(torch.stack([centres - half, centres + half], 2))
        return out

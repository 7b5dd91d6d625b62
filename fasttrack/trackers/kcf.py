"""KCF: tracking by a kernelised correlation filter (Henriques et al. 2015), with a search over sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.geometry import Box, Window
from fasttrack.models import FilterConfig, FilterRegressor
from fasttrack.trackers import _config
from fasttrack.trackers.base import Tracker
from fasttrack.vision import features as vision_features
from fasttrack.vision.crop import Scene
from fasttrack.vision.labels import gaussian_map, hann_window
from fasttrack.vision.localise import Found, localise
from fasttrack.vision.scale import ScalePyramid

__all__ = ["KCF", "Config"]


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


@dataclass
class _Group:
    """Targets whose search regions have the same cells: they share every call."""

    rows: list[int]  # their places among all targets
    objects: list[tuple[float, float]]  # (height, width) of each, cells
    size: tuple[int, int]  # of the search region, cells
    features: vision_features.Feature
    model: FilterRegressor


class KCF(Tracker):
    """Learns a filter whose response to the search region is a Gaussian at the object, in closed form."""

    name = "kcf"
    config_class: type[Config] = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = self.config_class() if config is None else config
        c = self.config
        self.lost_threshold = c.lost_score
        self._features = vision_features.create(c.features, **c.feature_options)
        self.weights_note = self._features.weights_note
        self._pyramid = ScalePyramid(c.scale_levels, c.scale_step, c.scale_penalty)
        self._object_side = math.sqrt(c.region_cells) / c.region  # √(w·h) of every object, cells
        self._groups: list[_Group] = []

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        together: dict[tuple[tuple[int, int], int], list[int]] = {}
        for k, box in enumerate(boxes):
            height, width = (ops.fft_size(max(1, round(n * self.config.region))) for n in self._object(box))
            # A feature that is fitted belongs to one target.
            together.setdefault(((height, width), k if self._features.needs_fit else -1), []).append(k)
        self._groups = [self._group(scene, boxes, size, rows) for (size, _), rows in together.items()]

    def _object(self, box: Box) -> tuple[float, float]:
        zoom = self._object_side / math.sqrt(box.area)
        return box.h * zoom, box.w * zoom

    def _group(self, scene: Scene, boxes: list[Box], size: tuple[int, int], rows: list[int]) -> _Group:
        c, sigma = self.config, self.config.label_sigma * self._object_side
        # The middle of the region; indices count from the middle of cell 0.
        home = torch.tensor([[(n - 1) / 2 for n in size]])
        label = gaussian_map(size, home, (sigma, sigma))[0].to(scene.device)
        learning = FilterConfig(c.kernel, c.kernel_sigma, c.ridge, c.rate)
        model = FilterRegressor(learning, label, hann_window(size, scene.device))
        group = _Group(rows, [self._object(boxes[k]) for k in rows], size, self._features.fork(), model)
        patches = scene.sample([[self._window(group, i, boxes[k], 1.0)] for i, k in enumerate(rows)], rows)
        if group.features.needs_fit:
            group.features.fit(patches)
        model.fit([group.features(copy) for copy in self._copies(patches)])
        return group

    def _copies(self, patches: Tensor) -> list[Tensor]:
        """Patches of the first frame to learn from, each (T, 3, h, w)."""
        return [patches]

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        found: dict[int, Found] = {}
        for group in self._groups:
            windows = [
                [self._window(group, i, boxes[k], factor) for factor in self._pyramid.factors]
                for i, k in enumerate(group.rows)
            ]
            patches = scene.sample(windows, group.rows)
            responses = group.model.respond(group.features(patches).unflatten(0, (len(windows), -1)))
            # A cell at the peak stands for the object's centre.
            places = localise(responses, windows, (1, 1), group.features.stride, None, self._pyramid.penalties)
            for k, place in zip(group.rows, places, strict=True):
                box = self._pyramid.box(place, boxes[k])
                found[k] = Found(box, place.score, place.psr, place.level, place.peak, place.response)
        return [found[k] for k in range(len(boxes))]

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        for group in self._groups:
            seen = [i for i, k in enumerate(group.rows) if not lost[k]]
            if seen:
                windows = [[self._window(group, i, boxes[group.rows[i]], 1.0)] for i in seen]
                patches = scene.sample(windows, [group.rows[i] for i in seen])
                group.model.update(group.features(patches), seen)

    def _keep(self, targets: list[int]) -> None:
        for group in self._groups:
            left = [i for i, k in enumerate(group.rows) if k in targets]
            group.rows = [targets.index(group.rows[i]) for i in left]
            group.objects = [group.objects[i] for i in left]
            if left:
                group.model.keep(left)
        self._groups = [group for group in self._groups if group.rows]

    def _window(self, group: _Group, i: int, box: Box, factor: float) -> Window:
        (rows, columns), (height, width), stride = group.size, group.objects[i], group.features.stride
        region = box.w * columns / width * factor, box.h * rows / height * factor
        return Window.around(*box.center, *region, columns * stride, rows * stride)

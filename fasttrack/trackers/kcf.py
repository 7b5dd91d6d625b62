"""KCF: tracking by a kernelised correlation filter (Henriques et al. 2015), with a search over sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.geometry import Box, Window
from fasttrack.models import FilterConfig, FilterRegressor
from fasttrack.trackers._kcf_config import Config
from fasttrack.trackers.base import Tracker
from fasttrack.vision import features as vision_features
from fasttrack.vision.crop import Scene
from fasttrack.vision.labels import gaussian_map, hann_window
from fasttrack.vision.localise import Found, localise
from fasttrack.vision.scale import ScalePyramid

__all__ = ["KCF", "Config", "Group", "Windows"]


Windows = Sequence[Sequence[Window]]  # of every target of a group


@dataclass
class Group:
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
        self._groups: list[Group] = []

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

    def _group(self, scene: Scene, boxes: list[Box], size: tuple[int, int], rows: list[int]) -> Group:
        c, sigma = self.config, self.config.label_sigma * self._object_side
        # The middle of the region; indices count from the middle of cell 0.
        home = torch.tensor([[(n - 1) / 2 for n in size]])
        label = gaussian_map(size, home, (sigma, sigma))[0].to(scene.device)
        learning = FilterConfig(c.kernel, c.kernel_sigma, c.ridge, c.rate)
        model = FilterRegressor(learning, label, hann_window(size, scene.device))
        group = Group(rows, [self._object(boxes[k]) for k in rows], size, self._features.fork(), model)
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
            responses, table = self._search(scene, group, windows)
            # A cell at the peak stands for the object's centre.
            stride, penalties = group.features.stride, self._pyramid.penalties
            places = localise(responses, windows, (1, 1), stride, None, penalties, table)
            for k, place in zip(group.rows, places, strict=True):
                box = self._pyramid.box(place, boxes[k])
                found[k] = Found(box, place.score, place.psr, place.level, place.peak, place.response)
        return [found[k] for k in range(len(boxes))]

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        for group in self._groups:
            seen = [i for i, k in enumerate(group.rows) if not lost[k]]
            if seen:
                windows = [[self._window(group, i, boxes[group.rows[i]], 1.0)] for i in seen]
                self._teach(scene, group, windows, seen)

    def _search(self, scene: Scene, group: Group, windows: Windows) -> tuple[Tensor, Tensor | None]:
        """Responses (T, S, h, w) in the windows of a group's targets, and the table of their peaks if it is at hand."""
        patches = scene.sample(windows, group.rows)
        return group.model.respond(group.features(patches).unflatten(0, (len(windows), -1))), None

    def _teach(self, scene: Scene, group: Group, windows: Windows, seen: list[int]) -> None:
        """Learn from a window of each of the targets ``seen``, which are places in the group."""
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

    def _window(self, group: Group, i: int, box: Box, factor: float) -> Window:
        (rows, columns), (height, width), stride = group.size, group.objects[i], group.features.stride
        region = box.w * columns / width * factor, box.h * rows / height * factor
        return Window.around(*box.center, *region, columns * stride, rows * stride)

"""DCFST: tracking by ridge regression of pooled samples (Zheng et al. 2020)."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from fasttrack.geometry import Box, Window
from fasttrack.models import (
    BoxRefiner,
    HeadFile,
    PooledHead,
    PooledSamples,
    RidgeLocator,
    ScaleFilter,
    ScaleFilterConfig,
    load_head,
    open_head,
)
from fasttrack.trackers._dcfst_config import Config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.augment import augmented
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import Backbone
from fasttrack.vision.localise import Found, localise
from fasttrack.vision.roi_grid import RoiGrid, in_patches
from fasttrack.vision.scale import ScalePyramid

__all__ = ["DCFST", "Config"]


class DCFST(Tracker):
    """Learns to tell by ridge regression which of 961 RoIs is the target; scores are linear in pooled features."""

    name = "dcfst"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.lost_score
        file = open_head(c.head) if c.head is not None else None
        # A head goes with the backbone that it was trained on.
        own = {} if file is None or file.backbone_file is None else {"weights": file.backbone_file}
        self._backbone = Backbone(c.backbone, ("layer2", "layer3"), **{**own, **c.backbone_options})
        self._refiner: BoxRefiner | None = None
        self._samples, note = self._learnt(file)
        self._search_rms = c.search_rms and file is not None  # without a head the gains are those of the first frame
        self.weights_note = f"{self._backbone.weights_note}; {note}"
        sizes = c.size_search if self._refiner is None else "none"
        self._pyramid = ScalePyramid(c.scale_levels if sizes == "pyramid" else 1, c.scale_step, c.scale_penalty)
        self._sizes = ScaleFilter(ScaleFilterConfig()) if sizes == "filter" else None
        self._grid = RoiGrid(c.grid, c.side_px, c.side_px / c.region)
        window, floor = self._grid.gaussian(c.window_sigma), torch.tensor(c.window_floor)
        self._prior = window.maximum(floor) if c.window_clamped else window.lerp(torch.ones(()), floor)
        self._far = self._grid.beyond(c.hard_distance * c.side_px)
        self._gains = torch.empty(0)
        self._model = RidgeLocator(c.learning(), self._grid.gaussian(c.label_sigma).flatten(), self._samples.solve)

    def _learnt(self, file: HeadFile | None) -> tuple[PooledSamples | PooledHead, str]:
        """What makes samples of the backbone's maps, and what to say about it."""
        bins = [(n, n) for n in self.config.bins]
        if file is None:
            note = "no trained head: ridge regression on pooled backbone features"
            return PooledSamples(self._backbone.taps, bins), note
        head, network = load_head(file, self._backbone.taps, bins)
        if network is None or not self.config.refine:
            return head, f"head: {file.note}, no box refinement"
        self._refiner = BoxRefiner(network, self.config.refinement())
        return head, f"head and IoU-net: {file.note}"

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        windows = [self._window(box) for box in boxes]
        patches = scene.sample([[w] for w in windows], range(len(boxes)))
        maps = self._backbone(patches)
        if self._refiner is not None:
            self._refiner.start(maps, in_patches(windows, boxes))
        if self._sizes is not None:
            self._sizes.fit(scene, boxes)
        copies = augmented(patches)[1:] if self.config.augment else []
        every = itertools.chain([maps], (self._backbone(copy) for copy in copies))  # one at a time: they are large
        state, self._gains = self._samples.first((self._samples.maps(m) for m in every), self._grid.intervals(boxes))
        self._model.fit(state)

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        windows = [self._window(box) for box in boxes]
        maps = self._backbone(scene.sample([[w] for w in windows], range(len(boxes))))
        own = self._samples.maps(maps)
        grids = [self._grid.intervals(boxes, factor) for factor in self._pyramid.factors]
        gains = self._gains
        if self._search_rms:
            gains = self._samples.gains(self._samples.rows(own, self._grid.intervals(boxes)))
        scores = self._samples.scores(own, grids, self._model.weight * gains[:, 0])
        cells = [[self._grid.cells(w)] * len(self._pyramid.factors) for w in windows]
        places = localise(scores, cells, (1, 1), 1, self._prior, self._pyramid.penalties)
        found = [replace(p, box=self._pyramid.box(p, box)) for p, box in zip(places, boxes, strict=True)]
        if self._sizes is not None:
            factors = self._sizes.factors(scene, [f.box for f in found])
            return [replace(f, box=f.box.scaled(n)) for f, n in zip(found, factors, strict=True)]
        return found if self._refiner is None else self._refined(self._refiner, maps, windows, found)

    def _refined(
        self, refiner: BoxRefiner, maps: tuple[Tensor, ...], windows: list[Window], found: list[Found]
    ) -> list[Found]:
        """The boxes found, refined by the IoU-net; those of lost targets stay."""
        rows = [k for k, f in enumerate(found) if f.score >= self.lost_threshold]
        if not rows:
            return found
        seen = [windows[k] for k in rows]
        boxes = refiner([m[rows] for m in maps], in_patches(seen, [found[k].box for k in rows]), rows)
        for k, window, (x, y, w, h) in zip(rows, seen, boxes.tolist(), strict=True):
            (left, top), (right, bottom) = window.to_frame(x, y), window.to_frame(x + w, y + h)
            found[k] = replace(found[k], box=Box(left, top, right - left, bottom - top))
        return found

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        seen = [k for k in range(len(boxes)) if not lost[k]]
        if not seen:
            return
        if self._sizes is not None:
            self._sizes.update(scene, [boxes[k] for k in seen], seen)
        maps = self._samples.maps(self._backbone(scene.sample([[self._window(boxes[k])] for k in seen], seen)))
        grid = self._grid.intervals([boxes[k] for k in seen])
        state, self._gains[seen] = self._samples.later(maps, grid, self._gains[seen])
        hard = self._hard(maps, grid, seen)
        rates = [self.config.hard_rate if k in hard else self.config.rate for k in seen]
        self._model.update(state, seen, [rate for rate in rates if rate is not None], hard)

    def _hard(self, maps: tuple[Tensor, ...], grid: tuple[Tensor, Tensor], seen: list[int]) -> list[int]:
        """Targets with a distractor: a sample far from the target that the model scores high."""
        if self.config.hard_rate == self.config.rate:
            return []
        weight = self._model.weight[seen] * self._gains[seen, 0]
        worst = self._samples.scores(maps, [grid], weight).flatten(1)[:, self._far].amax(1).tolist()
        return [k for k, score in zip(seen, worst, strict=True) if score > self.config.hard_score]

    def _keep(self, targets: list[int]) -> None:
        self._gains = self._gains[targets]
        self._model.keep(targets)
        for part in (self._refiner, self._sizes):
            if part is not None:
                part.keep(targets)

    def _window(self, box: Box) -> Window:
        side = self.config.region * math.sqrt(box.area)
        return Window.around(*box.center, side, side, self.config.side_px, self.config.side_px)

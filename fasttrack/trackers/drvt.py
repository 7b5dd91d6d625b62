"""DRVT: dual-regression tracking, a dense classifier and a correlation filter on one pass (Li et al. 2020)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fasttrack.geometry import Box, Window
from fasttrack.models import DenseClassifier, FilterConfig, WindowFilter
from fasttrack.trackers._drvt_config import NETWORKS, Config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.augment import augmented
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import Backbone
from fasttrack.vision.fusion import area_masks, at_size, best_cell, cell_window, fuse, moved_overlaps
from fasttrack.vision.localise import Found

__all__ = ["DRVT", "Config"]


class DRVT(Tracker):
    """Finds the target's coarse cell with a classifier, its place in that cell and its size with a filter."""

    name = "drvt"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.lost_score
        deep, shallow, self._side_px = NETWORKS[c.backbone]
        self._backbone = Backbone(c.backbone, (shallow,) if c.mode == "cf" else (shallow, deep), **c.backbone_options)
        self.weights_note = self._backbone.weights_note + ("" if c.backbone == "vgg-m" else "; stand-in for VGG-M")
        room = self._backbone.cells(self._side_px)[-1] - 2  # the classifier loses a cell on each side
        self._score_cells = min(c.score_cells, room)
        self._middle = slice((room - self._score_cells) // 2, (room + self._score_cells) // 2 + 2)
        learning, sizes = FilterConfig(c.kernel, c.kernel_sigma, c.ridge, c.rate), (c.filter_region, c.filter_cells)
        self._filter = WindowFilter(learning, self._backbone.taps[0], *sizes, c.label_sigma, c.filter_rms)
        assert c.scale_penalty is not None
        self._penalties = [1.0 if factor == 1.0 else c.scale_penalty for factor in c.scales]
        self._classifiers: list[DenseClassifier] = []
        self._seen: tuple[list[Window], Tensor, Tensor, list[Tensor]]  # crops, shallow, deep and coarse maps

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        c, crops = self.config, [self._crop(box) for box in boxes]
        patches = scene.sample([[crop] for crop in crops], range(len(crops)))
        shallow, deep = self._maps(patches)
        if c.mode != "cnn":
            self._filter.fit(shallow, crops, boxes)
        if c.mode != "cf":
            copies = augmented(patches)[1:] if c.augment else []
            views = torch.stack([deep, *(self._maps(copy)[1] for copy in copies)], 1)
            self._classifiers = [DenseClassifier(c, views.shape[2]) for _ in boxes]
            for model, own, crop, box in zip(self._classifiers, views, crops, boxes, strict=True):
                model.fit(own, moved_overlaps(self._grid(crop), box))

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        c, crops = self.config, [self._crop(box) for box in boxes]
        shallow, deep = self._maps(scene.sample([[crop] for crop in crops], range(len(crops))))
        coarse = [] if c.mode == "cf" else [m.respond(own) for m, own in zip(self._classifiers, deep, strict=True)]
        self._seen = crops, shallow, deep, coarse
        cells = [best_cell(scores, self._grid(crops[k])) for k, scores in enumerate(coarse)]
        if c.mode == "cnn":
            return [at_size(cell, box, 1.0) for cell, box in zip(cells, boxes, strict=True)]
        windows = self._filter.windows(boxes, c.scales)
        responses = self._filter.respond(shallow, crops, windows)
        areas = [Box.from_center(*f.box.center, f.box.w * c.mask_cells, f.box.h * c.mask_cells) for f in cells]
        masks = torch.ones(responses.shape, dtype=torch.bool) if c.mode == "cf" else area_masks(areas, windows)
        fine = fuse(responses, masks, windows, self._penalties)
        found = [at_size(f, box, c.scales[f.level]) for f, box in zip(fine, boxes, strict=True)]
        for k, cell in enumerate(cells):
            # Where the filter is not believed, the middle of the cell and the last size stay.
            place = found[k] if found[k].psr >= c.psr else at_size(cell, boxes[k], 1.0)
            found[k] = replace(place, score=cell.score, psr=found[k].psr)
        return found

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        crops, shallow, deep, coarse = self._seen
        seen = [k for k in range(len(boxes)) if not lost[k]]
        if seen and self.config.mode != "cnn":
            self._filter.update(shallow[seen], [crops[k] for k in seen], [boxes[k] for k in seen], seen)
        for k in seen if self.config.mode != "cf" else []:
            self._classifiers[k].update(deep[k], coarse[k], moved_overlaps(self._grid(crops[k]), boxes[k]))

    def _keep(self, targets: list[int]) -> None:
        self._classifiers = [self._classifiers[k] for k in targets if self._classifiers]
        if self.config.mode != "cnn":
            self._filter.keep(targets)

    def _maps(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Shallow map, and the middle of the deep one (the shallow one in mode "cf"): one pass."""
        maps = self._backbone(patches)
        return maps[0], maps[-1][:, :, self._middle, self._middle]

    def _crop(self, box: Box) -> Window:
        across, down = (max(n * self.config.region, self.config.least_region_px) for n in (box.w, box.h))
        return Window.around(*box.center, across, down, self._side_px, self._side_px)

    def _grid(self, crop: Window) -> Window:
        """The frame under the coarse map, whose cells lie in the middle of 3 × 3 deep cells."""
        return cell_window(crop, self._backbone.taps[-1], self._middle.start + 1, self._score_cells)

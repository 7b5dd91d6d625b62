"""DRVT: dual-regression tracking, a dense classifier and a correlation filter on one pass (Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.geometry import Box, Window
from fasttrack.models import DenseClassifier, DenseConfig, FilterConfig, WindowFilter
from fasttrack.trackers import _config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.augment import augmented
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import Backbone
from fasttrack.vision.fusion import area_masks, at_size, best_cell, cell_window, fuse, moved_overlaps
from fasttrack.vision.localise import Found

__all__ = ["DRVT", "Config"]

# Network → its deep and shallow output, and the side of the patch whose middle is the middle of a deep cell, px.
_NETWORKS = {
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
    scale_penalty: float = 0.93  # p; §3.4
    lost_score: float = 0.005  # score ("cf": response) below which the target is lost; ours: the paper always follows

    def __post_init__(self) -> None:
        if 1.0 not in self.scales or min(self.scales) <= 0:
            raise RangeError("Config", "scales", "numbers > 0 and 1.0 among them", str(self.scales))
        _config.choice(self, "mode", ("dual", "cf", "cnn"))
        _config.choice(self, "backbone", tuple(_NETWORKS))
        _config.choice(self, "kernel", ("gaussian", "linear"))
        _config.whole(self, 1, "score_cells", "filter_cells", "width", "interval", "rounds", "positives", "negatives")
        _config.whole(self, 1, "pool", "kept_negatives", "positive_frames", "negative_frames")
        _config.whole(self, 0, "fit_iterations", "update_iterations")
        _config.positive(self, "region", "mask_cells", "filter_region", "filter_rms", "kernel_sigma", "ridge")
        _config.positive(self, "label_sigma", "scale_penalty", "fit_rate", "update_rate", "deep_rms", "last_layer_rate")
        _config.at_least(self, 0.0, "psr", "rate", "lost_score", "dropout", "distractor_score", "doubt_score")


class DRVT(Tracker):
    """Finds the target's coarse cell with a classifier, its place in that cell and its size with a filter."""

    name = "drvt"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.lost_score
        deep, shallow, self._side_px = _NETWORKS[c.backbone]
        self._backbone = Backbone(c.backbone, (shallow,) if c.mode == "cf" else (shallow, deep), **c.backbone_options)
        self.weights_note = self._backbone.weights_note + ("" if c.backbone == "vgg-m" else "; stand-in for VGG-M")
        room = self._backbone.cells(self._side_px)[-1] - 2  # the classifier loses a cell on each side
        self._score_cells = min(c.score_cells, room)
        self._middle = slice((room - self._score_cells) // 2, (room + self._score_cells) // 2 + 2)
        learning, sizes = FilterConfig(c.kernel, c.kernel_sigma, c.ridge, c.rate), (c.filter_region, c.filter_cells)
        self._filter = WindowFilter(learning, self._backbone.taps[0], *sizes, c.label_sigma, c.filter_rms)
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
        times, side = self.config.region, self._side_px
        return Window.around(*box.center, box.w * times, box.h * times, side, side)

    def _grid(self, crop: Window) -> Window:
        """The frame under the coarse map, whose cells lie in the middle of 3 × 3 deep cells."""
        return cell_window(crop, self._backbone.taps[-1], self._middle.start + 1, self._score_cells)

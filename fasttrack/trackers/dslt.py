"""DSLT: deep regression tracking with shrinkage loss (Lu et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.geometry import Box, Window
from fasttrack.models import Fit, FusedRegressor
from fasttrack.models.fused_regressor import learn
from fasttrack.trackers._dslt_config import Config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.augment import blurred
from fasttrack.vision.crop import Scene, sample
from fasttrack.vision.features import LayerStack
from fasttrack.vision.labels import gaussian_map
from fasttrack.vision.localise import Found, home, localise
from fasttrack.vision.scale import ScalePyramid

__all__ = ["DSLT", "Config"]


@dataclass
class _Target:
    kernel: tuple[int, int]
    model: FusedRegressor
    fit: Fit


class DSLT(Tracker):
    """Learns two convolutions, as large as the object, on two reduced and fused maps; their responses are added.

    The object keeps its shape: both sides grow by one factor, so that the authors' bound on the aspect (a factor
    of 2) always holds.
    """

    name = "dslt"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.lost_score
        self._maps = LayerStack(c.backbone, c.outputs, stride=c.stride, side=c.reduction or 1, **c.backbone_options)
        paper = c.backbone.startswith("vgg16") and tuple(c.outputs) == ("conv-10", "conv-13")
        layers = "conv4_3 and conv5_3, as in the paper" if paper else "a stand-in for VGG-16's conv4_3 and conv5_3"
        self.weights_note = f"{self._maps.weights_note}; {layers}"
        self._pyramid = ScalePyramid(c.scale_levels, c.scale_step, c.scale_penalty)
        self._targets: list[_Target] = []
        self._spectra: dict[int, ops.FeatureSpectra] = {}  # of the last search, by target
        self._learning = c.learning()

    @property
    def fits(self) -> list[Fit]:
        """How the last optimisation of every target went."""
        return [t.fit for t in self._targets]

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        self._targets = [self._learn_target(scene.image(k), box) for k, box in enumerate(boxes)]

    def _learn_target(self, frame: Tensor, box: Box) -> _Target:
        c = self.config
        kernel = self._kernel(box)
        patch = sample(frame, [self._window(box, kernel)])
        copies = [patch, *(blurred(patch, (sigma, sigma), 2) for sigma in c.blur_sigmas_px)]
        maps = self._maps(torch.cat([*copies, patch.flip(3)] if c.mirror else copies))
        middle = home((maps.shape[2], maps.shape[3]), kernel)
        model = FusedRegressor(self._maps.sizes, kernel, self._learning)
        return _Target(kernel, model, model.fit(maps, self._gaussian(kernel, middle, c.label_sigma)))

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        found: dict[int, Found] = {}
        for kernel, rows in self._groups().items():
            windows = [[self._window(boxes[k], kernel)] for k in rows]
            maps = self._maps(scene.sample(windows, rows))
            for k, one in zip(rows, maps, strict=True):
                self._spectra[k] = self._targets[k].model.spectra(one)
            responses = torch.stack([self._targets[k].model.respond(self._spectra[k]) for k in rows])[:, None]
            middle = (responses.shape[2] - 1) / 2, (responses.shape[3] - 1) / 2
            prior = self._gaussian(kernel, middle, self.config.motion_sigma)
            places = localise(responses, windows, kernel, self._maps.stride, prior)
            found.update(zip(rows, self._sized(scene, kernel, rows, places, boxes), strict=True))
        return [found[k] for k in range(len(boxes))]

    def _sized(
        self, scene: Scene, kernel: tuple[int, int], rows: list[int], places: list[Found], boxes: list[Box]
    ) -> list[Found]:
        """What was found, with its size: searched around the place where the target is clear, else the last one."""
        c, factors = self.config, self._pyramid.factors
        out = [
            replace(p, box=Box.from_center(*p.box.center, boxes[k].w, boxes[k].h))
            for p, k in zip(places, rows, strict=True)
        ]
        clear = [i for i, p in enumerate(places) if p.score > c.scale_score] if len(factors) > 1 else []
        if not clear:
            return out
        windows = [[self._window(out[i].box, kernel, factor, c.scale_region) for factor in factors] for i in clear]
        maps = self._maps(scene.sample(windows, [rows[i] for i in clear])).unflatten(0, (len(clear), -1))
        models = [self._targets[rows[i]].model for i in clear]
        responses = [torch.stack([m.respond(m.spectra(x)) for x in xs]) for m, xs in zip(models, maps, strict=True)]
        sizes = localise(torch.stack(responses), windows, kernel, self._maps.stride, None, self._pyramid.penalties)
        for i, size in zip(clear, sizes, strict=True):
            factor = 1 + c.size_rate * (factors[size.level] - 1)
            box = out[i].box
            out[i] = replace(out[i], box=Box.from_center(*box.center, box.w * factor, box.h * factor), level=size.level)
        return out

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        seen = [k for k in range(len(boxes)) if not lost[k]]
        for k in seen:  # §4: the patch around the last place is learnt from; the label moves, not the patch
            label = self._gaussian(self._targets[k].kernel, found[k].peak, self.config.label_sigma)
            self._targets[k].model.keep(self._spectra[k], label)
        for k, fit in zip(seen, learn([self._targets[k].model for k in seen]), strict=True):
            self._targets[k].fit = fit

    def _keep(self, targets: list[int]) -> None:
        self._targets = [self._targets[k] for k in targets]
        self._spectra.clear()

    def _groups(self) -> dict[tuple[int, int], list[int]]:
        """Targets of one kernel, whose patches have one size."""
        groups: dict[tuple[int, int], list[int]] = {}
        for k, target in enumerate(self._targets):
            groups.setdefault(target.kernel, []).append(k)
        return groups

    def _kernel(self, box: Box) -> tuple[int, int]:
        """Size of the object in cells, (rows, columns)."""
        c, stride = self.config, self._maps.stride
        zoom = 1 / stride if c.object_cells is None else math.sqrt(c.object_cells / box.area)
        zoom = max(zoom, c.crop_px / stride / math.sqrt(c.region_width * c.region_height * box.area))
        return max(1, round(box.h * zoom)), max(1, round(box.w * zoom))

    def _window(self, box: Box, kernel: tuple[int, int], factor: float = 1.0, region: float | None = None) -> Window:
        """The patch around a box of ``kernel`` cells, ``factor`` times its size: that of the search, or ``region``."""
        c, stride = self.config, self._maps.stride
        across, down = (c.region_width, c.region_height) if region is None else (region, region)
        columns, rows = round(kernel[1] * across), round(kernel[0] * down)
        sides = box.w * factor * columns / kernel[1], box.h * factor * rows / kernel[0]
        return Window.around(*box.center, *sides, columns * stride, rows * stride)

    def _gaussian(self, kernel: tuple[int, int], center: tuple[float, float], sigma: float | None) -> Tensor:
        assert sigma is not None
        size = (self.config.region_height - 1) * kernel[0] + 1, (self.config.region_width - 1) * kernel[1] + 1
        return gaussian_map(size, torch.tensor([center]), (sigma * kernel[0], sigma * kernel[1]))[0]

"""CRT: tracking by convolutional regression (Chen & Tao, "Convolutional Regression for Visual Tracking")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.geometry import Box, Window
from fasttrack.models import ConvRegressor, Fit, RegressorConfig
from fasttrack.trackers import _config
from fasttrack.trackers.base import Tracker
from fasttrack.vision import features as vision_features
from fasttrack.vision.crop import Scene, sample
from fasttrack.vision.labels import gaussian_map
from fasttrack.vision.localise import Found, home, localise
from fasttrack.vision.scale import ScalePyramid

__all__ = ["CRT", "Config"]


@dataclass(frozen=True)
class Config:
    """Every number of CRT. "§" and "eq." point into the paper; "ours" says why the paper's value is not used.

    Learning rates and weight decay are the paper's, for features of about ``reference_rms``, and are converted to
    those at hand as ``RegressorConfig.in_units_of`` writes down.
    """

    features: str = "hog"  # name in fasttrack.vision.features; §5.2
    feature_options: Mapping[str, Any] = field(default_factory=dict)  # options of that feature, e.g. weights=
    patch_width: int = 9  # width of train and search patch, object widths; §5.1, table 3
    patch_height: int = 5  # height of train and search patch, object heights; §5.1, table 3
    object_cells: float = 150.0  # area of the kernel, cells; ours: every object costs the same; §4 has no scaling
    label_sigma: float = 0.1  # σ of the regression target, object sizes; §5.1
    motion_sigma: float = 0.6  # σ of the motion map, object sizes; §5.1
    threshold: float = 0.1  # th: errors up to this are ignored; eq. 3, §5.1
    a: float = 1.0  # exponent of the label weight; eq. 4, §5.1
    weight_decay: float = 1e3  # λ; eq. 5, §5.1
    reference_rms: float = 180.0  # RMS of the features λ and lr belong to; conv-2 maps of 0..255 images, measured
    solver: str = "adam"  # "adam" (§5.1) or "cg" (conjugate gradients on the weighted square loss)
    fit_lr: float = 2e-8  # Adam, first frame; §5.1
    fit_steps: int = 4000  # most steps, first frame; §5.1
    fit_loss: float = 0.02  # first frame learnt below this loss; §5.1
    update_lr: float = 1e-8  # Adam, later frames; ours: 5e-9 (§5.1) follows HOG's changes too slowly
    update_steps: int = 2  # iterations per frame; §5.1
    history: int = 5  # frames an update learns from; §5.1
    init_std: float = 1e-8  # σ of the zero-mean initial weight; ours: small beside what is learnt (§4 gives none)
    seed: int = 0  # of the initial weight
    scale_levels: int = 3  # patches of the scale search, odd; ours: §4 says "scaled objects"
    scale_step: float = 1.03  # ratio of neighbouring scales; ours
    scale_penalty: float = 0.98  # factor on the peak of a changed scale; ours: against drift of the size
    lost_score: float = 0.1  # response below which the target is lost; ours

    def __post_init__(self) -> None:
        _config.whole(self, 1, "patch_width", "patch_height", "fit_steps", "update_steps", "history")
        _config.whole(self, 0, "seed")
        _config.odd(self, "scale_levels")
        _config.positive(self, "object_cells", "label_sigma", "motion_sigma", "reference_rms", "fit_lr", "update_lr")
        _config.positive(self, "scale_step", "scale_penalty", "fit_loss")
        _config.at_least(self, 0.0, "threshold", "a", "weight_decay", "init_std", "lost_score")
        _config.choice(self, "solver", ("adam", "cg"))


@dataclass
class _Target:
    kernel: tuple[int, int]
    features: vision_features.Feature
    model: ConvRegressor
    prior: Tensor
    fit: Fit
    spectra: list[ops.FeatureSpectra] = field(default_factory=list)  # of the last search, one per scale


class CRT(Tracker):
    """Learns one convolution, as large as the object, to answer a Gaussian at the object and 0 elsewhere."""

    name = "crt"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.lost_score
        self._features = vision_features.create(c.features, **c.feature_options)
        self.weights_note = self._features.weights_note
        self._pyramid = ScalePyramid(c.scale_levels, c.scale_step, c.scale_penalty)
        self._targets: list[_Target] = []

    @property
    def fits(self) -> list[Fit]:
        """How the last optimisation of every target went: steps, loss, SNR per step."""
        return [t.fit for t in self._targets]

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        self._targets = [self._learn_target(scene.image(k), box) for k, box in enumerate(boxes)]

    def _learn_target(self, frame: Tensor, box: Box) -> _Target:
        c = self.config
        zoom = math.sqrt(c.object_cells / box.area)
        kernel = max(1, round(box.h * zoom)), max(1, round(box.w * zoom))
        features = self._features.fork()
        patch = sample(frame, [self._window(box, kernel, 1.0)])
        features.fit(patch)
        maps = features(patch)
        learning = RegressorConfig(**{f.name: getattr(c, f.name) for f in fields(RegressorConfig)})
        model = ConvRegressor(kernel, learning.in_units_of(features.typical_rms / c.reference_rms))
        middle = home((maps.shape[2], maps.shape[3]), kernel)
        fit = model.fit(maps[0], self._gaussians(kernel, [middle], c.label_sigma)[0])
        return _Target(kernel, features, model, self._gaussians(kernel, [middle], c.motion_sigma)[0], fit)

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        groups: dict[tuple[tuple[int, int], int], list[int]] = {}
        for k, target in enumerate(self._targets):
            groups.setdefault((target.kernel, id(target.features)), []).append(k)
        found: dict[int, Found] = {}
        for (kernel, _), rows in groups.items():
            windows = [[self._window(boxes[k], kernel, s) for s in self._pyramid.factors] for k in rows]
            first, *_ = group = [self._targets[k] for k in rows]
            maps = first.features(scene.sample(windows, rows)).unflatten(0, (len(rows), -1))
            for target, one in zip(group, maps, strict=True):
                target.spectra = [target.model.spectra(m) for m in one]
            responses = torch.stack([target.model.respond(target.spectra) for target in group])
            results = localise(responses, windows, kernel, first.features.stride, first.prior, self._pyramid.penalties)
            found.update(zip(rows, results, strict=True))
        return [found[k] for k in range(len(boxes))]

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        for target, place, gone in zip(self._targets, found, lost, strict=True):
            if not gone:  # §5.1: the features of the search are learnt from; the label moves, not the patch
                labels = self._gaussians(target.kernel, [place.peak], self.config.label_sigma)[0]
                target.fit = target.model.update(target.spectra[place.level], labels)

    def _keep(self, targets: list[int]) -> None:
        self._targets = [self._targets[k] for k in targets]

    def _window(self, box: Box, kernel: tuple[int, int], scale: float) -> Window:
        across, down = self.config.patch_width, self.config.patch_height
        patch = (n * self._features.stride for n in (kernel[1] * across, kernel[0] * down))
        return Window.around(*box.center, box.w * across * scale, box.h * down * scale, *patch)

    def _gaussians(self, kernel: tuple[int, int], centers: list[tuple[float, float]], sigma: float) -> Tensor:
        size = (self.config.patch_height - 1) * kernel[0] + 1, (self.config.patch_width - 1) * kernel[1] + 1
        return gaussian_map(size, torch.tensor(centers), (sigma * kernel[0], sigma * kernel[1]))

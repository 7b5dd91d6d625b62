"""One target of DLST: its two networks, what they learn from, and where they look for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fasttrack.geometry import Box, Window
from fasttrack.models.box_regressor import BoxRegressor
from fasttrack.models.location_network import LocationNetwork
from fasttrack.models.online_classifier import ClassifierConfig, OnlineClassifier, SampleMemory
from fasttrack.vision.features.networks import Tap
from fasttrack.vision.localise import Response
from fasttrack.vision.sampling import Spread, as_tensor, draw, draw_by_overlap

__all__ = ["LocationSpecificConfig", "LocationSpecificTarget", "Samples"]

_SCALE = 1.05  # ratio of neighbouring sizes; §4.1
_POSITIVE = Spread(0.1, 5.0, gaussian=True)  # MDNet §3.3, released
_REGRESSION = Spread(0.3, 8.0, 2.0)  # MDNet, released
_NEAR = Spread(1.0, 10.0)  # half of the first frame's negatives; MDNet, released
_ANYWHERE = Spread(math.inf, 5.0)  # the other half; MDNet, released
_LATER = Spread(2.0, 5.0)  # negatives of the later frames; MDNet, released


@dataclass(frozen=True)
class LocationSpecificConfig:
    """Every number of DLST's learning and search; "released" is the authors' code, § the paper."""

    variant: str = "paper"  # "released": the five best candidates' mean, one learning rate for all layers
    ablation: str = ""  # table 1: "no-localisation", "fully-connected" or "only-estimated-location"
    candidates: int = 256  # boxes scored in a frame; §4.1
    search: float = 0.6  # largest shift of a candidate, mean sides of the target; released (§4.1: σ 0.3)
    search_growth: float = 1.1  # factor on it in every frame without the target; released
    search_limit: float = 1.5  # largest value of it; released
    threshold: float = 0.5  # score below which a network has not found the target; §3.3, §4.1
    rate: float = 0.003  # learning rate; §4.1
    last_rate: float = 0.0  # factor on it for the last layers (0: paper 10, released 1); §4.1
    first_steps: int = 30  # of SGD in the first frame; §4.1
    steps: int = 10  # of an update; §4.1
    momentum: float = 0.9  # §4.1
    weight_decay: float = 5e-4  # §4.1
    batch_positives: int = 32  # §4.1
    batch_negatives: int = 96  # the hardest of batch_candidates; §4.1
    batch_candidates: int = 1024  # §4.1
    batch_regions: int = 8  # of the localisation network; §4.1
    interval: int = 10  # frames between two long-term updates; released
    long_frames: int = 100  # whose positives a long-term update sees; §4.1
    short_frames: int = 20  # whose positives a short-term update sees, and negatives every one; §4.1
    first_samples: tuple[int, int] = (500, 5000)  # positives and negatives of the first frame; §4.1
    samples: tuple[int, int] = (50, 200)  # of a later frame; §4.1
    positive_iou: float = 0.7  # least overlap of a positive; §4.1
    negative_iou: tuple[float, float] = (0.5, 0.3)  # largest of a negative, first frame and later; §4.1
    regions: tuple[int, int] = (50, 5)  # search regions learnt from a frame, first and later; §4.1
    region: float = 4.0  # side of the search region, target sides; §3.1
    radius: float = 8.0  # cells around the centre labelled as target; §4.1
    peak: str = "disc"  # of the map averaged over a disc of that radius; ours: the place is three times as exact as
    # with "cell", the map's own (§3.1), which lies anywhere on a plateau
    regression_samples: int = 1000  # of the first frame (0: no box regression); §4.1
    regression_iou: float = 0.6  # least overlap of these; released
    ridge: float = 1000.0  # λ of the box regression; released
    feature_rms: float = 4.0  # a box's features are brought to in the first frame (0: as they come); ours: so that
    # rates and λ mean the same for every network
    seed: int = 0

    @property
    def best(self) -> int:
        """How many of the best candidates make the new box."""
        return 5 if self.variant == "released" else 1


@dataclass(frozen=True, slots=True)
class Samples:
    """Boxes of one frame to learn from, (N, 4) each: overlapping the target, not overlapping it, of regions."""

    positives: Tensor
    negatives: Tensor
    regions: Tensor


def _head(channels: int, cells: int, dense: bool) -> Callable[[], nn.Module]:
    """§3.2: 1×1 convolutions and global average pooling; or fully connected layers as MDNet's."""

    def convolutions() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 512, 1), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(512, 128, 1), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(128, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    def layers() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels * cells * cells, 512), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 2),
        )  # fmt: skip

    return layers if dense else convolutions


class LocationSpecificTarget:
    """Learns one target and says where to look for it; pixels and features come from outside.

    Args:
        config: every number.
        box: the target in its first frame.
        channels: of the features of a box, which have ``cells`` × ``cells``.
        cells: see ``channels``.
        tap: features of a search region, whose maps have ``region_cells``.
        region_cells: (rows, columns).

    Attributes:
        box: where the target was last found, before box regression.
        response: what the location network saw in the last search; None without one.

    Source: Yang et al. 2017 (DLST).
    """

    def __init__(
        self,
        config: LocationSpecificConfig,
        box: Box,
        channels: int,
        cells: int,
        tap: Tap,
        region_cells: tuple[int, int],
    ) -> None:
        self.config, self.box = config, box
        c = config
        last = c.last_rate if c.last_rate > 0 else {"paper": 10.0, "released": 1.0}[c.variant]
        learning = ClassifierConfig(
            c.momentum, c.weight_decay, last, c.batch_positives, c.batch_negatives, c.batch_candidates, seed=c.seed
        )
        self.classifier = OnlineClassifier(learning, _head(channels, cells, c.ablation == "fully-connected"))
        regions = ClassifierConfig(c.momentum, c.weight_decay, last, c.batch_regions, 0, 0, seed=c.seed)
        self.locator = LocationNetwork(regions, tap, region_cells, c.radius, disc=c.peak == "disc")
        self.regressor = BoxRegressor(c.ridge)
        self._random = torch.Generator().manual_seed(c.seed)
        self._positives, self._negatives = SampleMemory(c.long_frames), SampleMemory(c.short_frames)
        self._regions, self._centres = SampleMemory(c.long_frames), SampleMemory(c.long_frames)
        self._range, self._age, self._gain = c.search, 0, 1.0
        self.response: Response | None = None

    # --- where to look and to learn --------------------------------------------------------------

    def window(self, box: Box, side_px: int) -> Window:
        """The search region around a box."""
        return Window.around(*box.center, box.w * self.config.region, box.h * self.config.region, side_px, side_px)

    def candidates(self, maps: Tensor, window: Window, frame: tuple[int, int]) -> Tensor:
        """(candidates, 4) boxes around the last place and the one that the search region's (1, C, H, W) maps show."""
        c, centres = self.config, [self.box]
        if c.ablation != "no-localisation":
            heat = self.locator.heat(maps)[0]
            self.response = self.locator.response(heat, window)
            x, y, score = self.locator.place(heat, window)
            place = Box.from_center(x, y, self.box.w, self.box.h) if score >= c.threshold else self.box
            centres = [place] if c.ablation == "only-estimated-location" else [self.box, place]
        spread = Spread(self._range, 1.0, gaussian=True, step=_SCALE)
        share = c.candidates // len(centres)
        return torch.cat([draw(centre, share, spread, frame, self._random) for centre in centres])

    def first_samples(self, frame: tuple[int, int]) -> Samples:
        """Boxes of the first frame to learn from; the target itself leads the positives and the regions."""
        c = self.config
        near = c.first_samples[1] // 2
        negatives = [
            draw_by_overlap(self.box, count, spread, (0.0, c.negative_iou[0]), frame, self._random)
            for count, spread in ((near, _NEAR), (c.first_samples[1] - near, _ANYWHERE))
        ]
        positives = self._overlapping(c.first_samples[0], _POSITIVE, c.positive_iou, frame)
        return Samples(positives, torch.cat(negatives), self._few(positives, c.regions[0]))

    def samples(self, frame: tuple[int, int]) -> Samples:
        """Boxes of a later frame to learn from."""
        c = self.config
        positives = self._overlapping(c.samples[0], _POSITIVE, c.positive_iou, frame)
        limits = (0.0, c.negative_iou[1])
        negatives = draw_by_overlap(self.box, c.samples[1], _LATER, limits, frame, self._random)
        return Samples(positives, negatives, self._few(positives, c.regions[1]))

    def regression_samples(self, frame: tuple[int, int]) -> Tensor:
        """Boxes of the first frame that the box regression learns from."""
        return self._overlapping(self.config.regression_samples, _REGRESSION, self.config.regression_iou, frame)

    def _overlapping(self, count: int, spread: Spread, iou: float, frame: tuple[int, int]) -> Tensor:
        drawn = draw_by_overlap(self.box, max(count - 1, 0), spread, (iou, 1.0), frame, self._random)
        return torch.cat([as_tensor([self.box]), drawn])[:count]

    def _few(self, positives: Tensor, count: int) -> Tensor:
        """The target itself and ``count`` others."""
        others = 1 + torch.randperm(len(positives) - 1, generator=self._random)[:count]
        return torch.cat([positives[:1], positives[others]])

    # --- finding and learning --------------------------------------------------------------------

    def judge(self, features: Tensor, boxes: Tensor) -> tuple[Box, Box, float, float]:
        """The best of the candidates.

        Returns:
            The box, the box as regression would have it, the score, and how many standard deviations of all scores
            it lies above their mean.
        """
        scores = self.classifier.scores(features * self._gain)
        top, at = scores.topk(min(self.config.best, len(scores)))
        chosen, score = boxes[at.cpu()], float(top.mean())
        box = Box(*chosen.mean(0).tolist())
        spread = float(scores.std(correction=0))
        psr = (score - float(scores.mean())) / spread if spread > 0 else 0.0
        if self.config.regression_samples == 0 or score < self.config.threshold:
            return box, box, score, psr
        refined = self.regressor.boxes(features[at] * self._gain, chosen).mean(0)
        return box, Box(*refined.tolist()), score, psr

    def start(self, positives: Tensor, negatives: Tensor, maps: Tensor) -> None:
        """Take the scales of the first frame's features: of its samples, and of the maps of its search regions."""
        if self.config.feature_rms > 0:
            rms = torch.cat([positives, negatives]).square().mean().sqrt()
            self._gain = float(self.config.feature_rms / rms) if rms > 0 else 1.0
            self.locator.normalise(maps)

    def regress(self, features: Tensor, boxes: Tensor) -> None:
        """Learn the box regression from boxes of the first frame; after :meth:`start`."""
        if len(boxes):
            self.regressor.fit(features * self._gain, boxes, self.box)

    def remember(self, positives: Tensor, negatives: Tensor, patches: Tensor, windows: list[Window]) -> None:
        """Keep the features of one frame's samples, and its search regions as patches with the target's place."""
        self._positives.add(positives * self._gain)
        if len(negatives):
            self._negatives.add(negatives * self._gain)
        self._regions.add(patches.round().clamp_(0, 255).to(torch.uint8))
        cells = [self.locator.cell(window, *self.box.center) for window in windows]
        self._centres.add(torch.tensor(cells, dtype=torch.float64))

    def update(self, maps: Callable[[Tensor], Tensor], lost: bool) -> None:
        """End of a frame: learn from the short term while lost, from the long term when it is time."""
        c = self.config
        self._age += 1
        self._range = min(c.search_limit, self._range * c.search_growth) if lost else c.search
        if lost:
            self.learn(maps, c.short_frames, c.steps)
        elif self._age % c.interval == 0:
            self.learn(maps, c.long_frames, c.steps)

    def learn(self, maps: Callable[[Tensor], Tensor], frames: int, steps: int) -> None:
        """Train both networks on the last ``frames`` frames; ``maps`` makes features of search-region patches."""
        positives, negatives = self._positives.last(frames), self._negatives.last()
        if len(positives) and len(negatives):
            self.classifier.train(positives, negatives, steps, self.config.rate)
        if self.config.ablation != "no-localisation":
            patches, centres = self._regions.last(frames), self._centres.last(frames)
            self.locator.learn(lambda at: maps(patches[at].float()), centres, steps, self.config.rate)

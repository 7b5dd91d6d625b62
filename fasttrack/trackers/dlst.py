"""DLST: localise the target roughly, then classify candidates around two places (Yang et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fasttrack.geometry import Box, Window
from fasttrack.models import BoxFeatures, LocationSpecificConfig, LocationSpecificTarget
from fasttrack.trackers import _config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import Backbone
from fasttrack.vision.localise import Found

__all__ = ["DLST", "Config"]

# Network and output seen by the classification and by the localisation.
_NETWORKS = {
    "stand-in": (("squeezenet", "fire8"), ("resnet18", "conv1")),
    "vgg-m": (("vgg-m", "conv3"), ("vgg-m", "conv1")),
}

# Eleven patches in one pass: their maps stay in the cache, which halves the time of a pass over 64 at once.
_BATCH_PX = 1 << 17


@dataclass(frozen=True)
class Config(LocationSpecificConfig):
    """Every number of DLST; those of learning and search are inherited. § is the paper."""

    network: str = "stand-in"  # "vgg-m": the paper's, §3.1–3.2; "stand-in": SqueezeNet and ResNet-18
    class_options: Mapping[str, Any] = field(default_factory=dict)  # weights=, convention= of the classification's
    place_options: Mapping[str, Any] = field(default_factory=dict)  # those of the localisation's
    side_px: int = 107  # of every patch; §3.1–3.2
    context_px: int = 16  # of the patch around a candidate, each side; released
    cells: int = 3  # side of a candidate's map; §3.2 (the stand-in's is averaged over blocks)

    def __post_init__(self) -> None:
        _config.choice(self, "network", tuple(_NETWORKS))
        _config.choice(self, "variant", ("paper", "released"))
        _config.choice(self, "ablation", ("", "no-localisation", "fully-connected", "only-estimated-location"))
        _config.choice(self, "peak", ("disc", "cell"))
        _config.whole(self, 2, "candidates")
        _config.whole(self, 1, "batch_positives", "batch_negatives", "batch_candidates", "batch_regions", "interval")
        _config.whole(self, 1, "long_frames", "short_frames", "side_px", "cells")
        _config.whole(self, 0, "first_steps", "steps", "regression_samples", "context_px", "seed")
        _config.positive(self, "search", "search_growth", "search_limit", "rate", "region", "radius", "ridge")
        _config.at_least(self, 0.0, "threshold", "last_rate", "momentum", "weight_decay", "feature_rms")


class DLST(Tracker):
    """Finds a rough place with a dense network, then the best of many boxes with a second; both learn online."""

    name = "dlst"
    config_class = Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = c = Config() if config is None else config
        self.lost_threshold = c.threshold
        (network, output), (place_network, place_output) = _NETWORKS[c.network]
        options = {"max_batch_px": _BATCH_PX, **c.class_options}
        self._features = BoxFeatures(Backbone(network, (output,), **options), c.side_px, c.context_px, c.cells)
        self._shallow = Backbone(place_network, (place_output,), **c.place_options)
        what = "the paper's network" if c.network == "vgg-m" else "stand-in for VGG-M"
        parts = (("classification", self._features.backbone), ("localisation", self._shallow))
        self.weights_note = "; ".join([what, *(f"{part} {b.name} {b.weights_note}" for part, b in parts)])
        self._targets: list[LocationSpecificTarget] = []
        self._found: list[Box] = []  # what the last search found, before box regression

    def _start(self, scene: Scene, boxes: list[Box]) -> None:
        self._targets = [self._target(box) for box in boxes]
        for k, target in enumerate(self._targets):  # thousands of patches each
            size = _size(scene, k)
            drawn, spread = target.first_samples(size), target.regression_samples(size)
            windows = self._regions(target, drawn.regions)
            patches = scene.sample([windows], [k])
            rows = drawn.positives, drawn.negatives, spread
            positives, negatives, of_spread = self._features(scene, rows, [k] * 3)
            target.start(positives, negatives, self._maps(patches[:1]))
            target.remember(positives, negatives, patches, windows)
            target.regress(of_spread, spread)
            target.learn(self._maps, 1, self.config.first_steps)

    def _locate(self, scene: Scene, boxes: list[Box]) -> list[Found]:
        every = range(len(boxes))
        windows = [t.window(t.box, self.config.side_px) for t in self._targets]
        maps = self._maps(scene.sample([[w] for w in windows], every)).split(1)
        drawn = [t.candidates(maps[k], windows[k], _size(scene, k)) for k, t in enumerate(self._targets)]
        features = self._features(scene, drawn, every)
        judged = [t.judge(f, rows) for t, f, rows in zip(self._targets, features, drawn, strict=True)]
        self._found = [box for box, *_ in judged]
        return [
            Found(refined, score, psr, 0, (0.0, 0.0), t.response)
            for t, (_, refined, score, psr) in zip(self._targets, judged, strict=True)
        ]

    def _learn(self, scene: Scene, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        seen = [k for k, gone in enumerate(lost) if not gone]
        for k in seen:
            self._targets[k].box = self._found[k]
        if seen:
            drawn = [self._targets[k].samples(_size(scene, k)) for k in seen]
            rows = [part for d in drawn for part in (d.positives, d.negatives)]
            features = iter(self._features(scene, rows, [k for k in seen for _ in range(2)]))
            windows = [self._regions(self._targets[k], d.regions) for k, d in zip(seen, drawn, strict=True)]
            patches = scene.sample(windows, seen).split([len(group) for group in windows])
            for k, group, part in zip(seen, windows, patches, strict=True):
                self._targets[k].remember(next(features), next(features), part, group)
        for target, gone in zip(self._targets, lost, strict=True):
            target.update(self._maps, gone)

    def _keep(self, targets: list[int]) -> None:
        self._targets = [self._targets[k] for k in targets]

    def _target(self, box: Box) -> LocationSpecificTarget:
        side = self._shallow.cells(self.config.side_px)[0]
        tap = self._shallow.taps[0]
        return LocationSpecificTarget(self.config, box, self._features.channels, self.config.cells, tap, (side, side))

    def _regions(self, target: LocationSpecificTarget, boxes: Tensor) -> list[Window]:
        return [target.window(Box(*row), self.config.side_px) for row in boxes.tolist()]

    def _maps(self, patches: Tensor) -> Tensor:
        return self._shallow(patches)[0]


def _size(scene: Scene, target: int) -> tuple[int, int]:
    """(width, height) of the frame that a target is in, px."""
    height, width = scene.image(target).shape[:2]
    return width, height

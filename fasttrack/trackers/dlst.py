"""DLST: localise the target roughly, then classify candidates around two places (Yang et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fasttrack.geometry import Box, Window
from fasttrack.models import BoxFeatures, LocationSpecificConfig, LocationSpecificTarget
from fasttrack.trackers import _config
from fasttrack.trackers.base import Tracker
from fasttrack.vision.crop import sample
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
        self._targets: list[LocationSpecificTarget] = []
        self._found: list[Box] = []  # what the last search found, before box regression

    @property
    def weights_note(self) -> str:
        """Which weights the features come from."""
        what = "the paper's network" if self.config.network == "vgg-m" else "stand-in for VGG-M"
        parts = (("classification", self._features.backbone), ("localisation", self._shallow))
        names = (f"{part} {b.name} {b.weights_note}" for part, b in parts)
        return f"{what}: {'; '.join(names)}"

    def _start(self, frame: Tensor, boxes: list[Box]) -> None:
        self._targets = [self._target(box) for box in boxes]
        size = (frame.shape[1], frame.shape[0])
        for target in self._targets:  # thousands of patches each
            drawn, spread = target.first_samples(size), target.regression_samples(size)
            windows = self._regions(target, drawn.regions)
            patches = sample(frame, windows)
            positives, negatives = (self._features(frame, rows) for rows in (drawn.positives, drawn.negatives))
            target.start(positives, negatives, self._maps(patches[:1]))
            target.remember(positives, negatives, patches, windows)
            target.regress(self._features(frame, spread), spread)
            target.learn(self._maps, 1, self.config.first_steps)

    def _locate(self, frame: Tensor, boxes: list[Box]) -> list[Found]:
        size = (frame.shape[1], frame.shape[0])
        windows = [t.window(t.box, self.config.side_px) for t in self._targets]
        maps = self._maps(sample(frame, windows)).split(1)
        drawn = [t.candidates(m, w, size) for t, m, w in zip(self._targets, maps, windows, strict=True)]
        features = self._features(frame, torch.cat(drawn)).split([len(rows) for rows in drawn])
        judged = [t.judge(f, rows) for t, f, rows in zip(self._targets, features, drawn, strict=True)]
        self._found = [box for box, *_ in judged]
        return [Found(refined, score, psr, 0, (0.0, 0.0)) for _, refined, score, psr in judged]

    def _learn(self, frame: Tensor, boxes: list[Box], found: list[Found], lost: list[bool]) -> None:
        size = (frame.shape[1], frame.shape[0])
        seen = [t for t, gone in zip(self._targets, lost, strict=True) if not gone]
        for target, box, gone in zip(self._targets, self._found, lost, strict=True):
            target.box = target.box if gone else box
        if seen:
            drawn = [t.samples(size) for t in seen]
            counts = [(len(d.positives), len(d.negatives)) for d in drawn]
            rows = torch.cat([part for d in drawn for part in (d.positives, d.negatives)])
            features = iter(self._features(frame, rows).split([n for pair in counts for n in pair]))
            windows = [self._regions(t, d.regions) for t, d in zip(seen, drawn, strict=True)]
            patches = sample(frame, [w for group in windows for w in group]).split([len(group) for group in windows])
            for target, group, part in zip(seen, windows, patches, strict=True):
                target.remember(next(features), next(features), part, group)
        for target, gone in zip(self._targets, lost, strict=True):
            target.update(self._maps, gone)

    def _target(self, box: Box) -> LocationSpecificTarget:
        side = self._shallow.cells(self.config.side_px)[0]
        tap = self._shallow.taps[0]
        return LocationSpecificTarget(self.config, box, self._features.channels, self.config.cells, tap, (side, side))

    def _regions(self, target: LocationSpecificTarget, boxes: Tensor) -> list[Window]:
        return [target.window(Box(*row), self.config.side_px) for row in boxes.tolist()]

    def _maps(self, patches: Tensor) -> Tensor:
        return self._shallow(patches)[0]

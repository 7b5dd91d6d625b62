"""A fully convolutional classifier of one target: dense over a feature map, trained on its 3 × 3 neighbourhoods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasttrack.models.online_classifier import ClassifierConfig, OnlineClassifier, SampleMemory

__all__ = ["DenseClassifier", "DenseConfig"]


@dataclass(frozen=True)
class DenseConfig:
    """How a :class:`DenseClassifier` learns; the numbers of DRVT table 1 and §4, "ours" where it gives none."""

    width: int = 512  # channels of the two hidden layers; table 1
    dropout: float = 0.5  # probability behind each of them; §3.2
    fit_iterations: int = 30  # SGD steps on the first frame; §4
    fit_rate: float = 0.001  # their learning rate; §4
    update_iterations: int = 5  # SGD steps of an update; §4
    update_rate: float = 0.003  # their learning rate; §4
    interval: int = 10  # frames between two updates; §4
    rounds: int = 5  # collections of hard negatives in one training; §4
    positives: int = 32  # samples of the target in a step; §4
    negatives: int = 96  # samples of the background in a step; §4
    positive_overlap: float = 0.7  # IoU above which a position is the target; §4
    negative_overlap: float = 0.5  # IoU up to which a position is background; §4
    distractor_score: float = 0.5  # background score above which the next update comes at once; ours
    pool: int = 256  # negatives looked at in a collection; ours
    kept_negatives: int = 48  # hardest negatives of a frame that are remembered; ours
    positive_frames: int = 50  # frames whose positives are remembered, besides the first; ours
    negative_frames: int = 20  # frames whose negatives are remembered, besides the first; ours
    last_layer_rate: float = 1.0  # factor on the learning rate of conv6; §4 has one rate for all
    deep_rms: float = 1.0  # root mean square the features of the first frame are brought to; ours
    seed: int = 0  # of weights, batches and dropout


class _Head(nn.Module):
    """conv4 3×3, conv5 1×1, conv6 1×1: (N, C, h, w) → (N, 2, h−2, w−2), of 3×3 samples → (N, 2)."""

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.conv4 = nn.Conv2d(channels, width, 3)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.conv6 = nn.Conv2d(width, 2, 1)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.conv4, self.conv5):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.conv6.weight, std=0.01)  # every score starts near ½

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] == (3, 3):  # a matrix product: faster than a convolution with one output cell
            y = self.dropout(F.linear(x.flatten(1), self.conv4.weight.flatten(1), self.conv4.bias).relu())
            y = self.dropout(F.linear(y, self.conv5.weight.flatten(1), self.conv5.bias).relu())
            return F.linear(y, self.conv6.weight.flatten(1), self.conv6.bias)
        y = self.dropout(self.conv4(x).relu())
        scores: Tensor = self.conv6(self.dropout(self.conv5(y).relu()))
        return scores


class DenseClassifier:
    """Probability of every position of a feature map (C, h, w) to be the target, (h − 2, w − 2).

    Memories are rings: positives and hard negatives of the last frames, and those of the first frame.

    Args:
        config: network, schedule and samples.
        channels: C.

    Source: DRVT §3.2 and §4.
    """

    def __init__(self, config: DenseConfig, channels: int) -> None:
        self.config = c = config
        learning = ClassifierConfig(
            last_layer_rate=c.last_layer_rate,
            positives=c.positives,
            negatives=c.negatives,
            candidates=c.negatives,  # the hard ones are collected here, once a round
            seed=c.seed,
        )
        self._classifier = OnlineClassifier(learning, lambda: _Head(channels, c.width, c.dropout))
        self._random = torch.Generator().manual_seed(c.seed)
        self._first = torch.empty(0), torch.empty(0)
        self._positives = SampleMemory(config.positive_frames)
        self._negatives = SampleMemory(config.negative_frames)
        self._gain = 1.0
        self._frames = 0

    def fit(self, maps: Tensor, overlaps: Tensor) -> list[float]:
        """Learn the first frame from (N, C, h, w) copies of it; returns the loss of every iteration.

        Args:
            maps: deep features of the copies.
            overlaps: (h − 2, w − 2) IoU of each position with the target, the same in all copies.
        """
        c = self.config
        rms = float(maps.square().mean().sqrt())
        self._gain = c.deep_rms / rms if rms > 0 else 1.0
        self._classifier.network.to(maps.device)
        chosen = (overlaps > c.positive_overlap, overlaps <= c.negative_overlap)
        positives, negatives = (torch.cat([self._samples(m, at) for m in maps]) for at in chosen)
        losses = self._train(positives, negatives, c.fit_iterations, c.fit_rate)
        self._first = positives, self._hardest(negatives, 2 * c.negatives, len(negatives))
        return losses

    def respond(self, feature: Tensor) -> Tensor:
        """(C, h, w) → (h − 2, w − 2) probabilities."""
        return self._classifier.scores(feature[None] * self._gain)[0]

    def update(self, feature: Tensor, scores: Tensor, overlaps: Tensor) -> list[float]:
        """Remember a frame and learn where it is due or a distractor shows; the losses (none: not learnt).

        Args:
            feature: (C, h, w) of the frame.
            scores: (h − 2, w − 2), what :meth:`respond` said of it.
            overlaps: (h − 2, w − 2) IoU of each position with the place where the target was found.
        """
        c, background = self.config, overlaps <= self.config.negative_overlap
        self._positives.add(self._samples(feature, overlaps > c.positive_overlap))
        ranked = scores.cpu().masked_fill(~background, -math.inf).flatten()
        hard = ranked.topk(min(c.kept_negatives, int(background.sum()))).indices
        at = torch.zeros(ranked.shape, dtype=torch.bool)
        at[hard] = True
        self._negatives.add(self._samples(feature, at.view(scores.shape)))
        self._frames += 1
        if self._frames % c.interval and not float(ranked.max()) > c.distractor_score:
            return []
        positives = torch.cat([self._first[0], self._positives.last()])
        negatives = torch.cat([self._first[1], self._negatives.last()])
        return self._train(positives, negatives, c.update_iterations, c.update_rate)

    def _train(self, positives: Tensor, negatives: Tensor, iterations: int, rate: float) -> list[float]:
        if len(positives) == 0 or len(negatives) == 0:  # the target fills the map, or lies off its grid
            return []
        losses: list[float] = []
        for steps in _shares(iterations, self.config.rounds):
            hard = self._hardest(negatives, self.config.negatives, self.config.pool)
            losses += self._classifier.train(positives, hard, steps, rate)
        return losses

    def _hardest(self, negatives: Tensor, count: int, pool: int) -> Tensor:
        """The ``count`` of ``pool`` negatives, drawn at random, that look most like the target."""
        if len(negatives) <= count:
            return negatives
        drawn = torch.randperm(len(negatives), generator=self._random)[:pool].to(negatives.device)
        scores = self._classifier.scores(negatives[drawn])
        return negatives[drawn[scores.topk(min(count, len(drawn))).indices]]

    def _samples(self, feature: Tensor, at: Tensor) -> Tensor:
        """(C, h, w) and (h − 2, w − 2) flags → the (n, C, 3, 3) neighbourhoods where a flag is set."""
        around = feature.unfold(1, 3, 1).unfold(2, 3, 1).permute(1, 2, 0, 3, 4)
        return around[at.to(feature.device)] * self._gain


def _shares(total: int, parts: int) -> Sequence[int]:
    """``total`` in at most ``parts`` shares that differ by one at most, none empty."""
    bounds = [total * k // parts for k in range(parts + 1)]
    return [b - a for a, b in itertools.pairwise(bounds) if b > a]

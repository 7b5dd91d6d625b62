"""Target or background: a small network trained online on samples of the frames seen, with hard negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasttrack.errors import RangeError

__all__ = ["ClassifierConfig", "OnlineClassifier", "SampleMemory"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier learns.

    Args:
        momentum: of SGD.
        weight_decay: of SGD.
        last_layer_rate: factor on the learning rate of the last layer.
        positives: of a batch.
        negatives: of a batch, the hardest of ``candidates``.
        candidates: negatives drawn for a batch; equal to ``negatives`` to take them as they come.
        clip_norm: largest norm of a gradient (0 for no limit).
        seed: of weights, batches and dropout.
    """

    momentum: float = 0.9
    weight_decay: float = 5e-4
    last_layer_rate: float = 1.0
    positives: int = 32
    negatives: int = 96
    candidates: int = 1024
    clip_norm: float = 10.0
    seed: int = 0


class SampleMemory:
    """Samples of the last ``frames`` frames, a tensor per frame: a ring that never grows beyond them.

    Args:
        frames: how many frames are kept, ≥ 1.
    """

    def __init__(self, frames: int) -> None:
        if frames < 1:
            raise RangeError("SampleMemory", "frames", "at least 1", str(frames))
        self.frames = frames
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        """Frames kept."""
        return len(self._rows)

    def add(self, samples: Tensor) -> None:
        """The (N, …) samples of the newest frame; the oldest goes where there are too many. N may be 0."""
        self._rows.append(samples)
        del self._rows[: -self.frames]

    def last(self, frames: int | None = None) -> Tensor:
        """Samples of the last ``frames`` frames (default: all kept), in one tensor."""
        rows = self._rows if frames is None else self._rows[-frames:]
        return torch.cat(rows) if rows else torch.empty(0)


class OnlineClassifier:
    """A network with two outputs per sample, background and target, under softmax cross-entropy.

    Args:
        config: batches and optimiser.
        build: makes the network, freshly initialised; its last parameterised layer is "the last layer".

    Source: Nam & Han 2016 (MDNet) §3.2–3.3; DLST §3.3 and DRVT §3.1 train theirs alike.
    """

    def __init__(self, config: ClassifierConfig, build: Callable[[], nn.Module]) -> None:
        self.config = config
        state = torch.random.get_rng_state()
        torch.manual_seed(config.seed)  # layers initialise themselves from the global generator
        self.network = build()
        torch.random.set_rng_state(state)
        self._random = torch.Generator().manual_seed(config.seed)
        self._momentum: list[Tensor] = []
        layers = [m for m in self.network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        self._last = {id(p) for p in layers[-1].parameters()}

    @torch.no_grad()
    def scores(self, samples: Tensor, chunk: int = 256) -> Tensor:
        """Probability of being the target of every sample: (N, …) → (N,), or (N, H, W) where the network is dense."""
        self.network.eval()
        return torch.cat([self.network(part).softmax(1)[:, 1] for part in samples.split(chunk)])

    def train(self, positives: Tensor, negatives: Tensor, iterations: int, lr: float) -> list[float]:
        """Take ``iterations`` steps of SGD; returns the loss of each.

        Args:
            positives: (P, …) samples of the target.
            negatives: (N, …) samples of the background.
            iterations: steps.
            lr: learning rate of all layers but the last, which has ``last_layer_rate`` times that.

        Raises:
            RangeError: no positives or no negatives.
        """
        for name, samples in (("positives", positives), ("negatives", negatives)):
            if len(samples) == 0:
                raise RangeError("OnlineClassifier.train", name, "at least one sample", "none")
        c, losses = self.config, []
        of_target = self._draws(len(positives), c.positives, iterations)
        of_background = self._draws(len(negatives), max(c.candidates, c.negatives), iterations)
        for chosen, drawn in zip(of_target, of_background, strict=True):
            hard = self._hardest(negatives, drawn)
            batch = torch.cat([positives[chosen], negatives[hard]])
            labels = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
            labels[: len(chosen)] = 1
            losses.append(self._step(batch, labels, lr))
        return losses

    def _draws(self, count: int, size: int, iterations: int) -> list[Tensor]:
        """Indices of every batch: each sample once before any comes again."""
        rows = [torch.randperm(count, generator=self._random) for _ in range(-(-size * iterations // count))]
        return list(torch.cat(rows)[: size * iterations].split(size)) if iterations else []

    def _hardest(self, negatives: Tensor, drawn: Tensor) -> Tensor:
        """Those of the drawn negatives that look most like the target."""
        if len(drawn) <= self.config.negatives:
            return drawn
        return drawn[self.scores(negatives[drawn]).topk(self.config.negatives).indices.cpu()]

    def _step(self, batch: Tensor, labels: Tensor, lr: float) -> float:
        self.network.train()
        with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
            torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=self._random)))
            loss = self._loss(self.network(batch), labels)
            parameters = [p for p in self.network.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, parameters)
        self._descend(parameters, gradients, lr)
        return float(loss.detach())

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels)

    @torch.no_grad()
    def _descend(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], lr: float) -> None:
        c = self.config
        if not self._momentum:
            self._momentum = [torch.zeros_like(p) for p in parameters]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        scale = torch.clamp(c.clip_norm / (norm + 1e-6), max=1.0) if c.clip_norm > 0 else 1.0
        for parameter, gradient, velocity in zip(parameters, gradients, self._momentum, strict=True):
            velocity.mul_(c.momentum).add_(gradient * scale + c.weight_decay * parameter)
            parameter.add_(velocity, alpha=-lr * (c.last_layer_rate if id(parameter) in self._last else 1.0))

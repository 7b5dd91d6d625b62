"""From a rough box to the one that an IoU-net likes best: gradient ascent in the box, from several starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack.models.iou_net import IoUNet

__all__ = ["BoxRefiner", "RefinementConfig", "refined", "starts"]


@dataclass(frozen=True)
class RefinementConfig:
    """Numbers of the refinement.

    Args:
        boxes: starts per target, the rough box itself included.
        best: how many of them are averaged.
        steps: of the ascent.
        rate: a step is rate · gradient · (w, h, w, h).
        position_jitter: starts lie within ± half of this of the rough centre, √area.
        size_jitter: their sides within ± half of this of the rough ones, √area.
        smallest: no side of a start is under this share of the rough box's smaller one.
        aspect: boxes of a larger ratio of sides are dropped.
        gradient_grain: gradients are rounded to multiples of it (0: not), which hides their rounding noise.
        size_rate: share of the refined size in the new one.
        seed: of the starts; every target draws its own, so that it finds the same box alone and among others.

    Source: Danelljan et al. 2019 (ATOM) §3.3 and its code; size_rate and gradient_grain of DCFST as released.
    """

    boxes: int = 10
    best: int = 3
    steps: int = 5
    rate: float = 1.0
    position_jitter: float = 0.1
    size_jitter: float = 0.5
    smallest: float = 1 / 3
    aspect: float = 6.0
    gradient_grain: float = 0.0
    size_rate: float = 0.3
    seed: int = 0


def starts(boxes: Tensor, config: RefinementConfig, generators: Sequence[torch.Generator]) -> Tensor:
    """(T, boxes, 4) boxes around the (T, 4) rough ones x, y, w, h, which come first; one generator per target."""
    noise = torch.stack([torch.rand(config.boxes - 1, 4, generator=g) for g in generators]).to(boxes) - 0.5
    sides = boxes[:, None, 2:]
    root = (sides[..., :1] * sides[..., 1:]).sqrt()
    centres = boxes[:, None, :2] + sides / 2 + noise[..., :2] * config.position_jitter * root
    smallest = config.smallest * sides.amin(2, keepdim=True)
    jittered = torch.maximum(sides + noise[..., 2:] * config.size_jitter * root, smallest)
    return torch.cat([boxes[:, None], torch.cat([centres - jittered / 2, jittered], 2)], 1)


def refined(predict: Callable[[Tensor], Tensor], boxes: Tensor, config: RefinementConfig) -> tuple[Tensor, Tensor]:
    """The mean of the best boxes after the ascent.

    Args:
        predict: (T, K, 4) boxes x, y, w, h → (T, K) values, differentiable in the boxes.
        boxes: (T, K, 4) starts.
        config: its numbers.

    Returns:
        (T, 4) boxes, and (T,) whether any was left for the target: where none was, its box is NaN.

    The best are chosen by the values before the last step, as in ATOM: one more prediction would cost about a step.
    """
    values = boxes.new_zeros(boxes.shape[:2])
    for _ in range(config.steps):
        at = boxes.detach().requires_grad_()
        with torch.enable_grad():
            values = predict(at)
            (gradient,) = torch.autograd.grad(values.sum(), at)
        if config.gradient_grain > 0:
            gradient = (gradient / config.gradient_grain).round() * config.gradient_grain
        boxes = at.detach() + config.rate * gradient * at.detach()[..., 2:].repeat(1, 1, 2)
    values = values.detach()
    sides = boxes[..., 2:].clamp_min(1.0)  # an ascent may shrink a box to nothing
    ratio = sides[..., 0] / sides[..., 1]
    kept = (ratio < config.aspect) & (ratio > 1 / config.aspect) & boxes.isfinite().all(2)
    order = values.masked_fill(~kept, -torch.inf).argsort(stable=True, dim=1, descending=True)[:, : config.best]
    chosen = kept.gather(1, order)
    rows = torch.cat([boxes[..., :2], sides], 2).gather(1, order[..., None].expand(-1, -1, 4))
    mean = rows.where(chosen[..., None], 0.0).sum(1) / chosen.sum(1, keepdim=True)
    return mean, chosen.any(1)


class BoxRefiner:
    """Refines the boxes of T targets in the patches they were found in; keeps what it knows of each from its start.

    Args:
        network: in eval mode.
        config: numbers of the refinement.
    """

    def __init__(self, network: IoUNet, config: RefinementConfig) -> None:
        self.network, self.config = network, config
        self._modulation: tuple[Tensor, ...] = ()
        self._generators: list[torch.Generator] = []

    def start(self, maps: Sequence[Tensor], boxes: Tensor) -> None:
        """Learn the targets from the backbone's maps of their first patches and their (T, 4) boxes, patch px."""
        with torch.no_grad():
            self._modulation = self.network.modulation(maps, boxes)
        self._generators = [torch.Generator().manual_seed(self.config.seed) for _ in range(len(boxes))]

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor, targets: Sequence[int]) -> Tensor:
        """(N, 4) better boxes for the (N, 4) rough ones of these targets, in px of the patches of the N maps.

        The place is the refined one, the size a mixture; a target of which no box is left keeps its rough one.
        """
        rows, config = list(targets), self.config
        with torch.no_grad():
            test = self.network.maps(maps)
        factors = [part[rows] for part in self._modulation]
        first = starts(boxes, config, [self._generators[k] for k in rows])
        best, kept = refined(lambda at: self.network(test, factors, at), first, config)
        sides = boxes[:, 2:].lerp(best[:, 2:], config.size_rate)
        new = torch.cat([best[:, :2] + best[:, 2:] / 2 - sides / 2, sides], 1)
        return new.where(kept[:, None], boxes)

    def keep(self, targets: Sequence[int]) -> None:
        """Go on with these targets only, in this order."""
        rows = list(targets)
        self._modulation = tuple(part[rows] for part in self._modulation)
        self._generators = [self._generators[k] for k in rows]

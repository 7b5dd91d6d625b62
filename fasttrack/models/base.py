"""The protocol of target models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Fit", "TargetModel"]


@dataclass(frozen=True, slots=True)
class Fit:
    """How an optimisation of a model went.

    Attributes:
        steps: iterations taken.
        loss: data loss at the end (without weight decay), summed over the samples.
        snr: signal-to-noise ratio per iteration (CRT eq. 6), the start first.
    """

    steps: int
    loss: float
    snr: tuple[float, ...]


class TargetModel(Protocol):
    """Learns one target from feature maps and answers where it is.

    Feature maps are (C, H, W), responses and labels (H′, W′), where H′ and W′ follow from the model.
    """

    def fit(self, features: Tensor, labels: Tensor) -> Fit:
        """Learn from the first frame, forgetting everything before."""
        ...

    def respond(self, features: Tensor) -> Tensor:
        """(S, C, H, W) → (S, H′, W′)."""
        ...

    def update(self, features: Tensor, labels: Tensor) -> Fit:
        """Learn from one more frame in which the target was found."""
        ...

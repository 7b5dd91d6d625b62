"""The learnt layers that DCFST's locator head and its IoU-net are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ConvBlock", "LinearBlock", "start_weights_"]


class ConvBlock(nn.Module):
    """Convolution with bias → batch norm → ReLU."""

    def __init__(self, entering: int, leaving: int, side: int = 3, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, side, padding=padding)
        self.norm = nn.BatchNorm2d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, leaving, H', W')."""
        return torch.relu(self.norm(self.conv(x)))


class LinearBlock(nn.Module):
    """Linear layer with bias → batch norm → ReLU."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.linear = nn.Linear(entering, leaving)
        self.norm = nn.BatchNorm1d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) → (N, leaving)."""
        return torch.relu(self.norm(self.linear(x.flatten(1))))


def start_weights_(module: nn.Module, random_gains: bool) -> None:
    """Zero-mean Gaussian weights of variance 2/fan-in and zero biases, in place.

    Args:
        module: all its convolutions and linear layers.
        random_gains: batch norms start with gains of U(0, 1) instead of 1.

    Source: DCFST §4.1 (Gaussian); variance and gains as its authors' and ATOM's code have them.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, mode="fan_in")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif random_gains and isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(part.weight)

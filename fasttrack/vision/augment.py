"""Copies of a patch that show the same object: mirrored, turned, blurred."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augmented", "blurred", "turned"]


def turned(patches: Tensor, degrees: float, zoom: float = 1.0) -> Tensor:
    """(T, C, h, w) turned counter-clockwise about the middle and magnified; the edge is repeated outside."""
    height, width = patches.shape[2:]
    cos, sin = math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
    # The grid says where each output pixel comes from, in halves of the sides: the inverse turn.
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]], device=patches.device)
    grid = F.affine_grid(matrix.expand(len(patches), 2, 3), list(patches.shape), align_corners=False)
    return F.grid_sample(patches, grid, padding_mode="border", align_corners=False)


def blurred(patches: Tensor, sigma: tuple[float, float], cut_px: int | None = None) -> Tensor:
    """(T, C, h, w) under a Gaussian of σ = (vertical, horizontal) px; the edge is repeated outside.

    It is cut at 3 σ, or ``cut_px`` from its middle.
    """
    channels = patches.shape[1]
    for axis, width in enumerate(sigma):
        if width <= 0:
            continue
        reach = max(1, math.ceil(3 * width)) if cut_px is None else cut_px
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=patches.device) / width) ** 2)
        shape = (-1, 1) if axis == 0 else (1, -1)
        kernel = (taps / taps.sum()).view(shape).expand(channels, 1, *(len(taps) if s == -1 else 1 for s in shape))
        pad = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
        patches = F.conv2d(F.pad(patches, pad, mode="replicate"), kernel.contiguous(), groups=channels)
    return patches


def augmented(patches: Tensor) -> list[Tensor]:
    """The patches, their mirror image, six turns (±5°, ±10°, ±20°) and five blurs.

    Source: DCFST as released (the blurs are ATOM's: σ 2 and 3 px each way and both ways).
    """
    out = [patches, patches.flip(3)]
    out += [turned(patches, angle) for angle in (5.0, -5.0, 10.0, -10.0, 20.0, -20.0)]
    return out + [blurred(patches, sigma) for sigma in ((2.0, 0.2), (0.2, 2.0), (3.0, 1.0), (1.0, 3.0), (2.0, 2.0))]

"""Which pixels a patch takes: whole numbers, worked out on the host in the float32 steps that decide the rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fasttrack.compat.pytracking._pairs import numbers
from fasttrack.errors import RangeError

__all__ = ["MODES", "Crop", "plan_crop"]

MODES = ("replicate", "inside", "inside_major")


class Crop(NamedTuple):
    """A window of the image of every ``step``-th pixel from ``offset`` on, and the size to resample it to."""

    step: int
    offset: tuple[int, int]
    top_left: tuple[int, int]
    bottom_right: tuple[int, int]  # exclusive
    output: tuple[int, int] | None


def plan_crop(
    image: tuple[int, int],
    pos: Tensor | Sequence[float],
    sample_sz: Tensor | Sequence[float],
    output_sz: Tensor | Sequence[float] | None,
    mode: str,
    max_scale_change: float | None,
) -> Crop:
    """The crop of ``sample_patch``, whose arguments these are, from an image of this (height, width)."""
    op = "sample_patch"
    center = [int(place) for place in numbers(op, "pos", pos, "two numbers, (y, x)")]
    sample = [np.float32(side) for side in numbers(op, "sample_sz", sample_sz)]
    if mode != "replicate":
        sample = _shrunk(sample, image, mode, max_scale_change)
    step, output = 1, None
    if output_sz is not None:
        asked = numbers(op, "output_sz", output_sz)
        if min(asked) < 1:
            raise RangeError(op, "output_sz", "at least 1 × 1", repr(output_sz))
        output = int(asked[0]), int(asked[1])
        ratios = (side / np.float32(out) for side, out in zip(sample, asked, strict=True))
        step = max(int(float(min(ratios)) - 0.1), 1)
    axes = [_axis(c, side, n, step, mode != "replicate") for c, side, n in zip(center, sample, image, strict=True)]
    offset, low, high = zip(*axes, strict=True)
    return Crop(step, offset, low, high, output)


def _shrunk(
    sample: list[np.float32], image: tuple[int, int], mode: str, max_scale_change: float | None
) -> list[np.float32]:
    factors = [side / np.float32(n) for side, n in zip(sample, image, strict=True)]
    factor = max(max(factors) if mode == "inside" else min(factors), np.float32(1))
    if max_scale_change is not None:
        factor = min(factor, np.float32(max_scale_change))
    return [np.float32(int(side / factor)) for side in sample]


def _axis(center: int, side: np.float32, size: int, step: int, inside: bool) -> tuple[int, int, int]:
    """Offset, start and end (exclusive) along one axis of ``size`` px."""
    offset = center % step
    middle = (center - offset) // step
    length = max(round(float(side / np.float32(step))), 2)
    start = middle - (length - 1) // 2
    if inside:
        pixels = -(-(size - offset) // step)
        start += max(-start, 0) - max(start + length - pixels, 0)
        beyond = (max(-start, 0) + max(start + length - pixels, 0)) // 2
        if beyond > 0:
            start = -beyond
    return offset, start, start + length

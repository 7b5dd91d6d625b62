"""Boxes drawn around a box: candidates for a search, and samples chosen by their overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fasttrack.errors import RangeError, ShapeError
from fasttrack.geometry import Box

__all__ = ["Spread", "as_tensor", "draw", "draw_by_overlap", "overlaps"]

SMALLEST_SIDE_PX = 10.0
_ROUNDS = 12  # of drawing until enough boxes overlap as wanted


@dataclass(frozen=True, slots=True)
class Spread:
    """How far drawn boxes lie from the box they are drawn around.

    Attributes:
        translation: largest shift of the centre per axis, mean sides of the box; inf: anywhere in the frame.
        scale: largest change of size, powers of ``step``.
        aspect: largest change of one side alone, powers of ``step``.
        gaussian: shifts and sizes are ½·N(0, 1) cut at ±1 of the largest; else uniform.
        step: a size's ratio to the next.
    """

    translation: float
    scale: float
    aspect: float = 0.0
    gaussian: bool = False
    step: float = 1.05


def as_tensor(boxes: Sequence[Box]) -> Tensor:
    """(N, 4) float64 rows x, y, w, h."""
    return torch.tensor([b.as_tuple() for b in boxes], dtype=torch.float64).view(-1, 4)


def overlaps(boxes: Tensor, box: Box) -> Tensor:
    """Intersection over union of (N, 4) boxes x, y, w, h with one box: (N,)."""
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ShapeError("overlaps", "boxes", "(N, 4), rows x, y, w, h", str(tuple(boxes.shape)))
    low, size = boxes[:, :2], boxes[:, 2:]
    at, sides = boxes.new_tensor(box.as_tuple()).view(2, 2)
    common = (torch.minimum(low + size, at + sides) - torch.maximum(low, at)).clamp_min(0).prod(1)
    out: Tensor = common / (size.prod(1) + sides.prod() - common)
    return out


def draw(box: Box, count: int, spread: Spread, frame: tuple[int, int], random: torch.Generator) -> Tensor:
    """``count`` boxes around a box, clipped to the frame.

    Centres move by ``translation·r·u`` (r the mean side), sides become ``step^(scale·u)`` times as long, u from
    −1..1. Sides stay within 10 px (half the box's where that is less) and the frame's (the box's where that is
    more); boxes are then moved so that they reach no farther out of the frame than the box does.

    Args:
        box: what to draw around.
        count: boxes to draw, ≥ 0.
        spread: how far.
        frame: (width, height) in px.
        random: seeded generator.

    Returns:
        (count, 4) float64 rows x, y, w, h in px.

    Source: DLST §4.1, as in MDNet §3.3.
    """
    if count < 0:
        raise RangeError("draw", "count", "at least 0", str(count))
    size, sides = torch.tensor(frame, dtype=torch.float64), torch.tensor([box.w, box.h], dtype=torch.float64)
    unit = _units(count, spread.gaussian, random)
    powers = spread.scale * unit[:, 2:3] + spread.aspect * torch.stack([unit[:, 3], -unit[:, 3]], 1)
    smallest = torch.clamp(sides / 2, max=SMALLEST_SIDE_PX)
    drawn = (sides * spread.step**powers).clamp(smallest, torch.maximum(size, sides))
    if spread.translation == float("inf"):
        centres = (unit[:, :2] + 1) / 2 * size
    else:
        centres = torch.tensor(box.center, dtype=torch.float64) + spread.translation * sides.mean() * unit[:, :2]
    at = torch.tensor([box.x, box.y], dtype=torch.float64)
    low, high = torch.clamp(at, max=0.0), torch.maximum(size, at + sides)
    return torch.cat([torch.maximum(torch.minimum(centres - drawn / 2, high - drawn), low), drawn], 1)


def draw_by_overlap(
    box: Box,
    count: int,
    spread: Spread,
    limits: tuple[float, float],
    frame: tuple[int, int],
    random: torch.Generator,
) -> Tensor:
    """At most ``count`` boxes around a box whose IoU with it lies within ``limits``, both ends included.

    Draws until there are enough. While too few overlap as wanted, the spread changes: it narrows where the limits
    reach up to 1 and widens where they do not, so that no target is left without samples.

    Args:
        box: what to draw around.
        count: boxes wanted, ≥ 0.
        spread: how far at first.
        limits: least and largest IoU.
        frame: (width, height) in px.
        random: seeded generator.

    Returns:
        (N, 4) float64 rows x, y, w, h; N = count unless the rounds ran out.

    Source: DLST §4.1.
    """
    if not 0 <= limits[0] <= limits[1] <= 1:
        raise RangeError("draw_by_overlap", "limits", "0 ≤ least ≤ largest ≤ 1", str(limits))
    kept, missing = [torch.empty(0, 4, dtype=torch.float64)], count
    for _ in range(_ROUNDS):
        if missing == 0:
            break
        drawn = draw(box, 2 * count, spread, frame, random)
        iou = overlaps(drawn, box)
        fit = drawn[(iou >= limits[0]) & (iou <= limits[1])][:missing]
        if 2 * len(fit) < missing:
            factor = 0.7 if limits[1] == 1 else 1.4
            spread = replace(spread, translation=spread.translation * factor, scale=spread.scale * factor)
        kept.append(fit)
        missing -= len(fit)
    return torch.cat(kept)


def _units(count: int, gaussian: bool, random: torch.Generator) -> Tensor:
    """(count, 4) numbers within −1..1: both shifts, size, aspect."""
    if gaussian:
        return (0.5 * torch.randn(count, 4, generator=random, dtype=torch.float64)).clamp_(-1, 1)
    return 2 * torch.rand(count, 4, generator=random, dtype=torch.float64) - 1

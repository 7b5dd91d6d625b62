"""The grid of RoIs that DCFST samples a search region with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fasttrack.geometry import Box, Window
from fasttrack.vision.labels import gaussian_map

__all__ = ["RoiGrid", "in_patches"]


class RoiGrid:
    """count × count RoIs of the object's size in a square patch, centres from half an object to side − half an object.

    Args:
        count: RoIs per side.
        side_px: of the patch.
        object_px: √(w·h) of every object in its patch.

    Attributes:
        step_px: distance of neighbouring centres, patch px.

    Source: DCFST §3.1 step 1; the step as released.
    """

    def __init__(self, count: int, side_px: int, object_px: float) -> None:
        self.count, self.side_px, self.object_px = count, side_px, object_px
        self.step_px = (side_px - object_px) / max(count - 1, 1)
        self._centres = object_px / 2 + self.step_px * torch.arange(count)

    def gaussian(self, sigma: float) -> Tensor:
        """(count, count) Gaussian around the middle of the patch, peak 1; σ in objects."""
        middle, cells = torch.tensor([[(self.count - 1) / 2] * 2]), sigma * self.object_px / self.step_px
        return gaussian_map((self.count, self.count), middle, (cells, cells))[0]

    def beyond(self, distance_px: float) -> Tensor:
        """(count²,) whether the centre of a RoI is farther than this from the middle of the patch."""
        away = self._centres - self.side_px / 2
        return (torch.hypot(away[:, None], away[None, :]) > distance_px).flatten()

    def cells(self, window: Window) -> Window:
        """The part of the window that the grid's cells cover: one cell per RoI, around its centre."""
        across, down = (self.count * scale * self.step_px for scale in window.scale)
        centre = window.x + window.w / 2, window.y + window.h / 2
        return Window.around(*centre, across, down, self.count, self.count)

    def intervals(self, boxes: Sequence[Box], factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """Columns and rows of the grid, (T, count, 2) px of the patch each, for objects ``factor`` times their size."""
        out = []
        for axis in range(2):
            # Sides of the object in the patch: their product is object_px², their ratio the box's.
            sides = [self.object_px * math.sqrt(b.w / b.h if axis == 0 else b.h / b.w) for b in boxes]
            half = torch.tensor(sides)[:, None] * factor / 2
            out.append(torch.stack([self._centres - half, self._centres + half], 2))
        return out[0], out[1]


def in_patches(windows: Sequence[Window], boxes: Sequence[Box]) -> Tensor:
    """(T, 4) boxes x, y, w, h in px of the patches."""
    corners = [(*w.to_patch(*b.xyxy[:2]), *w.to_patch(*b.xyxy[2:])) for w, b in zip(windows, boxes, strict=True)]
    edges = torch.tensor(corners)
    return torch.cat([edges[:, :2], edges[:, 2:] - edges[:, :2]], 1)

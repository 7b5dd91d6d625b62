"""Arguments to try the RoI pooling on: RoIs inside, across and off the map, shared rows, the trackers' sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case

__all__ = ["FILTER", "GRID", "LINEAR", "POOL", "dcfst_grid", "grid_rois"]

Build = Callable[[Generator, torch.dtype], dict[str, Any]]


def grid_rois(boxes_x: Tensor, boxes_y: Tensor) -> Tensor:
    """(N·Gy·Gx, 5) RoIs of all pairs of (N, Gx, 2) column and (N, Gy, 2) row intervals, columns fastest."""
    images, gx, gy = boxes_x.shape[0], boxes_x.shape[1], boxes_y.shape[1]
    shape = (images, gy, gx)
    index = torch.arange(images, dtype=boxes_x.dtype, device=boxes_x.device).view(-1, 1, 1).expand(shape)
    x1, x2 = (boxes_x[:, None, :, i].expand(shape) for i in (0, 1))
    y1, y2 = (boxes_y[:, :, None, i].expand(shape) for i in (0, 1))
    return torch.stack([index, x1, y1, x2, y2], -1).reshape(-1, 5)


def _normal(generator: Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _coordinates(rows: Any, dtype: torch.dtype) -> Tensor:
    """Coordinates are float32 at least."""
    return torch.as_tensor(rows, dtype=torch.float64).to(dtype if dtype == torch.float64 else torch.float32)


def _jittered(generator: Generator, images: int, count: int, side: float, limit: float) -> Tensor:
    """RoIs around the middle of each map, some across its border; no edge on a whole cell."""
    draw = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    size = side * (0.5 + draw[:, 2:])
    corner = draw[:, :2] * 1.1 * limit - 0.3 * size
    index = torch.arange(count, dtype=torch.float64)[:, None] % images
    return torch.cat([index, corner, corner + size], 1)


def _rois(
    shape: tuple[int, int, int, int],
    output_size: int | tuple[int, int] | None,
    scale: float,
    rows: Any,
    **weights: tuple[int, ...],
) -> Build:
    """Arguments of prroi_pool: ``rows`` lists RoIs, or is their number; ``weights`` gives further tensors' shapes."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        features = _normal(generator, dtype, *shape)
        size = min(shape[2:]) / scale
        chosen = _jittered(generator, shape[0], rows, 0.5 * size, size) if isinstance(rows, int) else rows
        rois = _coordinates(chosen, dtype).reshape(-1, 5)
        more = {name: _normal(generator, dtype, *size) for name, size in weights.items()}
        given = {} if output_size is None else {"output_size": output_size}
        return {"features": features, "rois": rois, **more, **given, "spatial_scale": scale}

    return build


def dcfst_grid(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Intervals of DCFST's 31 × 31 samples: boxes of 288/5 px in steps of 7.68 px."""
    low = torch.arange(31, dtype=torch.float64) * ((288 - 288 / 5) / 30)
    boxes = _coordinates(torch.stack([low, low + 288 / 5], 1), dtype)
    return boxes, boxes.clone()


def _dcfst(channels: int, side: int, bins: int | None, **weights: tuple[int, ...]) -> Build:
    columns, rows = dcfst_grid(torch.float64)
    return _rois((1, channels, side, side), bins, side / 288, grid_rois(columns[None], rows[None]), **weights)


def _refinement(channels: int, side: int, bins: int) -> Build:
    """Ten boxes around a target of a fifth of the map."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        size = 57.6 * (1 + 0.5 * (torch.rand(10, 2, generator=generator, dtype=torch.float64) - 0.5))
        centre = 144 + 5.76 * torch.randn(10, 2, generator=generator, dtype=torch.float64)
        rows = torch.cat([torch.zeros(10, 1, dtype=torch.float64), centre - size / 2, centre + size / 2], 1)
        return _rois((1, channels, side, side), bins, side / 288, rows)(generator, dtype)

    return build


def _grid(shape: tuple[int, int, int, int], per_image: bool, output_size: Any, scale: float) -> Build:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        lead = (shape[0],) if per_image else ()
        boxes = []
        for count, cells in ((4, shape[3]), (3, shape[2])):
            low = (torch.rand(*lead, count, generator=generator, dtype=torch.float64) - 0.1) * cells / scale
            extent = (0.2 + torch.rand(*lead, count, generator=generator, dtype=torch.float64)) * cells / (2 * scale)
            boxes.append(_coordinates(torch.stack([low, low + extent], -1), dtype))
        features = _normal(generator, dtype, *shape)
        names = {"features": features, "boxes_x": boxes[0], "boxes_y": boxes[1]}
        return {**names, "output_size": output_size, "spatial_scale": scale}

    return build


# Across the borders, wholly outside, wider than the map, flipped in x and in y.
_HOSTILE = [
    (0, -3.3, -2.1, 2.7, 3.4),
    (1, 5.2, 6.1, 12.9, 13.7),
    (0, 40.0, 3.0, 55.0, 9.0),
    (1, -20.7, -10.3, 31.1, 24.9),
    (1, 5.5, 1.5, 2.5, 6.5),
    (0, 1.5, 6.5, 4.5, 2.5),
]
# A side of 1e-5 to 3e-4: what is left of float32 after the difference of two close coordinates.
_TINY = [(0, 2.3, 3.1, 2.3001, 3.1002), (0, 4.9999, 2.7, 5.0002, 2.70001)]
# No edge of a bin lies on a whole cell, where the coordinate gradient has a kink.
_SHARED = [(0, 0.31 + 1.9 * x, 0.73 + 2.3 * y, 4.57 + 1.9 * x, 4.16 + 2.3 * y) for y in range(3) for x in range(5)]
# Two images; wider than the map, beside it, and beyond its corner.
_ROWS = [
    (n, x, y, x + side, y + 3.63)
    for n in range(2)
    for y in (-1.87, 2.44)
    for x, side in ((-2.31, 4.06), (0.37, 3.11), (1.29, 16.4), (4.71, 3.11), (14.2, 2.3))
]
POOL = (
    Case("several", _rois((2, 5, 9, 7), (3, 2), 0.25, 6)),
    Case("square", _rois((1, 3, 8, 8), 4, 1.0, 3)),
    Case("hostile", _rois((2, 3, 8, 7), (2, 3), 1.0, _HOSTILE)),
    Case("tiny", _rois((1, 2, 6, 9), 1, 1.0, _TINY), differences=False),
    Case("one_bin", _rois((3, 4, 11, 5), 1, 0.5, 7)),
    Case("one_cell", _rois((1, 2, 1, 1), 3, 1.0, [(0, -0.7, -0.4, 0.8, 0.9)])),
    Case("shared", _rois((1, 37, 10, 13), (5, 3), 1.0, _SHARED)),
    Case("tiles_8x8", _rois((2, 40, 7, 11), 8, 1.0, _ROWS)),
    Case("tiles_4x4", _rois((2, 40, 7, 11), 4, 1.0, _ROWS)),
    Case("channels", _rois((2, 67, 12, 14), 8, 0.125, 9)),
    Case("none", _rois((1, 31, 9, 10), 2, 1.0, [])),
    Case("dcfst_8x8", _dcfst(128, 36, 8), bench=True, tests=False),
    Case("dcfst_4x4", _dcfst(256, 18, 4), bench=True, tests=False),
    Case("refine_5x5", _refinement(256, 36, 5), bench=True, tests=False),
    Case("refine_3x3", _refinement(256, 18, 3), bench=True, tests=False),
)
GRID = (
    Case("shared_by_images", _grid((2, 3, 7, 6), False, (3, 2), 0.5)),
    Case("per_image", _grid((2, 4, 6, 9), True, 3, 0.25)),
)
FILTER = (
    Case("one_filter", _rois((2, 5, 9, 7), None, 0.25, 6, weight=(5, 3, 2))),
    Case("filter_per_image", _rois((2, 5, 9, 7), None, 0.25, 6, weight=(2, 5, 2, 4))),
    Case("shared", _rois((1, 9, 10, 13), None, 1.0, _SHARED, weight=(9, 4, 8))),
    Case("hostile", _rois((2, 3, 8, 7), None, 1.0, _HOSTILE, weight=(3, 2, 3))),
    Case("dcfst_8x8", _dcfst(128, 36, None, weight=(128, 8, 8)), bench=True, tests=False),
    Case("dcfst_4x4", _dcfst(256, 18, None, weight=(256, 4, 4)), bench=True, tests=False),
)
LINEAR = (
    Case("one_ridge", _rois((2, 3, 9, 7), (3, 2), 0.25, 6, weight_fc=(7, 18), weight_ridge=(7,))),
    Case("ridge_per_image", _rois((2, 3, 9, 7), (3, 2), 0.25, 6, weight_fc=(7, 18), weight_ridge=(2, 7))),
)

"""RoIs of feature maps as rows of a data matrix, and the scores of RoIs under a linear model of such rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import ShapeError
from fasttrack.vision.features.networks import Tap

__all__ = ["PooledSamples"]


class PooledSamples:
    """Pooled backbone features as they are: what DCFST learns from where no trained head is at hand.

    A RoI becomes the row (g₁·pool₁, g₂·pool₂, …) of its precise RoI poolings from every map. The gains g bring each
    map's part to a root mean square of √(width / (maps·own width)) over the samples of the first frame, per target:
    every map weighs the same and the squared norm of a row is about ``width``, which λ is meant for.

    Args:
        taps: the maps, in the order in which they will come.
        bins: pooled size (P, Q) of every map.
        width: squared norm of a row.

    Source: DCFST §3.1 steps 3–4 (1024 numbers of RMS 1), without the layers that are learnt offline.
    """

    def __init__(self, taps: Sequence[Tap], bins: Sequence[tuple[int, int]], width: float = 1024.0) -> None:
        if len(taps) != len(bins):
            raise ShapeError("PooledSamples", "bins", f"one size for each of {len(taps)} maps", str(len(bins)))
        self.taps, self.bins, self.width = tuple(taps), tuple(bins), width
        self.columns = [tap.channels * p * q for tap, (p, q) in zip(taps, bins, strict=True)]

    def maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The maps of the backbone as they are: nothing is learnt in front of the pooling."""
        return tuple(maps)

    def rows(self, maps: Sequence[Tensor], boxes_x: Tensor, boxes_y: Tensor) -> Tensor:
        """(T, Gy·Gx, D) samples of a grid of RoIs, not yet scaled; intervals (T, G, 2) in patch px (edges)."""
        parts = []
        for feature, tap, bins in zip(maps, self.taps, self.bins, strict=True):
            shift = tap.first_centre_px
            pooled = ops.prroi_pool_grid(feature, boxes_x - shift, boxes_y - shift, bins, 1 / tap.stride)
            parts.append(pooled.flatten(3).flatten(1, 2))
        return torch.cat(parts, 2)

    def gains(self, rows: Tensor, last: Tensor | None = None) -> Tensor:
        """(T, 1, D) factor of every column: the ``last``, or from the samples of the first frame."""
        if last is not None:
            return last
        out = []
        for part in rows.split(self.columns, 2):
            rms = part.square().mean((1, 2), keepdim=True).sqrt().clamp_min(torch.finfo(part.dtype).tiny)
            gain = (self.width / (len(self.columns) * part.shape[2])) ** 0.5 / rms
            out.append(gain.expand(-1, 1, part.shape[2]))
        return torch.cat(out, 2)

    def first(self, copies: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Scaled samples and gains of the first frame, from the rows of its copies: of their mean."""
        total: Tensor | None = None
        count = 0
        for rows in copies:
            total = rows if total is None else total.add_(rows)
            count += 1
        if total is None:
            raise ShapeError("PooledSamples.first", "copies", "at least one", "none")
        total.div_(count)
        gains = self.gains(total)
        return total.mul_(gains), gains

    def scores(self, maps: Sequence[Tensor], boxes_x: Tensor, boxes_y: Tensor, weight: Tensor) -> Tensor:
        """(T, Gy, Gx) scores ⟨row, weight⟩ of a grid of RoIs, without forming the rows; weight (T, D)."""
        total: Tensor | None = None
        parts = weight.split(self.columns, 1)
        for feature, tap, bins, part in zip(maps, self.taps, self.bins, parts, strict=True):
            shift = tap.first_centre_px
            rois = ops.prroi_grid_rois(boxes_x - shift, boxes_y - shift)
            filters = part.reshape(-1, tap.channels, *bins)
            scores = ops.prroi_filter_score(feature, rois, filters, 1 / tap.stride)
            total = scores if total is None else total + scores
        assert total is not None
        return total.view(len(weight), boxes_y.shape[1], boxes_x.shape[1])

"""RoIs of feature maps as rows of a data matrix, and the scores of RoIs under a linear model of such rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError, ShapeError
from fasttrack.models.grid_ridge import PooledMap, grid_ridge
from fasttrack.vision.features.networks import Tap

__all__ = ["Grid", "PooledSamples", "few_at_once", "filter_scores", "pooled_rows"]

#: Targets that are pooled at once: 961 RoIs of one take 47 MB.
POOLED_AT_ONCE = 8
#: Columns and rows of a grid of RoIs for T targets: intervals (T, G, 2) in patch px (edges) each.
Grid = tuple[Tensor, Tensor]


class PooledSamples:
    """Pooled backbone features as they are: what DCFST learns from where no trained head is at hand.

    A RoI becomes the row (g₁·pool₁, g₂·pool₂, …) of its precise RoI poolings from every map. The gains g bring each
    map's part to a root mean square of √(width / (maps·own width)) over the samples of the first frame, per target:
    every map weighs the same and the squared norm of a row is about ``width``, which λ is meant for.

    The rows of a grid are linear in the maps. While the shape of an object stays, so does its grid, and the mean of
    its rows over frames is the rows of the mean of the maps: only the maps are kept (1 MB instead of 47 for 961 rows),
    and the regression is solved without ever forming the rows (``grid_ridge``).

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

    def rows(self, maps: Sequence[Tensor], grid: Grid) -> Tensor:
        """(T, Gy·Gx, D) samples of a grid of RoIs, not yet scaled."""
        parts = zip(maps, self.taps, self.bins, strict=True)
        return torch.cat([pooled_rows(feature, tap, grid, bins) for feature, tap, bins in parts], 2)

    def gains(self, rows: Tensor) -> Tensor:
        """(T, 1, D) factor of every column, from the samples of the first frame."""
        out = []
        for part in rows.split(self.columns, 2):
            rms = part.square().mean((1, 2), keepdim=True).sqrt().clamp_min(torch.finfo(part.dtype).tiny)
            gain = (self.width / (len(self.columns) * part.shape[2])) ** 0.5 / rms
            out.append(gain.expand(-1, 1, part.shape[2]))
        return torch.cat(out, 2)

    def first(self, copies: Iterable[Sequence[Tensor]], grid: Grid) -> tuple[tuple[Tensor, ...], Tensor]:
        """State and gains of the first frame, from the maps of its copies."""
        total: list[Tensor] = []
        count = 0
        for maps in copies:
            total = (
                [part.add_(new) for part, new in zip(total, maps, strict=True)] if total else [m.clone() for m in maps]
            )
            count += 1
        if not total:
            raise ShapeError("PooledSamples.first", "copies", "at least one", "none")
        mean = [part.div_(count) for part in total]
        gains = torch.cat([self.gains(self.rows(maps, own)) for maps, own in few_at_once(mean, grid)])
        return (*mean, *grid, gains), gains

    def later(self, maps: Sequence[Tensor], grid: Grid, gains: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """State of a later frame, and its gains: those of the first frame."""
        return (*maps, *grid, gains), gains

    def solve(self, state: Sequence[Tensor], label: Tensor, ridge: float, weight: Tensor | None, sweeps: int) -> Tensor:
        """The solution (D,) for the state of one target.

        Raises:
            RangeError: sweeps are asked for, which would need a matrix of D × D.
        """
        if sweeps > 0:
            raise RangeError("PooledSamples.solve", "sweeps", "0 (solved exactly) without a trained head", str(sweeps))
        *maps, x, y, gains = state
        own = [part[0, 0].item() for part in gains.split(self.columns, 1)]
        pooled = [
            PooledMap(feature, x - tap.first_centre_px, y - tap.first_centre_px, bins, tap.stride, gain)
            for feature, tap, bins, gain in zip(maps, self.taps, self.bins, own, strict=True)
        ]
        return torch.cat([part.flatten() for part in grid_ridge(pooled, label, ridge)])

    def scores(self, maps: Sequence[Tensor], grids: Sequence[Grid], weight: Tensor) -> Tensor:
        """(T, S, Gy, Gx) scores ⟨row, weight⟩ of S grids of RoIs, without forming the rows; weight (T, D)."""
        filters = [
            part.reshape(-1, tap.channels, *bins)
            for part, tap, bins in zip(weight.split(self.columns, 1), self.taps, self.bins, strict=True)
        ]
        return filter_scores(maps, self.taps, grids, filters)


def pooled_rows(feature: Tensor, tap: Tap, grid: Grid, bins: tuple[int, int]) -> Tensor:
    """(T, Gy·Gx, C·P·Q) precise RoI poolings of one map over a grid of RoIs."""
    x, y = (boxes - tap.first_centre_px for boxes in grid)
    return ops.prroi_pool_grid(feature, x, y, bins, 1 / tap.stride).flatten(3).flatten(1, 2)


def few_at_once(maps: Sequence[Tensor], grid: Grid) -> Iterator[tuple[tuple[Tensor, ...], Grid]]:
    """Maps and grids of a few targets after the other."""
    for *own, x, y in zip(*(part.split(POOLED_AT_ONCE) for part in (*maps, *grid)), strict=True):
        yield tuple(own), (x, y)


def filter_scores(
    maps: Sequence[Tensor], taps: Sequence[Tap], grids: Sequence[Grid], filters: Sequence[Tensor]
) -> Tensor:
    """(T, S, Gy, Gx) sums over the maps of ⟨filter, pooled⟩ for S grids of RoIs; a filter is (T, C, P, Q)."""
    total: Tensor | None = None
    for feature, tap, weights in zip(maps, taps, filters, strict=True):
        # All grids in one call: the channels are contracted once for all of them.
        shift = tap.first_centre_px
        rois = torch.cat([ops.prroi_grid_rois(x - shift, y - shift) for x, y in grids])
        scores = ops.prroi_filter_score(feature, rois, weights, 1 / tap.stride)
        total = scores if total is None else total + scores
    assert total is not None
    targets, columns, rows = grids[0][0].shape[0], grids[0][0].shape[1], grids[0][1].shape[1]
    return total.view(len(grids), targets, rows, columns).transpose(0, 1)

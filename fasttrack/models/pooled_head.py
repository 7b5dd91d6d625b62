"""DCFST's locator head: learnt maps, precise RoI pooling, one linear layer per map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fasttrack.errors import ShapeError
from fasttrack.models.blocks import ConvBlock, start_weights_
from fasttrack.models.pooled_samples import Grid, few_at_once, filter_scores, pooled_rows
from fasttrack.models.ridge_locator import solve_rows
from fasttrack.vision.features.networks import Tap

__all__ = ["PooledHead"]


class PooledHead(nn.Module):
    """RoIs of a search region as rows of ``width`` learnt numbers per map.

    Per map: ``blocks`` times 3×3 convolution, batch norm and ReLU; PrRoIPool; one linear layer with bias, with neither
    batch norm nor ReLU. Every column of the row is divided by its RMS over the samples of its own frame. Offline
    training runs ``maps``, ``rows`` and ``gains`` under autograd; a tracker takes the same methods in eval mode.

    Scores never form a row: ⟨g·(A·pool + b), w⟩ = ⟨Aᵀ(g·w), pool⟩ + ⟨b, g·w⟩ is one filter per map. The RMS of the
    search frame itself would need its rows; a search may take the gains of the frame learnt from last, whose samples
    lie at the same places around the target (ours; the authors' code forms the rows).

    Args:
        taps: the maps of the backbone, in the order in which they will come.
        bins: pooled size (P, Q) of every map.
        channels: of the learnt maps.
        width: numbers per map.
        blocks: convolutions per map (2; the authors' network on ResNet-50 has 4).

    Source: DCFST §3.1; bias, absence of norm and ReLU behind the linear layer and the axis of the RMS as released.
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        bins: Sequence[tuple[int, int]] = ((8, 8), (4, 4)),
        channels: Sequence[int] = (128, 256),
        width: int = 512,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        if not len(taps) == len(bins) == len(channels):
            raise ShapeError("PooledHead", "bins", f"one size for each of {len(taps)} maps", str(len(bins)))
        self.taps, self.bins = tuple(taps), tuple(bins)
        self.convs = nn.ModuleList(
            nn.Sequential(*(ConvBlock(tap.channels if i == 0 else count, count) for i in range(blocks)))
            for tap, count in zip(taps, channels, strict=True)
        )
        self.linear = nn.ModuleList(
            nn.Linear(count * p * q, width) for count, (p, q) in zip(channels, bins, strict=True)
        )
        start_weights_(self, random_gains=False)

    def maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Learnt maps (T, C, H, W) of those of the backbone, of unchanged size."""
        return tuple(convs(x) for convs, x in zip(self.convs, maps, strict=True))

    def rows(self, maps: Sequence[Tensor], grid: Grid) -> Tensor:
        """(T, Gy·Gx, D) samples of a grid of RoIs, not yet scaled."""
        return torch.cat([self._rows(own, few) for own, few in few_at_once(maps, grid)])

    def _rows(self, maps: Sequence[Tensor], grid: Grid) -> Tensor:
        parts = zip(maps, self.taps, self.bins, self.linear, strict=True)
        return torch.cat([layer(pooled_rows(feature, tap, grid, bins)) for feature, tap, bins, layer in parts], 2)

    def gains(self, rows: Tensor) -> Tensor:
        """(T, 1, D) factor of every column: 1/RMS over the samples of these rows."""
        rms = rows.square().mean(1, keepdim=True).sqrt()
        return 1 / rms.clamp_min(torch.finfo(rows.dtype).eps)

    def first(self, copies: Iterable[Sequence[Tensor]], grid: Grid) -> tuple[tuple[Tensor], Tensor]:
        """State (the data matrix) and gains of the first frame, from its copies' maps; the plain copy comes first."""
        total: Tensor | None = None
        count, plain = 0, torch.empty(0)
        for maps in copies:
            (scaled,), own = self.later(maps, grid)
            plain = own if total is None else plain
            total = scaled if total is None else total.add_(scaled)
            count += 1
        if total is None:
            raise ShapeError("PooledHead.first", "copies", "at least one", "none")
        return (total.div_(count),), plain

    def later(self, maps: Sequence[Tensor], grid: Grid, gains: Tensor | None = None) -> tuple[tuple[Tensor], Tensor]:
        """State (the data matrix) and gains of a frame: its own, whatever they were before."""
        rows = self.rows(maps, grid)
        own = self.gains(rows)
        return (rows * own,), own

    def solve(self, state: Sequence[Tensor], label: Tensor, ridge: float, weight: Tensor | None, sweeps: int) -> Tensor:
        """The solution (D,) for the state of one target."""
        return solve_rows(state, label, ridge, weight, sweeps)

    def scores(self, maps: Sequence[Tensor], grids: Sequence[Grid], weight: Tensor) -> Tensor:
        """(T, S, Gy, Gx) scores ⟨row, weight⟩ of S grids of RoIs, without forming rows; weight (T, D), with gains."""
        layers = [layer for layer in self.linear if isinstance(layer, nn.Linear)]
        parts = weight.split([layer.out_features for layer in layers], 1)
        filters = [
            (part @ layer.weight).view(len(part), -1, p, q)
            for part, layer, (p, q) in zip(parts, layers, self.bins, strict=True)
        ]
        constant = sum((part @ layer.bias for part, layer in zip(parts, layers, strict=True)), weight.new_zeros(()))
        return filter_scores(maps, self.taps, grids, filters) + constant[:, None, None, None]

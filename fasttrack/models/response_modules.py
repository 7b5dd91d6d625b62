"""From patches to response maps in one ``torch.nn`` module: what a tracker sees, for export and ``torch.compile``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from fasttrack import ops
from fasttrack.models.fused_regressor import FusedRegressor
from fasttrack.models.pooled_samples import Grid

__all__ = ["FusedResponse", "RidgeResponse"]


class _Head(Protocol):
    """``PooledHead`` or ``PooledSamples``."""

    def maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps that are pooled."""

    def scores(self, maps: Sequence[Tensor], grids: Sequence[Grid], weight: Tensor) -> Tensor:
        """(T, S, Gy, Gx) scores of S grids."""


class RidgeResponse(nn.Module):
    """DCFST's response: patches and ridge weights → scores of a grid of RoIs (DCFST §3.1 and eq. 5).

    Args:
        network: patches → maps, e.g. ``Backbone.module()``.
        head: what makes rows of the maps, trained or not; a module is part of this one.
    """

    def __init__(self, network: nn.Module, head: _Head) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, patches: Tensor, weight: Tensor, boxes_x: Tensor, boxes_y: Tensor) -> Tensor:
        """(T, Gy, Gx) scores.

        Args:
            patches: (T, 3, h, w) float RGB 0..255.
            weight: (T, D) solutions of the regression, with the gains of their columns.
            boxes_x: (T, Gx, 2) columns of the grid in patch px (edges).
            boxes_y: (T, Gy, 2) rows.
        """
        maps = self.head.maps(self.network(patches))
        return self.head.scores(maps, [(boxes_x, boxes_y)], weight)[:, 0]


class FusedResponse(nn.Module):
    """DSLT's response: patches → R = Σ_r w_r ⋆ Σ_i m[i][r]·A_i F_i, with one kernel for all of it (DSLT §3.3).

    Args:
        stack: patches → stacked maps, ``LayerStack.module()``.
        regressor: fitted; its kernel as it is now.
    """

    def __init__(self, stack: nn.Module, regressor: FusedRegressor) -> None:
        super().__init__()
        self.stack = stack
        self.register_buffer("kernel", regressor.composed())

    def forward(self, patches: Tensor) -> Tensor:
        """(T, H′, W′) responses of (T, 3, h, w) float RGB 0..255."""
        return ops.conv_regression(self.stack(patches), self.get_buffer("kernel"))

"""Several regressors on mixtures of several reduced maps: what is shared between them, and with which rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack.errors import RangeError, ShapeError
from fasttrack.spec.conv_regression import conv_regression

__all__ = ["Fusion", "fused_response"]


@dataclass(frozen=True)
class Fusion:
    """How the maps of several layers are mixed before the regressors, and how fast each part learns.

    R = Σ_r w_r ⋆ (Σ_i m[i][r]·A_i F_i) + b

    The maps F_i lie one after the other in the channels of the features, their reductions A_i in the columns of one
    (D, C) matrix. Every A_i is one matrix, however many regressors read its map: what they share is tied. Map i meets
    the kernel u_i = A_iᵀ v_i with v_i = Σ_r m[i][r]·w_r; with G_i the gradient in u_i

    dA_i = v_i G_iᵀ,   dw_r = Σ_i m[i][r]·A_i G_i.

    DSLT fuses conv4_3 and conv5_3 of 512 channels: P = A₄F₄ + A₅F₅ for one regressor, A₅F₅ alone for the other, whose
    responses are added. In the paper the parts of the first layer learn at 2e-8, those of the second at 8e-7, and
    there is no bias: ``lr=2e-8, bias_lr=0``. The released code has P = 0.8·A₄F₄ + 0.2·A₅F₅, both reductions at 2e-8,
    40 times the decay for the second regressor, and two biases at 2 and 40 times the rate; their gradients are the
    same, so one at ``bias_lr=42 * 2e-8`` is their sum. (Its reductions have 3×3 cells; here they have one.)

    Args:
        channels: C_i ≥ 1 of each map.
        mixing: for each map its shares m[i][r], one per regressor.
        rates: what ``lr`` is multiplied with for each regressor, > 0; empty: 1.
        reduction_rates: what ``reduction_lr`` is multiplied with for each map, > 0; empty: 1.
        decays: what ``weight_decay`` is multiplied with for each regressor, ≥ 0; empty: 1.

    Raises:
        ShapeError, RangeError: naming the argument, what was wanted and what came.

    Examples:
        >>> paper = Fusion((512, 512), ((1.0, 0.0), (1.0, 1.0)), rates=(1.0, 40.0), reduction_rates=(1.0, 40.0))
        >>> released = Fusion((512, 512), ((0.8, 0.0), (0.2, 1.0)), rates=(1.0, 40.0), decays=(1.0, 40.0))
        >>> released.regressors, released.reduction_rates
        (2, (1.0, 1.0))

    Source: Lu et al. 2018 (DSLT), §3.3, fig. 3c, and §5.1.
    """

    channels: tuple[int, ...]
    mixing: tuple[tuple[float, ...], ...]
    rates: tuple[float, ...] = ()
    reduction_rates: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(int(c) for c in self.channels))
        object.__setattr__(self, "mixing", tuple(_floats(row) for row in self.mixing))
        if not self.channels or min(self.channels) < 1:
            raise RangeError("Fusion", "channels", "at least one map of at least one channel", repr(self.channels))
        widths = {len(row) for row in self.mixing}
        if len(self.mixing) != len(self.channels) or len(widths) != 1 or 0 in widths:
            wanted = f"{len(self.channels)} rows, one per map, with one share per regressor each"
            raise ShapeError("Fusion", "mixing", wanted, repr(self.mixing))
        if not all(math.isfinite(share) for row in self.mixing for share in row):
            raise RangeError("Fusion", "mixing", "finite shares", repr(self.mixing))
        for name, count in (
            ("rates", self.regressors),
            ("reduction_rates", len(self.channels)),
            ("decays", self.regressors),
        ):
            values = _floats(getattr(self, name)) or (1.0,) * count
            if len(values) != count:
                raise ShapeError("Fusion", name, f"{count} numbers, or none", repr(values))
            open_low = name != "decays"
            if not all(math.isfinite(v) and (v > 0 if open_low else v >= 0) for v in values):
                raise RangeError("Fusion", name, f"finite numbers {'>' if open_low else '≥'} 0", repr(values))
            object.__setattr__(self, name, values)

    @property
    def regressors(self) -> int:
        """R."""
        return len(self.mixing[0])

    def mixed(self, weight: Tensor) -> tuple[Tensor, ...]:
        """v_i = Σ_r m[i][r]·w_r of (R, D, kh, kw), for each map."""
        return tuple(
            sum((share * w for share, w in zip(row, weight, strict=True)), 0 * weight[0]) for row in self.mixing
        )


def fused_response(features: Tensor, weight: Tensor, bias: Tensor, reduction: Tensor, fusion: Fusion) -> Tensor:
    """Response of a map (C, H, W) as the equation says it: reduced maps, their mixtures, the regressors on these."""
    maps = zip(reduction.split(fusion.channels, 1), features.split(fusion.channels, 0), strict=True)
    reduced = [torch.einsum("dc,chw->dhw", matrix, x) for matrix, x in maps]
    response = bias
    for r, w in enumerate(weight):
        mixture = torch.stack([row[r] * x for row, x in zip(fusion.mixing, reduced, strict=True)]).sum(0)
        response = response + conv_regression(mixture, w)
    return response


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)

"""Local response normalisation across channels, alone and between a ReLU and a max-pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "lrn", "lrn_gradient", "pooled_size", "relu_lrn_maxpool", "window_sum"]


def pooled_size(n: int, pool: int, stride: int, ceil_mode: bool) -> int:
    """Windows along an axis of n ≥ pool; rounded up, the last one is cut but starts inside."""
    out = -(-(n - pool) // stride) if ceil_mode else (n - pool) // stride
    return out if out * stride >= n else out + 1


def window_sum(values: Tensor, before: int, after: int) -> Tensor:
    """Σ over the channels c − before … c + after of each channel c of (B, C, H, W); 0 beyond the ends."""
    channels = values.shape[1]
    wide = functional.pad(values, (0, 0, 0, 0, before, after))
    total = wide[:, :channels]
    for i in range(1, before + after + 1):
        total = total + wide[:, i : i + channels]
    return total


def lrn(x: Tensor, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Tensor:
    """y_c = x_c / (k + alpha · Σ x²)^beta over the ``size`` channels around c."""
    return x / (k + alpha * window_sum(x**2, size // 2, (size - 1) // 2)) ** beta


def lrn_gradient(x: Tensor, g: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """Gradient of ``lrn`` in x for the gradient g of its output, in closed form (itself differentiable).

    With s = k + alpha·Σ x²: g·s^−β − 2αβ·x·Σ' g·x·s^−β/s, Σ' over the windows that a channel belongs to.
    """
    before, after = size // 2, (size - 1) // 2
    s = k + alpha * window_sum(x * x, before, after)
    passed = g * s**-beta
    return passed - 2 * alpha * beta * x * window_sum(passed * x / s, after, before)


def relu_lrn_maxpool(
    x: Tensor,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    pool: int = 3,
    stride: int = 2,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest of pool × pool windows of lrn(max(x, 0))."""
    return functional.max_pool2d(lrn(x.relu(), size, k, alpha, beta), pool, stride, ceil_mode=ceil_mode)


def _maps(
    shape: tuple[int, ...], *, channels_last: bool = False, **options: Any
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        # Responses of a first convolution on grey levels: tens, so that the sum of squares matters against k.
        x = (40 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
        return {"x": x.to(memory_format=torch.channels_last) if channels_last else x, **options}

    return build


def _both(name: str, shape: tuple[int, ...], bench: bool = False, **options: Any) -> list[Case]:
    """The case in both memory layouts."""
    return [
        Case(name, _maps(shape, **options), bench=bench, tests=not bench),
        Case(f"{name}_channels_last", _maps(shape, channels_last=True, **options), bench=bench, tests=not bench),
    ]


_ALONE = (
    *_both("small", (1, 5, 7, 9)),
    *_both("prime", (2, 19, 7, 11)),
    *_both("few_channels", (2, 3, 5, 5)),
    *_both("wide_window", (1, 13, 3, 7), size=8, k=1.0, alpha=2e-4),
    *_both("own_channel_only", (1, 9, 4, 3), size=1, beta=0.5),
    *_both("other_power", (1, 17, 4, 5), beta=1.0, k=0.5),
    Case("long_plane", _maps((1, 3, 13, 41))),
    Case("one_cell", _maps((1, 24, 1, 1))),
    Case("none", _maps((0, 5, 7, 9))),
    *_both("b32_96x51x51", (32, 96, 51, 51), bench=True),
)
_FUSED = (
    *_both("small", (1, 5, 7, 9)),
    *_both("prime", (2, 19, 13, 11)),
    *_both("few_channels", (2, 3, 5, 17)),
    *_both("cut_windows", (1, 10, 8, 12), ceil_mode=True),
    *_both("pool_2", (1, 9, 7, 10), pool=2, stride=2, size=4),
    *_both("pool_5_dense", (1, 8, 9, 8), pool=5, stride=1),
    *_both("gaps", (1, 9, 11, 9), pool=2, stride=3, ceil_mode=True, beta=0.5),
    Case("no_pool", _maps((1, 9, 3, 4), pool=1, stride=1)),
    Case("wide_rows", _maps((1, 3, 3, 271))),
    Case("none", _maps((0, 5, 7, 9))),
    *_both("b1_96x51x51", (1, 96, 51, 51), bench=True),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    n = arguments["x"].numel()
    return Cost(flops=24 * n, bytes=8 * n)


def _cost_fused(arguments: dict[str, Any]) -> Cost:
    b, c, h, w = arguments["x"].shape
    return Cost(flops=27 * b * c * h * w, bytes=4 * b * c * (h * w + (h // 2) * (w // 2)))


_TOLERANCE = {
    torch.float32: Tolerance(5e-7, 1e-6, witness="8.8e-8, 2.6e-7; gradients 8.4e-8, 1.7e-7"),
    torch.float64: Tolerance(1e-13, 1e-12, witness="exact reference"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="2.6e-4, 4.5e-4: one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="2e-3, 3.2e-3: one rounding of the result"),
}

SPECS = (
    Spec("lrn", "lrn", lrn, _ALONE, _TOLERANCE, ("x",), cost=_cost),
    Spec("lrn", "relu_lrn_maxpool", relu_lrn_maxpool, _FUSED, _TOLERANCE, ("x",), cost=_cost_fused),
)

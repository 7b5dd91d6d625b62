"""Large-kernel, one-output convolution: the definition, its cases and its tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "conv_regression"]


def conv_regression(
    features: Tensor, weight: Tensor, bias: Tensor | None = None, reduction: Tensor | None = None
) -> Tensor:
    """R[b, i, j] = Σ_c,p,q X[b, c, i + p, j + q]·w[c, p, q] + bias; with a reduction A of the map A X."""
    if weight.dim() == 4:  # a kernel per map
        matrices = [reduction] * len(features) if reduction is None or reduction.dim() == 2 else reduction
        biases = [None] * len(features) if bias is None else bias[:, None]
        each = [conv_regression(*arguments) for arguments in zip(features, weight, biases, matrices, strict=True)]
        if each:
            return torch.stack(each)
        height, width = (features.shape[i] - weight.shape[i] + 1 for i in (2, 3))
        return features.new_zeros(0, height, width) * (features.sum() + weight.sum())
    if reduction is not None:
        features = torch.einsum("dc,...chw->...dhw", reduction, features)
    batched = features if features.dim() == 4 else features[None]
    response = functional.conv2d(batched, weight[None], bias)[:, 0]
    return response if features.dim() == 4 else response[0]


def _maps(
    batch: int | None,
    channels: int,
    height: int,
    width: int,
    kh: int,
    kw: int,
    bias: bool = True,
    reduced: int | None = None,
    each: tuple[str, ...] = (),
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    """Arguments: ``reduced`` channels after a reduction; those named in ``each`` are given per map."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        def normal(name: str, *shape: int) -> Tensor:
            if name in each:
                shape = (batch or 0, *shape)
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        shape = (channels, height, width) if batch is None else (batch, channels, height, width)
        weight = (channels if reduced is None else reduced, kh, kw)
        arguments = {"features": normal("", *shape), "weight": normal("weight", *weight)}
        if bias:
            arguments["bias"] = normal("", batch or 0) if "weight" in each else normal("", 1)
        if reduced is not None:
            arguments["reduction"] = normal("reduction", reduced, channels)
        return arguments

    return build


_CASES = (
    Case("small", _maps(2, 3, 9, 8, 4, 3)),
    Case("one_map", _maps(None, 5, 13, 11, 6, 5)),
    Case("no_bias", _maps(1, 2, 12, 17, 5, 3, bias=False)),
    Case("kernel_is_map", _maps(9, 4, 7, 6, 7, 6)),
    Case("kernel_1x1", _maps(1, 9, 5, 7, 1, 1)),
    Case("row", _maps(1, 3, 1, 40, 1, 7)),
    Case("column", _maps(1, 3, 40, 1, 7, 1)),
    Case("one_channel", _maps(3, 1, 23, 19, 11, 2)),
    Case("prime", _maps(2, 17, 53, 47, 13, 7)),
    Case("wide", _maps(1, 31, 29, 83, 5, 19)),
    Case("kernel_3x3", _maps(1, 16, 24, 31, 3, 3)),
    Case("kernel_5x5", _maps(1, 12, 31, 24, 5, 5)),
    Case("reduced", _maps(2, 5, 9, 8, 4, 3, reduced=3)),
    Case("reduced_one_map", _maps(None, 19, 13, 11, 6, 5, reduced=9)),
    Case("widened", _maps(1, 2, 12, 17, 3, 3, bias=False, reduced=7)),
    Case("kernel_per_map", _maps(3, 3, 9, 8, 4, 3, each=("weight",))),
    Case("reduced_per_map", _maps(2, 9, 17, 13, 7, 5, bias=False, reduced=4, each=("weight", "reduction"))),
    Case("kernel_per_map_reduced_alike", _maps(2, 6, 9, 11, 4, 5, reduced=2, each=("weight",))),
    Case("S_64x100x72_k20x8", _maps(1, 64, 100, 72, 20, 8), bench=True, tests=False),
    Case("M_64x160x126_k32x14", _maps(1, 64, 160, 126, 32, 14), bench=True, tests=False),
    Case("L_64x240x216_k48x24", _maps(1, 64, 240, 216, 48, 24), bench=True, tests=False),
    Case("hog_31x100x72_k20x8", _maps(1, 31, 100, 72, 20, 8), bench=True, tests=False),
    Case("64x72x120_k9x9", _maps(1, 64, 72, 120, 9, 9), bench=True, tests=False),
    Case("128x72x120_k5x5", _maps(1, 128, 72, 120, 5, 5), bench=True, tests=False),
    Case("128x72x120_k3x3", _maps(1, 128, 72, 120, 3, 3), bench=True, tests=False),
    Case("reduced_M_512to128x72x120_k14x13", _maps(1, 512, 72, 120, 14, 13, reduced=128), bench=True, tests=False),
    Case("reduced_L_512to128x105x162_k21x18", _maps(1, 512, 105, 162, 21, 18, reduced=128), bench=True, tests=False),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    """Of the definition with the kernels composed, not of the FFT that the kernel runs instead."""
    features, weight, reduction = arguments["features"], arguments["weight"], arguments.get("reduction")
    channels, height, width = features.shape[-3:]
    kh, kw = weight.shape[-2:]
    maps = features.numel() // (channels * height * width)
    positions = maps * (height - kh + 1) * (width - kw + 1)
    compose = 0.0 if reduction is None else 2.0 * weight.numel() * channels
    moved = features.numel() + weight.numel() + positions + (0 if reduction is None else reduction.numel())
    return Cost(flops=2.0 * channels * kh * kw * positions + compose, bytes=4.0 * moved)


_TOLERANCE = {
    torch.float32: Tolerance(2e-6, 4e-6, witness="2.5e-7, 5e-7"),
    torch.float64: Tolerance(1e-13, 1e-12, witness="exact reference"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="3e-4, 5e-4: one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="2e-3, 4e-3: one rounding of the result"),
}

SPECS = (
    Spec(
        "conv_regression",
        "conv_regression",
        conv_regression,
        _CASES,
        _TOLERANCE,
        # The gradient in the bias is a bare sum, which the contract's alternating weights cancel to nothing:
        # tests/test_conv_regression.py checks it.
        ("features", "weight", "reduction"),
        cost=_cost,
        caches=lambda arguments: 2.5 * 4 * arguments["features"].shape[-3:].numel(),
    ),
)

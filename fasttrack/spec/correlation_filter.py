"""Correlation filters: ridge regression over all cyclic shifts of a patch, linear or with a Gaussian kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = [
    "KERNELS",
    "SPECS",
    "correlation_filter",
    "correlation_filter_learnt",
    "detect",
    "maps_of",
    "spectra_of",
    "train",
]

KERNELS = ("linear", "gaussian")


def spectra_of(maps: Tensor) -> Tensor:
    """(…, H, W) → (…, W, H//2 + 1), the half spectrum of each map with its axes swapped."""
    swapped = maps.transpose(-1, -2)
    if maps.numel() == 0:  # MKL refuses to transform nothing
        return torch.complex(swapped, torch.zeros_like(swapped))[..., : maps.shape[-2] // 2 + 1]
    spectra: Tensor = torch.fft.rfft2(swapped)
    return spectra


def maps_of(spectra: Tensor, height: int) -> Tensor:
    """The inverse of ``spectra_of`` for maps of this height."""
    if spectra.numel() == 0:
        return spectra.real[..., :1].expand(*spectra.shape[:-1], height).transpose(-1, -2)
    maps: Tensor = torch.fft.irfft2(spectra, s=(spectra.shape[-2], height)).transpose(-1, -2)
    return maps


def _gaussian(products: Tensor, energy: Tensor, sigma: float, channels: int) -> Tensor:
    """exp(−max(0, ‖x‖² + ‖z‖² − 2⟨x, z⟩) / (σ²·C·H·W)) of every shift."""
    width = sigma**2 * channels * products.shape[-2] * products.shape[-1]
    return torch.exp(-(energy - 2 * products).clamp(min=0) / width)


def train(features: Tensor, label: Tensor, lam: float, kernel: str, sigma: float) -> tuple[Tensor, Tensor]:
    """(T, C, H, W) and (T or 1, H, W) → (numerator, denominator) or (spectra, dual variables)."""
    channels, height, width = features.shape[1:]
    x, y = spectra_of(features), spectra_of(label)
    power = (x.real**2 + x.imag**2).sum(1)
    if kernel == "linear":
        scale = 1 / (channels * height * width)
        return scale * x * y.conj()[:, None], scale * power + lam
    products = maps_of(torch.complex(power, torch.zeros_like(power)), height)
    energy = 2 * features.square().sum((1, 2, 3))[:, None, None]
    return x, y / (spectra_of(_gaussian(products, energy, sigma, channels)) + lam)


def detect(template: Tensor, coefficients: Tensor, features: Tensor, kernel: str, sigma: float) -> Tensor:
    """A trained filter and (T, S, C, H, W) → responses (T, S, H, W)."""
    channels, height = features.shape[2:4]
    products = (template.conj()[:, None] * spectra_of(features)).sum(2)
    if kernel == "linear":
        return maps_of(products / coefficients[:, None], height)
    of_template = maps_of(template, height).square().sum((1, 2, 3))
    energy = of_template[:, None] + features.square().sum((2, 3, 4))
    values = _gaussian(maps_of(products, height), energy[..., None, None], sigma, channels)
    return maps_of(spectra_of(values) * coefficients[:, None], height)


def correlation_filter(
    features: Tensor,
    label: Tensor,
    search: Tensor,
    lam: float = 1e-4,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
) -> Tensor:
    """Train on ``features``, detect in ``search``."""
    if window is not None:
        features, search = features * window, search * window
    batched = features.dim() == 4
    if not batched:
        features, search = features[None], search[None]
    template, coefficients = train(features, label if label.dim() == 3 else label[None], lam, kernel, sigma)
    one_scale = search.dim() == 4
    response = detect(template, coefficients, search[:, None] if one_scale else search, kernel, sigma)
    response = response[:, 0] if one_scale else response
    return (response if batched else response[0]).contiguous()


def correlation_filter_learnt(
    features: Tensor,
    label: Tensor,
    newer: Tensor,
    search: Tensor,
    rate: float,
    lam: float = 1e-4,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
) -> Tensor:
    """Train on ``features`` and on ``newer``, average, detect in ``search``; all with targets in front."""
    if window is not None:
        features, newer, search = features * window, newer * window, search * window
    y = label if label.dim() == 3 else label[None]
    models = [train(maps, y, lam, kernel, sigma) for maps in (features, newer)]
    template, coefficients = ((1 - rate) * old + rate * new for old, new in zip(*models, strict=True))
    one_scale = search.dim() == 4
    response = detect(template, coefficients, search[:, None] if one_scale else search, kernel, sigma)
    return (response[:, 0] if one_scale else response).contiguous()


def _maps(
    targets: int | None,
    scales: int | None,
    channels: int,
    height: int,
    width: int,
    *,
    labels: bool = False,
    window: bool = False,
    **options: Any,
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    """Noise that is partly common to all channels, seen again moved and disturbed at every scale."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        count = () if targets is None else (targets,)
        levels = () if scales is None else (scales,)
        common = normal(*count, 1, height, width)
        features = (normal(*count, channels, height, width) + common).clamp(min=0)
        seen = features.roll((1, 2), (-2, -1))
        if scales is not None:
            seen = seen.unsqueeze(len(count))
        search = (seen + 0.3 * normal(*count, *levels, channels, height, width)).clamp(min=0)
        y = torch.arange(height, dtype=torch.float64) - height // 2
        x = torch.arange(width, dtype=torch.float64) - width // 2
        spread = torch.rand(count if labels else (1,), generator=generator, dtype=torch.float64) + 1
        square = y[:, None] ** 2 + x[None] ** 2
        label = torch.exp(-0.5 * square / spread.view(-1, 1, 1) ** 2)
        arguments = {"features": features, "label": label if labels else label[0], "search": search}
        if window:
            taper = [torch.sin(torch.pi * (torch.arange(n) + 0.5) / n).double() ** 2 for n in (height, width)]
            arguments["window"] = taper[0][:, None] * taper[1]
        return {**{k: v.to(dtype) for k, v in arguments.items()}, "lam": 0.01, **options}

    return build


def _cases(**options: Any) -> tuple[Case, ...]:
    def maps(
        targets: int | None, scales: int | None, *size: int, labels: bool = False, window: bool = False
    ) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
        channels, height, width = size
        return _maps(targets, scales, channels, height, width, labels=labels, window=window, **options)

    return (
        Case("small", maps(None, 2, 3, 8, 9)),
        Case("targets", maps(2, 2, 3, 6, 10, labels=True, window=True)),
        Case("one_map", maps(None, None, 1, 12, 5, window=True)),
        Case("odd", maps(1, 1, 3, 15, 25)),
        Case("row", maps(None, 3, 2, 1, 24)),
        Case("column", maps(None, 1, 2, 20, 1)),
        Case("two_rows", maps(2, None, 4, 2, 16)),
        Case("wide", maps(None, 2, 5, 18, 40, window=True)),
        Case("tall", maps(None, None, 4, 48, 20)),
        Case("no_targets", maps(0, 2, 3, 8, 8, labels=True)),
        Case("96x64x64_3_scales", maps(None, 3, 96, 64, 64, window=True), bench=True, tests=False),
        Case("96x160x160_3_scales", maps(None, 3, 96, 160, 160, window=True), bench=True, tests=False),
    )


def _learnt_cases(**options: Any) -> tuple[Case, ...]:
    def maps(
        targets: int, scales: int, *size: int, labels: bool = False, window: bool = False, rate: float = 0.2
    ) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
        of_one_frame = _maps(targets, scales, *size, labels=labels, window=window, **options)

        def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
            arguments = of_one_frame(generator, dtype)
            fresh = torch.rand(arguments["features"].shape, generator=generator, dtype=torch.float64)
            newer = arguments["features"].double() + 0.5 * fresh
            return {**arguments, "newer": newer.to(dtype), "rate": rate}

        return build

    return (
        Case("one", maps(1, 1, 3, 8, 9)),
        Case("targets", maps(2, 2, 3, 6, 10, labels=True, window=True)),
        Case("first", maps(2, 1, 2, 12, 5, rate=1.0)),
        Case("nothing", maps(1, 2, 1, 16, 16, window=True, rate=0.0)),
        Case("no_targets", maps(0, 2, 3, 8, 8, labels=True)),
        Case("1x64x64", maps(1, 1, 1, 64, 64, window=True), bench=True, tests=False),
        Case("31x24x24_3_scales", maps(1, 3, 31, 24, 24, window=True), bench=True, tests=False),
    )


def _learnt_cost(arguments: dict[str, Any]) -> Cost:
    """As ``_cost``, of one map more."""
    once = _cost(arguments)
    share = 1 + arguments["newer"].numel() / max(1, arguments["features"].numel() + arguments["search"].numel())
    return Cost(flops=once.flops * share, bytes=once.bytes * share)


def _cost(arguments: dict[str, Any]) -> Cost:
    """Of the transforms and of one multiply-accumulate per bin, channel and map; bytes of the maps."""
    features, search = arguments["features"], arguments["search"]
    cells = features.shape[-1] * features.shape[-2]
    maps = (features.numel() + search.numel()) // max(1, cells)
    depth = float(torch.log2(torch.tensor(float(max(2, cells)))))
    read = features.numel() + search.numel() + search.numel() // features.shape[-3]
    return Cost(flops=maps * cells * (2.5 * depth + 4), bytes=4.0 * read)


_HALVES = {
    torch.float16: Tolerance(2e-3, 2e-3, witness="one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="one rounding of the result"),
}
_EXACT = {torch.float64: Tolerance(1e-12, 1e-12, witness="exact reference")}

SPECS = (
    Spec(
        "correlation_filter",
        "correlation_filter",
        correlation_filter,
        _cases(kernel="linear"),
        {torch.float32: Tolerance(3e-5, 3e-5, witness="2.3e-7, 2.3e-7"), **_EXACT, **_HALVES},
        ("features", "label", "search"),
        {
            torch.float32: Tolerance(1e-4, 1e-4),
            torch.float16: Tolerance(1e-2, 1e-2, witness="the response's gradient comes rounded to half"),
            torch.bfloat16: Tolerance(6e-2, 6e-2, witness="2.6e-2, 2.4e-2: as for float16"),
        },
        cost=_cost,
    ),
    Spec(
        "correlation_filter",
        "correlation_filter",
        correlation_filter,
        _cases(kernel="gaussian", sigma=0.5),
        {torch.float32: Tolerance(1e-3, 1e-3, witness="2.7e-5, 1.8e-6 at 160²"), **_EXACT, **_HALVES},
        cost=_cost,
    ),
    *(
        Spec(
            "correlation_filter",
            "correlation_filter_learnt",
            correlation_filter_learnt,
            _learnt_cases(kernel=kernel, sigma=0.5),
            {torch.float32: Tolerance(bound, bound), **_EXACT, **_HALVES},
            cost=_learnt_cost,
        )
        for kernel, bound in (("linear", 3e-5), ("gaussian", 1e-3))
    ),
)

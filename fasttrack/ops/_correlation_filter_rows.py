"""The registered ops of correlation filters: rows and fake implementations.

Complex tensors cross as real ones with a last axis of (re, im). ``features`` are (T, C, H, W) to train on and
(T, S, C, H, W) to detect in, labels (T or 1, H, W), spectra (…, W, H//2 + 1) as ``spec.spectra_of`` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _correlation_filter_gradient as gradient
from fasttrack.ops._correlation_filter_gradient import windowed
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._rows import cpu_row, kernel_input, on_cpu, on_gpu, reference_row, triton_row, wide
from fasttrack.spec import correlation_filter as spec

__all__ = ["DETECT", "TRAIN", "UPDATE", "cpu_why_not", "fft_size", "kernel_maps", "learn_cpu", "size_why_not"]


def fft_size(n: int) -> int:
    """The least number ≥ n without prime factors above 5."""
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1


@cache
def _smooth(n: int) -> bool:
    return fft_size(n) == n


def _bins(features: Tensor) -> tuple[int, int]:
    return features.shape[-1], features.shape[-2] // 2 + 1


def cpu_why_not(features: Tensor) -> str | None:
    """Why the C++ kernels cannot read these maps; None when they can."""
    return on_cpu(features, "features") or size_why_not(features.shape[-2], features.shape[-1])


def size_why_not(height: int, width: int) -> str | None:
    """Why the C++ kernels cannot transform maps of this size; None when they can."""
    for name, n in (("height", height), ("width", width)):
        if not _smooth(n):
            return f"needs sizes without prime factors above 5, got {name} {n} (fft_size gives {fft_size(n)})"
    return None


def _train_why_not(features: Tensor, *_: Any) -> str | None:
    return cpu_why_not(features)


def _detect_why_not(template: Tensor, coefficients: Tensor, features: Tensor, *_: Any) -> str | None:
    return cpu_why_not(features)


def _update_why_not(template: Tensor, *_: Any) -> str | None:
    return on_cpu(template, "model")


def kernel_maps(features: Tensor) -> Tensor:
    """Float32 with contiguous rows; other strides are free."""
    values = features if features.dtype == torch.float32 else features.detach().float()
    return values if values.stride(-1) == 1 or values.shape[-1] == 1 else values.contiguous()


def _train_cpu(
    features: Tensor, label: Tensor, window: Tensor | None, lam: float, sigma: float, gaussian: bool
) -> tuple[Tensor, Tensor]:
    targets, channels = features.shape[:2]
    bins = _bins(features)
    template = torch.empty((targets, channels, *bins, 2), dtype=torch.float32)
    coefficients = torch.empty((targets, *bins, 2) if gaussian else (targets, *bins), dtype=torch.float32)
    # With a rate of 1 what the model held is not read.
    learn_cpu(template, coefficients, features, label, window, lam, sigma, gaussian, 1.0, range(targets))
    return template, coefficients


def learn_cpu(
    template: Tensor,
    coefficients: Tensor,
    features: Tensor,
    label: Tensor,
    window: Tensor | None,
    lam: float,
    sigma: float,
    gaussian: bool,
    rate: float,
    targets: Sequence[int],
) -> None:
    """Train on ``features``, and average with the model, which lies contiguous, at the places ``targets``."""
    x, y = kernel_maps(features), kernel_input(label)
    w = None if window is None else kernel_input(window)
    count, channels, height, width = x.shape
    stride_target, stride_channel, stride_row, _ = x.stride()
    native.lib().cf_learn(
        x.data_ptr(),
        (count, 1, channels, height, width),
        (stride_target, 0, stride_channel, stride_row),
        0 if w is None else w.data_ptr(),
        y.data_ptr(),
        0 if y.shape[0] == 1 else y.stride(0),
        gaussian,
        lam,
        sigma,
        template.data_ptr(),
        coefficients.data_ptr(),
        targets,
        rate,
    )


def _detect_cpu(
    template: Tensor, coefficients: Tensor, features: Tensor, window: Tensor | None, sigma: float, gaussian: bool
) -> Tensor:
    z, a, b = kernel_maps(features), kernel_input(template), kernel_input(coefficients)
    w = None if window is None else kernel_input(window)
    targets, scales, channels, height, width = z.shape
    *strides, _ = z.stride()
    response = torch.empty((targets, scales, height, width), dtype=torch.float32)
    native.lib().cf_detect(
        z.data_ptr(),
        (targets, scales, channels, height, width),
        strides,
        0 if w is None else w.data_ptr(),
        a.data_ptr(),
        b.data_ptr(),
        gaussian,
        sigma,
        response.data_ptr(),
    )
    return response if features.dtype == torch.float32 else response.to(features.dtype)


def _update_cpu(
    template: Tensor, coefficients: Tensor, new_template: Tensor, new_coefficients: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    results = []
    for old, new in ((template, new_template), (coefficients, new_coefficients)):
        a, b = kernel_input(old), kernel_input(new)
        out = torch.empty_like(a)
        native.lib().cf_update(a.data_ptr(), b.data_ptr(), out.data_ptr(), a.numel(), rate)
        results.append(out)
    return results[0], results[1]


def _train_triton_why_not(features: Tensor, *_: Any) -> str | None:
    return on_gpu(features, "features")


def _detect_triton_why_not(template: Tensor, coefficients: Tensor, features: Tensor, *_: Any) -> str | None:
    return on_gpu(features, "features")


def _update_triton_why_not(template: Tensor, *_: Any) -> str | None:
    return on_gpu(template, "model")


def _train_triton(
    features: Tensor, label: Tensor, window: Tensor | None, lam: float, sigma: float, gaussian: bool
) -> tuple[Tensor, Tensor]:
    from fasttrack.kernels import correlation_filter as kernels

    if features.numel() == 0:
        return _train_meta(features, label, window, lam, sigma, gaussian)
    w = None if window is None else kernel_input(window)
    return kernels.train(features.detach(), kernel_input(label), w, lam, sigma, gaussian)


def _detect_triton(
    template: Tensor, coefficients: Tensor, features: Tensor, window: Tensor | None, sigma: float, gaussian: bool
) -> Tensor:
    from fasttrack.kernels import correlation_filter as kernels

    if features.numel() == 0:
        return _detect_meta(template, coefficients, features, window, sigma, gaussian)
    w = None if window is None else kernel_input(window)
    a, b = kernel_input(template), kernel_input(coefficients)
    return kernels.detect(a, b, features.detach(), w, sigma, gaussian).to(features.dtype).contiguous()


def _update_triton(
    template: Tensor, coefficients: Tensor, new_template: Tensor, new_coefficients: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    from fasttrack.kernels import correlation_filter as kernels

    a, b, new_a, new_b = (kernel_input(t) for t in (template, coefficients, new_template, new_coefficients))
    return kernels.update(a, b, new_a, new_b, rate) if a.numel() else (torch.empty_like(a), torch.empty_like(b))


def _pairs(spectra: Tensor) -> Tensor:
    """Complex → real with a last axis of two, in memory of its own."""
    return torch.view_as_real(spectra.resolve_conj()).contiguous()


def _train_reference(
    features: Tensor, label: Tensor, window: Tensor | None, lam: float, sigma: float, gaussian: bool
) -> tuple[Tensor, Tensor]:
    x, y = windowed(features, window), wide(label)
    template, coefficients = spec.train(x, y, lam, "gaussian" if gaussian else "linear", sigma)
    return _pairs(template), _pairs(coefficients) if gaussian else coefficients.contiguous()


def _detect_reference(
    template: Tensor, coefficients: Tensor, features: Tensor, window: Tensor | None, sigma: float, gaussian: bool
) -> Tensor:
    a, z = torch.view_as_complex(template), windowed(features, window)
    b = torch.view_as_complex(coefficients) if gaussian else coefficients
    response = spec.detect(a, b, z, "gaussian" if gaussian else "linear", sigma)
    return response.to(features.dtype).contiguous()


def _update_reference(
    template: Tensor, coefficients: Tensor, new_template: Tensor, new_coefficients: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    return torch.lerp(template, new_template, rate), torch.lerp(coefficients, new_coefficients, rate)


def _train_meta(
    features: Tensor, label: Tensor, window: Tensor | None, lam: float, sigma: float, gaussian: bool
) -> tuple[Tensor, Tensor]:
    dtype = wide(features).dtype
    targets, channels, bins = features.shape[0], features.shape[1], _bins(features)
    template = features.new_empty((targets, channels, *bins, 2), dtype=dtype)
    return template, features.new_empty((targets, *bins, 2) if gaussian else (targets, *bins), dtype=dtype)


def _detect_meta(
    template: Tensor, coefficients: Tensor, features: Tensor, window: Tensor | None, sigma: float, gaussian: bool
) -> Tensor:
    return features.new_empty((*features.shape[:2], *features.shape[3:]))


def _update_meta(
    template: Tensor, coefficients: Tensor, new_template: Tensor, new_coefficients: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(template), torch.empty_like(coefficients)


TRAIN = Op(
    "correlation_filter_train",
    "(Tensor features, Tensor label, Tensor? window, float lam, float sigma, bool gaussian)"
    " -> (Tensor template, Tensor coefficients)",
    rows=(
        triton_row(_train_triton_why_not, _train_triton),
        cpu_row(_train_why_not, _train_cpu),
        reference_row(_train_reference),
    ),
    meta=_train_meta,
    gradient=Gradient(gradient.setup_train, gradient.train_backward),
)
DETECT = Op(
    "correlation_filter_detect",
    "(Tensor template, Tensor coefficients, Tensor features, Tensor? window, float sigma, bool gaussian) -> Tensor",
    rows=(
        triton_row(_detect_triton_why_not, _detect_triton),
        cpu_row(_detect_why_not, _detect_cpu),
        reference_row(_detect_reference),
    ),
    meta=_detect_meta,
    gradient=Gradient(gradient.setup_detect, gradient.detect_backward),
)
UPDATE = Op(
    "correlation_filter_update",
    "(Tensor template, Tensor coefficients, Tensor new_template, Tensor new_coefficients, float rate)"
    " -> (Tensor template_out, Tensor coefficients_out)",
    rows=(
        triton_row(_update_triton_why_not, _update_triton),
        cpu_row(_update_why_not, _update_cpu),
        reference_row(_update_reference),
    ),
    meta=_update_meta,
    gradient=Gradient(gradient.setup_update, gradient.update_backward),
)

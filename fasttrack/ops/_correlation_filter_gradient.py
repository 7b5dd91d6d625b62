"""Backward of correlation filters with the linear kernel, in operations that autograd can differentiate again.

A loss L has the cotangent G = ∂L/∂Re + i·∂L/∂Im in a complex spectrum. ``spectra_of`` keeps half of the
frequencies: those between the first and the Nyquist row stand for their mirror images too (weight 2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import ArgumentError
from fasttrack.ops._blocks import blocks
from fasttrack.ops._rows import wide
from fasttrack.spec.correlation_filter import maps_of, spectra_of

__all__ = [
    "detect_backward",
    "setup_detect",
    "setup_train",
    "setup_update",
    "train_backward",
    "update_backward",
    "windowed",
]


_BLOCK = 1 << 18  # numbers of features in transformation at a time


def windowed(features: Tensor, window: Tensor | None) -> Tensor:
    """Features times window, in the dtype of the arithmetic."""
    return wide(features) if window is None else wide(features) * wide(window)


def _weights(height: int, like: Tensor) -> Tensor:
    """How many frequencies each row frequency of a half spectrum stands for."""
    rows = torch.arange(height // 2 + 1, device=like.device)
    alone = (rows == 0) | (2 * rows == height)
    return torch.where(alone, 1.0, 2.0).to(like.dtype)


def _spectra_adjoint(cotangent: Tensor, height: int) -> Tensor:
    """Gradient in maps of this height from the cotangent of their ``spectra_of``."""
    cells = height * cotangent.shape[-2]
    return maps_of(cotangent / _weights(height, cotangent.real), height) * cells


def _maps_adjoint(grad: Tensor) -> Tensor:
    """Cotangent of a spectrum from the gradient in the maps that ``maps_of`` makes of it."""
    height, width = grad.shape[-2:]
    return spectra_of(grad) * (_weights(height, grad) / (height * width))


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.contiguous())


def _added(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _linear_only(gaussian: bool) -> None:
    if gaussian:
        wanted = "'linear' where the kernels shall be differentiated"
        hint = "cf_train, cf_detect and correlation_filter differentiate the Gaussian kernel through the reference"
        raise ArgumentError("correlation_filter", "kernel", wanted, "'gaussian'", hint)


def setup_train(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Save the features, the label and the window."""
    features, label, window, _, _, ctx.gaussian = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(features, label, window)


def train_backward(ctx: Any, g_template: Tensor | None, g_power: Tensor | None) -> tuple[Any, ...]:
    """Numerator κ·x̂·ŷ*, denominator κ·Σ|x̂|² + λ, κ = 1/(C·H·W): gradients in features and label."""
    _linear_only(ctx.gaussian)
    features, label, window = ctx.saved_tensors
    needs = ctx.needs_input_grad
    channels, height, width = features.shape[1:]
    scale = 1 / (channels * height * width)
    y, of_y, parts = spectra_of(wide(label)), None, []
    for some in blocks(features, 1, _BLOCK):  # channels
        x = spectra_of(windowed(features[:, some], window))
        of_x = torch.zeros_like(x)
        if g_template is not None:
            g = _complex(g_template[:, some])
            of_x = of_x + scale * y[:, None] * g
            of_y = _added(of_y, scale * (x * g.conj()).sum(1))
        if g_power is not None:
            of_x = of_x + 2 * scale * g_power[:, None] * x
        if needs[0]:
            parts.append(windowed(_spectra_adjoint(of_x, height), window).to(features.dtype))
    in_features = torch.cat(parts, 1) if needs[0] else None
    in_label = None
    if needs[1] and of_y is not None:
        in_label = _spectra_adjoint(of_y, height)
        if label.shape[0] == 1:
            in_label = in_label.sum(0, keepdim=True)
        in_label = in_label.to(label.dtype)
    return in_features, in_label, None, None, None, None


def setup_detect(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Save the model, the features and the window."""
    template, coefficients, features, window, _, ctx.gaussian = inputs
    ctx.save_for_backward(template, coefficients, features, window)


def detect_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """Response F⁻¹(Σ conj(a)·ẑ / b): gradients in numerator, denominator and features."""
    _linear_only(ctx.gaussian)
    template, b, features, window = ctx.saved_tensors
    needs = ctx.needs_input_grad
    q = _maps_adjoint(wide(grad)) / b[:, None]
    of_template, of_features, response = [], [], None
    for some in blocks(features, 2, _BLOCK):  # channels
        a, z = torch.view_as_complex(template[:, some]), spectra_of(windowed(features[:, :, some], window))
        if needs[0]:
            of_template.append(torch.view_as_real((z * q.conj()[:, :, None]).sum(1)))
        if needs[1]:
            response = _added(response, (a.conj()[:, None] * z).sum(2))
        if needs[2]:
            of_z = _spectra_adjoint(a[:, None] * q[:, :, None], features.shape[-2])
            of_features.append(windowed(of_z, window).to(features.dtype))
    in_template = torch.cat(of_template, 1).contiguous() if needs[0] else None
    in_b = None if response is None else -(q.conj() * response / b[:, None]).real.sum(1)
    in_features = torch.cat(of_features, 2) if needs[2] else None
    return in_template, in_b, in_features, None, None, None


def setup_update(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep the rate."""
    ctx.rate = inputs[4]
    ctx.set_materialize_grads(False)


def update_backward(ctx: Any, g_template: Tensor | None, g_coefficients: Tensor | None) -> tuple[Any, ...]:
    """Old + rate·(new − old): each side gets its share."""
    grads = (g_template, g_coefficients)
    old = (None if g is None else (1 - ctx.rate) * g for g in grads)
    new = (None if g is None else ctx.rate * g for g in grads)
    return (*old, *new, None)

"""The model of correlation filters, and the checks that their functions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops._transforms import only_mapped

__all__ = [
    "CorrelationFilter",
    "check_label",
    "check_of_model",
    "check_rate",
    "check_update",
    "check_window",
    "needs_gradient",
    "pairs",
    "prepared",
]

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class CorrelationFilter:
    """A trained filter; what ``cf_update`` averages.

    Spectra are those of the maps with their axes swapped, ``torch.fft.rfft2(x.transpose(-1, -2))``: shape
    (W, H//2 + 1). With κ = 1/(C·H·W), linear: ``template`` holds the numerator κ·x̂_c·ŷ* and ``coefficients`` the
    denominator κ·Σ|x̂_c|² + λ (with one channel, MOSSE's A* and B); Gaussian: x̂_c and the dual variables α̂.

    Args:
        template: (C, W, H//2 + 1) or (T, C, W, H//2 + 1), complex.
        coefficients: (W, H//2 + 1) or (T, W, H//2 + 1), real (linear) or complex (Gaussian).
        height: H of the maps.
        kernel: "linear" or "gaussian".
        sigma: width of the Gaussian kernel; no meaning for the linear one.
    """

    template: Tensor
    coefficients: Tensor
    height: int
    kernel: str
    sigma: float

    @property
    def batched(self) -> bool:
        """Whether there is a leading axis of targets."""
        return self.template.dim() == 4


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether autograd is to know what is done with one of these."""
    if torch.is_grad_enabled():
        for t in tensors:  # a generator takes longer than what it asks for
            if t.requires_grad:
                return True
        # A mapped tensor does not say so.
        return not (torch.compiler.is_compiling() or only_mapped())
    return False


def pairs(spectra: Tensor) -> Tensor:
    """A complex tensor as a real one with a last axis of (re, im)."""
    return torch.view_as_real(spectra.resolve_conj())


def _alike(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dtype == like.dtype and value.device == like.device


def check_window(op: str, features: Tensor, window: Tensor) -> None:
    """``window`` must be (H, W) of the size, dtype and device of ``features``, which was checked before."""
    if _alike(window, features) and window.shape == features.shape[-2:]:
        return
    check.tensor(op, "window", window, dims=(2,), layout="(H, W)")
    if window.shape != features.shape[-2:]:
        check.shape_error(op, "window", f"of the size of features, {tuple(features.shape[-2:])}", window)
    check.same_dtype(op, "window", window, "features", features)
    check.same_device(op, "window", window, "features", features)


def check_label(op: str, features: Tensor, label: Tensor) -> None:
    """``label`` must be (H, W) or one per target, of the size, dtype and device of ``features``, checked before."""
    if _alike(label, features) and label.shape == features.shape[-2:]:
        return
    check.tensor(op, "label", label, dims=(2, 3), layout="(H, W) or (T, H, W)")
    size, targets = features.shape[-2:], features.shape[:-3]
    if label.shape[-2:] != size or (label.dim() == 3 and label.shape[:1] != targets):
        wanted = f"{tuple(size)} or with the targets of features, {tuple(targets)}, in front"
        check.shape_error(op, "label", wanted, label)
    check.same_dtype(op, "label", label, "features", features)
    check.same_device(op, "label", label, "features", features)


def check_of_model(op: str, model: CorrelationFilter, features: Tensor, targets: int | None, layout: str) -> None:
    """``features`` must have the C, H, W of the model, ``targets`` in front (None: no such axis), dtype and device."""
    shape, template = features.shape, model.template
    channels, width, _ = template.shape[-3:]
    if shape[-3:] != (channels, model.height, width) or (targets is not None and shape[0] != targets):
        wanted = f"{layout} with C, H, W = {(channels, model.height, width)}"
        of_targets = "" if targets is None else f" and T = {targets}"
        check.shape_error(op, "features", wanted + of_targets + " of the model", features)
    check.same_device(op, "features", features, "model", template)
    dtype = features.dtype
    if (torch.float32 if dtype in _HALVES else dtype) != _REAL[template.dtype]:
        check.same_dtype(op, "features", features, "model", template.real)


def prepared(op: str, features: Tensor, window: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Features and the window the kernels multiply with: None after a product that autograd has to know."""
    if window is None:
        return features, None
    check_window(op, features, window)
    return (features * window, None) if needs_gradient(window) else (features, window)


def check_rate(op: str, rate: float) -> float:
    """``rate`` must be a number in [0, 1]; returns it as a float."""
    rate = check.number(op, "rate", rate, low=0.0)
    if rate > 1:
        raise RangeError(op, "rate", "a number in [0, 1]", repr(rate))
    return rate


def check_update(op: str, model: CorrelationFilter, new: CorrelationFilter, rate: float) -> float:
    """``new`` must be a filter of the same kind as ``model``; returns the rate as a float."""
    rate = check_rate(op, rate)
    same = (model.kernel, model.sigma, model.height)
    if (new.kernel, new.sigma, new.height) != same:
        wanted = f"of the kernel, sigma and height of model, {same}"
        raise RangeError(op, "new", wanted, str((new.kernel, new.sigma, new.height)))
    for field in ("template", "coefficients"):
        old, fresh = getattr(model, field), getattr(new, field)
        check.same_shape(op, f"new.{field}", fresh, f"model.{field}", old)
        check.same_dtype(op, f"new.{field}", fresh, f"model.{field}", old)
        check.same_device(op, f"new.{field}", fresh, f"model.{field}", old)
    return rate

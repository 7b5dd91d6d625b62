"""Losses of a regression ``e = p − y``: truncated, shrinkage (two forms), focal, square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "curvature_at", "gradient_at", "reduce", "value_at"]

FORMS = ("truncated", "shrinkage_modified", "shrinkage_original", "focal", "square")


def value_at(form: str, prediction: Tensor, target: Tensor, a: float, c: float) -> Tensor:
    """Loss per position; ``c`` is the threshold of the truncated loss."""
    error = prediction - target
    if form == "truncated":
        # Chosen last: an easy position is 0 under any weight, also one that overflows.
        return torch.where(error.abs() <= c, torch.zeros_like(error), (torch.exp(a * target) * error) ** 2)
    if form == "shrinkage_modified":
        return torch.exp(target) * error**2 * torch.sigmoid(a * (error.abs() - c))
    if form == "shrinkage_original":
        return torch.exp(target) * error**2 * torch.sigmoid(a * (error - c))
    if form == "focal":
        return error.abs() ** 3
    return error**2


def gradient_at(form: str, prediction: Tensor, target: Tensor, a: float, c: float) -> Tensor:
    """∂ loss / ∂ prediction per position in closed form (itself differentiable, for double backward)."""
    error = prediction - target
    if form == "truncated":
        kept = torch.where(error.abs() <= c, torch.zeros_like(error), error)
        return 2 * torch.exp(2 * a * target) * kept
    if form in ("shrinkage_modified", "shrinkage_original"):
        modified = form == "shrinkage_modified"
        s = torch.sigmoid(a * ((error.abs() if modified else error) - c))
        # e·dl/de: |e| for l = |e|, e for l = e.
        ratio = error.abs() if modified else error
        return torch.exp(target) * error * s * (2 + a * ratio * (1 - s))
    if form == "focal":
        return 3 * error.abs() * error
    return 2 * error


def curvature_at(form: str, prediction: Tensor, target: Tensor, a: float, c: float) -> Tensor:
    """∂² loss / ∂ prediction² per position (0 where a truncated loss ignores the position)."""
    error = prediction - target
    if form == "truncated":
        return 2 * torch.exp(2 * a * target) * (error.abs() > c)
    if form in ("shrinkage_modified", "shrinkage_original"):
        ratio = error.abs() if form == "shrinkage_modified" else error
        s = torch.sigmoid(a * (ratio - c))
        fall = s * (1 - s)
        return torch.exp(target) * (2 * s + 4 * a * ratio * fall + (a * error) ** 2 * fall * (1 - 2 * s))
    if form == "focal":
        return 6 * error.abs()
    return torch.full_like(error, 2.0)


def reduce(value: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Weight per position, then none, sum, or mean (sum over the number of positions)."""
    if weight is not None:
        value = value * weight
    if reduction == "none":
        return value
    return value.sum() if reduction == "sum" else value.sum() / value.numel()


def _reference(form: str) -> Callable[..., Tensor]:
    def loss(prediction: Tensor, target: Tensor, reduction: str, weight: Tensor | None = None, **p: Any) -> Tensor:
        c = p.get("threshold", p.get("c", 0.0))
        return reduce(value_at(form, prediction, target, p.get("a", 0.0), c), weight, reduction)

    return loss


def truncated_loss(
    prediction: Tensor, target: Tensor, threshold: float, a: float, reduction: str, weight: Tensor | None = None
) -> Tensor:
    """Σ (exp(a·y)·T(p − y))² (CRT eq. 3–5)."""
    return _reference("truncated")(prediction, target, reduction, weight, threshold=threshold, a=a)


def shrinkage_loss(
    prediction: Tensor, target: Tensor, a: float, c: float, form: str, reduction: str, weight: Tensor | None = None
) -> Tensor:
    """Σ exp(y)·e²/(1 + exp(a(c − l))), l = |e| or e (DCFST eq. 4, DSLT eq. 7)."""
    return _reference(f"shrinkage_{form}")(prediction, target, reduction, weight, a=a, c=c)


def focal_regression_loss(prediction: Tensor, target: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """Σ |e|³ (the L3 loss DSLT compares with)."""
    return _reference("focal")(prediction, target, reduction, weight)


def square_loss(prediction: Tensor, target: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """Σ e²."""
    return _reference("square")(prediction, target, reduction, weight)


def _maps(shape: tuple[int, ...], **options: Any) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    weighted = options.pop("weighted", False)

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        # Responses of a half-trained regressor: a Gaussian label, errors of both signs and sizes.
        label = torch.rand(shape, generator=generator, dtype=torch.float64) ** 4
        error = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        arguments = {"prediction": (label + error).to(dtype), "target": label.to(dtype), **options}
        if weighted:
            arguments["weight"] = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
        return arguments

    return build


def _cases(**options: Any) -> tuple[Case, ...]:
    shapes = {"one": (1,), "prime": (1, 13, 7), "batch": (3, 17, 31), "empty": (0, 5), "odd_tail": (4099,)}
    cases = [Case(f"{name}_sum", _maps(shape, reduction="sum", **options)) for name, shape in shapes.items()]
    cases += [Case(f"batch_{r}", _maps((3, 17, 31), reduction=r, **options)) for r in ("none", "mean")]
    cases += [Case("weighted", _maps((2, 19, 23), reduction="sum", weighted=True, **options))]
    cases += [Case("n5265", _maps((81, 65), reduction="sum", **options), bench=True)]
    cases += [Case("n37249", _maps((193, 193), reduction="sum", **options), bench=True)]
    return tuple(cases)


def _cost(arguments: dict[str, Any]) -> Cost:
    n = arguments["prediction"].numel()
    return Cost(flops=30 * n, bytes=3 * 4 * n)


# The sums run in float32 blocks of 64 and float64 above, so the norm error stays at a few ulp.
_TOLERANCE = {
    torch.float32: Tolerance(2e-6, 4e-6, witness="7e-7, 1e-6"),
    torch.float64: Tolerance(1e-13, 1e-12, witness="exact reference"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="5e-4, 5e-4: one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="4e-3, 4e-3: one rounding of the result"),
}


def _spec(name: str, reference: Callable[..., Tensor], **options: Any) -> Spec:
    gradients = ("prediction", "target", "weight")
    return Spec("regression_loss", name, reference, _cases(**options), _TOLERANCE, gradients, cost=_cost)


SPECS = (
    _spec("truncated_loss", truncated_loss, threshold=0.1, a=1.0),
    _spec("shrinkage_loss", shrinkage_loss, a=10.0, c=0.2, form="modified"),
    _spec("shrinkage_loss", shrinkage_loss, a=10.0, c=0.2, form="original"),
    _spec("focal_regression_loss", focal_regression_loss),
    _spec("square_loss", square_loss),
)

"""Losses of a regression, value and gradient in one pass over the positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _checks as check
from fasttrack.ops._op import Gradient, Op, cpu_row, reference_row
from fasttrack.spec.regression_loss import FORMS, curvature_at, gradient_at, reduce, value_at

__all__ = ["focal_regression_loss", "shrinkage_loss", "square_loss", "truncated_loss"]

REDUCTIONS = ("none", "sum", "mean")


def truncated_loss(
    prediction: Tensor,
    target: Tensor,
    threshold: float = 0.1,
    a: float = 1.0,
    reduction: str = "sum",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Truncated, label-weighted squared error: easy positions count nothing, positives count more.

    loss = Σ (exp(a·y)·T(p − y))²,   T(e) = e if |e| > threshold else 0

    At |e| = threshold the position counts as easy: value and gradient are 0.

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        threshold: errors up to this size are ignored, ≥ 0.
        a: exponent of the label weight.
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none"; dtype of ``prediction`` (computed in float32 or wider).

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Chen & Tao 2018 (CRT), eq. 3–5.
    """
    check.number("truncated_loss", "threshold", threshold, low=0.0)
    return _loss("truncated_loss", prediction, target, weight, "truncated", a, threshold, reduction, backend)


def shrinkage_loss(
    prediction: Tensor,
    target: Tensor,
    a: float = 10.0,
    c: float = 0.2,
    form: str = "modified",
    reduction: str = "mean",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Squared error shrunk where it is small: easy positions fade out smoothly.

    loss = Σ exp(y)·e² / (1 + exp(a·(c − l))),   e = p − y,   l = |e| ("modified") or e ("original")

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        a: speed of the shrinkage.
        c: error at which half of the squared error is left.
        form: "modified" (absolute error) or "original" (signed error).
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none"; dtype of ``prediction`` (computed in float32 or wider).

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Lu et al. 2018 (DSLT), eq. 7; Zheng et al. 2020 (DCFST), eq. 4.
    """
    check.choice("shrinkage_loss", "form", form, ("modified", "original"))
    return _loss("shrinkage_loss", prediction, target, weight, f"shrinkage_{form}", a, c, reduction, backend)


def focal_regression_loss(
    prediction: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Cubed absolute error, loss = Σ |p − y|³: the L3 form of the focal loss for regression.

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none".

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Lu et al. 2018 (DSLT), §3.2 (the loss it compares with).
    """
    return _loss("focal_regression_loss", prediction, target, weight, "focal", 0.0, 0.0, reduction, backend)


def square_loss(
    prediction: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Squared error, loss = Σ (p − y)².

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none".

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: CRT eq. 1 (ridge regression without its penalty).
    """
    return _loss("square_loss", prediction, target, weight, "square", 0.0, 0.0, reduction, backend)


def _loss(
    op: str,
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None,
    form: str,
    a: float,
    c: float,
    reduction: str,
    backend: str | None,
) -> Tensor:
    check.tensor(op, "prediction", prediction)
    for name, other in (("target", target), ("weight", weight)):
        if other is not None:
            check.tensor(op, name, other)
            check.same_shape(op, name, other, "prediction", prediction)
            check.same_dtype(op, name, other, "prediction", prediction)
            check.same_device(op, name, other, "prediction", prediction)
    check.number(op, "a", a)
    check.number(op, "c", c)
    check.choice(op, "reduction", reduction, REDUCTIONS)
    value: Tensor = _OP(prediction, target, weight, form, float(a), float(c), reduction, backend=backend)[0]
    return value


def _cpu_why_not(prediction: Tensor, *_: Any) -> str | None:
    if prediction.device.type != "cpu":
        return f"needs CPU tensors, got prediction on {prediction.device}"
    if prediction.dtype == torch.float64:
        return "computes in float32, got float64"
    return None


def _cpu(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    p, y = prediction.detach().contiguous().float(), target.detach().contiguous().float()
    w = None if weight is None else weight.detach().contiguous().float()
    n, reduced = p.numel(), reduction != "none"
    value = torch.empty((), dtype=torch.float32) if reduced else torch.empty_like(p)
    grad = torch.empty_like(p)
    # The mean of nothing is 0/0, as in torch.
    scale = 1.0 if reduction != "mean" else (1.0 / n if n else float("nan"))
    native.lib().regression_loss(
        p.data_ptr(),
        y.data_ptr(),
        0 if w is None else w.data_ptr(),
        value.data_ptr(),
        grad.data_ptr(),
        n,
        FORMS.index(form),
        a,
        c,
        scale,
        reduced,
    )
    if reduction == "mean" and n == 0:
        value.fill_(float("nan"))
    return value.to(prediction.dtype), grad.to(prediction.dtype)


def _reference(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    dtype = prediction.dtype
    wide = _wide(dtype)
    p, y = prediction.to(wide), target.to(wide)
    w = None if weight is None else weight.to(wide)
    value = reduce(value_at(form, p, y, a, c), w, reduction)
    grad = _scaled(gradient_at(form, p, y, a, c), w, reduction).detach()
    return value.to(dtype), grad.to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the arithmetic: half types are computed in float32 and rounded once, on every backend."""
    return dtype if dtype == torch.float64 else torch.float32


def _scaled(per_position: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    if weight is not None:
        per_position = per_position * weight
    return per_position / per_position.numel() if reduction == "mean" else per_position


def _meta(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    grad = torch.empty_like(prediction, memory_format=torch.contiguous_format)
    return (torch.empty_like(grad) if reduction == "none" else prediction.new_empty(())), grad


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    prediction, target, weight, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(prediction, target, weight, output[1])


def _backward(ctx: Any, g_value: Tensor | None, g_grad: Tensor | None) -> tuple[Any, ...]:
    needs = ctx.needs_input_grad
    if g_value is not None and g_grad is None and not (torch.is_grad_enabled() or needs[1] or needs[2]):
        return g_value * ctx.saved_tensors[3], None, None, None, None, None, None
    return (*_differentiable_backward(ctx, g_value, g_grad), None, None, None, None)


def _differentiable_backward(
    ctx: Any, g_value: Tensor | None, g_grad: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients in prediction, target and weight from formulas that autograd can differentiate again.

    The loss is k(y)·φ(p − y) with k = exp(2a·y), exp(y) or 1, so ∂/∂y = k′/k − ∂/∂p.
    """
    form, a, c, reduction = ctx.options
    saved, needs = ctx.saved_tensors, ctx.needs_input_grad
    dtype = saved[0].dtype
    wide = _wide(dtype)
    prediction, target = saved[0].to(wide), saved[1].to(wide)
    weight = None if saved[2] is None else saved[2].to(wide)
    rate = 2 * a if form == "truncated" else (1.0 if form.startswith("shrinkage") else 0.0)
    # Value, first and second derivative in the prediction; each output's gradient uses two neighbours.
    ladder = [f(form, prediction, target, a, c) for f in (value_at, gradient_at, curvature_at)]
    total: list[Tensor | None] = [None, None, None]
    for order, g in enumerate((g_value, g_grad)):
        if g is None:
            continue
        here, above = ladder[order], ladder[order + 1]
        parts = (
            g * _scaled(above, weight, reduction),
            g * _scaled(rate * here - above, weight, reduction) if needs[1] else None,
            g * _scaled(here, None, reduction) if needs[2] else None,
        )
        for i, part in enumerate(parts):
            known = total[i]
            if part is not None:
                total[i] = part if known is None else known + part
    prediction_grad, target_grad, weight_grad = (None if t is None else t.to(dtype) for t in total)
    return prediction_grad, target_grad, weight_grad


_OP = Op(
    "regression_loss",
    "(Tensor prediction, Tensor target, Tensor? weight, str form, float a, float c, str reduction)"
    " -> (Tensor value, Tensor grad)",
    rows=(cpu_row(_cpu_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
    gradient=Gradient(_setup, _backward),
)

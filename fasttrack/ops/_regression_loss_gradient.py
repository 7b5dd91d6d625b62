"""Backward of the regression losses: the saved gradient, or formulas that can be differentiated again."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from fasttrack.dispatch import Row
from fasttrack.ops._batching import spread
from fasttrack.spec.regression_loss import curvature_at, gradient_at, value_at

__all__ = ["backward", "function", "rule", "scaled", "setup", "wide_dtype"]


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the arithmetic: half types are computed in float32 and rounded once, on every backend."""
    return dtype if dtype == torch.float64 else torch.float32


def scaled(per_position: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    if weight is not None:
        per_position = per_position * weight
    return per_position / per_position.numel() if reduction == "mean" else per_position


def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    prediction, target, weight, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(prediction, target, weight, output[1])


def backward(ctx: Any, g_value: Tensor | None, g_grad: Tensor | None) -> tuple[Any, ...]:
    needs = ctx.needs_input_grad
    if g_value is not None and g_grad is None and not (torch.is_grad_enabled() or needs[1] or needs[2]):
        return g_value * ctx.saved_tensors[3], None, None, None, None, None, None
    return (*_differentiable_backward(ctx, g_value, g_grad), None, None, None, None)


def function(name: str, row: Row) -> Any:
    """The ``autograd.Function`` of eager calls: the value alone, the gradient kept beside the graph.

    A small loss costs less than the engine's care for a second output and for tensors that are saved.
    """

    def forward(ctx: Any, prediction: Tensor, target: Tensor, weight: Tensor | None, *options: Any) -> Tensor:
        value: Tensor
        value, ctx.gradient = row.run(prediction, target, weight, *options)
        ctx.save_for_backward(prediction, target, weight)
        ctx.options = options
        return value

    def lean_backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        _, target, weight, *_ = ctx.needs_input_grad
        if torch.is_grad_enabled() or target or weight:
            return (*_differentiable_backward(ctx, g, None), None, None, None, None)
        return g * ctx.gradient, None, None, None, None, None, None

    members = {"forward": staticmethod(forward), "backward": staticmethod(lean_backward)}
    return type(f"{name}_{row.backend}", (torch.autograd.Function,), members)


def rule(
    op: Any,
    size: int,
    along: tuple[bool, ...],
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None,
    form: str,
    a: float,
    c: float,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """``vmap``: the positions of all examples in one pass, and the sum of each example's own."""
    dtype, wide = prediction.dtype, wide_dtype(prediction.dtype)
    tensors = [
        None if t is None else spread(t, size, on).to(dtype if reduction == "none" else wide)
        for t, on in zip((prediction, target, weight), along[:3], strict=True)
    ]
    value, grad = op(*tensors, form, a, c, "none")
    if reduction == "none":
        return value, grad
    share = 1.0
    if reduction == "mean":
        count = prod(prediction.shape[1:] if along[0] else prediction.shape)
        share = 1 / count if count else float("nan")  # the mean of nothing is 0/0, as in torch
    total = value.unsqueeze(-1).flatten(1).sum(1, dtype=torch.float64) * share
    return total.to(dtype), (grad * share).to(dtype)


def _differentiable_backward(
    ctx: Any, g_value: Tensor | None, g_grad: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients in prediction, target and weight from formulas that autograd can differentiate again.

    The loss is k(y)·φ(p − y) with k = exp(2a·y), exp(y) or 1, so ∂/∂y = k′/k − ∂/∂p.
    """
    form, a, c, reduction = ctx.options
    saved, needs = ctx.saved_tensors, ctx.needs_input_grad
    dtype = saved[0].dtype
    wide = wide_dtype(dtype)
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
            g * scaled(above, weight, reduction),
            g * scaled(rate * here - above, weight, reduction) if needs[1] else None,
            g * scaled(here, None, reduction) if needs[2] else None,
        )
        for i, part in enumerate(parts):
            known = total[i]
            if part is not None:
                total[i] = part if known is None else known + part
    prediction_grad, target_grad, weight_grad = (None if t is None else t.to(dtype) for t in total)
    return prediction_grad, target_grad, weight_grad

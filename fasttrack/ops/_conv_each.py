"""``conv_regression`` with a kernel per map: the ops of a shared kernel, map by map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack import dispatch
from fasttrack.dispatch import Row
from fasttrack.ops._batching import folded
from fasttrack.ops._op import Gradient, Op

__all__ = ["per_map"]


def per_map(forward: Op, weight_gradient: Op, features_gradient: Op) -> tuple[Op, Op, Op]:
    """R[b] = X[b] ⋆ w[b] + bias[b], with the backends of the three ops of a shared kernel.

    Args:
        forward: (features (B, C, H, W), weight (C, kh, kw), bias (1,) or None) → (B, H′, W′).
        weight_gradient: (features, grad (B, H′, W′), kh, kw) → (C, kh, kw).
        features_gradient: (grad, weight, H, W) → (B, C, H, W).

    Returns:
        The op of (features, weights (B, C, kh, kw), biases (B,) or None) → (B, H′, W′), and the two of its gradients.
    """
    respond = Op(
        "conv_regression_each",
        "(Tensor features, Tensor weight, Tensor? bias) -> Tensor",
        rows=_looped(forward, _forward),
        meta=_forward_meta,
        gradient=Gradient(_save, lambda ctx, grad: _forward_backward(ctx, grad)),
        batch=folded(0, 1, 2),
    )
    to_weight = Op(
        "conv_regression_each_weight_gradient",
        "(Tensor features, Tensor grad, SymInt kh, SymInt kw) -> Tensor",
        rows=_looped(weight_gradient, _weight_gradient),
        meta=_weight_gradient_meta,
        gradient=Gradient(_save, lambda ctx, u: _weight_gradient_backward(ctx, u)),
        batch=folded(0, 1),
    )
    to_features = Op(
        "conv_regression_each_features_gradient",
        "(Tensor grad, Tensor weight, SymInt height, SymInt width) -> Tensor",
        rows=_looped(features_gradient, _features_gradient),
        meta=_features_gradient_meta,
        gradient=Gradient(_save, lambda ctx, u: _features_gradient_backward(ctx, u)),
        batch=folded(0, 1),
    )

    # The same trilinear form as for a shared kernel, once per map.
    def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (features, weight), needs = ctx.saved_tensors, ctx.needs_input_grad
        return (
            to_features(grad, weight, *features.shape[2:]) if needs[0] else None,
            to_weight(features, grad, *weight.shape[2:]) if needs[1] else None,
            grad.sum((1, 2), dtype=torch.float64).to(grad.dtype) if needs[2] else None,
        )

    def _weight_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        (features, grad), needs = ctx.saved_tensors, ctx.needs_input_grad
        to_map = to_features(grad, u, *features.shape[2:]) if needs[0] else None
        return to_map, respond(features, u, None) if needs[1] else None, None, None

    def _features_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        (grad, weight), needs = ctx.saved_tensors, ctx.needs_input_grad
        to_kernel = to_weight(u, grad, *weight.shape[2:]) if needs[1] else None
        return respond(u, weight, None) if needs[0] else None, to_kernel, None, None

    return respond, to_weight, to_features


def _looped(op: Op, loop: Callable[..., Tensor]) -> tuple[Row, ...]:
    """The rows of ``op``, each run map by map."""

    def run_with(row: Row) -> Callable[..., Tensor]:
        return lambda *args: loop(row.run, *args)

    return tuple(Row(row.backend, row.why_not, run_with(row), row.unavailable) for row in dispatch.table()[op.name])


def _forward(run: Callable[..., Tensor], features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if len(features) == 0:
        return _nothing(_forward_meta(features, weight, bias), features, weight)
    biases = [None] * len(features) if bias is None else bias.split(1)
    return torch.cat([run(x, w, b) for x, w, b in zip(features.split(1), weight, biases, strict=True)])


def _weight_gradient(run: Callable[..., Tensor], features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    if len(features) == 0:
        return _nothing(_weight_gradient_meta(features, grad, kh, kw), features, grad)
    return torch.stack([run(x, g, kh, kw) for x, g in zip(features.split(1), grad.split(1), strict=True)])


def _features_gradient(run: Callable[..., Tensor], grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    if len(grad) == 0:
        return _nothing(_features_gradient_meta(grad, weight, height, width), grad, weight)
    return torch.cat([run(g, w, height, width) for g, w in zip(grad.split(1), weight, strict=True)])


def _nothing(like: Tensor, *inputs: Tensor) -> Tensor:
    """An empty result that still hangs on its inputs."""
    return like * torch.stack([x.sum() for x in inputs]).sum()


def _forward_meta(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    height, width = (features.shape[i] - weight.shape[i] + 1 for i in (2, 3))
    return features.new_empty((features.shape[0], height, width))


def _weight_gradient_meta(features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    return features.new_empty((*features.shape[:2], kh, kw))


def _features_gradient_meta(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((*weight.shape[:2], height, width))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])

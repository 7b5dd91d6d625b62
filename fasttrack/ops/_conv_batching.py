"""``vmap`` of the convolution with a shared kernel: one batch where the kernel is not mapped, else a kernel per map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fasttrack.ops._batching import Rule, folded, spread

__all__ = ["response_rule", "to_features_rule", "to_weight_rule"]


def response_rule(each: Callable[[], Any]) -> Rule:
    """Rule of R = X ⋆ w + bias; ``each`` gives the op with a kernel per map."""

    def rule(op: Any, size: int, along: tuple[bool, ...], features: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        if not (along[1] or along[2]):
            return folded(0)(op, size, along, features, weight, bias)
        maps, kernels = spread(features, size, along[0]), spread(weight, size, along[1])
        count = maps.shape[1]
        biases = None if bias is None else spread(bias, size, along[2]).expand(size, count).reshape(-1)
        response = each()(maps.flatten(0, 1), _per_map(kernels, count), biases)
        return response.unflatten(0, (size, count))

    return rule


def to_weight_rule(each: Callable[[], Any]) -> Rule:
    """Rule of the gradient in the kernel, a sum over the maps of one example."""

    def rule(op: Any, size: int, along: tuple[bool, ...], features: Tensor, grad: Tensor, kh: int, kw: int) -> Any:
        maps, grads = spread(features, size, along[0]), spread(grad, size, along[1])
        parts = each()(maps.flatten(0, 1), grads.flatten(0, 1), kh, kw)
        return parts.unflatten(0, maps.shape[:2]).sum(1)

    return rule


def to_features_rule(each: Callable[[], Any]) -> Rule:
    """Rule of the gradient in the maps."""

    def rule(op: Any, size: int, along: tuple[bool, ...], grad: Tensor, weight: Tensor, height: int, width: int) -> Any:
        if not along[1]:
            return folded(0)(op, size, along, grad, weight, height, width)
        grads = spread(grad, size, along[0])
        maps = each()(grads.flatten(0, 1), _per_map(weight, grads.shape[1]), height, width)
        return maps.unflatten(0, grads.shape[:2])

    return rule


def _per_map(kernels: Tensor, count: int) -> Tensor:
    """(V, C, kh, kw) kernels for V × count maps."""
    return kernels[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)

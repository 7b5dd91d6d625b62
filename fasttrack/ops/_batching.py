"""Rules of ``torch.func.vmap``: how a mapped axis becomes part of an axis that an op has anyway.

A rule gets the op, the size V of the mapped axis, which arguments have that axis (they have it in front), and the
arguments; it returns the op's results, each with the axis in front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import TransformError

__all__ = ["Rule", "folded", "looped", "refused", "spread"]

Rule = Callable[..., Any]
Along = tuple[bool, ...]


def looped(op: Callable[..., Any], size: int, along: Along, *args: Any) -> Any:
    """One call per example: correct for every op, and no faster than a loop."""
    if size == 0:
        name = getattr(op, "name", "op")
        raise TransformError(name, "vmap", "it runs example by example here, and there is none", "pass at least one")
    results = [op(*(a[i] if on else a for a, on in zip(args, along, strict=True))) for i in range(size)]
    if isinstance(results[0], Tensor):
        return torch.stack(results)
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True))


def refused(instead: str) -> Rule:
    """The rule of an op that writes into its arguments; ``instead`` says what to call in its place."""

    def refuse(op: Any, size: int, along: Along, *args: Any) -> Any:
        raise TransformError(op.name, "vmap", "it writes into its arguments", instead)

    return refuse


def folded(*own: int, shared: tuple[int, ...] = ()) -> Rule:
    """Mapped examples join the op's own batch axis, the first of the arguments ``own``.

    Args:
        own: places of the tensors with a batch axis, which are repeated where they are not mapped.
        shared: places of tensors that serve the whole batch: where one is mapped, the examples run one by one.
    """

    def fold(op: Any, size: int, along: Along, *args: Any) -> Any:
        if any(along[i] for i in shared):
            return looped(op, size, along, *args)
        given, count = list(args), 0
        for i in own:
            if args[i] is not None:
                whole = spread(args[i], size, along[i])
                count = whole.shape[1]
                given[i] = whole.flatten(0, 1)
        return unfolded(op(*given), size, count)

    return fold


def spread(value: Tensor, size: int, mapped: bool) -> Tensor:
    """``value`` with the mapped axis in front, repeated where it has none."""
    return value if mapped else value.expand(size, *value.shape)


def unfolded(out: Any, size: int, count: int) -> Any:
    """Results (V·N, …) as (V, N, …); those that an op leaves empty, (0,), as (V, 0)."""
    if not isinstance(out, Tensor):
        return tuple(unfolded(part, size, count) for part in out)
    if out.shape[0] != size * count:
        return out.new_empty((size, 0))
    return out.unflatten(0, (size, count))

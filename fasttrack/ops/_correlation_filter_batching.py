"""``vmap`` of correlation filters where folding the targets alone would not do."""

from __future__ import annotations

from typing import Any

from fasttrack.ops._batching import folded, spread

__all__ = ["train_rule", "update_rule"]


def train_rule(op: Any, size: int, along: tuple[bool, ...], *args: Any) -> Any:
    """``vmap``: a label for all targets of an example becomes one per target, as the examples' labels may differ."""
    features, label, *rest = args
    targets = features.shape[1] if along[0] else features.shape[0]
    own = label.expand(*label.shape[:-3], targets, *label.shape[-2:])
    return folded(0, 1, shared=(2,))(op, size, along, features, own, *rest)


def update_rule(op: Any, size: int, along: tuple[bool, ...], *args: Any) -> Any:
    """``vmap``: every number on its own, whatever the axes."""
    return op(*(spread(a, size, on) for a, on in zip(args[:4], along, strict=False)), args[4])

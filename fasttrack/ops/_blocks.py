"""Formulas of torch operations applied block by block: their temporaries stay small beside what they work on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["blocks", "in_blocks"]


def blocks(tensor: Tensor, axis: int, numbers: int) -> list[slice]:
    """``tensor`` cut along an axis into pieces of about so many numbers; at least one, be it empty."""
    count = tensor.shape[axis]
    if torch.compiler.is_compiling() or tensor.numel() <= numbers:
        return [slice(None)]
    step = max(1, numbers * count // tensor.numel())
    return [slice(first, first + step) for first in range(0, count, step)]


def in_blocks(
    function: Callable[..., Tensor], *tensors: Tensor, axes: tuple[int, ...], numbers: int = 1 << 16
) -> Tensor:
    """``function(*tensors)`` of tensors along whose ``axes`` every index is on its own; cut along the first, and on.

    A graph for a further derivative would keep all temporaries anyhow: where one is made nothing is cut.
    """
    if not axes or (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
        return function(*tensors)
    axis, *rest = axes
    cuts = blocks(tensors[0], axis, numbers)
    if len(cuts) == 1:
        return in_blocks(function, *tensors, axes=tuple(rest), numbers=numbers)
    above = (slice(None),) * axis
    pieces = ([t[above + (cut,)] for t in tensors] for cut in cuts)  # noqa: RUF005 - Python 3.10 has no t[*above, cut]
    return torch.cat([in_blocks(function, *some, axes=tuple(rest), numbers=numbers) for some in pieces], axis)

"""What ``torch.autocast`` means to the ops: nothing but leave to mix float types.

An op computes inside autocast as it does outside, in float32 or wider. Where it wants tensors of one dtype, autocast
has it take the widest of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["promoted", "suspended"]


def promoted(*tensors: Any) -> tuple[Any, ...]:
    """Under autocast, float tensors in the widest dtype among them; elsewhere as they are, like what is no tensor."""
    if not torch._C._is_any_autocast_enabled():
        return tensors
    floats = [t for t in tensors if isinstance(t, Tensor) and t.is_floating_point()]
    if len({t.dtype for t in floats}) < 2:
        return tensors
    widest = floats[0].dtype
    for tensor in floats[1:]:
        widest = torch.promote_types(widest, tensor.dtype)
    return tuple(t.to(widest) if any(t is f for f in floats) else t for t in tensors)


def suspended(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, run without autocast: it would round the factors of matrix products to half."""

    def run(*args: Any) -> Any:
        if not torch._C._is_any_autocast_enabled():
            return function(*args)
        with torch._C._DisableAutocast():
            return function(*args)

    return run

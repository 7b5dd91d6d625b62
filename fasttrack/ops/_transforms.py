"""How an op passes through ``torch.func``: reverse mode, forward mode and ``vmap``.

Reverse mode uses the op's own backward, or that of its reference. Forward mode computes the reference: kernels have no
tangents. ``vmap`` folds the mapped axis into one that the op has anyway, by a rule of the op (``ops/_batching.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fasttrack import dispatch
from fasttrack.errors import TransformError
from fasttrack.ops._batching import Rule, looped

__all__ = [
    "Transformed",
    "current_transform",
    "forward_mode",
    "has_tangent",
    "mapped",
    "only_mapped",
    "refuse_inside",
    "transformed",
]


#: The innermost transform of ``torch.func`` at work here, None outside of all.
current_transform: Callable[[], Any] = torch._C._functorch.peek_interpreter_stack


class Transformed(Protocol):
    """What of an op is needed here."""

    name: str
    gradient: Any
    overload: Any

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        """Run the op."""


def mapped(op: Transformed, rule: Rule | None) -> Callable[..., tuple[Any, Any]]:
    """The op's ``vmap`` in the form that ``autograd.Function`` and ``torch.library`` share."""
    run = looped if rule is None else rule

    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        if op.overload._schema.is_mutable and rule is None:
            raise TransformError(op.name, "vmap", "it writes into its arguments", "loop over the examples")
        along = tuple(isinstance(a, Tensor) and d is not None for a, d in zip(args, in_dims, strict=True))
        moved = [a.movedim(d, 0) if on else a for a, d, on in zip(args, in_dims, along, strict=True)]
        out = run(op, info.batch_size, along, *moved)
        return out, 0 if isinstance(out, Tensor) else (0,) * len(out)

    return vmap


def transformed(op: Transformed, rule: Rule | None) -> Any:
    """The ``autograd.Function`` that runs the op inside function transforms, which go through it level by level."""
    gradient = op.gradient

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.inputs = inputs  # for forward mode, which follows at once; backwards use what was saved
        if gradient is not None:
            gradient.setup(ctx, inputs, output)
        else:
            ctx.save_for_backward(*(a for a in inputs if isinstance(a, Tensor)))
        marked = ctx.non_differentiable or ()
        ctx.constant = [any(o is m for m in marked) for o in _tensors(output)]

    def backward(ctx: Any, *grads: Any) -> Any:
        if gradient is not None:
            return gradient.backward(ctx, *grads)
        return _reference_backward(op, ctx, grads)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        found = []
        with forward_ad._set_fwd_grad_enabled(True):  # torch turned it off for this call; the inputs have tangents
            out = forward_mode(op, ctx.inputs, None)
            for o, constant in zip(_tensors(out), ctx.constant, strict=True):
                dual = forward_ad.unpack_dual(o)
                none = dual.tangent is None and not constant
                found.append(torch.zeros_like(dual.primal) if none else dual.tangent)
        return found[0] if isinstance(out, Tensor) else tuple(found)

    members = {
        "forward": staticmethod(lambda *args: op(*args)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
        "jvp": staticmethod(jvp),
        "vmap": staticmethod(mapped(op, rule)),
    }
    return type(f"{op.name}_transformed", (torch.autograd.Function,), members)


def only_mapped() -> bool:
    """Whether of all transforms only ``vmap`` is at work here."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return all(level.key() == torch._C._functorch.TransformType.Vmap for level in stack)


def refuse_inside(op: str, hint: str) -> None:
    """For what reads memory that a transform's tensors do not have.

    Raises:
        TransformError: a transform of ``torch.func`` is at work here.
    """
    if current_transform() is not None:
        raise TransformError(op, "vmap or grad", "it keeps tables in memory of its own", hint)


def has_tangent(args: tuple[Any, ...]) -> bool:
    """Whether an argument is a dual tensor of forward-mode differentiation."""
    return any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in args)


def forward_mode(op: Transformed, args: tuple[Any, ...], backend: str | None) -> Any:
    """The op of dual tensors, by its reference.

    Raises:
        TransformError: another backend is asked for, or the op has no derivative.
    """
    asked = dispatch.chosen() if backend is None else backend
    if asked not in (None, "reference"):
        why = f"only the reference has tangents, asked for {asked}"
        raise TransformError(op.name, "forward mode", why, "leave the backend open, or use reverse mode")
    return _reference_forward(op, args)


def _reference_forward(op: Transformed, args: tuple[Any, ...]) -> Any:
    out = dispatch.choose(op.name, args, "reference").run(*args)
    if all(forward_ad.unpack_dual(o).tangent is None for o in _tensors(out)):
        raise TransformError(op.name, "forward mode", "it has no derivative", "detach its arguments")
    return out


def _reference_backward(op: Transformed, ctx: Any, grads: tuple[Any, ...]) -> tuple[Any, ...]:
    """Through the reference, run again: what eager calls of an op without a backward of its own do from the start."""
    saved = iter(ctx.saved_tensors)
    inputs = [next(saved) if isinstance(a, Tensor) else a for a in ctx.inputs]
    places = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]

    def run(*leaves: Tensor) -> Any:
        args = list(inputs)
        for i, leaf in zip(places, leaves, strict=True):
            args[i] = leaf
        out = dispatch.choose(op.name, tuple(args), "reference").run(*args)
        if not any(o.requires_grad for o in _tensors(out)):
            raise TransformError(op.name, "grad", "it has no gradient", "detach its arguments")
        return out

    pull = torch.func.vjp(run, *(inputs[i] for i in places))[1]
    found: list[Any] = [None] * len(inputs)
    for i, grad in zip(places, pull(grads[0] if len(grads) == 1 else grads), strict=True):
        found[i] = grad
    return tuple(found)


def _tensors(out: Any) -> tuple[Tensor, ...]:
    return (out,) if isinstance(out, Tensor) else tuple(out)

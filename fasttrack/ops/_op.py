"""The life of a call: from the public function to a launcher, eagerly or under ``torch.compile``.

Eager calls go straight to the launcher that ``dispatch`` picks; ``autograd.Function`` comes in only when a
gradient is asked for. Under ``torch.compile`` and tracing the same call goes through
``torch.ops.fasttrack.<name>``, which has a fake implementation and the same backward; inside the transforms of
``torch.func`` through the Function of ``_transforms``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fasttrack import dispatch
from fasttrack.dispatch import Row
from fasttrack.ops._autocast import suspended
from fasttrack.ops._batching import Rule
from fasttrack.ops._transforms import current_transform, forward_mode, has_tangent, mapped, only_mapped, transformed

__all__ = ["Gradient", "Op"]

_LIBRARY = torch.library.Library("fasttrack", "DEF")
_PLAIN = frozenset((Tensor, torch.nn.Parameter))
# What else comes as an argument: asking whether it is a tensor costs three times as much as this.
_VALUES = frozenset((bool, int, float, str, list, tuple, type(None)))


@dataclass(frozen=True)
class Gradient:
    """Backward of an op, in the two-part form that ``autograd.Function`` and ``torch.library`` share.

    Args:
        setup: ``setup(ctx, inputs, output)`` saves what the backward needs.
        backward: ``backward(ctx, *grad_outputs)`` → one gradient (or None) per input.
        function: ``function(name, row)`` → the ``autograd.Function`` of eager calls, where one made of the other
            two costs too much; it may return less than the op does.
    """

    setup: Callable[..., None]
    backward: Callable[..., Any]
    function: Callable[[str, Row], Any] | None = None


class Op:
    """One op: schema, backend rows, fake implementation, gradient.

    Args:
        name: ``torch.ops.fasttrack.<name>``.
        schema: arguments and results in torch.library's notation.
        rows: backends, best first; the last is the reference, which runs under plain autograd.
        meta: same arguments → empty outputs of the right shape, dtype and device.
        gradient: backward of the kernels; None where only the reference can be differentiated.
        batch: rule of ``torch.func.vmap``; None runs the examples one by one.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        rows: tuple[Row, ...],
        meta: Callable[..., Any],
        gradient: Gradient | None = None,
        batch: Rule | None = None,
    ) -> None:
        if gradient is not None:
            gradient = replace(gradient, setup=_noting(gradient.setup), backward=_held_to(gradient.backward))
        self.name, self.gradient = name, gradient
        dispatch.register(name, rows)
        _LIBRARY.define(f"{name}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, suspended(self._launch), "CompositeExplicitAutograd")
        torch.library.register_fake(f"fasttrack::{name}", meta, lib=_LIBRARY)
        self._functions: dict[str, Any] = {}
        if gradient is not None:
            torch.library.register_autograd(
                f"fasttrack::{name}", gradient.backward, setup_context=gradient.setup, lib=_LIBRARY
            )
            make = gradient.function
            self._functions = {
                row.backend: _function_class(name, row, gradient) if make is None else make(name, row) for row in rows
            }
        self.overload = getattr(torch.ops.fasttrack, name).default
        torch.library.register_vmap(f"fasttrack::{name}", mapped(self, batch), lib=_LIBRARY)
        self._transformed = transformed(self, batch)

    def _launch(self, *args: Any) -> Any:
        return dispatch.choose(self.name, args).run(*args)

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        """Run the op; ``backend`` is the explicit choice, None the automatic one."""
        if torch.compiler.is_compiling():
            return self._traced(args, backend)
        if current_transform() is not None:
            return self._through_transforms(args, backend)
        if forward_ad._current_level >= 0 and has_tangent(args):
            return forward_mode(self, args, backend)
        # One walk, without generators: they would be a good part of a small kernel's call.
        differentiate = False
        for a in args:
            kind = type(a)
            if kind in _VALUES:
                continue
            if kind in _PLAIN and not a.is_meta:
                differentiate = differentiate or a.requires_grad
            elif isinstance(a, Tensor):
                return self._traced(args, backend)
        if torch._C._is_any_autocast_enabled():
            with torch._C._DisableAutocast():
                return self._eager(args, differentiate, backend)
        if differentiate:
            return self._eager(args, differentiate, backend)
        return dispatch.choose(self.name, args, backend).run(*args)

    def _eager(self, args: tuple[Any, ...], differentiate: bool, backend: str | None) -> Any:
        row = dispatch.choose(self.name, args, backend)
        if not differentiate or row.backend == "reference" or not torch.is_grad_enabled():
            return row.run(*args)
        if self.gradient is None:
            # The kernel has no backward; the reference, under plain autograd, has.
            return dispatch.choose(self.name, args, "reference").run(*args)
        if backend is None:
            return self._functions[row.backend].apply(*args)
        with dispatch.use_backend(backend):
            return self._functions[row.backend].apply(*args)

    def _through_transforms(self, args: tuple[Any, ...], backend: str | None) -> Any:
        # Of what torch.library registers, only the rule of vmap works inside transforms; ops that write need no more.
        plain = self.overload._schema.is_mutable or (only_mapped() and forward_ad._current_level < 0)
        run = self.overload if plain else self._transformed.apply
        if backend is None:
            return run(*args)
        with dispatch.use_backend(backend):
            return run(*args)

    def _traced(self, args: tuple[Any, ...], backend: str | None) -> Any:
        if backend is None:
            return self.overload(*args)
        if torch.compiler.is_compiling():
            raise ValueError(
                f"{self.name}: backend= cannot be set inside torch.compile; "
                "use FASTTRACK_BACKEND or fasttrack.use_backend"
            )
        with dispatch.use_backend(backend):
            return self.overload(*args)


def _noting(setup: Callable[..., None]) -> Callable[..., None]:
    """``setup`` that also keeps the explicit choice of a backend: autograd may run the backward in another thread."""

    def run(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup(ctx, inputs, output)
        ctx.chosen_backend = dispatch.chosen()

    return run


def _held_to(backward: Callable[..., Any]) -> Callable[..., Any]:
    """``backward`` under the explicit choice that ``_noting`` kept, and without autocast."""
    run = suspended(backward)

    def held(ctx: Any, *grads: Any) -> Any:
        if ctx.chosen_backend is None:
            return run(ctx, *grads)
        with dispatch.use_backend(ctx.chosen_backend):
            return run(ctx, *grads)

    return held


def _function_class(name: str, row: Row, gradient: Gradient) -> Any:
    """The ``autograd.Function`` of one row of an op.

    ``setup`` is called from ``forward``: a Function with a ``setup_context`` of its own binds its arguments by
    ``inspect.signature`` at every call, which costs more than a small kernel.
    """

    def forward(ctx: Any, *args: Any) -> Any:
        output = row.run(*args)
        gradient.setup(ctx, args, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(gradient.backward)}
    return type(f"{name}_{row.backend}", (torch.autograd.Function,), members)

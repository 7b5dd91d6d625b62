"""Tensors between guards: what a kernel writes outside of its outputs, or reads outside of its inputs, is seen."""

import contextlib
from unittest import mock

import torch
from torch import Tensor

GUARD = 16_384  # elements on either side: more than a block of any kernel
MARK = 0x5A


class Guards:
    """Every tensor handed out lies in a larger buffer; ``intact`` says whether the margins are as they were."""

    def __init__(self) -> None:
        self.margins: list[Tensor] = []

    def place(self, value: Tensor) -> Tensor:
        """A copy of ``value`` of the same strides, with NaN (or a large number) around it: it must not be read."""
        extent = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True)) if value.numel() else 0
        filler = float("nan") if value.is_floating_point() else MARK
        store = torch.full((extent + 2 * GUARD,), filler, dtype=value.dtype, device=value.device)
        placed = store.as_strided(value.shape, value.stride(), GUARD)
        return placed.copy_(value)

    def room(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """An output of garbage between margins that are watched."""
        count = 1
        for n in shape:
            count *= n
        store = torch.empty_strided((count + 2 * GUARD,), (1,), dtype=dtype, device=device)
        store.view(torch.uint8).fill_(MARK)
        self.margins += [store[:GUARD], store[GUARD + count :]]
        inner = store[GUARD : GUARD + count]
        inner.fill_(float("nan") if dtype.is_floating_point else -77)
        return inner.view(shape)

    def intact(self) -> bool:
        return all(bool((margin.view(torch.uint8) == MARK).all()) for margin in self.margins)

    @contextlib.contextmanager
    def outputs(self):
        """Inside the ``with`` block ``torch.empty`` and ``empty_like`` hand out guarded tensors."""

        def empty(*shape, dtype=torch.float32, device="cpu", memory_format=torch.contiguous_format):
            sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
            if memory_format != torch.channels_last:
                return self.room(sizes, dtype, torch.device(device))
            b, c, h, w = sizes
            return self.room((b, h, w, c), dtype, torch.device(device)).permute(0, 3, 1, 2)

        def empty_like(value, **options):
            return self.room(tuple(value.shape), options.get("dtype", value.dtype), value.device)

        with mock.patch.multiple(torch, empty=empty, empty_like=empty_like):
            yield self

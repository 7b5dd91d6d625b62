"""Frozen networks as ``torch.nn`` modules: for export, ``torch.compile`` and state dicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fasttrack.vision.features.networks import Conv, Network

__all__ = ["NetworkModule", "StackModule"]


class NetworkModule(nn.Module):
    """(T, 3, h, w) float RGB 0..255 → one map per output; what ``Backbone`` computes, with weights as buffers.

    No inference mode and no parts: autograd, ``torch.export`` and ``fasttrack.onnx.export`` see through it. The
    weights are frozen, so buffers: they move and are saved with the module, and no optimiser takes them.

    Args:
        network: the blocks.
        layers: convolutions, in the order in which they run.
        outputs: names of the outputs.
        affine: (gain, offset) of the input, (1, 3, 1, 1) each.
        relu: outputs behind their ReLU, or before it.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Conv],
        outputs: Sequence[str],
        affine: tuple[Tensor, Tensor],
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.network, self.outputs, self.relu, self.depth = network, tuple(outputs), relu, len(layers)
        for name, value in zip(("gain", "offset"), affine, strict=True):
            self.register_buffer(name, value.detach().clone())
        for i, (weight, bias) in enumerate(layers):
            self.register_buffer(f"weight{i}", weight.detach().clone(memory_format=torch.contiguous_format))
            self.register_buffer(f"bias{i}", bias.detach().clone())

    def forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        """Maps in the order of ``outputs``."""
        layers = [(self.get_buffer(f"weight{i}"), self.get_buffer(f"bias{i}")) for i in range(self.depth)]
        x = torch.addcmul(self.get_buffer("offset"), patches, self.get_buffer("gain"))
        maps = self.network.run(x, layers, self.outputs, relu=self.relu)
        return tuple(maps[name] for name in self.outputs)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"{self.network.arch.name}, outputs={self.outputs}, relu={self.relu}"


class StackModule(nn.Module):
    """What ``LayerStack`` computes: the outputs of a network on one grid, one after the other in the channels.

    Args:
        network: the outputs.
        place: maps and the (rows, columns) of the grid → the stacked maps.
        stride: patch px per cell.
    """

    def __init__(
        self, network: NetworkModule, place: Callable[[Sequence[Tensor], int, int], Tensor], stride: int
    ) -> None:
        super().__init__()
        self.network, self.place, self.stride = network, place, stride

    def forward(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, Σ channels, h // stride, w // stride)."""
        stacked: Tensor = self.place(
            self.network(patches), patches.shape[2] // self.stride, patches.shape[3] // self.stride
        )
        return stacked

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"stride={self.stride}"

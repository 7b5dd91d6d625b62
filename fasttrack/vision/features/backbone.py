"""A frozen network with its weights: patches in, the maps of several depths out, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fasttrack.errors import ArgumentError, ShapeError
from fasttrack.vision.architectures import InputConvention
from fasttrack.vision.features.base import check_patches
from fasttrack.vision.features.network_module import NetworkModule
from fasttrack.vision.features.networks import Tap, network
from fasttrack.vision.weights import Weights, find_weights, load_weights

__all__ = ["Backbone"]

# Files looked for, best first; the first number is how many convolutions the file holds.
_FILES = {
    "vgg16": (
        (13, "vgg16.safetensors"),
        (4, "vgg16_conv1_1-conv2_2.safetensors"),
        (7, "vgg16_ssd300voc_conv1_1-conv3_3.safetensors"),
    ),
    "vgg-m": ((5, "vgg-m.safetensors"), (5, "imagenet-vgg-m.mat")),
    "resnet18": ((15, "resnet18.safetensors"), (15, "resnet18_conv1-layer3.safetensors")),
    "resnet50": ((43, "resnet50.safetensors"),),
    "squeezenet1_1": ((25, "squeezenet1_1.safetensors"),),
}
_SOURCES = {
    "vgg16": "torchvision's vgg16-397923af.pth or VGG_ILSVRC_16_layers.caffemodel",
    "vgg-m": "MatConvNet's imagenet-vgg-m.mat",
    "resnet18": "torchvision's resnet18-f37072fd.pth",
    "resnet50": "torchvision's resnet50-0676ba61.pth",
    "squeezenet1_1": "torchvision's squeezenet1_1-b8a52dc0.pth",
}


class Backbone:
    """Outputs of a frozen network: (T, 3, h, w) float32 RGB 0..255 → one (T, C, H, W) map per tap.

    Runs in inference mode, channels-last, in parts of at most ``max_batch_px`` patch pixels. Zero padding comes
    after the mean is taken off: the surround is mean-coloured.

    Args:
        name: one of ``fasttrack.vision.features.networks.NETWORKS``.
        outputs: names of the outputs, e.g. ``("layer2", "layer3")``.
        weights: file of any format that ``load_weights`` reads; default: searched (see ``find_weights``).
        convention: input convention, where the file does not say.
        relu: take the outputs behind their ReLU (default) or before it.
        max_batch_px: patch pixels in one pass.
        purpose: what the error about missing weights calls this.

    Attributes:
        taps: channels, stride and place of the cells of every output.
        weights_note: which weights are used, to be said beside every result.

    Raises:
        UnknownName: no such network or output.
        WeightsError: weights missing (says what to put where), broken, or of unknown input convention.
    """

    def __init__(
        self,
        name: str,
        outputs: Sequence[str],
        *,
        weights: str | Path | None = None,
        convention: InputConvention | None = None,
        relu: bool = True,
        max_batch_px: int = 1 << 20,
        purpose: str = "",
    ) -> None:
        if not outputs:
            raise ArgumentError("Backbone", "outputs", "at least one name", "none")
        self.name, self.outputs, self.relu, self.max_batch_px = name, tuple(outputs), relu, max_batch_px
        self._network = network(name)
        self.taps: tuple[Tap, ...] = tuple(self._network.tap(output) for output in outputs)
        depth = max(tap.layers for tap in self.taps)
        self.weights = self._load(depth, weights, convention, purpose)
        note = self.weights.note if self.weights.note else self.weights.path.name
        self.weights_note = f"{purpose or ', '.join(outputs)}: {note}"
        gain, offset = self.weights.convention.affine()
        self._gain, self._offset = (torch.tensor(v).view(1, 3, 1, 1) for v in (gain, offset))
        self._layers = [
            (weight.to(memory_format=torch.channels_last), bias)
            for weight, bias in (self.weights.layer(i) for i in range(depth))
        ]

    def _load(
        self, depth: int, weights: str | Path | None, convention: InputConvention | None, purpose: str
    ) -> Weights:
        arch = self._network.arch
        if weights is not None:
            return load_weights(Path(weights).expanduser(), arch, depth, convention)
        names = [name for holds, name in _FILES[arch.name] if holds >= depth]
        hint = (
            f"make it from {_SOURCES[arch.name]} with `fasttrack weights import FILE --arch {arch.name}`, "
            "or give weights=FILE"
        )
        purpose = f"feature {purpose}" if purpose else f"{self.name} ({', '.join(self.outputs)})"
        return load_weights(find_weights(names, purpose, hint), arch, depth, convention)

    def __call__(self, patches: Tensor) -> tuple[Tensor, ...]:
        """Maps of the patches, in the order of ``outputs``; channels-last in memory, without gradient.

        Raises:
            ShapeError: not (T, 3, h, w), or patches too small for one cell.
            DtypeError: not float32.
        """
        check_patches(self.name, patches, 1)
        if any(self._network.cells(output, side) < 1 for output in self.outputs for side in patches.shape[2:]):
            wanted = f"patches large enough for one cell of {', '.join(self.outputs)}"
            raise ShapeError(self.name, "patches", wanted, str(tuple(patches.shape)))
        self._move(patches.device)
        per_run = max(1, self.max_batch_px // (patches.shape[2] * patches.shape[3]))
        with torch.inference_mode():
            parts = [self._forward(part) for part in torch.split(patches, per_run)]
        # Made outside inference mode: autograd may keep features, which it refuses for inference tensors.
        with torch.no_grad():
            return tuple(torch.cat(maps) if len(maps) > 1 else maps[0].clone() for maps in zip(*parts, strict=True))

    def module(self) -> NetworkModule:
        """The same as a module, with weights as buffers; without inference mode and ``max_batch_px``."""
        return NetworkModule(self._network, self._layers, self.outputs, (self._gain, self._offset), self.relu)

    def cells(self, side_px: int) -> tuple[int, ...]:
        """Cells along one side of every output, for patches of so many px."""
        return tuple(self._network.cells(output, side_px) for output in self.outputs)

    def _move(self, device: torch.device) -> None:
        if self._gain.device != device:
            self._gain, self._offset = self._gain.to(device), self._offset.to(device)
            self._layers = [(weight.to(device), bias.to(device)) for weight, bias in self._layers]

    def _forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        x = torch.addcmul(self._offset, patches, self._gain).contiguous(memory_format=torch.channels_last)
        maps = self._network.run(x, self._layers, self.outputs, relu=self.relu)
        return tuple(maps[name] for name in self.outputs)

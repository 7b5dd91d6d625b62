"""Facts about the networks whose weights can be loaded: layers, shapes, input conventions, known files.

A weights file says nothing about what its network wants to see: RGB or BGR, 0–1 or 0–255, which
mean. Feeding the wrong one still gives plausible features, so it is never guessed: the convention
comes from the file's metadata, from the table of known files below, or from the user.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from fasttrack.errors import RangeError, UnknownName

__all__ = [
    "ARCHITECTURES",
    "CONVENTIONS",
    "KNOWN_FILES",
    "RESNET18",
    "RESNET50",
    "SQUEEZENET",
    "VGG16",
    "VGG_M",
    "Architecture",
    "InputConvention",
    "KnownFile",
    "Layer",
    "architecture",
    "known_file",
]

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class InputConvention:
    """What a network was trained to see: RGB planes ``(value·scale − mean) / std``, value in 0..255."""

    scale: float
    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        numbers = (self.scale, *self.mean, *self.std)
        if not all(math.isfinite(v) for v in numbers) or self.scale <= 0 or min(self.std) <= 0:
            raise RangeError("InputConvention", "numbers", "finite, with scale and std > 0", str(numbers))

    def affine(self) -> tuple[Triple, Triple]:
        """``(gain, offset)`` per channel with ``value·gain + offset = (value·scale − mean) / std``."""
        r, g, b = ((self.scale / s, -m / s) for m, s in zip(self.mean, self.std, strict=True))
        return (r[0], g[0], b[0]), (r[1], g[1], b[1])

    def to_json(self) -> str:
        """One line of JSON, the form kept in the metadata of an imported file."""
        return json.dumps({"order": "RGB", "scale": self.scale, "mean": self.mean, "std": self.std})

    @classmethod
    def parse(cls, text: str) -> InputConvention:
        """Convention from a name of ``CONVENTIONS`` or from the JSON of :meth:`to_json`.

        Raises:
            UnknownName: neither a known name nor JSON.
            RangeError: JSON without the four fields, or with other than finite numbers.
        """
        if not text.lstrip().startswith("{"):
            if text not in CONVENTIONS:
                raise UnknownName("input convention", text, (*CONVENTIONS, '{"order": "RGB", "scale": …}'))
            return CONVENTIONS[text]
        wanted = '{"order": "RGB", "scale": s, "mean": [r, g, b], "std": [r, g, b]}'
        try:
            fields = json.loads(text)
            mean, std = (tuple(float(v) for v in fields[key]) for key in ("mean", "std"))
            scale, order = float(fields["scale"]), fields["order"]
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise RangeError("InputConvention", "text", wanted, text) from error
        if order != "RGB" or len(mean) != 3 or len(std) != 3:
            raise RangeError("InputConvention", "text", wanted, text)
        return cls(scale, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


CONVENTIONS = {
    # The original VGG release (its files hold BGR; they are turned to RGB when read).
    "vgg": InputConvention(1.0, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "torchvision": InputConvention(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution.

    Attributes:
        name: in caffe and MatConvNet files, and in messages.
        key: in torchvision's files and in those written here.
        shape: (O, I, kh, kw).
        norm: key of the batch norm behind it, which is folded into it when a file is read ("" for none).
    """

    name: str
    key: str
    shape: tuple[int, int, int, int]
    norm: str = ""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Convolutions that weights are loaded into, in the order in which they run.

    Attributes:
        layers: the convolutions.
        trunk: prefixes of the keys that no other layer but these may have: what tells relatives apart.
    """

    name: str
    layers: tuple[Layer, ...]
    trunk: tuple[str, ...] = ()


def _vgg16() -> Architecture:
    layers, index, channels = [], 0, 3
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for i in range(1, count + 1):
            layers.append(Layer(f"conv{block}_{i}", f"features.{index}", (width, channels, 3, 3)))
            channels, index = width, index + 2  # a convolution and its ReLU
        index += 1  # the pool that ends the block
    return Architecture("vgg16", tuple(layers), ("features.",))


def _vgg_m() -> Architecture:
    sizes = ((96, 7), (256, 5), (512, 3), (512, 3), (512, 3))
    layers, channels = [], 3
    for i, (width, side) in enumerate(sizes, start=1):
        layers.append(Layer(f"conv{i}", f"conv{i}", (width, channels, side, side)))
        channels = width
    return Architecture("vgg-m", tuple(layers))


def _resnet(name: str, blocks: tuple[int, int, int], sides: tuple[int, ...], expansion: int) -> Architecture:
    """conv1 to layer3; ``sides`` are the kernels of a block, whose last convolution widens by ``expansion``."""
    layers, channels = [Layer("conv1", "conv1", (64, 3, 7, 7), "bn1")], 64
    for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256), strict=True), start=1):
        for block in range(count):
            where, entering = f"layer{stage}.{block}", channels
            for i, side in enumerate(sides, start=1):
                out = width * expansion if i == len(sides) else width
                key = f"{where}.conv{i}"
                layers.append(Layer(key, key, (out, channels, side, side), f"{where}.bn{i}"))
                channels = out
            if block == 0 and (stage > 1 or entering != channels):
                key = f"{where}.downsample.0"
                layers.append(Layer(key, key, (channels, entering, 1, 1), f"{where}.downsample.1"))
    return Architecture(name, tuple(layers), ("layer1.", "layer2.", "layer3."))


def _squeezenet() -> Architecture:
    layers, channels = [Layer("conv1", "features.0", (64, 3, 3, 3))], 64
    fires = ((3, 16, 64), (4, 16, 64), (6, 32, 128), (7, 32, 128), (9, 48, 192), (10, 48, 192))
    for number, (index, squeeze, expand) in enumerate((*fires, (11, 64, 256), (12, 64, 256)), start=2):
        name, key = f"fire{number}", f"features.{index}"
        layers.append(Layer(f"{name}/squeeze1x1", f"{key}.squeeze", (squeeze, channels, 1, 1)))
        for side in (1, 3):
            part = f"expand{side}x{side}"
            layers.append(Layer(f"{name}/{part}", f"{key}.{part}", (expand, squeeze, side, side)))
        channels = 2 * expand
    return Architecture("squeezenet1_1", tuple(layers), ("features.",))


#: Simonyan & Zisserman 2015, configuration D: 13 convolutions of 3×3 in five blocks.
VGG16 = _vgg16()
#: Chatfield et al. 2014, the medium network: five convolutions.
VGG_M = _vgg_m()
#: He et al. 2016, up to layer3 (stride 16): basic blocks, and bottlenecks with the stride in the 3×3.
RESNET18 = _resnet("resnet18", (2, 2, 2), (3, 3), 1)
RESNET50 = _resnet("resnet50", (3, 4, 6), (1, 3, 1), 4)
#: Iandola et al. 2016, version 1.1: conv1 and eight fire modules.
SQUEEZENET = _squeezenet()
ARCHITECTURES = {arch.name: arch for arch in (VGG16, VGG_M, RESNET18, RESNET50, SQUEEZENET)}


def architecture(name: str) -> Architecture:
    """The architecture of this name.

    Raises:
        UnknownName: with the list of those known.
    """
    if name not in ARCHITECTURES:
        raise UnknownName("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A published file recognised by (a prefix of) its SHA-256, whatever its name."""

    sha256: str
    arch: str
    convention: str
    note: str


KNOWN_FILES = (
    KnownFile(
        "c9289aeec5775d71e2fee25e8dd5702a20a9480f333ff3c20213b63578f29890",
        "vgg16",
        "vgg",
        "original VGG-16, conv1_1 to conv2_2, biases rounded to 16-bit fixed point",
    ),
    KnownFile(
        "dbb4ba879782d9c62d2d1bb344d878547b3ada66edd20730c751b3be99ef8935",
        "vgg16",
        "torchvision",
        "stand-in: VGG-16 of SSD300 (fine-tuned for detection on VOC), conv1_1 to conv3_3",
    ),
    KnownFile(
        "f47dc467efcf7977906f398844c554c6f834f220e186b0ca688ebaef38b46495",
        "resnet18",
        "torchvision",
        "torchvision ResNet-18, conv1 to layer3, batch norm folded",
    ),
    KnownFile(
        "7b888f2fc6f896b461d57d42603e860d3708e32d2c392af7a89cddaadf227e34",
        "squeezenet1_1",
        "torchvision",
        "SqueezeNet 1.1 of the ONNX model zoo",
    ),
    # torchvision's file names end in the first eight digits of the SHA-256 of the file.
    KnownFile("397923af", "vgg16", "torchvision", "torchvision VGG16_Weights.IMAGENET1K_V1"),
)


def known_file(sha256: str) -> KnownFile | None:
    """The entry of ``KNOWN_FILES`` whose checksum (or prefix of it) this is, or None."""
    return next((known for known in KNOWN_FILES if sha256.startswith(known.sha256)), None)

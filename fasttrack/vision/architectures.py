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
    "VGG16",
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
    """One convolution: its name in caffe and MatConvNet files, in torchvision's, and its shape (O, I, kh, kw)."""

    name: str
    key: str
    shape: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A chain of convolutions that weights are loaded into, in the order in which they run."""

    name: str
    layers: tuple[Layer, ...]


def _vgg16() -> Architecture:
    layers, index, channels = [], 0, 3
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for i in range(1, count + 1):
            layers.append(Layer(f"conv{block}_{i}", f"features.{index}", (width, channels, 3, 3)))
            channels, index = width, index + 2  # a convolution and its ReLU
        index += 1  # the pool that ends the block
    return Architecture("vgg16", tuple(layers))


#: Simonyan & Zisserman 2015, configuration D: 13 convolutions of 3×3 in five blocks.
VGG16 = _vgg16()
ARCHITECTURES = {VGG16.name: VGG16}


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

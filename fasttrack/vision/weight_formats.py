"""Readers of weights files: safetensors, torch ``.pth``, ``.npz``, MatConvNet ``.mat``, ``.caffemodel``.

Each gives the convolutions of one architecture in one form: names and layout of torchvision
(``features.0.weight`` as (O, I, kh, kw), ``features.0.bias`` as (O,)), input channels in the order RGB.
No format may execute code: pickles are read by torch's weights-only reader, numpy's are refused.
"""

from __future__ import annotations

import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fasttrack.errors import WeightsError
from fasttrack.vision.architectures import Architecture, InputConvention, Layer
from fasttrack.vision.caffemodel import read_caffemodel
from fasttrack.vision.matfile import read_mat

__all__ = ["BROKEN", "SUFFIXES", "RawWeights", "broken", "folded_state", "read_weights"]

# What the libraries below raise on a cut or altered file (found by altering bytes; none documents it).
BROKEN = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, MemoryError, NotImplementedError,
    AssertionError, AttributeError, NameError, SyntaxError, tokenize.TokenError,
    struct.error, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, SafetensorError,
)  # fmt: skip


def broken(path: Path, error: Exception) -> WeightsError:
    """What to raise for one of ``BROKEN``."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    return WeightsError(f"{path}: truncated or not a {path.suffix} file: {first}")


@dataclass(frozen=True, slots=True)
class RawWeights:
    """Content of one file, not yet checked against the architecture."""

    tensors: dict[str, Tensor]
    format: str
    metadata: dict[str, str] = field(default_factory=dict)
    #: the convention the file itself states (MatConvNet keeps the mean image), if it does
    convention: InputConvention | None = None


def _refuse_others(path: Path, names: Iterable[str], arch: Architecture) -> None:
    """Refuse a relative of the network whose first layers would fit (VGG-19, VGG with batch norm, SqueezeNet).

    Layers of other kinds and behind the last one are no sign of another network.
    """
    own = {name for layer in arch.layers for name in (layer.key, layer.name, layer.norm)}
    blocks = {layer.name.rpartition("_")[0] for layer in arch.layers}
    for name in names:
        stem = name.removesuffix(".weight")
        in_trunk = name.endswith(".weight") and name.startswith(arch.trunk)
        in_block = stem.rpartition("_")[0] in blocks and stem.rpartition("_")[2].isdigit()
        if (in_trunk or in_block) and stem not in own:
            raise WeightsError(f"{path}: holds layer {stem}, which {arch.name} does not have: another network")


def folded_state(path: Path, arrays: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Tensors under torchvision's names, from torchvision's or caffe's; layers of other kinds are left out.

    A batch norm is folded into the convolution before it.

    Raises:
        WeightsError: a layer of another network, or a batch norm without its four rows.
    """
    _refuse_others(path, arrays, arch)
    out: dict[str, Tensor] = {}
    for layer in arch.layers:
        for part in ("weight", "bias"):
            for name in (f"{layer.key}.{part}", f"{layer.name}.{part}"):
                if name in arrays:
                    out[f"{layer.key}.{part}"] = arrays[name]
        if layer.norm and f"{layer.norm}.running_mean" in arrays:
            out.update(_folded(path, layer, out, arrays))
    return out


_NORM_EPSILON = 1e-5  # torch's; no file states it


def _folded(path: Path, layer: Layer, out: Mapping[str, Tensor], arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a convolution with its batch norm: (w·x + b − μ)·γ/√(σ² + ε) + β."""
    names = [f"{layer.norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    weight = out.get(f"{layer.key}.weight")
    if weight is None:
        raise WeightsError(f"{path}: layer {layer.name} ({layer.key}.weight): missing, but not its batch norm")
    if any(name not in arrays or arrays[name].shape != weight.shape[:1] for name in names):
        shapes = {name: tuple(arrays[name].shape) if name in arrays else "missing" for name in names}
        raise WeightsError(f"{path}: batch norm {layer.norm}: wanted four rows of {layer.shape[0]}, got {shapes}")
    gamma, beta, mean, variance = (arrays[name].double() for name in names)
    gain = gamma / (variance + _NORM_EPSILON).sqrt()
    bias = out.get(f"{layer.key}.bias", torch.zeros(())).double()
    folded = weight.double() * gain.view(-1, *[1] * (weight.dim() - 1))
    return {f"{layer.key}.weight": folded.float(), f"{layer.key}.bias": ((bias - mean) * gain + beta).float()}


def _torch(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _read_safetensors(path: Path, arch: Architecture) -> RawWeights:
    with safe_open(str(path), framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return RawWeights(folded_state(path, tensors, arch), "safetensors", metadata)


def _read_pth(path: Path, arch: Architecture) -> RawWeights:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: wanted a state dict (name → tensor), got {type(content).__name__}")
    # DataParallel puts "module." before every name.
    tensors = {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    return RawWeights(folded_state(path, tensors, arch), "pth")


def _read_npz(path: Path, arch: Architecture) -> RawWeights:
    """Arrays named as in torchvision or caffe, or TensorFlow's ``conv1_1_W`` (kh, kw, I, O) and ``conv1_1_b``."""
    tensors: dict[str, Tensor] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            array = archive[name]
            if array.dtype.kind != "f":
                continue
            if name.endswith("_W") and array.ndim == 4:
                tensors[f"{name[:-2]}.weight"] = _torch(array.transpose(3, 2, 0, 1))
            elif name.endswith("_b"):
                tensors[f"{name[:-2]}.bias"] = _torch(array.reshape(-1))
            else:
                tensors[name] = _torch(array)
    return RawWeights(folded_state(path, tensors, arch), "npz")


def _read_mat(path: Path, arch: Architecture) -> RawWeights:
    """MatConvNet: a cell array ``layers`` of structs with ``name`` and ``weights`` {filters (H, W, I, O), biases}."""
    content = read_mat(path)
    if not isinstance(content.get("layers"), list):
        raise WeightsError(f"{path}: not a MatConvNet network: no cell array 'layers' (found {sorted(content)})")
    tensors: dict[str, Tensor] = {}
    for cell in content["layers"]:
        layer = _struct(cell)
        name, weights = layer.get("name"), _mat_weights(layer)
        if not isinstance(name, str) or not weights:
            continue
        filters = weights[0].reshape(weights[0].shape + (1,) * (4 - weights[0].ndim))  # MATLAB drops last 1s
        tensors[f"{name}.weight"] = _torch(filters.transpose(3, 2, 0, 1))
        if len(weights) > 1:
            tensors[f"{name}.bias"] = _torch(weights[1].reshape(-1))
    return RawWeights(folded_state(path, tensors, arch), "mat", convention=_mat_convention(content))


def _struct(value: object) -> dict[str, Any]:
    """A single struct, which the reader gives as a list of one; {} for anything else."""
    single = isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
    return value[0] if single else {}  # type: ignore[index]


def _mat_weights(layer: dict[str, Any]) -> list[NDArray[Any]]:
    """Filters and biases of one layer: the cell ``weights`` or, in files before 2015, two fields."""
    parts = layer["weights"] if "weights" in layer else [layer.get("filters"), layer.get("biases")]
    return [part for part in parts if isinstance(part, np.ndarray) and part.size]


def _mat_convention(content: dict[str, Any]) -> InputConvention | None:
    """RGB 0–255 minus the mean of ``meta.normalization.averageImage`` (older: ``normalization.averageImage``)."""
    holder = _struct(content["meta"]) if "meta" in content else content
    image = _struct(holder.get("normalization")).get("averageImage")
    if not isinstance(image, np.ndarray) or not (image.size == 3 or image.shape[2:] == (3,)):
        return None
    # (h, w, 3), or three numbers in any orientation
    r, g, b = image.astype(np.float64).reshape(-1, 3).mean(axis=0)
    return InputConvention(1.0, (float(r), float(g), float(b)), (1.0, 1.0, 1.0))


def _read_caffe(path: Path, arch: Architecture) -> RawWeights:
    arrays, names = read_caffemodel(path, frozenset(layer.name for layer in arch.layers))
    _refuse_others(path, names, arch)
    tensors = {name: _torch(array) for name, array in arrays.items()}
    first = f"{arch.layers[0].name}.weight"
    if first in tensors and tensors[first].dim() == 4 and tensors[first].shape[1] == 3:
        tensors[first] = tensors[first].flip(1).contiguous()  # caffe reads images as BGR
    return RawWeights(folded_state(path, tensors, arch), "caffemodel")


_READERS: dict[str, Callable[[Path, Architecture], RawWeights]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".npz": _read_npz,
    ".mat": _read_mat,
    ".caffemodel": _read_caffe,
}
SUFFIXES = tuple(_READERS)


def read_weights(path: Path, arch: Architecture) -> RawWeights:
    """Everything a weights file holds for ``arch``; the format is told by the file's suffix.

    Raises:
        WeightsError: unknown suffix, missing, unreadable, truncated or foreign file (names the file).
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{path}: unknown kind of weights file; wanted one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        return reader(path, arch)
    except BROKEN as error:
        raise broken(path, error) from error

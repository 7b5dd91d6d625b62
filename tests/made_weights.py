"""Made patches, networks, VGG-16 files in every format, and an independent forward pass: for the tests of vision."""

import struct

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from fasttrack.vision.architectures import CONVENTIONS, VGG16

INPUT = CONVENTIONS["torchvision"]


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 255


def made(arch, seed=0):
    """A state dict with torchvision's keys: convolutions, their biases, and batch norms with all four rows at work."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for layer in arch.layers:
        rows, fan_in = layer.shape[0], layer.shape[1] * layer.shape[2] * layer.shape[3]
        state[f"{layer.key}.weight"] = torch.randn(layer.shape, generator=random) * (2 / fan_in) ** 0.5
        if layer.norm:
            state[f"{layer.norm}.weight"] = 0.5 + torch.rand(rows, generator=random)
            state[f"{layer.norm}.bias"] = 0.1 * torch.randn(rows, generator=random)
            state[f"{layer.norm}.running_mean"] = 0.1 * torch.randn(rows, generator=random)
            state[f"{layer.norm}.running_var"] = 0.5 + torch.rand(rows, generator=random)
        else:
            state[f"{layer.key}.bias"] = 0.1 * torch.randn(rows, generator=random)
    return state


def made_tensors(count, seed=0):
    """Random weights of the first ``count`` convolutions, scaled so that activations neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in VGG16.layers[:count]:
        fan_in = layer.shape[1] * 9
        tensors[f"{layer.key}.weight"] = torch.randn(layer.shape, generator=generator) * (2 / fan_in) ** 0.5
        tensors[f"{layer.key}.bias"] = torch.randn(layer.shape[0], generator=generator) * 0.1
    return tensors


def by_layer(tensors):
    """``[(caffe name, weight, bias)]`` as numpy arrays."""
    return [
        (layer.name, tensors[f"{layer.key}.weight"].numpy(), tensors[f"{layer.key}.bias"].numpy())
        for layer in VGG16.layers
        if f"{layer.key}.weight" in tensors
    ]


def to_bgr(name, weight):
    return weight[:, ::-1].copy() if name == "conv1_1" else weight


# --- protobuf, written by hand -------------------------------------------------------------------------------


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, payload):
    """A length-delimited field (bytes) or a varint field (int)."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array, legacy, packed=True, double=False):
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        head = b"".join(field(i, n) for i, n in enumerate(shape, start=1))
    else:
        head = field(7, field(1, b"".join(varint(n) for n in array.shape)))
    flat = array.reshape(-1)
    if double:
        return head + field(8, flat.astype("<f8").tobytes())
    if packed:
        return head + field(5, flat.astype("<f4").tobytes())
    return head + b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in flat)


def caffemodel(tensors, v1=False, packed=True, double=False):
    """Bytes of a NetParameter: a data layer without blobs, the convolutions (BGR), and a layer to be skipped."""
    name_field, blobs_field, layer_field = (4, 6, 2) if v1 else (1, 7, 100)
    out = field(1, b"VGG_made")
    out += field(layer_field, field(name_field, b"data"))
    for name, weight, bias in by_layer(tensors):
        body = field(name_field, name.encode())
        body += field(blobs_field, blob(to_bgr(name, weight), v1, packed, double))
        body += field(blobs_field, blob(bias, v1, packed, double))
        out += field(layer_field, body + field(99, 7))
    fc = field(name_field, b"fc6") + field(blobs_field, blob(np.ones((4, 5), np.float32), v1))
    return out + field(layer_field, fc)


# --- MatConvNet ----------------------------------------------------------------------------------------------


def save_mat(path, tensors, old=False, compressed=False, mean=(123.68, 116.779, 103.939)):
    """``layers`` as a 1×N cell array of structs, filters as (H, W, I, O); ``old``: fields filters/biases."""
    layers = []
    for name, weight, bias in by_layer(tensors):
        filters, biases = weight.transpose(2, 3, 1, 0), bias.reshape(1, -1)
        if old:
            layers.append({"type": "conv", "name": name, "filters": filters, "biases": biases})
        else:
            cell = np.empty((1, 2), dtype=object)
            cell[0, 0], cell[0, 1] = filters, biases
            layers.append({"type": "conv", "name": name, "weights": cell})
        layers.append({"type": "relu", "name": name.replace("conv", "relu")})
    cells = np.empty((1, len(layers)), dtype=object)
    for i, layer in enumerate(layers):
        cells[0, i] = layer
    content = {"layers": cells}
    image = {"averageImage": np.broadcast_to(np.array(mean).reshape(1, 1, 3), (4, 4, 3) if old else (1, 1, 3)).copy()}
    if mean is not None:
        content |= {"normalization": image} if old else {"meta": {"normalization": image}}
    savemat(path, content, do_compression=compressed)


# --- files --------------------------------------------------------------------------------------------------


def write(path, kind, tensors):
    """One made file; ``kind`` is a format and a flavour of it."""
    path = path / f"made-{kind.replace(' ', '-')}{KINDS[kind]}"
    if kind == "safetensors":
        save_file(tensors, path)
    elif kind == "pth":
        torch.save(tensors, path)
    elif kind == "pth old":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif kind == "pth wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, path)
    elif kind == "npz":
        np.savez(path, **{k: v.numpy() for k, v in tensors.items()})
    elif kind == "npz tensorflow":
        arrays = {}
        for name, weight, bias in by_layer(tensors):
            arrays |= {f"{name}_W": weight.transpose(2, 3, 1, 0), f"{name}_b": bias}
        np.savez_compressed(path, **arrays)
    elif kind.startswith("mat"):
        save_mat(path, tensors, old=kind == "mat old", compressed=kind == "mat compressed")
    else:
        options = {"v1": "v1" in kind, "packed": "unpacked" not in kind, "double": "double" in kind}
        path.write_bytes(caffemodel(tensors, **options))
    return path


KINDS = {
    "safetensors": ".safetensors", "pth": ".pth", "pth old": ".pth", "pth wrapped": ".pt", "npz": ".npz",
    "npz tensorflow": ".npz", "mat": ".mat", "mat old": ".mat", "mat compressed": ".mat", "caffe": ".caffemodel",
    "caffe v1": ".caffemodel", "caffe unpacked": ".caffemodel", "caffe double": ".caffemodel",
}  # fmt: skip


# --- an independent forward pass -----------------------------------------------------------------------------


def forward(tensors, convention, depth, patches, relu=True):
    """VGG-16 with pool1 and pool2 only, up to convolution ``depth``, in float64 numpy, pixel by pixel shifts."""
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (convention.mean, convention.std))
    x = (np.asarray(patches, dtype=np.float64) * convention.scale - mean) / std
    for i, (_, weight, bias) in enumerate(by_layer(tensors)[:depth], start=1):
        t, _, h, w = x.shape
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((t, len(bias), h, w)) + bias.astype(np.float64).reshape(1, -1, 1, 1)
        for dy in range(3):
            for dx in range(3):
                shifted = padded[:, :, dy : dy + h, dx : dx + w]
                out += np.einsum("oc,tcyx->toyx", weight[:, :, dy, dx].astype(np.float64), shifted, optimize=True)
        x = out if i == depth and not relu else np.maximum(out, 0)
        if i in (2, 4) and i < depth:
            h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
            x = np.maximum.reduce([x[:, :, dy:h:2, dx:w:2] for dy in (0, 1) for dx in (0, 1)])
    return x


def block_mean(x, n):
    t, c, h, w = x.shape
    h, w = h // n, w // n
    return x[:, :, : h * n, : w * n].reshape(t, c, h, n, w, n).mean(axis=(3, 5))


def relative(got, wanted):
    """‖got − wanted‖ / ‖wanted‖."""
    got, wanted = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)

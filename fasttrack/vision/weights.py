"""Weights files: where they lie, what they hold, whether they are whole. Never fetches anything.

A file is looked for as an explicit path, then in the folder ``FASTTRACK_WEIGHTS``, then in the user's
cache (``$XDG_CACHE_HOME/fasttrack/weights``, by default ``~/.cache/fasttrack/weights``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fasttrack.errors import OutputError, WeightsError
from fasttrack.vision.architectures import Architecture, InputConvention, Layer, known_file
from fasttrack.vision.weight_formats import SUFFIXES, RawWeights, read_weights

__all__ = [
    "Weights",
    "check_layers",
    "file_sha256",
    "find_weights",
    "list_files",
    "load_weights",
    "open_weights",
    "save_weights",
    "search_folders",
    "tensors_sha256",
]

# Keys in the metadata of files written here.
META_ARCH, META_INPUT = "fasttrack.arch", "fasttrack.input"
META_DIGEST, META_NOTE = "fasttrack.tensors_sha256", "fasttrack.note"


@dataclass(frozen=True, slots=True)
class Weights:
    """Checked weights of the first ``len(layers)`` convolutions of an architecture, RGB, float32."""

    path: Path
    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    convention: InputConvention
    #: what these weights are, to be said beside every result made with them ("" if nothing special)
    note: str
    sha256: str
    #: how the checksum was proved: "known file", "SHA256SUMS", "own digest", joined by ", "; or "unproved"
    checksum: str

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """``(weight (O, I, kh, kw), bias (O,))`` of convolution ``index`` (0-based)."""
        key = self.layers[index].key
        return self.tensors[f"{key}.weight"], self.tensors[f"{key}.bias"]


def search_folders() -> tuple[Path, ...]:
    """Folders in which weights are looked for, first to last."""
    folders = []
    if named := os.environ.get("FASTTRACK_WEIGHTS"):
        folders.append(Path(named).expanduser())
    cache = os.environ.get("XDG_CACHE_HOME")
    folders.append((Path(cache) if cache else Path("~/.cache").expanduser()) / "fasttrack" / "weights")
    return tuple(folders)


def list_files(folder: Path) -> list[Path]:
    """Weights files lying in a folder (by suffix), sorted; a missing folder holds none."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)


def find_weights(names: Iterable[str], purpose: str, hint: str = "") -> Path:
    """First file of one of these names in the search folders (a better name wins over an earlier folder).

    Raises:
        WeightsError: none is there; says for what, which names, where to put them.
    """
    wanted, folders = tuple(names), search_folders()
    for name in wanted:
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
    places = " or ".join(str(f) for f in folders)
    unset = "" if os.environ.get("FASTTRACK_WEIGHTS") else " (or set FASTTRACK_WEIGHTS to your folder of weights)"
    raise WeightsError(
        f"{purpose} needs weights that are not at hand: put {' or '.join(wanted)} into {places}{unset}"
        + (f"; {hint}" if hint else "")
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    return digest.hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values; independent of the order and of the file around them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _sums_entry(path: Path) -> str | None:
    """Checksum that a ``SHA256SUMS`` beside the file states for it, if any."""
    sums = path.parent / "SHA256SUMS"
    if not sums.is_file():
        return None
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition(" ")
        if name.lstrip(" *") == path.name:
            return digest.lower()
    return None


def _prove(path: Path, sha256: str, raw: RawWeights) -> str:
    """How the file is proved whole; raises where a checksum contradicts."""
    proofs = ["known file"] if known_file(sha256) is not None else []
    if (stated := _sums_entry(path)) is not None:
        if stated != sha256:
            raise WeightsError(f"{path}: damaged or replaced: SHA256SUMS wants {stated}, got {sha256}")
        proofs.append("SHA256SUMS")
    if (stated := raw.metadata.get(META_DIGEST)) is not None:
        got = tensors_sha256(raw.tensors)
        if stated != got:
            raise WeightsError(f"{path}: damaged: its own digest of the tensors wants {stated}, got {got}")
        proofs.append("own digest")
    return ", ".join(proofs) if proofs else "unproved"


def check_layers(path: Path, tensors: Mapping[str, Tensor], layers: Iterable[Layer]) -> dict[str, Tensor]:
    """The float32 weights and biases of these layers, each proved to be there, of its shape and finite.

    Raises:
        WeightsError: naming file, layer, wanted and got.
    """
    out: dict[str, Tensor] = {}
    for layer in layers:
        for part, shape in (("weight", layer.shape), ("bias", layer.shape[:1])):
            key, where = f"{layer.key}.{part}", f"{path}: layer {layer.name} ({layer.key}.{part})"
            if key not in tensors:
                raise WeightsError(f"{where}: missing")
            tensor = tensors[key]
            if not tensor.is_floating_point() or tuple(tensor.shape) != shape:
                raise WeightsError(f"{where}: wanted floats of shape {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
            if not bool(torch.isfinite(tensor).all()):
                raise WeightsError(f"{where}: holds NaN or infinity")
            out[key] = tensor.detach().to(torch.float32)
    return out


def convention_of(path: Path, raw: RawWeights, sha256: str, given: InputConvention | None) -> InputConvention:
    """The input convention: the one given, else the file's own, else the known file's.

    Raises:
        WeightsError: none of them says.
    """
    if given is not None:
        return given
    if META_INPUT in raw.metadata:
        return InputConvention.parse(raw.metadata[META_INPUT])
    if raw.convention is not None:
        return raw.convention
    if (known := known_file(sha256)) is not None:
        return InputConvention.parse(known.convention)
    raise WeightsError(
        f"{path}: does not say what input its network wants; import it once with "
        "`fasttrack weights import FILE --arch vgg16 --input torchvision` (RGB/255 with ImageNet mean and std) "
        "or `--input vgg` (0–255 minus 123.68, 116.779, 103.939), or give convention="
    )


def open_weights(path: Path, arch: Architecture) -> tuple[RawWeights, str]:
    """Unchecked content of a file and its SHA-256, once it is sure that it is not known as another network.

    Raises:
        WeightsError: unreadable, or the weights of another network.
    """
    sha256 = file_sha256(path)
    known = known_file(sha256)
    if known is not None and known.arch != arch.name:
        raise WeightsError(f"{path}: wanted weights of {arch.name}, got {known.arch} ({known.note})")
    raw = read_weights(path, arch)
    if raw.metadata.get(META_ARCH, arch.name) != arch.name:
        raise WeightsError(f"{path}: wanted weights of {arch.name}, got {raw.metadata[META_ARCH]}")
    return raw, sha256


def load_weights(
    path: Path, arch: Architecture, count: int | None = None, convention: InputConvention | None = None
) -> Weights:
    """Weights of the first ``count`` convolutions of ``arch`` (default all) from a file of any known format.

    Args:
        path: ``.safetensors``, ``.pth``/``.pt``, ``.npz``, MatConvNet ``.mat`` or ``.caffemodel``.
        arch: the network.
        count: how many convolutions are wanted, from the first.
        convention: what the network wants to see; needed where the file does not say.

    Raises:
        WeightsError: missing, truncated or foreign file, wrong checksum, missing layer, wrong shape, NaN,
            unknown input convention.
    """
    raw, sha256 = open_weights(path, arch)
    checksum = _prove(path, sha256, raw)
    layers = arch.layers[:count]
    tensors = check_layers(path, raw.tensors, layers)
    known = known_file(sha256)
    note = raw.metadata.get(META_NOTE, known.note if known is not None else "")
    return Weights(path, layers, tensors, convention_of(path, raw, sha256, convention), note, sha256, checksum)


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool) -> None:
    """Write a safetensors file whole or not at all (beside its place, then renamed), with its own digest.

    Raises:
        OutputError: the file is there and ``overwrite`` is off, or the place cannot be written.
    """
    if path.suffix != ".safetensors":
        raise OutputError(f"{path}: weights are written as .safetensors")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: is there already; ask for overwriting (--force) to replace it")
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    part: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
        os.close(handle)
        save_file(content, part, metadata={**metadata, META_DIGEST: tensors_sha256(content)})
        os.chmod(part, 0o644)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part)
        raise OutputError(f"{path}: cannot be written: {error}") from error

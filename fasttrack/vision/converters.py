"""Import of foreign weights files into safetensors, and the report on a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fasttrack.errors import WeightsError
from fasttrack.vision.architectures import ARCHITECTURES, Architecture, InputConvention, Layer, known_file
from fasttrack.vision.weight_formats import RawWeights
from fasttrack.vision.weights import (
    META_ARCH,
    META_INPUT,
    META_NOTE,
    Weights,
    check_layers,
    convention_of,
    load_weights,
    open_weights,
    save_weights,
    search_folders,
)

__all__ = ["Report", "default_output", "import_weights", "inspect_weights"]


@dataclass(frozen=True, slots=True)
class Report:
    """What one weights file is: ``weights`` where it can be used, else ``problem``."""

    path: Path
    arch: str
    weights: Weights | None
    problem: str

    @property
    def line(self) -> str:
        """One line for a listing."""
        if self.weights is None:
            return f"{self.path.name}: not usable: {self.problem.removeprefix(f'{self.path}: ')}"
        w = self.weights
        reach = f"{w.layers[0].name} … {w.layers[-1].name}" if len(w.layers) > 1 else w.layers[0].name
        note = f"; {w.note}" if w.note else ""
        return f"{self.path.name}: {self.arch} {reach}, sha256 {w.sha256[:12]}…, checksum: {w.checksum}{note}"


def _layers_in(path: Path, raw: RawWeights, arch: Architecture) -> tuple[Layer, ...]:
    """The layers that the file holds: the first n of the chain, without a hole.

    Raises:
        WeightsError: the first layer is missing, or one in between is.
    """
    there = [f"{layer.key}.weight" in raw.tensors for layer in arch.layers]
    if not any(there):
        first = arch.layers[0]
        raise WeightsError(f"{path}: no layer of {arch.name}: wanted {first.name} or {first.key}.weight")
    count = max(i for i, found in enumerate(there) if found) + 1
    missing = [layer for layer, found in zip(arch.layers[:count], there, strict=False) if not found]
    if missing:
        raise WeightsError(f"{path}: layer {missing[0].name} ({missing[0].key}.weight): missing")
    return arch.layers[:count]


def default_output(source: Path, arch: Architecture) -> Path:
    """Where an import goes when no place is given: ``<arch>.safetensors`` in the first search folder."""
    return search_folders()[0] / f"{arch.name}.safetensors"


def import_weights(
    source: Path,
    arch: Architecture,
    out: Path | None = None,
    convention: InputConvention | None = None,
    licence: str = "",
    note: str = "",
    overwrite: bool = False,
) -> Path:
    """Turn a foreign weights file into a safetensors file that says what it is; returns where it was written.

    The convolutions that the file holds, from the first on, are checked (shape, finite), turned to
    torchvision's names and layout and to RGB, and written with the metadata ``fasttrack.arch, .input,
    .source, .source_format, .source_sha256, .licence, .note, .tensors_sha256``.

    Args:
        source: ``.pth``/``.pt``, ``.npz``, MatConvNet ``.mat``, ``.caffemodel`` or safetensors.
        arch: the network.
        out: file to write; default ``<arch>.safetensors`` in the first search folder.
        convention: what the network wants to see; needed where neither the file nor its checksum says.
        licence: licence of the weights, as text.
        note: what the weights are, printed beside results made with them.
        overwrite: replace ``out`` where it is there.

    Raises:
        WeightsError: the source is missing, broken or not of this network, or its input convention is unknown.
        OutputError: ``out`` is there already, or cannot be written.
    """
    raw, sha256 = open_weights(source, arch)
    tensors = check_layers(source, raw.tensors, _layers_in(source, raw, arch))
    wants = convention_of(source, raw, sha256, convention)
    known = known_file(sha256)
    if not note:
        note = raw.metadata.get(META_NOTE, known.note if known is not None else "")
    target = out if out is not None else default_output(source, arch)
    metadata = {
        META_ARCH: arch.name,
        META_INPUT: wants.to_json(),
        "fasttrack.source": source.name,
        "fasttrack.source_format": raw.format,
        "fasttrack.source_sha256": sha256,
        "fasttrack.licence": licence if licence else raw.metadata.get("fasttrack.licence", ""),
        META_NOTE: note,
    }
    save_weights(target, tensors, metadata, overwrite)
    return target


def inspect_weights(path: Path) -> Report:
    """What a weights file is and whether it is whole; a problem is reported, not raised."""
    problems = []
    for arch in ARCHITECTURES.values():
        try:
            count = len(_layers_in(path, open_weights(path, arch)[0], arch))
            return Report(path, arch.name, load_weights(path, arch, count), "")
        except WeightsError as error:
            problems.append(str(error))
    return Report(path, "", None, "; ".join(problems))

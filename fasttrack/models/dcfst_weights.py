"""Files of DCFST's learnt parts: the locator head and, where there is one, the IoU-net."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fasttrack.errors import WeightsError
from fasttrack.models.iou_net import IoUNet
from fasttrack.models.pooled_head import PooledHead
from fasttrack.vision.features.networks import NETWORKS, Tap
from fasttrack.vision.weight_formats import BROKEN, broken
from fasttrack.vision.weights import META_ARCH, META_DIGEST, META_NOTE, find_weights, save_weights, tensors_sha256

__all__ = [
    "BACKBONES",
    "BINS",
    "META_BACKBONE_FILE",
    "TAPS",
    "HeadFile",
    "build",
    "check_parts",
    "describe",
    "load_head",
    "open_head",
    "parts_of",
    "save_head",
]

BACKBONES = ("resnet18", "resnet50")
TAPS = ("layer2", "layer3")
BINS = ((8, 8), (4, 4))
#: Name of a file beside this one that holds the backbone the head was trained on ("": the usual one).
META_BACKBONE_FILE = "fasttrack.backbone_file"
_KIND = "dcfst-"  # fasttrack.arch of a head's file is this and the name of its backbone
_BLOCK = re.compile(r"head\.convs\.0\.(\d+)\.conv\.weight")
_STATISTIC = "num_batches_tracked"  # of training only: in no file


@dataclass(frozen=True, slots=True)
class HeadFile:
    """Content of a file, proved whole by its own digest, not yet checked against the layers."""

    path: Path
    backbone: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def note(self) -> str:
        """What the weights are: the file's own note, else its name."""
        note = self.metadata.get(META_NOTE, "")
        return note if note else self.path.name

    @property
    def backbone_file(self) -> Path | None:
        """The backbone that belongs to the head, where it has one of its own."""
        name = self.metadata.get(META_BACKBONE_FILE, "")
        return self.path.parent / name if name else None

    @property
    def refines(self) -> bool:
        """Whether the file holds an IoU-net."""
        return any(name.startswith("refine.") for name in self.tensors)


def open_head(source: str | Path) -> HeadFile:
    """A file by its path, or by the name (without suffix) of one in the search folders.

    Raises:
        WeightsError: missing, truncated, altered, or no file of a DCFST head.
    """
    path = Path(source).expanduser()
    if path.suffix != ".safetensors":
        hint = "make it from the authors' checkpoint with `fasttrack weights import FILE --arch dcfst-resnet18`"
        path = find_weights([f"{source}.safetensors"], "the head of DCFST", hint)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except BROKEN as error:
        raise broken(path, error) from error
    kind = metadata.get(META_ARCH, "nothing")
    if kind.removeprefix(_KIND) not in BACKBONES or not kind.startswith(_KIND):
        wanted = " or ".join(_KIND + name for name in BACKBONES)
        raise WeightsError(f"{path}: wanted the head of a DCFST ({wanted}), the file says {kind}")
    stated, got = metadata.get(META_DIGEST), tensors_sha256(tensors)
    if stated != got:
        raise WeightsError(f"{path}: damaged: its own digest of the tensors wants {stated}, got {got}")
    return HeadFile(path, kind.removeprefix(_KIND), tensors, metadata)


def build(
    backbone: str, names: Mapping[str, Tensor], bins: Sequence[tuple[int, int]] = BINS
) -> tuple[PooledHead, IoUNet | None]:
    """The modules that a file with these tensors is for, with weights of their start."""
    taps = [NETWORKS[backbone].tap(name) for name in TAPS]
    blocks = 1 + max((int(m[1]) for name in names if (m := _BLOCK.fullmatch(name))), default=0)
    refine = any(name.startswith("refine.") for name in names)
    # Their own random start would move the caller's generator.
    with torch.random.fork_rng(devices=[]):
        return PooledHead(taps, bins, blocks=blocks), IoUNet(taps) if refine else None


def parts_of(head: PooledHead, refine: IoUNet | None) -> dict[str, Tensor]:
    """What a file holds of these modules, by name."""
    modules: dict[str, nn.Module] = {"head": head} if refine is None else {"head": head, "refine": refine}
    return {
        f"{part}.{name}": value
        for part, module in modules.items()
        for name, value in module.state_dict().items()
        if not name.endswith(_STATISTIC)
    }


def check_parts(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The wanted tensors as float32, each proved to be there, of its shape and finite; no others may be there.

    Raises:
        WeightsError: naming file, layer, wanted and got.
    """
    out = {}
    for name, like in wanted.items():
        where = f"{path}: layer {name}"
        if name not in tensors:
            raise WeightsError(f"{where}: missing")
        tensor, shape = tensors[name], tuple(like.shape)
        if not tensor.is_floating_point() or tuple(tensor.shape) != shape:
            raise WeightsError(f"{where}: wanted floats of shape {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{where}: holds NaN or infinity")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise WeightsError(f"{where}: wanted variances ≥ 0, got {float(tensor.min())}")
        out[name] = tensor.detach().to(torch.float32)
    for name in tensors:
        if name not in wanted:
            raise WeightsError(f"{path}: layer {name}: not of this network")
    return out


def load_head(
    file: HeadFile, taps: Sequence[Tap], bins: Sequence[tuple[int, int]] = BINS
) -> tuple[PooledHead, IoUNet | None]:
    """The modules of a file in eval mode, without gradient; the IoU-net where the file holds one.

    Args:
        file: opened.
        taps: of the backbone that will feed them.
        bins: pooled size of every map.

    Raises:
        WeightsError: a head of another backbone, or a layer that is missing, foreign, of wrong shape or not finite.
    """
    own = [NETWORKS[file.backbone].tap(name) for name in TAPS]
    if [(t.name, t.channels) for t in taps] != [(t.name, t.channels) for t in own]:
        got = ", ".join(f"{t.name} of {t.channels} channels" for t in taps)
        raise WeightsError(f"{file.path}: the head of a DCFST on {file.backbone}; the backbone here gives {got}")
    head, refine = build(file.backbone, file.tensors, bins)
    tensors = check_parts(file.path, file.tensors, parts_of(head, refine))
    for part, module in (("head.", head), ("refine.", refine)):
        if module is None:
            continue
        state = {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
        module.load_state_dict(state, strict=False)  # checked above; only the counters of training are missing
        module.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return head, refine


def save_head(
    path: Path,
    backbone: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a head's file (``parts_of`` gives its tensors); ``metadata``: note, licence, source and the like.

    Raises:
        OutputError: the file is there and ``overwrite`` is off, or the place cannot be written.
        WeightsError: the tensors are not those of a head on this backbone.
    """
    checked = check_parts(path, tensors, parts_of(*build(backbone, tensors)))
    save_weights(path, checked, {**(metadata or {}), META_ARCH: _KIND + backbone}, overwrite)


def describe(path: Path) -> str | None:
    """One line about a file for a listing, or None where it is not the file of a DCFST head.

    Raises:
        WeightsError: a head's file that cannot be used.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            kind = dict(file.metadata() or {}).get(META_ARCH, "")
    except BROKEN:
        return None
    if not kind.startswith(_KIND):
        return None
    head = open_head(path)
    load_head(head, [NETWORKS[head.backbone].tap(name) for name in TAPS])
    parts = "locator head and IoU-net" if head.refines else "locator head"
    own = f", on the backbone of {head.backbone_file.name}" if head.backbone_file is not None else ""
    return f"{path.name}: {kind} {parts}{own}, checksum: own digest; {head.note}"

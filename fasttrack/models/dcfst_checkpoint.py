"""Import of the checkpoints that DCFST's authors released (under the name SBDT): names, layout, backbone.

Their names are those of the authors' public code (``ltr/models/SBDT``, ``ltr/models/locator/onlineRR18`` and
``onlineRR50``, the IoU-net of ``ltr/models/bbreg/atom_iou_net``, ``ltr/trainers/base_trainer``), read as facts; none of
the released files was at hand. A checkpoint is a dict whose ``net`` is the state dict of

    feature_extractor.*       ResNet under torchvision's names
    location_predictor.*      conv{3,4}_{1,2,…} (Sequential: 0 convolution, 1 norm), fc{3,4}.linear
    bb_regressor.*            conv{3,4}_1r, conv{3,4}_{1,2}t, fc3_1r, fc34_{3,4}r, fc{3,4}_rt.{linear,bn}, iou_predictor

beside objects of the training framework (constructor, settings, statistics). Nothing in the file is run: it is read by
torch's weights-only reader, for which those objects are empty shells.

The authors froze the weights of the backbone, but its batch norms went on to gather statistics of the training
pictures. Their backbone is therefore not torchvision's, and it is written beside the head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import OutputError, WeightsError
from fasttrack.models.dcfst_weights import META_BACKBONE_FILE, build, check_parts, parts_of, save_head
from fasttrack.vision.architectures import ARCHITECTURES, CONVENTIONS
from fasttrack.vision.weight_formats import BROKEN, broken, folded_state
from fasttrack.vision.weights import META_ARCH, META_INPUT, META_NOTE, check_layers, file_sha256, save_weights

__all__ = ["import_checkpoint", "renamed"]

_LAYER = {"0": "conv", "1": "norm"}
_MAP, _BLOCK, _PART = r"(?P<map>[34])", r"(?P<block>\d)", r"\.(?P<layer>[01])\."
_RULES = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (rf"location_predictor\.conv{_MAP}_{_BLOCK}{_PART}", "head.convs.{map}.{block}.{layer}."),
        (rf"location_predictor\.fc{_MAP}\.linear\.", "head.linear.{map}."),
        (rf"bb_regressor\.conv{_MAP}_{_BLOCK}t{_PART}", "refine.test.{map}.{block}.{layer}."),
        (rf"bb_regressor\.conv{_MAP}_1r{_PART}", "refine.reference.{map}.{layer}."),
        (rf"bb_regressor\.fc3_1r{_PART}", "refine.reference_shallow.{layer}."),
        (rf"bb_regressor\.fc34_{_MAP}r{_PART}", "refine.factors.{map}.{layer}."),
        (rf"bb_regressor\.fc{_MAP}_rt\.linear\.", "refine.linear.{map}.linear."),
        (rf"bb_regressor\.fc{_MAP}_rt\.bn\.", "refine.linear.{map}.norm."),
        (r"bb_regressor\.iou_predictor\.", "refine.iou."),
    )
)


class _Shell:
    """Stands for an object of the training framework, of which nothing is wanted and nothing is run."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_FRAMEWORK = tuple(
    f"{package}.{name}"
    for package in ("ltr.admin", "dlframework.common.utils")
    for name in (
        "model_constructor.NetConstructor",
        "settings.Settings",
        "local.EnvironmentSettings",
        "stats.AverageMeter",
        "stats.StatValue",
    )
)


def renamed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Head and IoU-net under our names, and the backbone under torchvision's, of the authors' state dict.

    Names that belong to neither are kept as they are, for the check of the layers to refuse.
    """
    parts: dict[str, Tensor] = {}
    backbone: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.startswith("feature_extractor."):
            backbone[name.removeprefix("feature_extractor.")] = tensor
            continue
        parts[_our_name(name)] = tensor
    return parts, backbone


def _our_name(name: str) -> str:
    for pattern, target in _RULES:
        if found := pattern.match(name):
            at = found.groupdict()
            if "map" in at:
                at["map"] = str(int(at["map"]) - 3)
            if "block" in at:
                at["block"] = str(int(at["block"]) - 1)
            if "layer" in at:
                at["layer"] = _LAYER[at["layer"]]
            return target.format(**at) + name[found.end() :]
    return name


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, by the weights-only reader."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    shells: list[Any] = [(_Shell, name) for name in _FRAMEWORK]
    try:
        with torch.serialization.safe_globals(shells):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise broken(path, error) from error
    net = content.get("net") if isinstance(content, Mapping) else None
    if not isinstance(net, Mapping):
        got = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"{path}: wanted a checkpoint with the entry 'net', a dict of tensors, got {got}")
    return {str(name).removeprefix("module."): value for name, value in net.items() if isinstance(value, Tensor)}


def import_checkpoint(
    source: Path, backbone: str, out: Path, licence: str = "", note: str = "", overwrite: bool = False
) -> list[Path]:
    """Turn a released checkpoint into a head's file, and the backbone it holds into one beside it.

    Args:
        source: ``.pth`` or ``.pth.tar`` of the authors' code.
        backbone: ``resnet18`` or ``resnet50``.
        out: file to write; the backbone goes to ``<stem>-backbone.safetensors``.
        licence: licence of the weights, as text.
        note: what the weights are, printed beside results made with them.
        overwrite: replace files that are there.

    Returns:
        The files written, the head's first.

    Raises:
        WeightsError: the source is missing, broken, holds objects that are not of the authors' framework, or its
            layers are not those of this network (names the layer).
        OutputError: a file is there already, or cannot be written.
    """
    parts, network = renamed(_read(source))
    checked = check_parts(source, parts, parts_of(*build(backbone, parts)))
    metadata = {
        "fasttrack.source": source.name,
        "fasttrack.source_sha256": file_sha256(source),
        "fasttrack.licence": licence,
        META_NOTE: note if note else f"DCFST on {backbone}, imported from {source.name}",
    }
    written = [out]
    if network:
        arch = ARCHITECTURES[backbone]
        layers = check_layers(source, folded_state(source, network, arch), arch.layers)
        beside = out.with_name(f"{out.stem}-backbone.safetensors")
        about = {META_ARCH: backbone, META_INPUT: CONVENTIONS["torchvision"].to_json()}
        about[META_NOTE] = f"{backbone} of {metadata[META_NOTE]}"
        if not overwrite and out.exists():  # before the backbone is written
            raise OutputError(f"{out}: is there already; ask for overwriting (--force) to replace it")
        save_weights(beside, layers, {**metadata, **about}, overwrite)
        metadata[META_BACKBONE_FILE] = beside.name
        written.append(beside)
    save_head(out, backbone, checked, metadata, overwrite)
    return written

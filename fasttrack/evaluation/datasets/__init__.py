"""Datasets by name: ``load_dataset("otb100=/data/OTB100")``. One module per family, each telling its layout."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import MappingProxyType

from fasttrack.errors import UnknownName
from fasttrack.evaluation.datasets import dtb70, folder, got10k, lasot, nfs, otb, tc128, trackingnet, uav123, vot
from fasttrack.evaluation.datasets.files import need_folder
from fasttrack.evaluation.datasets.spec import Spec, parse_spec
from fasttrack.evaluation.sequence import Dataset

__all__ = ["KINDS", "load_dataset"]

KINDS: MappingProxyType[str, Callable[[Spec], Dataset]] = MappingProxyType(
    {
        "otb": otb.load,
        "otb50": otb.load,
        "otb100": otb.load,
        "otb2013": otb.load,
        "otb2015": otb.load,
        "folder": folder.load,
        "vot2015": vot.load,
        "vot2016": vot.load,
        "vot2017": vot.load,
        "vot2018": vot.load,
        "vot2019": vot.load,
        "got10k": got10k.load,
        "lasot": lasot.load,
        "trackingnet": trackingnet.load,
        "nfs": nfs.load,
        "uav123": uav123.load,
        "uav20l": uav123.load,
        "uav123_10fps": uav123.load,
        "tc128": tc128.load,
        "dtb70": dtb70.load,
    }
)
_OPTIONS: dict[str, Collection[str]] = {
    "folder": ("base",),
    "got10k": ("split",),
    "lasot": ("split",),
    "trackingnet": ("split",),
}


def load_dataset(spec: str) -> Dataset:
    """The dataset that lies in a folder; nothing but names of folders and lists of names is read now.

    A folder that holds a part of the dataset gives that part: whoever has 16 of 100 sequences can evaluate on them.
    The rest is named in ``Dataset.missing``, for reports to tell; with ``[complete]`` it is an error instead.
    ``otb`` asks for whatever of OTB is there, so that nothing of it is missing.

    Args:
        spec: ``KIND=PATH``, or ``KIND[option,option=value]=PATH``. Kinds: see ``KINDS``. Options: ``complete``;
            ``base=0`` or ``base=1`` of ``folder`` (coordinates of the top-left pixel in its files, 1 unless told);
            ``split=train``, ``val`` or ``test`` of ``got10k``, ``lasot`` and ``trackingnet``.

    Returns:
        Sequences whose frames and annotations are read when asked for. Boxes come as 0-based edge coordinates: in
        the files of OTB, UAV123, TC-128, DTB70, LaSOT and GOT-10k the top-left pixel is (1, 1), so 1 is subtracted.

    Raises:
        ArgumentError, UnknownName: the spec is not of that form, or its kind is not known.
        SourceError: the folder, a list of names or all sequences are missing; later, when a sequence is read, its
            ground truth or images are missing, broken or of different lengths. Each names the file or folder.
    """
    parsed = parse_spec(spec, _OPTIONS)
    if parsed.kind not in KINDS:
        raise UnknownName("dataset", parsed.kind, KINDS)
    need_folder(parsed.path, f"of the dataset {parsed.kind}")
    return KINDS[parsed.kind](parsed)

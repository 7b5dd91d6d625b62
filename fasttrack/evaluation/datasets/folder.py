"""Any folder in the style of OTB: ``NAME/img/*.jpg`` and ``NAME/groundtruth_rect.txt``.

Rows x, y, w, h separated by commas, tabs or spaces, one per image or only one for the first. The top-left pixel is
(1, 1) as in OTB, or (0, 0) with the option ``base=0``. Several targets have ``groundtruth_rect.1.txt``, …
The path may be one such sequence itself.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence
from fasttrack.video.files import natural_key

__all__ = ["load"]


def load(spec: Spec) -> Dataset:
    """All sequences of the folder by name; the dataset is called after the folder."""
    root = spec.path.resolve()
    found: list[Sequence] = []
    for folder in [root, *(root / name for name in files.folders(root))]:
        if (folder / "img").is_dir():
            found += _targets(folder, spec.base)
    wanted = "folders with img/ and groundtruth_rect.txt"
    return build(spec, root.name or "folder", found, wanted=wanted)


def _targets(folder: Path, base: int) -> list[Sequence]:
    several = sorted(folder.glob("groundtruth_rect.*.txt"), key=lambda path: natural_key(path.name))
    # A folder with images and no ground truth is an error of its own, told when it is read.
    single = folder / "groundtruth_rect.txt"
    truths = {folder.name: single} if single.is_file() or not several else {}
    truths |= {folder.name + path.name.removeprefix("groundtruth_rect").removesuffix(".txt"): path for path in several}
    return [
        Sequence(name, partial(files.all_frames, folder / "img"), partial(_annotations, folder, truth, base))
        for name, truth in truths.items()
    ]


def _annotations(folder: Path, truth: Path, base: int) -> Annotations:
    return files.read_annotations(truth, len(files.all_frames(folder / "img")), base, init_only=True)

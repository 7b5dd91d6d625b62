"""TrackingNet: Müller et al., "TrackingNet: A Large-Scale Dataset and Benchmark for Object Tracking", ECCV 2018.

Layout of a part (``TEST``, ``TRAIN_0`` … ``TRAIN_11``): ``frames/NAME/0.jpg``, ``1.jpg``, … and ``anno/NAME.txt`` with
rows x,y,w,h. The boxes come from fractions of the picture's sides, so that its corner is (0, 0): nothing is subtracted.
The test set publishes the first box only.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fasttrack.errors import ArgumentError, SourceError
from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence
from fasttrack.video.files import natural_key

__all__ = ["load"]


def load(spec: Spec) -> Dataset:
    """The sequences that ``anno/`` names and ``frames/`` holds.

    The path is the folder of a part, or that of all of them: then ``TEST`` is taken, or all of ``TRAIN_…`` with
    ``split=train``. Which sequences there are is told by ``anno/`` alone.
    """
    if spec.split == "val":
        raise ArgumentError("load_dataset", "option split of trackingnet", "one of train, test", "'val'")
    found: list[Sequence] = []
    missing: list[str] = []
    for part in _parts(spec):
        truths = files.need_folder(part / "anno", "annotations of TrackingNet")
        there = set(files.folders(files.need_folder(part / "frames", "images of TrackingNet")))
        for truth in sorted(truths.glob("*.txt"), key=lambda path: natural_key(path.name)):
            if truth.stem in there:
                frames = part / "frames" / truth.stem
                read = partial(_annotations, truth, frames)
                found.append(Sequence(truth.stem, partial(files.all_frames, frames), read))
            else:
                missing.append(truth.stem)
    name = "trackingnet-train" if spec.split == "train" else "trackingnet"
    return build(spec, name, found, missing, rules="trackingnet", wanted="anno/NAME.txt with frames/NAME/")


def _parts(spec: Spec) -> list[Path]:
    if spec.split is None and not (spec.path / "TEST").is_dir():
        return [spec.path]
    wanted = "TRAIN_" if spec.split == "train" else "TEST"
    parts = [spec.path / name for name in files.folders(spec.path) if name.startswith(wanted)]
    if not parts:
        raise SourceError(f"{spec.path}: no folder {wanted}{'0 …' if wanted.endswith('_') else ''} in it")
    return parts


def _annotations(truth: Path, folder: Path) -> Annotations:
    return files.read_annotations(truth, len(files.all_frames(folder)), base=0, init_only=True)

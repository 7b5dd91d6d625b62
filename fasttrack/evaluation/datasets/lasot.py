"""LaSOT: Fan et al., "LaSOT: A High-quality Benchmark for Large-scale Single Object Tracking", CVPR 2019.

Layout: ``CLASS/CLASS-k/img/00000001.jpg`` (``CLASS-k/…`` where the test set was fetched alone), ``groundtruth.txt``
with rows x,y,w,h, the top-left pixel being (1, 1) as its authors state, zeros where the target is absent;
``full_occlusion.txt`` and ``out_of_view.txt`` with a 0 or 1 per frame in one line. 70 classes of 20 videos, of which 4
are the test set (protocol II of the paper): that is the split unless told.

The challenges of the videos come with the evaluation toolkit only, a row of 14 flags in ``annos/att/CLASS-k.txt``: they
are read from a folder ``att/`` in the root of the dataset, where that folder of the toolkit has been put.
Source: ``run_tracker_performance_evaluation.m`` of HengLan/LaSOT_Evaluation_Toolkit.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fasttrack.errors import ArgumentError
from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence
from fasttrack.evaluation.tables import read_table

__all__ = ["TEST", "TRAIN", "load"]

_TEST = """
airplane:1,9,13,15 basketball:1,6,7,11 bear:2,4,6,17 bicycle:2,7,9,18 bird:2,3,15,17 boat:3,4,12,17 book:3,10,11,19
bottle:1,12,14,18 bus:2,5,17,19 car:2,6,9,17 cat:1,3,18,20 cattle:2,7,12,13 chameleon:3,6,11,20 coin:3,6,7,18
crab:3,6,12,18 crocodile:3,4,10,14 cup:1,4,7,17 deer:4,8,10,14 dog:1,7,15,19 drone:2,7,13,15 electricfan:1,10,18,20
elephant:1,12,16,18 flag:2,3,5,9 fox:2,3,5,20 frog:3,4,9,20 gametarget:1,2,7,13 gecko:1,5,16,19 giraffe:2,10,13,15
goldfish:3,7,8,10 gorilla:4,6,9,13 guitar:3,8,10,16 hand:2,3,9,16 hat:1,2,5,18 helmet:5,11,13,19 hippo:1,7,9,20
horse:1,4,12,15 kangaroo:2,5,11,14 kite:4,6,10,15 leopard:1,7,16,20 licenseplate:6,12,13,15 lion:1,5,12,20
lizard:1,3,6,13 microphone:2,6,14,16 monkey:3,4,9,17 motorcycle:1,3,9,18 mouse:1,8,9,17 person:1,5,10,12 pig:2,10,13,18
pool:3,7,12,15 rabbit:10,13,17,19 racing:10,15,16,20 robot:1,5,8,19 rubicCube:1,6,14,19 sepia:6,8,13,16 shark:2,3,5,6
sheep:3,5,7,9 skateboard:3,8,16,19 spider:14,16,18,20 squirrel:8,11,13,19 surfboard:4,5,8,12 swing:10,14,17,20
tank:6,9,14,16 tiger:4,6,12,18 train:1,7,11,20 truck:3,6,7,16 turtle:5,8,9,16 umbrella:2,9,17,19 volleyball:1,13,18,19
yoyo:7,15,17,19 zebra:10,14,16,17
"""
_CLASSES = {kind: numbers.split(",") for kind, _, numbers in (entry.partition(":") for entry in _TEST.split())}

_ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")

#: The 280 videos of the test set.
TEST = tuple(f"{kind}-{number}" for kind, numbers in _CLASSES.items() for number in numbers)
#: The other 1120.
TRAIN = tuple(f"{kind}-{k}" for kind, numbers in _CLASSES.items() for k in range(1, 21) if str(k) not in numbers)


def load(spec: Spec) -> Dataset:
    """The sequences of the split that are there, in folders of their classes or side by side."""
    if spec.split == "val":
        raise ArgumentError("load_dataset", "option split of lasot", "one of train, test", "'val'")
    names = TRAIN if spec.split == "train" else TEST
    places: dict[str, Path] = {}
    for folder in files.folders(spec.path):
        if folder in _CLASSES:
            places |= {name: spec.path / folder / name for name in files.folders(spec.path / folder)}
        else:
            places.setdefault(folder, spec.path / folder)
    found = [
        Sequence(
            name,
            partial(files.all_frames, places[name] / "img"),
            partial(_annotations, places[name]),
            files.read_challenges(spec.path / "att" / f"{name}.txt", _ATTRIBUTES),
        )
        for name in names
        if name in places
    ]
    missing = [name for name in names if name not in places]
    dataset = "lasot-train" if spec.split == "train" else "lasot"
    return build(spec, dataset, found, missing, rules="lasot", wanted="folders such as airplane/airplane-1/ with img/")


def _annotations(folder: Path) -> Annotations:
    truth, frames = folder / "groundtruth.txt", len(files.all_frames(folder / "img"))
    table = read_table(truth, 4)
    files.check_count(truth, len(table), frames)
    boxes = files.boxes_of(table, truth, base=1)
    tags = {name: files.read_flags(folder / f"{name}.txt", frames) > 0 for name in ("full_occlusion", "out_of_view")}
    return Annotations(boxes, visible=files.seen(boxes, tags.values()), tags=tags)

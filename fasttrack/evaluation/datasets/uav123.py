"""UAV123, UAV20L and UAV123@10fps: Mueller, Smith, Ghanem, "A Benchmark and Simulator for UAV Tracking", ECCV 2016.

Layout: ``data_seq/UAV123/FOLDER/000001.jpg`` (``data_seq/UAV123_10fps/…`` at 10 fps), ``anno/UAV123/NAME.txt``
(``anno/UAV20L/…``, ``anno/UAV123_10fps/…``) with rows x,y,w,h, NaN where the target is hidden or outside, and
``anno/…/att/NAME.txt`` with its challenges. Several targets take their frames from one folder. The top-left pixel is
(1, 1). At 10 fps the images 1, 4, 7, … of the others are 1, 2, 3, ….
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence

__all__ = ["TARGETS", "Target", "load"]

# FOLDER:last frame, or FOLDER:first-last,… where it has the targets FOLDER_1, FOLDER_2, …
_FOLDERS = """
bike1:3085 bike2:553 bike3:433 bird1:1-253,775-1477,1573-2437 boat1:901 boat2:799 boat3:901 boat4:553 boat5:505
boat6:805 boat7:535 boat8:685 boat9:1399 building1:469 building2:577 building3:829 building4:787 building5:481
car1:1-751,751-1627,1627-2629 car2:1321 car3:1717 car4:1345 car5:745 car6:1-487,487-1807,1807-2953,2953-3925,3925-4861
car7:1033 car8:1-1357,1357-2575 car9:1879 car10:1405 car11:337 car12:499 car13:415 car14:1327 car15:469
car16:1-415,415-1993 car17:1057 car18:1207 group1:1-1333,1333-2515,2515-3925,3925-4873 group2:1-907,907-1771,1771-2683
group3:1-1567,1567-2827,2827-4369,4369-5527 person1:799 person2:1-1189,1189-2623 person3:643 person4:1-1501,1501-2743
person5:1-877,877-2101 person6:901 person7:1-1249,1249-2065 person8:1-1075,1075-1525 person9:661 person10:1021
person11:721 person12:1-601,601-1621 person13:883 person14:1-847,847-1813,1813-2923 person15:1339 person16:1147
person17:1-1501,1501-2347 person18:1393 person19:1-1243,1243-2791,2791-4357 person20:1783 person21:487 person22:199
person23:397 truck1:463 truck2:385 truck3:535 truck4:1-577,577-1261 uav1:1-1555,1555-2377,2473-3469 uav2:133 uav3:265
uav4:157 uav5:139 uav6:109 uav7:373 uav8:301 wakeboard1:421 wakeboard2:733 wakeboard3:823 wakeboard4:697
wakeboard5:1675 wakeboard6:1165 wakeboard7:199 wakeboard8:1543 wakeboard9:355 wakeboard10:469 car1_s:1475 car2_s:320
car3_s:1300 car4_s:830 person1_s:1600 person2_s:250 person3_s:505
"""
# Whole folders, followed through as one target each.
_LONG = """
bike1 bird1 car1 car3 car6 car8 car9 car16 group1 group2 group3 person2 person4 person5 person7 person14 person17
person19 person20 uav1
"""
_ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")


@dataclass(frozen=True)
class Target:
    """One target: its name, the folder of its images and the numbers of the first and the last of them."""

    name: str
    folder: str
    first: int
    last: int


def _short() -> list[Target]:
    targets: list[Target] = []
    for folder, _, text in (entry.partition(":") for entry in _FOLDERS.split()):
        if "-" not in text:
            targets.append(Target(folder, folder, 1, int(text)))
            continue
        for number, limits in enumerate(text.split(","), 1):
            first, last = limits.split("-")
            targets.append(Target(f"{folder}_{number}", folder, int(first), int(last)))
    return targets


def _whole_folders() -> list[Target]:
    last = {target.folder: target.last for target in _short()}
    return [Target(folder, folder, 1, last[folder]) for folder in _LONG.split()]


def _every_third(targets: list[Target]) -> list[Target]:
    return [Target(t.name, t.folder, (t.first - 1) // 3 + 1, (t.last - 1) // 3 + 1) for t in targets]


#: Kind → its targets (123, 20 and 123).
TARGETS: dict[str, list[Target]] = {
    "uav123": _short(),
    "uav20l": _whole_folders(),
    "uav123_10fps": _every_third(_short()),
}
# Kind → folder of images in data_seq/, folder of annotations in anno/.
_PLACES = {
    "uav123": ("UAV123", "UAV123"),
    "uav20l": ("UAV123", "UAV20L"),
    "uav123_10fps": ("UAV123_10fps", "UAV123_10fps"),
}


def load(spec: Spec) -> Dataset:
    """The targets whose folder of images is there."""
    images, truths = _PLACES[spec.kind]
    images_root = files.need_folder(spec.path / "data_seq" / images, f"images of {spec.kind}")
    truths_root = files.need_folder(spec.path / "anno" / truths, f"annotations of {spec.kind}")
    there = set(files.folders(images_root))
    targets = TARGETS[spec.kind]
    found = [_sequence(images_root, truths_root, target) for target in targets if target.folder in there]
    missing = [target.name for target in targets if target.folder not in there]
    return build(spec, spec.kind, found, missing, wanted=f"folders such as data_seq/{images}/bike1/")


def _sequence(images: Path, truths: Path, target: Target) -> Sequence:
    folder, truth = images / target.folder, truths / f"{target.name}.txt"
    return Sequence(
        target.name,
        partial(_frames, folder, target.first, target.last),
        partial(_annotations, truth, target.last - target.first + 1),
        files.read_challenges(truths / "att" / truth.name, _ATTRIBUTES),
    )


def _frames(folder: Path, first: int, last: int) -> ImageFrames:
    return files.frames_between(folder, first, last)


def _annotations(truth: Path, frames: int) -> Annotations:
    return files.read_annotations(truth, frames, base=1)

"""DTB70: Li, Yeung, "Visual Object Tracking for Unmanned Aerial Vehicles", AAAI 2017.

Layout: ``NAME/img/00001.jpg`` and ``NAME/groundtruth_rect.txt`` with rows x,y,w,h. The dataset does not say where it
counts from; it has the files of OTB, so the top-left pixel is taken for (1, 1) as there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence

__all__ = ["NAMES", "load"]

_NAMES = """
Animal1 Animal2 Animal3 Animal4 Basketball BMX2 BMX3 BMX4 BMX5 Car2 Car4 Car5 Car6 Car8 ChasingDrones Girl1 Girl2 Gull1
Gull2 Horse1 Horse2 Kiting ManRunning1 ManRunning2 Motor1 Motor2 MountainBike1 MountainBike5 MountainBike6 Paragliding3
Paragliding5 RaceCar RaceCar1 RcCar3 RcCar4 RcCar5 RcCar6 RcCar7 RcCar8 RcCar9 Sheep1 Sheep2 SkateBoarding4 Skiing1
Skiing2 SnowBoarding2 SnowBoarding4 SnowBoarding6 Soccer1 Soccer2 SpeedCar2 SpeedCar4 StreetBasketball1
StreetBasketball2 StreetBasketball3 SUP2 SUP4 SUP5 Surfing03 Surfing04 Surfing06 Surfing10 Surfing12 Vaulting
Wakeboarding1 Wakeboarding2 Walking Yacht2 Yacht4 Zebra
"""
NAMES = tuple(_NAMES.split())


def load(spec: Spec) -> Dataset:
    """The sequences of the seventy that are there."""
    there = set(files.folders(spec.path))
    found = [
        Sequence(name, partial(files.all_frames, spec.path / name / "img"), partial(_annotations, spec.path / name))
        for name in NAMES
        if name in there
    ]
    missing = [name for name in NAMES if name not in there]
    return build(spec, "dtb70", found, missing, wanted="folders such as Animal1/ with img/ and groundtruth_rect.txt")


def _annotations(folder: Path) -> Annotations:
    return files.read_annotations(folder / "groundtruth_rect.txt", len(files.all_frames(folder / "img")), base=1)

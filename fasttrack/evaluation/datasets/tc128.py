"""TC-128 (Temple-Color): Liang, Blasch, Ling, "Encoding Color Information for Visual Tracking", TIP 2015.

Layout: ``NAME/img/0001.jpg``, ``NAME/NAME_gt.txt`` with rows x,y,w,h and ``NAME/NAME_frames.txt`` with the numbers of
the first and the last annotated image. The name is in lower case in some of the files. The top-left pixel is (1, 1)
as in OTB, from which half of the videos come. 129 targets of 128 videos (Jogging has two).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence
from fasttrack.evaluation.tables import read_table

__all__ = ["NAMES", "load"]

_NAMES = """
Airport_ce Baby_ce Badminton_ce1 Badminton_ce2 Ball_ce1 Ball_ce2 Ball_ce3 Ball_ce4 Basketball Basketball_ce1
Basketball_ce2 Basketball_ce3 Bee_ce Bicycle Bike_ce1 Bike_ce2 Biker Bikeshow_ce Bird Board Boat_ce1 Boat_ce2 Bolt Boy
Busstation_ce1 Busstation_ce2 CarDark CarScale Carchasing_ce1 Carchasing_ce3 Carchasing_ce4 Charger_ce Coke Couple
Crossing Cup Cup_ce David David3 Deer Diving Doll Eagle_ce Electricalbike_ce FaceOcc1 Face_ce Face_ce2 Fish_ce1
Fish_ce2 Football1 Girl Girlmov Guitar_ce1 Guitar_ce2 Gym Hand Hand_ce1 Hand_ce2 Hurdle_ce1 Hurdle_ce2 Iceskater
Ironman Jogging1 Jogging2 Juice Kite_ce1 Kite_ce2 Kite_ce3 Kobe_ce Lemming Liquor Logo_ce Matrix Messi_ce
Michaeljackson_ce Microphone_ce1 Microphone_ce2 MotorRolling Motorbike_ce MountainBike Panda Plane_ce2 Plate_ce1
Plate_ce2 Pool_ce1 Pool_ce2 Pool_ce3 Railwaystation_ce Ring_ce Sailor_ce Shaking Singer1 Singer2 Singer_ce1 Singer_ce2
Skating1 Skating2 Skating_ce1 Skating_ce2 Skiing Skiing_ce Skyjumping_ce Soccer Spiderman_ce Subway Suitcase_ce
Sunshade SuperMario_ce Surf_ce1 Surf_ce2 Surf_ce3 Surf_ce4 TableTennis_ce TennisBall_ce Tennis_ce1 Tennis_ce2
Tennis_ce3 Thunder_ce Tiger1 Tiger2 Torus Toyplane_ce Trellis Walking Walking2 Woman Yo-yos_ce1 Yo-yos_ce2 Yo-yos_ce3
"""
NAMES = tuple(_NAMES.split())


def load(spec: Spec) -> Dataset:
    """The sequences of the 129 that are there."""
    there = set(files.folders(spec.path))
    found = [
        Sequence(name, partial(_frames, spec.path / name), partial(_annotations, spec.path / name))
        for name in NAMES
        if name in there
    ]
    missing = [name for name in NAMES if name not in there]
    return build(spec, "tc128", found, missing, wanted="folders such as Airport_ce/ with img/ and Airport_ce_gt.txt")


def _file(folder: Path, end: str) -> Path:
    wanted = folder / f"{folder.name}_{end}.txt"
    lower = folder / f"{folder.name.lower()}_{end}.txt"
    return lower if lower.is_file() and not wanted.is_file() else wanted


def _frames(folder: Path) -> ImageFrames:
    path = _file(folder, "frames")
    limits = read_table(path, 2)
    if len(limits) != 1 or not (limits == limits.round()).all() or limits[0, 0] > limits[0, 1]:
        raise SourceError(f"{path}: wanted one row with the numbers of the first and the last image")
    return files.frames_between(folder / "img", int(limits[0, 0]), int(limits[0, 1]))


def _annotations(folder: Path) -> Annotations:
    return files.read_annotations(_file(folder, "gt"), len(_frames(folder)), base=1)

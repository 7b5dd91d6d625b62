"""NFS at 30 frames per second: Galoogahi et al., "Need for Speed", ICCV 2017.

Layout: ``NAME/30/NAME/00001.jpg`` and ``NAME/30/NAME.txt`` with rows ``track xmin ymin xmax ymax frame lost occluded
generated "class"`` as its annotation tool writes them: edges of the box from the picture's corner (0, 0), ``lost``
where the target is outside the picture. In most sequences the rows are those of the 240 frames a second, of which every
eighth is an image. By rounding there may be one image or one row too many at the end: it is left out.

pytracking's copy at 30 frames per second is read as well: ``sequences/NAME/00001.jpg`` and ``anno/nfs_NAME.txt`` with
rows x, y, w, h (tabs), one for each image; again one too many is left out. Its authors do not say what its corner is:
(0, 0) is taken, as in the original. Names are those without ``nfs_``.
Source: ``pytracking/evaluation/nfsdataset.py`` and issues 160 and 211 of visionml/pytracking.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import files
from fasttrack.evaluation.datasets.spec import Spec, build
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence
from fasttrack.evaluation.tables import parse_table, read_table, read_text, split_row

__all__ = ["NAMES", "load"]

_NAMES = """
Gymnastics MachLoop_jet Skiing_red Skydiving airboard_1 airplane_landing airtable_3 basketball_1 basketball_2
basketball_3 basketball_6 basketball_7 basketball_player basketball_player_2 beach_flipback_person bee biker_acrobat
biker_all_1 biker_head_2 biker_head_3 biker_upper_body biker_whole_body billiard_2 billiard_3 billiard_6 billiard_7
billiard_8 bird_2 book bottle bowling_1 bowling_2 bowling_3 bowling_6 bowling_ball bunny car car_camaro car_drifting
car_jumping car_rc_rolling car_rc_rotating car_side car_white cheetah cup cup_2 dog dog_1 dog_2 dog_3 dogs dollar drone
ducks_lake exit first flower footbal_skill helicopter horse_jumping horse_running iceskating_6 jellyfish_5 kid_swing
motorcross motorcross_kawasaki parkour person_scooter pingpong_2 pingpong_7 pingpong_8 purse rubber running
running_100_m running_100_m_2 running_2 shuffleboard_1 shuffleboard_2 shuffleboard_4 shuffleboard_5 shuffleboard_6
shuffletable_2 shuffletable_3 shuffletable_4 ski_long soccer_ball soccer_ball_2 soccer_ball_3 soccer_player_2
soccer_player_3 stop_sign suv tiger walking walking_3 water_ski_2 yoyo zebra_fish
"""
NAMES = tuple(_NAMES.split())
_STEP = 8  # rows at 240 frames per second for one image at 30


def load(spec: Spec) -> Dataset:
    """All folders that have a ``30/``: the list of names, which other toolkits use, tells only what is missing."""
    if (spec.path / "sequences").is_dir() and (spec.path / "anno").is_dir():
        there = files.folders(spec.path / "sequences")
        found = [
            Sequence(name, partial(_copied_frames, spec.path, name), partial(_copied_annotations, spec.path, name))
            for name in there
        ]
    else:
        there = [name for name in files.folders(spec.path) if (spec.path / name / "30").is_dir()]
        found = [
            Sequence(name, partial(_frames, spec.path / name / "30"), partial(_annotations, spec.path / name / "30"))
            for name in there
        ]
    missing = [name for name in NAMES if name not in there]
    wanted = "folders such as bee/30/ with bee/ and bee.txt, or sequences/bee/ with anno/nfs_bee.txt"
    return build(spec, "nfs", found, missing, wanted=wanted)


def _read(folder: Path) -> tuple[ImageFrames, NDArray[np.float64], Path]:
    """Images and rows (xmin, ymin, xmax, ymax, lost) of the same number."""
    name = folder.parent.name
    truth, images = folder / f"{name}.txt", files.all_frames(folder / name).paths
    lines = read_text(truth).rstrip().splitlines()
    rows = [split_row(line) for line in lines]
    short = [number for number, row in enumerate(rows, 1) if len(row) < 7]
    if short:
        raise SourceError(f"{truth}:{short[0]}: wanted track xmin ymin xmax ymax frame lost …: {lines[short[0] - 1]!r}")
    table = parse_table("\n".join(" ".join([*row[1:5], row[6]]) for row in rows), truth, 5)
    if abs(len(table) - len(images)) > 1:
        table = table[::_STEP]
    if abs(len(table) - len(images)) > 1:
        raise SourceError(f"{truth}: {len(lines)} rows for {len(images)} images, wanted one or eight for each")
    count = min(len(table), len(images))
    return ImageFrames(images[:count]), table[:count], truth


def _read_copied(root: Path, name: str) -> tuple[ImageFrames, NDArray[np.float64], Path]:
    """Images and boxes of pytracking's copy, of the same number."""
    truth, images = root / "anno" / f"nfs_{name}.txt", files.all_frames(root / "sequences" / name).paths
    table = read_table(truth, 4)
    if abs(len(table) - len(images)) > 1:
        files.check_count(truth, len(table), len(images))
    count = min(len(table), len(images))
    return ImageFrames(images[:count]), table[:count], truth


def _copied_frames(root: Path, name: str) -> ImageFrames:
    return _read_copied(root, name)[0]


def _copied_annotations(root: Path, name: str) -> Annotations:
    _, table, truth = _read_copied(root, name)
    boxes = files.boxes_of(table, truth, base=0)
    return Annotations(boxes, visible=files.seen(boxes))


def _frames(folder: Path) -> ImageFrames:
    return _read(folder)[0]


def _annotations(folder: Path) -> Annotations:
    _, table, truth = _read(folder)
    corners = table[:, :4]
    boxes = files.boxes_of(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), truth, base=0)
    lost = table[:, 4] > 0
    return Annotations(boxes, visible=files.seen(boxes, [lost] if lost.any() else []))

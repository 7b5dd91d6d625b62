"""``fasttrack track`` and ``fasttrack demo`` with the real tracker, on the clip and on real sequences."""

import re

import cv2
import numpy as np
import pytest
from doubles import read_video, table

import fasttrack
from fasttrack.cli import main
from fasttrack.geometry import Box
from fasttrack.video.clip import make_clip


@pytest.mark.slow
def test_the_demo_follows_its_target(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    mean, success = map(float, re.search(r"mean IoU ([\d.]+) · IoU > 0.5 in ([\d.]+)%", said).groups())
    assert mean > 0.6 and success > 80, said


@pytest.mark.slow
def test_two_targets_of_the_clip_in_lock_step(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    clip = list(make_clip(10))
    for k, (image, _) in enumerate(clip):
        assert cv2.imwrite(str(folder / f"{k}.png"), image[..., ::-1])
    word = ",".join(f"{v:.3f}" for v in clip[0][1].as_tuple())
    rival = "95,78,66,86"
    runs = {}
    for name, words in (("both", ["--box", word, "--box", rival]), ("one", ["--box", word]), ("two", ["--box", rival])):
        out = tmp_path / f"{name}.csv"
        assert main(["track", str(folder), *words, "--csv", str(out), "--quiet", "--set", "fit_steps=200"]) == 0
        runs[name] = table(out)
    for target, alone in (("1", "one"), ("2", "two")):
        rows = [row for row in runs["both"] if row["target"] == target]
        assert [[row[s] for s in "xywh"] for row in rows] == [[row[s] for s in "xywh"] for row in runs[alone]]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "floor"), [("Crossing", 0.5), ("Dog1", 0.4), ("FaceOcc1", 0.5)])
def test_a_real_sequence(data, tmp_path, name, floor, capsys):
    sequence = data / "sequences" / name
    truth_file = sequence / "groundtruth_rect.txt"
    if not truth_file.is_file():
        pytest.fail(f"FASTTRACK_DATA: {truth_file} is missing")
    out, video, frames = tmp_path / "r.csv", tmp_path / "o.mp4", 60
    words = ["--init-from", str(truth_file), "--one-based", "--max-frames", str(frames)]
    code = main(["track", str(sequence / "img"), *words, "--csv", str(out), "--out", str(video)])
    assert code == 0 and f"tracked {frames} frames with crt" in capsys.readouterr().out
    truth = [re.split(r"[,\s]+", line.strip()) for line in truth_file.read_text().splitlines()[:frames]]
    rows = table(out)
    ious = [
        Box(*(float(row[side]) for side in "xywh")).iou(Box(float(t[0]) - 1, float(t[1]) - 1, float(t[2]), float(t[3])))
        for row, t in zip(rows, truth, strict=True)
    ]
    assert ious[0] == pytest.approx(1.0, abs=1e-3)  # pixels counted from 1 were taken as such
    assert np.mean(ious) > floor
    assert len(read_video(video)) == frames
    # Canary: the first box, kept, is worse than the tracker in each of these sequences.
    still = Box(*(float(rows[0][side]) for side in "xywh"))
    kept = [still.iou(Box(float(t[0]) - 1, float(t[1]) - 1, float(t[2]), float(t[3]))) for t in truth]
    assert np.mean(kept) < np.mean(ious)


def test_the_listed_trackers_are_the_ones_that_track_takes(capsys):
    assert "crt" in fasttrack.list_trackers()
    assert main(["track", "nowhere.mp4", "--box", "1,2,3,4", "--tracker", "nope"]) == 2
    err = capsys.readouterr().err
    assert all(name in err for name in fasttrack.list_trackers()) and "'nope'" in err

"""The folder of an evaluation of made trackers, whose boxes are off the truth by a known share of their width."""

from pathlib import Path

import cv2
import numpy as np

from fasttrack.evaluation.outcome import INIT, TRACKED, Outcome, Unit
from fasttrack.evaluation.runner.store import Store

SIDE = 40.0


def truth_of(frames):
    """A box that moves to the right by 2 px a frame."""
    return np.stack([20 + 2.0 * np.arange(frames), np.full(frames, 30.0), *np.full((2, frames), SIDE)], axis=1)


def make_dataset(root: Path, lengths, pictures=True):
    """OTB's layout: one folder per sequence; without ``pictures`` the files are there, but empty."""
    for name, count in lengths.items():
        folder = root / name / "img"
        folder.mkdir(parents=True)
        image = np.full((120, 160, 3), 90, np.uint8)
        for k in range(count):
            file = folder / f"{k + 1:04d}.jpg"
            if pictures:
                cv2.imwrite(str(file), image)
            else:
                file.touch()
        rows = truth_of(count) + np.array([1, 1, 0, 0])
        (root / name / "groundtruth_rect.txt").write_text("\n".join(",".join(f"{v:g}" for v in row) for row in rows))
    return f"folder={root}"


def outcome(unit, frames, share, first=0, seconds=0.01, **more):
    """Boxes off to the right by ``share`` of their width; the first is the ground truth."""
    boxes = truth_of(frames)[first:]
    boxes[1:, 0] += share * SIDE
    count = len(boxes)
    states = np.full(count, TRACKED, np.int8)
    states[0] = INIT
    rest = {"scores": np.full(count, np.nan), "lost": np.zeros(count, np.bool_), "exclusive": True}
    columns = {"boxes": boxes, "states": states, "seconds": np.full(count, seconds)}
    return Outcome(unit, first, **{**rest, **columns, **more})


def make_evaluation(folder: Path, spec, lengths, shares, protocols=None, dataset="data"):
    """Every unit done; ``shares``: tracker → by which share of the width it is off, in every frame but the first."""
    store = Store(folder)
    protocols = {"ope": 1} if protocols is None else protocols
    trackers = {f"{name}-00000000": {"name": name, "config": {"share": s}, "note": ""} for name, s in shares.items()}
    store.write_run(
        {
            "format": 1,
            "created": "2026-01-01T00:00:00+00:00",
            "versions": ["0.1.0"],
            "datasets": {dataset: {"spec": spec, "protocol": "ope", "rules": "otb", "sequences": dict(lengths)}},
            "trackers": trackers,
            "protocols": protocols,
            "frames": None,
            "seed": 0,
            "machines": {"host": {"cpu": "made"}},
        }
    )
    for ident, facts in trackers.items():
        for name, count in lengths.items():
            for kind, runs in protocols.items():
                for run in range(runs):
                    first = run * count // runs if kind == "tre" else 0
                    unit = Unit(ident, dataset, name, kind, run)
                    store.write(outcome(unit, count, facts["config"]["share"], first, machine={"cpu": "made"}))
    return store

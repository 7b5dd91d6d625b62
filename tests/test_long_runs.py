"""Memory is bounded: what a tracker holds after many frames is what it held when its histories were full."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType

import numpy as np
import pytest
import torch
from clips import Clip, line
from test_backbone import INPUT, made
from torch import Tensor

from fasttrack.trackers import create_tracker
from fasttrack.vision.architectures import RESNET18, VGG_M

# An allocator's margins; a leak of 210 bytes per frame is as much after 10 000.
SLACK = 2_000_000
LONG = {"mosse": 10_000, "kcf": 10_000, "crt": 1_000}  # CRT takes 10 ms a frame


def run(name, frames, kept=0):
    script = Path(__file__).with_name("long_run.py")
    command = [sys.executable, str(script), name, str(frames), str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident pages need Linux")
@pytest.mark.parametrize("name", LONG)
def test_resident_memory_stays_as_it_was_after_500_frames(name):
    row = run(name, LONG[name])
    assert row["late"] - row["early"] < SLACK
    assert row["found"] > 0.95  # a tracker that lost its target learns nothing, so shows nothing


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident pages need Linux")
def test_a_leak_is_seen():
    row = run("mosse", 4_000, kept=1_000)
    assert row["late"] - row["early"] > SLACK


# --- trackers too slow for that: everything that hangs on them is counted -----------------------------


def held(root):
    """Bytes of all tensors and arrays, and entries of all containers, that can be reached from an object."""
    seen, todo, size = set(), [root], 0
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, (type, ModuleType, FunctionType, MethodType, torch.dtype)):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                size += storage.nbytes()
            todo.append(value.grad)
        elif isinstance(value, np.ndarray):
            size += value.nbytes
        elif isinstance(value, Mapping):
            size += len(value)
            todo += [*value.keys(), *value.values()]
        elif not isinstance(value, (str, bytes, int, float, Path)):
            if hasattr(value, "__len__") and hasattr(value, "__iter__"):
                size += len(value)
                todo += list(value)
            todo += list(getattr(value, "__dict__", {}).values())
            for kind in type(value).__mro__:
                todo += [getattr(value, slot, None) for slot in getattr(kind, "__slots__", ())]
    return size


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Small trackers on made weights, with short histories."""
    folder = tmp_path_factory.mktemp("weights")
    for arch in (RESNET18, VGG_M):
        torch.save(made(arch), folder / f"{arch.name}.pth")
    resnet = {"weights": folder / f"{RESNET18.name}.pth", "convention": INPUT}
    vgg = {"weights": folder / f"{VGG_M.name}.pth", "convention": INPUT}
    return {
        "crt": {"history": 3, "fit_steps": 100},
        "dcfst": {"backbone_options": resnet, "side_px": 160, "grid": 11, "bins": (4, 2), "augment": False},
        "dlst": {
            "network": "vgg-m", "class_options": vgg, "place_options": vgg, "first_samples": (8, 16),
            "samples": (2, 4), "regression_samples": 8, "regions": (2, 1), "candidates": 8, "batch_positives": 4,
            "batch_negatives": 8, "batch_candidates": 16, "batch_regions": 2, "first_steps": 1, "steps": 1,
            "long_frames": 4, "short_frames": 3, "threshold": 0.0,
        },
        "drvt": {
            "backbone_options": resnet, "width": 16, "fit_iterations": 2, "update_iterations": 1, "augment": False,
            "positive_frames": 3, "negative_frames": 2, "lost_score": 0.0, "interval": 2,
        },
        "dslt": {
            "backbone_options": resnet, "crop_px": 100.0, "region_width": 5, "region_height": 3,
            "object_cells": 25.0, "fit_steps": 40, "reduced": 32, "history": 3, "lost_score": 0.0,
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", ["crt", "dcfst", "dlst", "drvt", "dslt"])
def test_histories_do_not_grow(name, options):
    """Nothing more after 12 to 16 frames than after 6 to 11, with histories of at most 4."""
    tracker = create_tracker(name, **options[name])
    clip = Clip(line((60, 50), (0, 0), 1))
    frame = clip.frame(0)
    tracker.init(frame, clip.box(0))
    sizes, found = [held(tracker)], 0
    for _ in range(16):
        found += not tracker.update(frame).lost
        sizes.append(held(tracker))
    assert found > 12  # a lost target teaches nothing
    assert max(sizes[12:]) <= max(sizes[6:12])
    # Canaries: what is counted is there, and eight tensors more are seen.
    assert sizes[0] > 10_000
    tracker.forgotten = [torch.empty(100) for _ in range(8)]
    assert held(tracker) >= sizes[-1] + 8 * 400

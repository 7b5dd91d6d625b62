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
from torch import Tensor

from fasttrack.trackers import create_tracker

# Frames, and bytes for an allocator's margins: for MOSSE and KCF what a leak of 210 bytes per frame comes to. CRT takes
# 10 ms a frame and buffers of megabytes; what it might keep is counted to the byte below.
SLACK = 2_000_000
LONG = {"mosse": (10_000, SLACK), "kcf": (10_000, SLACK), "crt": (1_000, 4 * SLACK)}


def run(name, frames, kept=0):
    script = Path(__file__).with_name("long_run.py")
    command = [sys.executable, str(script), name, str(frames), str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident pages need Linux")
@pytest.mark.parametrize("name", LONG)
def test_resident_memory_stays_as_it_was_after_500_frames(name):
    frames, slack = LONG[name]
    row = run(name, frames)
    assert row["late"] - row["early"] < slack
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


# DRVT remembers as many samples of a frame as overlap the box: a model that stays finds the same box in every frame.
STILL = {"scales": (1.0,), "update_rate": 1e-12, "rate": 0.0}
# Short histories, that fill within a few frames.
SHORT = {
    "crt": {"history": 3, "fit_steps": 100},
    "dcfst": {"grid": 11},
    "dlst": {"first_steps": 1, "long_frames": 4, "short_frames": 3, "threshold": 0.0},
    "drvt": {"positive_frames": 3, "negative_frames": 2, "lost_score": 0.0, "interval": 2, **STILL},
    "dslt": {"history": 3, "lost_score": 0.0},
}


@pytest.mark.parametrize("name", SHORT)
def test_histories_do_not_grow(name, small):
    """Nothing more after 12 to 16 frames than after 6 to 11, with histories of at most 4."""
    tracker = create_tracker(name, **{**small[name], **SHORT[name]})
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

"""One tracker over many frames, at least 720: prints the resident bytes after 500 and at the end, as JSON.

    python tests/long_run.py mosse 10000 [bytes kept per frame]

The last argument makes it a tracker that leaks.
"""

import gc
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from clips import Clip, line

from fasttrack.trackers import create_tracker

EARLY = 500


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    name, frames, kept = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    torch.set_num_threads(1)
    there = line((20, 20), (3, 2), 20)
    clip = Clip(np.concatenate([there, there[::-1]]))
    images = clip.frames()
    tracker, leak, found = create_tracker(name), [], 0
    tracker.init(images[0], clip.box(0))
    # Large buffers come and go between readings: what stays is the least of ten.
    readings = {EARLY: [], frames: []}
    for k in range(1, frames + 1):
        result = tracker.update(images[k % len(images)])
        found += not result.lost
        if kept:
            leak.append(bytes(kept))
        for end, values in readings.items():
            if end - 200 < k <= end and k % 20 == 0:
                values.append(resident())
    early, late = (min(values) for values in readings.values())
    print(json.dumps({"early": early, "late": late, "found": found / frames}))


if __name__ == "__main__":
    main()

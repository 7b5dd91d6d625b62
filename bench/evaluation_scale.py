"""What an evaluation costs beside its trackers: many short sequences that never move, their report, a million boxes.

    python bench/evaluation_scale.py                      # 10 000 sequences of 10 frames, one process
    python bench/evaluation_scale.py --sequences 1000 --workers 2

Printed: seconds per sequence and the memory that the run held at most, of ``fasttrack eval`` with the contestant that
gives back its first box; the same of ``fasttrack report``; seconds to score a million boxes by each set of rules.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from fasttrack.evaluation.metrics import RULES, score_boxes

ROOT = Path(__file__).parent.parent


def make(root: Path, sequences: int, frames: int) -> None:
    """An OTB-style folder; all images are one file."""
    picture = root.parent / "picture.jpg"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    for k in range(sequences):
        images = root / f"s{k:05d}" / "img"
        images.mkdir(parents=True)
        for number in range(1, frames + 1):
            (images / f"{number:04d}.jpg").symlink_to(picture)  # hard links are limited to 65 000 on ext4
        (images.parent / "groundtruth_rect.txt").write_text("".join(f"{5 + i},{6},20,15\n" for i in range(frames)))


def timed(*words: str) -> tuple[float, float, float]:
    """Wall and processor seconds of a command of fasttrack, and the most memory of its processes so far, MB."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-m", "fasttrack.cli", *words], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, busy, after.ru_maxrss / 1024


def million(rules: str) -> float:
    """Least of five."""
    random = np.random.default_rng(0)
    truth = np.c_[random.uniform(1, 200, (1_000_000, 2)), random.uniform(10, 80, (1_000_000, 2))]
    boxes = truth + random.normal(0, 8, truth.shape) * [1, 1, 0.3, 0.3]
    boxes[::97] = np.nan
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        scores = score_boxes(boxes, truth, rules, size=(300, 300))
        taken.append(time.perf_counter() - begun)
    assert 0.3 < scores.auc < 0.8, "not the scores of boxes that are off by some px"
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for rules in RULES:
        print(f"a million boxes, {rules:10s} {million(rules):6.2f} s")
    with tempfile.TemporaryDirectory() as temporary:
        data, out = Path(temporary) / "data", Path(temporary) / "out"
        make(data, args.sequences, args.frames)
        common = ("eval", "--data", f"folder={data}", "--trackers", "identity", "--quiet")
        wall, busy, most = timed(*common, "--out", str(out), "--workers", str(args.workers))
        each = 1000 * wall / args.sequences
        print(f"eval    {wall:6.1f} s, processor {busy:6.1f} s, {each:.1f} ms a sequence, at most {most:.0f} MB")
        wall, busy, most = timed("report", str(out))
        size = (out / "report" / "index.html").stat().st_size / 1e6
        print(f"report  {wall:6.1f} s, processor {busy:6.1f} s, at most {most:.0f} MB, page {size:.1f} MB")


if __name__ == "__main__":
    main()

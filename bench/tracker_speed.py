"""How fast the trackers are, and where the time of a frame goes, on the built-in clip.

    FASTTRACK_WEIGHTS=… python bench/tracker_speed.py                       # all trackers
    python bench/tracker_speed.py mosse,kcf,crt --threads 1 --targets 1,4,16,64 --backend cpu

Three tables: frames per second of the tracker alone (N/Σt, on frames decoded before, after a warm-up) and of the whole
loop (a video file read, a CSV file written) for one target; the share of each stage in a frame; and, for T targets in
lock-step in one video, frames per second times T, which says what a target costs when others share the calls. Trackers
whose weights are not at hand are left out with the reason. Whatever takes longer than ``--seconds`` is cut short, and
numbers of targets that would take minutes are not tried ("–").
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

import fasttrack
from fasttrack import dispatch, models
from fasttrack.cli.loop import Outputs, run
from fasttrack.errors import WeightsError
from fasttrack.geometry import Box
from fasttrack.trackers.base import Tracker
from fasttrack.video import CsvSink, open_source
from fasttrack.video.clip import CLIP_SIZE, make_clip
from fasttrack.vision import features as vision_features
from fasttrack.vision.crop import Scene

__all__ = ["FRAMES", "TARGETS", "Stages", "fps_of", "loop_fps", "spread", "stages_of"]

FRAMES = 60
TARGETS = (1, 4, 16, 64)
PATIENCE_S = 30.0  # for one number of targets, before more of them are tried


def spread(box: Box, targets: int) -> Any:
    """The target's box and others of its size beside it, over the frame: what ``init`` takes for so many targets."""
    if targets == 1:
        return box
    random = np.random.default_rng(0)
    width, height = CLIP_SIZE
    rows = [box.as_tuple()]
    for _ in range(targets - 1):
        rows.append((random.uniform(0, width - box.w), random.uniform(0, height - box.h), box.w, box.h))
    return np.array(rows)


class Stages:
    """Time inside the parts of a tracker: the functions and methods named are wrapped while this is in force.

    Times are those of a part itself: what a part calls of another one is counted there.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []
        self._patches: list[Any] = []
        self._wrap(Scene, "sample", "crop")
        for base in type(tracker).__mro__[:-1]:
            module = __import__(base.__module__, fromlist=["_"])
            for name, stage in (("sample", "crop"), ("localise", "localise")):
                if hasattr(module, name):
                    self._wrap(module, name, stage)
        held = [
            value for value in vars(tracker).values() if type(value).__module__.startswith(vision_features.__name__)
        ]
        for kind in {type(value) for value in held}:
            self._wrap(kind, "__call__", "features")
        for name in models.__all__:
            kind = getattr(models, name)
            for method, stage in (
                ("respond", "respond"), ("scores", "respond"), ("spectra", "features"), ("rows", "update"),
                ("update", "update"), ("train", "update"), ("respond_in", "crop to response"),
                ("update_in", "crop to update"),
            ):  # fmt: skip
                if callable(vars(kind).get(method)):
                    self._wrap(kind, method, stage)

    def _wrap(self, owner: Any, name: str, stage: str) -> None:
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - begin
                self.seconds[stage] = self.seconds.get(stage, 0.0) + took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        self._patches.append(patch.object(owner, name, timed))

    def __enter__(self) -> Stages:
        self._stack = ExitStack()
        for each in self._patches:
            self._stack.enter_context(each)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def endless(images: list[Any]) -> Iterator[Any]:
    """Forwards and backwards through the frames, so that nothing jumps."""
    while True:
        yield from images[1:]
        yield from images[-2::-1]


def updates(tracker: Tracker, images: list[Any], box: Any, seconds: float) -> Iterator[Any]:
    """Results of as many updates as fit, at least two, after ``init`` and a warm-up."""
    tracker.init(images[0], box)
    frames = endless(images)
    tracker.update(next(frames))
    began, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - began < seconds:
        result = tracker.update(next(frames))
        yield result[0] if isinstance(result, list) else result
        count += 1


def fps_of(tracker: Tracker, images: list[Any], box: Any, seconds: float) -> float:
    """N/Σt of the updates alone."""
    times = [result.seconds for result in updates(tracker, images, box, seconds)]
    return len(times) / sum(times)


def stages_of(tracker: Tracker, images: list[Any], box: Any, seconds: float) -> dict[str, float]:
    """Share of each stage in the time of a frame, and microseconds of a frame."""
    tracker.init(images[0], box)
    with Stages(tracker) as stages:
        frames = endless(images)
        tracker.update(next(frames))
        stages.seconds.clear()
        began, total, count = time.perf_counter(), 0.0, 0
        while count < 2 or time.perf_counter() - began < seconds:
            result = tracker.update(next(frames))
            total += result.seconds
            count += 1
    shares = {stage: took / total for stage, took in stages.seconds.items()}
    return {**shares, "rest": 1 - sum(shares.values()), "us": 1e6 * total / count}


def loop_fps(tracker: Tracker, video: Path, box: Box) -> float:
    """Frames per second of ``fasttrack track``'s loop: a file read, results written; opening and ``init`` apart."""
    with Outputs() as outputs:
        frames = iter(open_source(str(video)))
        first = next(frames)
        sinks = [CsvSink(video.with_suffix(".csv"))]
        tally = run(first, frames, tracker, [box], sinks, outputs, SimpleNamespace(step=lambda: None))
    return (tally.frames - 1) / (tally.wall_s - tally.init_s)


def write_video(images: list[Any], path: Path) -> None:
    """Motion JPEG: every frame by itself, as cameras give it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, CLIP_SIZE)
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()


def pace() -> float:
    """Nanoseconds of one turn of an empty Python loop: on a shared machine figures mean little without it."""
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100_000):
            pass
        best = min(best, time.perf_counter() - began)
    return 1e4 * best


def one_target(name: str, images: list[Any], box: Box, seconds: float, video: Path) -> None:
    pure = fps_of(fasttrack.create_tracker(name), images, box, seconds)
    whole = loop_fps(fasttrack.create_tracker(name), video, box)
    shares = stages_of(fasttrack.create_tracker(name), images, box, seconds)
    per_frame = shares.pop("us")
    text = ", ".join(f"{stage} {share:.0%}" for stage, share in sorted(shares.items(), key=lambda s: -s[1]))
    print(
        f"{name:6s} tracker {pure:8.1f} FPS   whole loop {whole:7.1f} FPS   frame {per_frame:8.0f} µs: {text}",
        flush=True,
    )


def many_targets(name: str, images: list[Any], box: Box, seconds: float, targets: list[int]) -> None:
    cells, patient = [], True
    for count in targets:
        if not patient:
            cells.append(f"{'–':>9s}")
            continue
        began = time.perf_counter()
        fps = fps_of(fasttrack.create_tracker(name), images, spread(box, count), seconds)
        cells.append(f"{fps * count:9.1f}")
        patient = (time.perf_counter() - began) * 4 < PATIENCE_S
    print(f"{name:6s} {' '.join(cells)}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="?", default=",".join(fasttrack.list_trackers()), help="comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--targets", default=",".join(map(str, TARGETS)))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--backend", default="cpu", choices=dispatch.BACKENDS)
    return parser.parse_args()


def at_hand(names: list[str]) -> list[str]:
    """Those whose weights are there, and a line about each of the others or about a stand-in."""
    found = []
    for name in names:
        try:
            note = fasttrack.create_tracker(name).weights_note
        except WeightsError as missing:
            print(f"{name}: left out: {missing}")
            continue
        found.append(name)
        if note:
            print(f"{name}: {note}")
    return found


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    images, boxes = zip(*make_clip(FRAMES, CLIP_SIZE, 0), strict=True)
    frames, box = list(images), boxes[0]
    targets = [int(n) for n in args.targets.split(",")]
    print(f"{CLIP_SIZE[0]}×{CLIP_SIZE[1]} px, target {box.w:.0f}×{box.h:.0f}; backend {args.backend}")
    print(f"{args.threads} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"empty Python loop {pace():.1f} ns a turn")
    with fasttrack.use_backend(args.backend), tempfile.TemporaryDirectory() as folder:
        names = at_hand(args.names.split(","))
        video = Path(folder) / "clip.avi"
        write_video(frames, video)
        print("\none target")
        for name in names:
            one_target(name, frames, box, args.seconds, video)
        print("\nframes/s × T   " + " ".join(f"T = {count:<5d}" for count in targets))
        for name in names:
            many_targets(name, frames, box, args.seconds, targets)


if __name__ == "__main__":
    main()

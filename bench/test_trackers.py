"""Frames per second of every tracker, and where the time of a frame goes.

The clock runs over ``update`` alone (pure tracker), on frames decoded before; ``whole loop`` adds reading and writing.
The target must still be covered at the end: a tracker that lost it may be fast for nothing. Trackers whose weights are
not at hand are skipped with the reason.

    FASTTRACK_WEIGHTS=… pytest bench/test_trackers.py
"""

import time
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
import torch
from sides import DEVICE

import fasttrack
from fasttrack import models
from fasttrack.errors import WeightsError
from fasttrack.video.clip import CLIP_SIZE, make_clip
from fasttrack.vision import features as vision_features

FRAMES = 60
TARGETS = (1, 4, 16, 64)
pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="frames are cut where they lie, in the memory of the CPU")


@pytest.fixture(scope="module")
def clip():
    """(frames, boxes) of the built-in clip."""
    images, boxes = zip(*make_clip(FRAMES, CLIP_SIZE, 0), strict=True)
    return list(images), list(boxes)


def started(name, clip, targets=1, **options):
    try:
        tracker = fasttrack.create_tracker(name, **options)
    except WeightsError as missing:
        pytest.skip(str(missing))
    images, boxes = clip
    tracker.init(images[0], boxes[0] if targets == 1 else spread(boxes[0], targets))
    return tracker


def spread(box, targets):
    """The target's box and others of its size beside it, over the frame."""
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

    def __init__(self, tracker):
        self.seconds = {}
        self._inside = []
        self._patches = []
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
                ("update", "update"), ("train", "update"),
            ):  # fmt: skip
                if callable(vars(kind).get(method)):
                    self._wrap(kind, method, stage)

    def _wrap(self, owner, name, stage):
        function = getattr(owner, name)

        def timed(*args, **kwargs):
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

    def __enter__(self):
        self._stack = ExitStack()
        for each in self._patches:
            self._stack.enter_context(each)
        return self

    def __exit__(self, *_):
        self._stack.close()


@pytest.mark.parametrize("name", fasttrack.list_trackers())
def test_pure_tracker(benchmark, clip, name):
    images, boxes = clip
    tracker = started(name, clip)
    with Stages(tracker) as stages:
        results = [tracker.update(image) for image in images[1 : FRAMES // 2]]
    total = sum(r.seconds for r in results)
    shares = {stage: seconds / total for stage, seconds in stages.seconds.items()}
    shares["rest"] = 1 - sum(shares.values())
    assert results[-1].box.iou(boxes[FRAMES // 2 - 1]) > 0.3, "the target is lost: its speed would mean nothing"
    rest = iter(images[FRAMES // 2 :] * 1000)
    timed = benchmark.pedantic(lambda: tracker.update(next(rest)), rounds=FRAMES // 2, warmup_rounds=2)
    assert timed is not None
    benchmark.extra_info.update(
        side="cpu", weights=tracker.weights_note, shares=shares, fps=1 / benchmark.stats.stats.mean
    )
    print(f"\n{name}: " + ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items()))


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("name", fasttrack.list_trackers())
def test_many_targets(benchmark, clip, name, targets):
    """Frames a second times targets: what a target costs when others share the calls."""
    images, _ = clip
    tracker = started(name, clip, targets)
    rest = iter(images[1:] * 1000)
    benchmark.group = f"{name}, targets"
    benchmark.pedantic(lambda: tracker.update(next(rest)), rounds=8, warmup_rounds=1)
    benchmark.extra_info.update(side="cpu", targets=targets, target_frames_per_s=targets / benchmark.stats.stats.mean)


@pytest.fixture(autouse=True)
def two_threads():
    """Trackers run with what the machine has; the ops' own rows compare on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)

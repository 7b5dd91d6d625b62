"""Frames per second of every tracker × backend, and where the time of a frame goes.

The clock runs over ``update`` alone (pure tracker), on frames decoded before; the whole loop adds reading a video file
and writing results. The target must still be covered at the end: a tracker that lost it may be fast for nothing.
Trackers whose weights are not at hand are skipped with the reason.

    FASTTRACK_WEIGHTS=… pytest bench/test_trackers.py --benchmark-only
    FASTTRACK_WEIGHTS=… python bench/tracker_speed.py    # the same figures as three tables, without statistics
"""

import pytest
import torch
from sides import DEVICE
from tracker_speed import FRAMES, TARGETS, loop_fps, spread, stages_of, write_video

import fasttrack
from fasttrack.errors import WeightsError
from fasttrack.video.clip import CLIP_SIZE, make_clip

# The reference takes minutes where a network's maps are regressed on.
SIDES = [(name, "cpu") for name in fasttrack.list_trackers()] + [("mosse", "reference"), ("kcf", "reference")]
pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="frames are cut where they lie, in the memory of the CPU")


@pytest.fixture(scope="module")
def clip():
    """(frames, boxes) of the built-in clip."""
    images, boxes = zip(*make_clip(FRAMES, CLIP_SIZE, 0), strict=True)
    return list(images), list(boxes)


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    write_video(clip[0], path)
    return path


def created(name):
    try:
        return fasttrack.create_tracker(name)
    except WeightsError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("name", "backend"), SIDES)
def test_pure_tracker(benchmark, clip, video, name, backend):
    images, boxes = clip
    with fasttrack.use_backend(backend):
        tracker = created(name)
        shares = stages_of(tracker, images, boxes[0], 0.5)
        del shares["us"]
        whole = loop_fps(tracker, video, boxes[0])
        results = list(tracker.run(images[: FRAMES // 2], boxes[0]))
        assert results[-1].box.iou(boxes[FRAMES // 2 - 1]) > 0.3, "the target is lost: its speed would mean nothing"
        rest = iter(images[FRAMES // 2 :] * 1000)
        timed = benchmark.pedantic(lambda: tracker.update(next(rest)), rounds=FRAMES // 2, warmup_rounds=2)
    assert timed is not None
    fps = 1 / benchmark.stats.stats.mean
    benchmark.group = f"{name}, one target"
    benchmark.extra_info.update(side=backend, weights=tracker.weights_note, shares=shares, fps=fps, loop_fps=whole)
    print(f"\n{name} on {backend}: {fps:.1f} FPS, whole loop {whole:.1f}; "
          + ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items()))  # fmt: skip


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("name", fasttrack.list_trackers())
def test_many_targets(benchmark, clip, name, targets):
    """Frames a second times targets: what a target costs when others share the calls."""
    images, boxes = clip
    tracker = created(name)
    tracker.init(images[0], spread(boxes[0], targets))
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

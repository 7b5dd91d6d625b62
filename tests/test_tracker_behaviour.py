"""What every tracker does at the edges: targets that leave, grow or vanish, odd frames, one-frame videos."""

import cv2
import numpy as np
import pytest
from clips import Clip, ious, line

from fasttrack.errors import FrameError
from fasttrack.geometry import Box
from fasttrack.trackers import create_tracker, list_trackers

# Made weights see too little to be followed by; these see what the frame shows.
SEEING = ("crt", "kcf", "mosse")


@pytest.fixture(params=list_trackers())
def name(request):
    return request.param


@pytest.fixture
def start(name, small):
    """Makes the tracker anew, with further options."""
    return lambda **options: create_tracker(name, **{**small[name], **options})


@pytest.fixture(scope="module")
def clip():
    return Clip(line((20, 20), (3, 2), 6))


def sound(result, frame):
    """The box is finite, has an area, and its centre lies in the frame (or where it was last seen)."""
    height, width = frame.shape[:2]
    x, y = result.box.center
    return (
        np.isfinite([*result.box.as_tuple(), result.score, result.psr]).all()
        and result.box.area > 0
        and (result.lost or (0 <= x <= width and 0 <= y <= height))
    )


def test_a_target_that_leaves_the_frame(start):
    clip = Clip(line((150, 60), (9, 0), 8))
    assert clip.box(7)[0] > 200  # wholly outside
    for frame, result in zip(clip.frames()[1:], start().run(clip.frames(), clip.box(0)), strict=True):
        assert sound(result, frame)


def test_a_target_that_grows_over_the_frame(start):
    still = Clip(line((80, 60), (0, 0), 1))
    frames = [
        cv2.warpAffine(still.frame(0), np.float32([[s, 0, 100 - 100 * s], [0, s, 75 - 75 * s]]), (200, 150))
        for s in 1.25 ** np.arange(10)
    ]
    for frame, result in zip(frames[1:], start().run(frames, still.box(0)), strict=True):
        assert sound(result, frame)
        assert result.box.w <= 200 + 1e-6 and result.box.h <= 150 + 1e-6


@pytest.mark.parametrize(
    "box",
    [
        (60.0, 50.0, 1.0, 1.0),
        (60.0, 50.0, 1.0, 30.0),
        (60.4, 50.7, 0.2, 0.3),
        (0.0, 0.0, 400.0, 300.0),
        (-20.0, -20.0, 90.0, 90.0),
        (190.0, 140.0, 40.0, 40.0),
    ],
    ids=["1 px", "thin", "below 1 px", "larger than the frame", "over the corner", "at the border"],
)
def test_boxes_of_every_size_and_place(start, clip, box):
    frames = clip.frames()[:3]
    for frame, result in zip(frames[1:], start().run(frames, box), strict=True):
        assert sound(result, frame)
        # No target is forced into the usual sizes, [10 px, frame]; none goes further out than it was.
        assert result.box.w <= max(200.0, box[2]) + 1e-6 and result.box.h <= max(150.0, box[3]) + 1e-6
        assert min(result.box.w, result.box.h) >= min(10.0, box[2], box[3]) - 1e-6


def test_a_frame_without_any_contrast(start):
    for shape in ((60, 80), (60, 80, 3)):
        flat = [np.full(shape, 90, np.uint8)] * 3
        assert all(sound(result, flat[0]) for result in start().run(flat, (20, 20, 16, 12)))


def test_grey_frames_are_colour_frames_of_equal_channels(start, clip):
    """Also those of a thermal camera: one channel of 8 bits."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames()]
    kinds = [grey, [g[:, :, None] for g in grey], [np.repeat(g[:, :, None], 3, 2) for g in grey]]
    boxes = [[r.box.as_tuple() for r in start().run(frames, clip.box(0))] for frames in kinds]
    assert boxes[0] == boxes[1] == boxes[2]


@pytest.mark.parametrize("name", SEEING, indirect=True)
def test_thermal_frames_are_followed(start):
    """A warm target in a cold, smooth scene."""
    clip = Clip(line((20, 20), (3, 2), 8))
    clip.background, clip.target = 40 + 0.1 * clip.background, 190 + 0.2 * clip.target
    frames = [frame[:, :, 0] for frame in clip.frames()]
    assert ious(list(start().run(frames, clip.box(0))), clip).min() > 0.6


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_frames_of_other_depths_are_refused(start, clip, dtype):
    """Which 8 of 16 bits carry the scene is not ours to guess."""
    tracker = start()
    with pytest.raises(FrameError, match=rf"uint8.*{np.dtype(dtype).name}.*scale"):
        tracker.init(clip.frame(0).astype(dtype), clip.box(0))


@pytest.fixture(scope="module")
def large():
    """A clip of 4K, and its frames."""
    clip = Clip(line((1900, 1000), (7, -5), 3), size=(120, 90), frame=(3840, 2160))
    return clip, clip.frames()


def test_a_frame_of_4k(start, name, large):
    clip, frames = large
    results = list(start().run(frames, clip.box(0)))
    assert all(sound(result, frames[0]) for result in results)
    if name in SEEING:
        assert ious(results, clip).min() > 0.6
    whole = list(start().run(frames[:2], (100.0, 50.0, 3500.0, 2000.0)))
    assert all(sound(result, frames[0]) for result in whole)


def test_a_video_of_one_frame(start, clip):
    assert list(start().run([clip.frame(0)], clip.box(0))) == []


def test_a_lost_target_keeps_its_box_and_teaches_nothing(start, clip):
    tracker = start()
    frames = clip.frames()
    tracker.init(frames[0], clip.box(0))
    tracker.lost_threshold = float("inf")
    gone = [tracker.update(frame) for frame in frames[1:3]]
    assert all(result.lost and result.box == Box(*clip.box(0)) for result in gone)
    tracker.lost_threshold = -float("inf")
    assert not tracker.update(frames[3]).lost


def test_the_size_of_the_frames_may_change(start, name, clip):
    tracker = start()
    tracker.init(clip.frame(0), clip.box(0))
    wide = np.pad(clip.frame(1), ((0, 30), (0, 50), (0, 0)))
    result = tracker.update(wide)
    assert sound(result, wide)
    if name in SEEING:
        assert result.box.iou(Box(*clip.box(1))) > 0.6
    assert sound(tracker.update(clip.frame(2)[:120, :160]), clip.frame(2)[:120, :160])


def test_the_response_map_lies_where_it_was_searched(start, name, clip):
    """Its highest cell is the middle of the box; DRVT's is looked for under a mask, DLST's only proposes a place."""
    tracker = start()
    tracker.lost_threshold = -float("inf")
    frames = clip.frames()
    tracker.init(frames[0], [clip.box(0), (110.0, 60.0, 40.0, 30.0)])
    assert tracker.responses == []
    results = tracker.update(frames[1])
    assert len(tracker.responses) == 2
    for result, response in zip(results, tracker.responses, strict=True):
        rows, columns = response.map.shape
        region, (x, y) = response.region, result.box.center
        assert region.x < x < region.x + region.w and region.y < y < region.y + region.h
        if name in ("dlst", "drvt"):
            continue
        row, column = divmod(int(response.map.argmax()), columns)
        across, down = region.w / columns, region.h / rows
        assert abs(region.x + (column + 0.5) * across - x) <= 0.51 * across
        assert abs(region.y + (row + 0.5) * down - y) <= 0.51 * down

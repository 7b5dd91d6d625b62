"""Overlay video and contact sheet: frames written, boxes where they belong, odd and changing sizes."""

import shutil
from collections import namedtuple

import cv2
import numpy as np
import pytest
from doubles import Result, picture, read_video

from fasttrack.errors import ArgumentError, OutputError
from fasttrack.geometry import Box
from fasttrack.video import Frame, OverlaySink, SheetSink
from fasttrack.video.draw import COLOURS, LOST_COLOUR, annotate, fit, text_size
from fasttrack.video.heat import heated
from fasttrack.video.sheet import spread

BOX = Box(40, 30, 50, 60)


def grey(width=160, height=120):
    return np.full((height, width, 3), 128, np.uint8)


def frame(k, image=None):
    return Frame(k, picture(k % 256, 160, 120) if image is None else image, f"{k:06d}", None)


def near(image, colour, tolerance=30):
    return (np.abs(image.astype(int) - colour) <= tolerance).all(axis=2)


# --- drawing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(160, 120), (640, 480), (1920, 1080)])
def test_the_line_lies_on_the_edge_of_the_box(size):
    image = grey(*size)
    drawn = annotate(image, [Result(BOX, score=float("nan"))])
    assert (image == 128).all()  # the frame itself is not touched
    rows, cols = np.nonzero(near(drawn, COLOURS[0]))
    edges = np.array([cols.min(), rows.min(), cols.max(), rows.max()])
    # OpenCV's smooth lines of two and more pixels reach one pixel further; a shift by two would be ours.
    assert (np.abs(edges - (40, 30, 89, 89)) <= (0 if size[0] == 160 else 1)).all()
    assert (drawn[45:75, 55:75] == 128).all()


def test_a_fraction_of_a_pixel_shifts_the_line():
    images = [annotate(grey(), [Result(Box(40 + s, 30, 50, 60), score=float("nan"))]) for s in (0.0, 0.25)]
    assert not np.array_equal(*images)


def test_several_targets_have_their_own_colours_and_a_lost_one_is_red_and_dashed():
    found = [Result(Box(20, 60, 60, 80)), Result(Box(120, 60, 60, 80)), Result(Box(220, 60, 60, 80), lost=True)]
    drawn = annotate(grey(320, 240), found)
    assert near(drawn[:, :100], COLOURS[0]).any() and not near(drawn[:, :100], COLOURS[1]).any()
    assert near(drawn[:, 110:200], COLOURS[1]).any()
    third = drawn[70:130, 215:290]  # the sides of the box, without its label
    assert near(third, LOST_COLOUR).any() and not near(third, COLOURS[2]).any()
    edge = near(drawn[65:135, 220:221], LOST_COLOUR, 60)
    whole = near(drawn[65:135, 20:21], COLOURS[0], 60)
    assert whole.all() and edge.any() and not edge.all()


@pytest.mark.parametrize(
    "box",
    [Box(0, 0, 160, 120), Box(-50, -40, 30, 20), Box(150, 110, 500, 400), Box(1e7, 5, 10, 10), Box(5, 5, 0.3, 0.2)],
)
def test_boxes_at_and_outside_the_border_are_drawn_without_harm(box):
    drawn = annotate(grey(), [Result(box, lost=True), Result(box)], "frame 1")
    assert drawn.shape == (120, 160, 3) and drawn.dtype == np.uint8


def test_text_grows_with_the_picture_and_stays_readable_when_small():
    heights = []
    for width, height in ((96, 64), (640, 480), (3840, 2160)):
        drawn = annotate(grey(width, height), [], "frame 12")
        plate = np.nonzero((drawn != 128).any(axis=2))[0]
        heights.append(int(plate.max() - plate.min() + 1))
    assert heights[0] >= 14 and heights[0] <= heights[1] < heights[2] <= 90
    assert text_size("frame 12", 20) > text_size("frame 12", 10) > 0


def test_fit_letterboxes():
    fitted = fit(np.full((50, 100, 3), 200, np.uint8), 60, 60)
    assert fitted.shape == (60, 60, 3)
    assert (fitted[15:45] == 200).all() and (fitted[:15] == 0).all() and (fitted[45:] == 0).all()


def test_a_response_map_lies_on_its_region():
    """The hottest pixel is the middle of the highest cell; nothing outside the region changes."""
    values = np.zeros((6, 8), np.float32)
    values[2, 5] = 3.0
    image, region = grey(), Box(32, 24, 80, 60)  # cells of 10 px
    shown = heated(image, [(values, region)])
    inside = np.zeros(image.shape[:2], bool)
    inside[24:84, 32:112] = True
    assert (shown[~inside] == 128).all() and (shown[inside] != 128).any(1).all()
    heat = shown[:, :, 0].astype(int) - shown[:, :, 2]
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    assert abs(row + 0.5 - (24 + 25)) < 4 and abs(column + 0.5 - (32 + 55)) < 4
    assert (image == 128).all()


def test_response_maps_that_reach_outside_are_flat_or_not_numbers():
    for values in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.array([[0.0, np.inf], [1.0, -np.inf]])):
        shown = heated(grey(), [(values.astype(np.float32), Box(-50, -20, 120, 90))])
        assert (shown[75:, 75:] == 128).all() and (shown[:65, :65] != 128).any()
    assert (heated(grey(), [(np.ones((3, 3), np.float32), Box(500, 500, 20, 20))]) == 128).all()
    low, high = np.zeros((2, 2), np.float32), np.array([[0, 0], [0, 1]], np.float32)
    both = [heated(grey(), maps) for maps in ([(low, BOX), (high, BOX)], [(high, BOX), (low, BOX)])]
    assert (both[0] == both[1]).all() and (both[0] != heated(grey(), [(low, BOX)])).any()


# --- video --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".avi"])
def test_video_holds_every_frame_with_its_box(tmp_path, suffix):
    path = tmp_path / f"o{suffix}"
    with OverlaySink(path, 12.0) as sink:
        for k in range(15):
            sink.write(frame(k, grey()), [Result(Box(20 + 5 * k, 40, 40, 50))])
    frames = read_video(path)
    assert len(frames) == 15 and frames[0].shape == (120, 160, 3)
    for k in (0, 14):
        rows, cols = np.nonzero(near(frames[k], COLOURS[0], 70))
        assert abs(int(cols.min()) - (20 + 5 * k)) <= 2 and abs(int(rows.max()) - 89) <= 2
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.0)


@pytest.mark.parametrize(("width", "height"), [(161, 120), (160, 121), (161, 121), (65, 33)])
def test_an_odd_side_gets_one_more_pixel(tmp_path, width, height):
    with OverlaySink(tmp_path / "o.mp4") as sink:
        sink.write(frame(0, grey(width, height)), [])
    (image,) = read_video(tmp_path / "o.mp4")
    assert image.shape[:2] == (height + height % 2, width + width % 2)


def test_frames_of_another_size_are_letterboxed_to_the_first(tmp_path):
    with OverlaySink(tmp_path / "o.avi") as sink:
        sink.write(frame(0, grey()), [])
        sink.write(frame(1, np.full((240, 160, 3), 250, np.uint8)), [])
    first, second = read_video(tmp_path / "o.avi")
    assert first.shape == second.shape == (120, 160, 3)
    assert second[60, 80].min() > 230 and second[60, 10].max() < 20 and second[60, 150].max() < 20


def test_video_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match=r"--out must be a name ending in .mp4, .* got 'o.gif'"):
        OverlaySink("o.gif")
    (tmp_path / "o.mp4").mkdir()
    with pytest.raises(OutputError, match=r"o.mp4: cannot be written as a mp4v video of 160×120 px"):
        OverlaySink(tmp_path / "o.mp4").write(frame(0), [])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(OutputError, match=r"p.mp4: cannot be written: no space left on device"):
        OverlaySink(tmp_path / "p.mp4").write(frame(0), [])


def test_frames_that_did_not_reach_the_file_are_noticed(tmp_path):
    sink = OverlaySink(tmp_path / "o.mp4")
    for k in range(10):
        sink.write(frame(k), [])
    sink.written += 5  # as if the codec had swallowed five
    with pytest.raises(OutputError, match=r"o.mp4: holds 10 of the 15 frames written"):
        sink.close()


# --- contact sheet ------------------------------------------------------------------------------


def test_spread():
    assert spread(3, 5) == [0, 1, 2] and spread(5, 5) == [0, 1, 2, 3, 4]
    assert spread(11, 3) == [0, 5, 10] and spread(7, 1) == [0] and spread(0, 4) == []


class Recorder(SheetSink):
    """Keeps the captions of the page instead of drawing it."""

    def _page(self, cells):
        self.captions = [caption for _, caption in cells]
        return super()._page(cells)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 24, 25, 48, 49, 60, 97, 200, 1001])
def test_sheet_frames_are_evenly_spaced_and_memory_is_bounded(tmp_path, count):
    sink, small = Recorder(tmp_path / "s.png", 12), np.zeros((4, 6, 3), np.uint8)
    for k in range(count):
        sink.write(frame(k, small), [])
        assert len(sink._kept) <= 48
    sink.close()
    shown = [int(caption.split()[1]) for caption in sink.captions]
    assert len(shown) == min(count, 12) and shown[0] == 0 and shown[-1] == count - 1
    steps = np.diff(shown)
    assert count < 13 or (steps.min() > 0 and np.abs(steps - (count - 1) / 11).max() <= max(0.6 * (count - 1) / 11, 1))


def test_sheet_is_a_picture_with_the_boxes(tmp_path):
    with SheetSink(tmp_path / "s.png", 6, "title " * 60) as sink:
        for k in range(9):
            sink.write(frame(k, grey()), [Result(BOX, lost=k == 8)])
    page = cv2.imread(str(tmp_path / "s.png"))[..., ::-1]
    assert page.shape[1] > 2 * 384 and page.shape[0] > 2 * 288
    assert near(page, COLOURS[0]).sum() > 500 and near(page, LOST_COLOUR).sum() > 100
    sink.close()


def test_sheet_of_changing_sizes_and_without_frames(tmp_path):
    with SheetSink(tmp_path / "s.png", 4) as sink:
        for k, shape in enumerate([(60, 80), (80, 60), (20, 300), (300, 20)]):
            sink.write(frame(k, np.full((*shape, 3), 90, np.uint8)), [])
    assert cv2.imread(str(tmp_path / "s.png")) is not None
    with SheetSink(tmp_path / "none.png"):
        pass
    assert not (tmp_path / "none.png").read_bytes()


def test_sheet_that_cannot_be_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"--sheet must be a name ending in .png, .jpg, .jpeg, got 's.gif'"):
        SheetSink("s.gif")
    with pytest.raises(ArgumentError, match="cells must be at least 1, got 0"):
        SheetSink(tmp_path / "s.png", 0)
    with pytest.raises(OutputError, match=r"none/s.png: cannot be written: No such file or directory"):
        SheetSink(tmp_path / "none" / "s.png")

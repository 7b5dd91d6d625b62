"""Sources on disk: order, conversion, and what becomes of everything that can be wrong with a file."""

import itertools
import struct

import cv2
import numpy as np
import pytest
from doubles import picture, write_images, write_video

from fasttrack.errors import RangeError, SourceError
from fasttrack.video import open_source
from fasttrack.video.files import ImageSource, VideoSource, natural_key
from fasttrack.video.source import to_rgb8


@pytest.fixture
def warned():
    return []


def test_folder_in_natural_order(tmp_path):
    folder = write_images(tmp_path / "f", 12, name="img{}")
    (folder / "notes.txt").write_text("not an image")
    (folder / "._img3.png").write_bytes(b"a hidden companion")
    source = open_source(folder)
    frames = list(source)
    assert [int(f.image[0, 0, 0]) for f in frames] == list(range(12))
    assert [f.index for f in frames] == list(range(12))
    assert frames[10].name == "img10.png" and frames[10].time_s is None
    assert (source.count, source.size, source.fps, source.broken) == (12, (96, 64), None, 0)
    assert np.array_equal(frames[5].image, picture(5))


def test_natural_key_orders_numbers_as_numbers():
    names = ["a10", "a9", "A1b2", "a1b10", "b1", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "A1b2", "a1b10", "a9", "a10", "b1"]


def test_glob_and_single_image(tmp_path):
    folder = write_images(tmp_path / "f", 4)
    write_images(folder, 2, suffix=".jpg", name="x{}")
    assert [f.name for f in open_source(str(folder / "*.png"))] == ["0.png", "1.png", "2.png", "3.png"]
    assert [f.name for f in open_source(folder / "2.png")] == ["2.png"]


def test_a_folder_whose_name_has_brackets_is_a_folder(tmp_path):
    folder = write_images(tmp_path / "clip[1]", 2)
    assert len(list(open_source(str(folder)))) == 2
    assert len(list(open_source(str(folder / "0.png")))) == 1


def test_video(tmp_path):
    source = open_source(write_video(tmp_path / "v.mp4"))
    frames = list(source)
    assert isinstance(source, VideoSource) and (source.count, source.fps, source.size) == (30, 20.0, (96, 64))
    assert [f.index for f in frames] == list(range(30))
    assert frames[4].name == "000004" and frames[4].time_s == pytest.approx(0.2)
    reds = [f.image[..., 0].mean() for f in frames]
    assert all(b > a for a, b in itertools.pairwise(reds))  # RGB, in order
    source.close()
    source.close()


def test_start_skips_frames(tmp_path):
    video = open_source(write_video(tmp_path / "v.mp4"), start=25)
    assert [f.index for f in video] == [25, 26, 27, 28, 29] and video.count == 5
    folder = open_source(write_images(tmp_path / "f", 5), start=3)
    assert [f.index for f in folder] == [3, 4] and folder.count == 2
    for path, count in ((tmp_path / "v.mp4", 30), (tmp_path / "f", 5)):
        with pytest.raises(RangeError, match=f"start must be under the {count} frames of .*, got {count}"):
            open_source(path, start=count)
    with pytest.raises(RangeError, match="start must be 0 or more, got -1"):
        open_source(tmp_path / "f", start=-1)


# --- conversion ---------------------------------------------------------------------------------


def test_grey_alpha_and_16_bit_become_rgb8(tmp_path):
    rgb = picture(7)
    bgr = rgb[..., ::-1]
    alpha = np.full(rgb.shape[:2], 9, np.uint8)
    made = {
        "grey": (rgb[..., 1], np.repeat(rgb[..., 1:2], 3, axis=2)),
        "rgba": (np.dstack([bgr, alpha]), rgb),
        "16": (bgr.astype(np.uint16) * 257, rgb),
        "16grey": (rgb[..., 1].astype(np.uint16) * 257, np.repeat(rgb[..., 1:2], 3, axis=2)),
        "16rgba": (np.dstack([bgr, alpha]).astype(np.uint16) * 257, rgb),
    }
    for name, (stored, wanted) in made.items():
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), stored)
        (frame,) = open_source(tmp_path / f"{name}.png")
        assert frame.image.dtype == np.uint8 and np.array_equal(frame.image, wanted), name


def test_16_bits_are_divided_by_257_and_rounded():
    values = np.array([[0, 128, 129, 257, 385, 386, 32768, 65534, 65535]], np.uint16)
    assert to_rgb8(values)[0, :, 0].tolist() == [round(v / 257) for v in values[0].tolist()]


def test_other_pixel_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match="pixels are float32, wanted 8 or 16 bits"):
        to_rgb8(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="2 channels, wanted 1, 3 or 4"):
        to_rgb8(np.zeros((4, 4, 2), np.uint8))
    cv2.imwrite(str(tmp_path / "f.tif"), np.zeros((4, 4, 3), np.float32))
    warnings = []
    with pytest.raises(SourceError, match="not one frame can be decoded"):
        list(open_source(tmp_path / "f.tif", warn=warnings.append))
    assert "pixels are float32" in warnings[0]


def _with_orientation(jpeg, value):
    """The JPEG with an EXIF segment that holds the orientation tag alone."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def test_exif_orientation_is_applied(tmp_path):
    jpeg = cv2.imencode(".jpg", picture(0)[..., ::-1])[1].tobytes()
    for name, value in (("plain", 1), ("turned", 6)):
        (tmp_path / f"{name}.jpg").write_bytes(_with_orientation(jpeg, value))
    (plain,) = open_source(tmp_path / "plain.jpg")
    (turned,) = open_source(tmp_path / "turned.jpg")
    assert np.array_equal(turned.image, np.rot90(plain.image, -1))


# --- what can be wrong --------------------------------------------------------------------------


def test_missing_and_empty_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video" * 100)
    cases = {
        "nowhere.mp4": "no such file or folder",
        "empty": "the folder holds no images",
        "*.png": "no file matches",
        "empty.mp4": r"not a video that can be decoded \(the file is empty\)",
        "text.mp4": "not a video that can be decoded$",
    }
    for name, message in cases.items():
        with pytest.raises(SourceError, match=message) as caught:
            open_source(str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value) and caught.value.exit_code == 1


def _cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_broken_image_is_skipped_and_counted(tmp_path, suffix, warned, capfd):
    folder = write_images(tmp_path / "f", 6, suffix=suffix)
    _cut(folder / f"2{suffix}")
    (folder / f"4{suffix}").write_bytes(b"")
    source = open_source(folder, warn=warned.append)
    assert [f.index for f in source] == [0, 1, 3, 5]
    assert source.broken == 2 and len(warned) == 2
    assert f"frame 2{suffix}: " in warned[0] and "skipped" in warned[0]
    assert f"frame 4{suffix}: the file is empty" in warned[1]
    # The libraries' own noise is off; libpng inside OpenCV 4 writes to stderr past every switch.
    assert capfd.readouterr().err == "" or (suffix == ".png" and cv2.__version__ < "5")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_strict_ends_at_a_broken_image(tmp_path, suffix):
    folder = write_images(tmp_path / "f", 6, suffix=suffix)
    _cut(folder / f"2{suffix}")
    seen = []
    with pytest.raises(SourceError, match=f"frame 2{suffix}: "):
        for frame in open_source(folder, strict=True):
            seen.append(frame.index)
    assert seen == [0, 1]


def test_only_the_first_broken_frames_are_reported_one_by_one(tmp_path, warned):
    folder = write_images(tmp_path / "f", 12)
    for k in range(1, 12):
        _cut(folder / f"{k}.png")
    source = open_source(folder, warn=warned.append)
    assert len(list(source)) == 1 and source.broken == 11
    assert len(warned) == 5 and "further ones are only counted" in warned[-1]


def test_all_images_broken_is_an_error(tmp_path, warned):
    folder = write_images(tmp_path / "f", 3)
    for k in range(3):
        _cut(folder / f"{k}.png")
    with pytest.raises(SourceError, match=r"f: not one frame can be decoded \(3 tried\)"):
        list(open_source(folder, warn=warned.append))


def test_changing_size_is_allowed_and_warned_once(tmp_path, warned):
    folder = write_images(tmp_path / "f", 3)
    for k in (3, 4, 5):
        cv2.imwrite(str(folder / f"{k}.png"), picture(k, 40, 80))
    frames = list(open_source(folder, warn=warned.append))
    assert [f.image.shape[:2] for f in frames] == [(64, 96)] * 3 + [(80, 40)] * 3
    assert len(warned) == 1 and "frames change size (96×64, then 40×80 at 3.png)" in warned[0]


def test_a_broken_frame_in_a_video_is_skipped_and_counted(tmp_path, warned, capfd):
    path = write_video(tmp_path / "v.avi", codec="MJPG")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[10] : starts[11] - 8] = bytes(starts[11] - 8 - starts[10])
    path.write_bytes(data)
    source = open_source(path, warn=warned.append)
    assert [f.index for f in source] == [k for k in range(30) if k != 10]
    assert (source.broken, source.missing) == (1, 0)
    assert warned == [f"{path}: frame 000010: cannot be decoded; skipped"]
    with pytest.raises(SourceError, match=r"v.avi: frame 000010: cannot be decoded"):
        list(open_source(path, strict=True))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mkv", "mp4v")])
def test_a_cut_off_video_gives_what_is_there_and_says_so(tmp_path, name, codec, warned):
    path = write_video(tmp_path / name, codec=codec)
    _cut(path)
    source = open_source(path, warn=warned.append)
    frames = list(source)
    assert 10 <= len(frames) <= 20 and [f.index for f in frames] == list(range(len(frames)))
    assert source.missing == 30 - len(frames)
    assert warned == [f"{path}: ended after {len(frames)} of 30 announced frames (cut off or damaged)"]
    with pytest.raises(SourceError, match=r"ended after \d+ of 30 announced frames"):
        list(open_source(path, strict=True))


def test_an_mp4_without_its_index_cannot_be_decoded(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    _cut(path)
    with pytest.raises(SourceError, match=r"v.mp4: not a video that can be decoded"):
        open_source(path)


def test_stop_ends_the_iteration_quietly(tmp_path, warned):
    for path in (write_video(tmp_path / "v.mp4"), write_images(tmp_path / "f", 9)):
        source, seen = open_source(path, warn=warned.append), []
        for frame in source:
            seen.append(frame.index)
            if len(seen) == 4:
                source.stop()
        assert seen == [0, 1, 2, 3] and not warned


def test_inputs_are_what_no_output_may_overwrite(tmp_path):
    folder = write_images(tmp_path / "f", 3)
    source = open_source(folder, start=1)
    assert isinstance(source, ImageSource) and source.inputs == [folder / f"{k}.png" for k in range(3)]
    video = write_video(tmp_path / "v.mp4")
    assert open_source(video).inputs == [video]

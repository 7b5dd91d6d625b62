"""The recording for Rerun: what is in it, that it can be read at any time, and what is refused."""

import io
import math
import shutil
import sys
import types

import numpy as np
import pytest
from clips import texture
from doubles import Result, picture, refused, write_images

from fasttrack.cli import main
from fasttrack.errors import ArgumentError, BackendUnavailable, OutputError
from fasttrack.geometry import Box
from fasttrack.video import Frame, RerunSink
from fasttrack.video.draw import COLOURS, LOST_COLOUR

FOUND = Result(Box(1.5, 2.25, 30.0, 20.0), 0.75, 12.5)
LOST = Result(Box(-3.0, 4.0, 5.0, 6.0), math.nan, math.nan, True)


def frame(k, time_s=None):
    return Frame(k, picture(10 * k), f"{k:06d}", time_s)


# --- without the package ------------------------------------------------------------------------


def test_what_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(ArgumentError, match=r"RerunSink: path must be a name ending in .rrd, got 'a.mp4'"):
        RerunSink("a.mp4")
    refused(capsys, ["track", tmp_path, "--box", "1,1,9,9", "--rerun", "a.mp4"], 2, "--rerun must be a name ending in")
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(BackendUnavailable, match=r"RerunSink: needs Rerun \(pip install 'fasttrack\[rerun\]'\)"):
        RerunSink(tmp_path / "a.rrd")
    # Before a frame is read, as everything that can be checked.
    words = ["track", tmp_path / "none", "--box", "1,1,9,9", "--rerun", tmp_path / "a.rrd"]
    refused(capsys, words, 1, "track: needs Rerun (pip install 'fasttrack[rerun]')")
    assert not (tmp_path / "a.rrd").exists()


# --- with it ------------------------------------------------------------------------------------


@pytest.fixture
def rerun():
    return pytest.importorskip("rerun", reason="needs fasttrack[rerun]")


def read(path):
    """Rows of every entity: timeline and component → values, in the order of the frames."""
    from rerun.chunk import RrdReader

    rows = {}
    for chunk in RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        for k in range(batch.num_rows):
            row = {name: batch.column(name)[k] for name in batch.schema.names if name != "log_time"}
            rows.setdefault(str(chunk.entity_path), []).append(row)
    return {name: sorted(all_, key=at) if name[1] != "_" else all_ for name, all_ in rows.items()}


def at(row):
    return row["frame"].as_py()


def values(rows, component):
    return [np.array(row[component].as_py()) for row in rows]


@pytest.mark.peer
def test_a_recording_read_back(rerun, tmp_path):
    path = tmp_path / "run.rrd"
    with RerunSink(path, jpeg_quality=None, name="a run") as sink:
        for k in (0, 1, 4):
            sink.write(frame(k, k / 25), [FOUND, LOST])
    sink.close()
    rows = read(path)
    assert {"/frame", "/frame/targets", "/score/1", "/psr/1", "/lost/1", "/lost/2"} == {n for n in rows if n[1] != "_"}
    boxes = rows["/frame/targets"]
    assert [at(row) for row in boxes] == [0, 1, 4]
    assert [row["time"].value for row in boxes] == [0, 40_000_000, 160_000_000]  # ns
    half, center = values(boxes, "Boxes2D:half_sizes")[2], values(boxes, "Boxes2D:centers")[2]
    corners = np.hstack([center - half, 2 * half])
    np.testing.assert_allclose(corners, [FOUND.box.as_tuple(), LOST.box.as_tuple()], rtol=0, atol=1e-5)
    assert boxes[0]["Boxes2D:labels"].as_py() == ["1", "2 lost"] and boxes[0]["Boxes2D:class_ids"].as_py() == [1, 2]
    red, green, blue = (np.array(boxes[0]["Boxes2D:colors"].as_py()) >> shift & 255 for shift in (24, 16, 8))
    np.testing.assert_array_equal(np.stack([red, green, blue], 1), [COLOURS[0], LOST_COLOUR])
    for curve, value in (("/score/1", 0.75), ("/psr/1", 12.5), ("/lost/1", 0.0), ("/lost/2", 1.0)):
        assert values(rows[curve], "Scalars:scalars") == [[value]] * 3
    # RGB, byte for byte.
    stored = [np.array(v, np.uint8).reshape(64, 96, 3) for v in values(rows["/frame"], "Image:buffer")]
    for k, image in zip((0, 1, 4), stored, strict=True):
        np.testing.assert_array_equal(image, picture(10 * k))
    assert any("a run" in str(row.get("RecordingInfo:name")) for row in rows["/__properties"])


@pytest.mark.peer
def test_pictures_are_jpeg_in_rgb_and_small(rerun, tmp_path):
    from PIL import Image

    scene = texture(480, 640, 3).round().astype(np.uint8)
    sizes = {}
    for quality in (None, 90):
        with RerunSink(tmp_path / f"{quality}.rrd", jpeg_quality=quality) as sink:
            sink.write(Frame(0, scene, "0", None), [FOUND])
        sizes[quality] = sink.path.stat().st_size
    print(sizes)
    assert sizes[90] * 5 < sizes[None]
    (row,) = read(tmp_path / "90.rrd")["/frame"]
    blob = bytes(np.array(row["EncodedImage:blob"].as_py(), np.uint8).ravel())
    decoded = np.asarray(Image.open(io.BytesIO(blob)))
    off = np.abs(decoded.astype(int) - scene).mean()
    assert off < 4 < 20 < np.abs(decoded[..., ::-1].astype(int) - scene).mean()
    with pytest.raises(ArgumentError, match=r"jpeg_quality must be 1..100 or None, got 0"):
        RerunSink(tmp_path / "a.rrd", jpeg_quality=0)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:RRD file has no footer")
def test_a_run_that_is_cut_off_leaves_what_was_written(rerun, tmp_path):
    sink = RerunSink(tmp_path / "run.rrd")
    for k in range(3):
        sink.write(frame(k), [FOUND])
        assert [at(row) for row in read(sink.path)["/frame/targets"]] == list(range(k + 1))
    sink.close()
    sink.close()
    with pytest.raises(OutputError, match=r"run.rrd: is closed"):
        sink.write(frame(3), [FOUND])
    assert all("time" not in row for row in read(sink.path)["/frame/targets"])  # images have no clock


@pytest.mark.peer
def test_a_path_that_cannot_be_written(rerun, tmp_path):
    with pytest.raises(OutputError, match=r"run.rrd: cannot be written: No such file or directory"):
        RerunSink(tmp_path / "none" / "run.rrd")


@pytest.mark.peer
def test_a_full_disk(rerun, tmp_path, monkeypatch):
    sink = RerunSink(tmp_path / "run.rrd")
    sink.write(frame(0), [FOUND])
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1 << 20))
        with pytest.raises(OutputError, match=r"run.rrd: cannot be written: no space left on device"):
            sink.write(frame(1), [FOUND])
    sink.close()
    assert [at(row) for row in read(sink.path)["/frame/targets"]] == [0]


@pytest.mark.peer
def test_the_command_writes_a_recording(rerun, tmp_path, capsys):
    folder = write_images(tmp_path / "frames", 4)
    out = tmp_path / "run.rrd"
    assert main(["track", str(folder), "--box", "20,10,30,24", "--tracker", "mosse", "--rerun", str(out)]) == 0
    assert f"wrote      {out}" in capsys.readouterr().out
    assert [at(row) for row in read(out)["/frame/targets"]] == [0, 1, 2, 3]

"""The dataset for FiftyOne: labels and video, that they are whole at any time, and FiftyOne reading them."""

import json
import math

import numpy as np
import pytest
from doubles import Result, picture, read_video, write_images

from fasttrack.cli import main
from fasttrack.errors import ArgumentError, OutputError
from fasttrack.geometry import Box
from fasttrack.video import FiftyOneSink, Frame

FOUND = Result(Box(24.0, 16.0, 48.0, 32.0), 0.75, 12.5)
LOST = Result(Box(-9.6, 6.4, 19.2, 12.8), math.nan, math.nan, True)


def frame(k, image=None):
    return Frame(k, picture(3 * k) if image is None else image, f"{k:06d}", None)


def labels(folder, name="video"):
    return json.loads((folder / "labels" / f"{name}.json").read_text())["frames"]


def attributes(target):
    return {a["name"]: a["value"] for a in target["attrs"]["attrs"]}


def test_video_and_labels(tmp_path):
    folder = tmp_path / "new" / "dataset"
    sink = FiftyOneSink(folder, "clip", fps=10.0, label="car")
    assert labels(folder, "clip") == {}
    for number, k in enumerate((0, 1, 7), 1):
        sink.write(frame(k), [FOUND, LOST])
        assert list(labels(folder, "clip")) == [str(n + 1) for n in range(number)]  # whole before the end
    sink.close()
    sink.close()
    last = labels(folder, "clip")["3"]
    found, lost = last["objects"]["objects"]
    assert last["frame_number"] == 3 and (found["index"], found["label"], found["name"]) == (1, "car", "targets")
    assert found["bounding_box"] == {"top_left": {"x": 0.25, "y": 0.25}, "bottom_right": {"x": 0.75, "y": 0.75}}
    assert found["confidence"] == 0.75 and attributes(found) == {"lost": False, "psr": 12.5, "source_frame": 7}
    assert "confidence" not in lost and attributes(lost) == {"lost": True, "source_frame": 7}
    assert lost["bounding_box"]["top_left"] == {"x": pytest.approx(-0.1), "y": pytest.approx(0.1)}  # as it is
    video = read_video(folder / "data" / "clip.mp4")
    assert len(video) == 3
    assert np.abs(video[2].astype(int) - picture(21)).mean() < 4  # RGB in, nothing drawn in
    assert np.abs(video[2].astype(int) - picture(21)[..., ::-1]).mean() > 40


def test_several_videos_in_one_dataset(tmp_path):
    for name, count in (("a", 1), ("b", 2), ("a", 3)):
        with FiftyOneSink(tmp_path, name) as sink:
            for k in range(count):
                sink.write(frame(k), [FOUND])
    listed = json.loads((tmp_path / "manifest.json").read_text())["index"]
    assert [entry["data"] for entry in listed] == ["data/b.mp4", "data/a.mp4"]
    assert len(labels(tmp_path, "a")) == 3 and len(labels(tmp_path, "b")) == 2


def test_boxes_follow_the_picture_where_its_size_changes_or_is_odd(tmp_path):
    with FiftyOneSink(tmp_path) as sink:
        sink.write(frame(0, picture(0, 95, 63)), [Result(Box(0, 0, 95, 63))])
        # Letterboxed: 190×63 becomes 95×32 of 63 rows (31.5 rounded), with 15 black rows above.
        sink.write(frame(1, picture(0, 190, 63)), [Result(Box(0, 0, 190, 63))])
    boxes = [labels(tmp_path)[k]["objects"]["objects"][0]["bounding_box"] for k in ("1", "2")]
    # The video has 96×64 px, for the codec.
    assert boxes[0]["bottom_right"] == {"x": 95 / 96, "y": 63 / 64}
    assert boxes[1]["top_left"] == {"x": 0.0, "y": 15 / 64}
    assert boxes[1]["bottom_right"] == {"x": pytest.approx(95 / 96), "y": pytest.approx(47 / 64)}
    second = read_video(tmp_path / "data" / "video.mp4")[1].astype(int).sum(axis=(1, 2))
    assert (second[16:46] > 9000).all() and (second[:14] < 4000).all() and (second[49:] < 4000).all()


def test_what_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"name must be letters, digits, - and _ and ., got 'a/b'"):
        FiftyOneSink(tmp_path, "a/b")
    with pytest.raises(ArgumentError, match=r"got '\.\.'"):
        FiftyOneSink(tmp_path, "..")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: cannot be written"):
        FiftyOneSink(tmp_path / "file")
    (tmp_path / "manifest.json").write_text('["mine"]')
    with pytest.raises(OutputError, match=r"manifest.json: is not the list of a FiftyOneVideoLabelsDataset"):
        FiftyOneSink(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == '["mine"]'


def test_the_command_writes_a_dataset(tmp_path, capsys):
    (tmp_path / "my car").mkdir()
    frames, out = write_images(tmp_path / "my car" / "img", 4), tmp_path / "dataset"
    assert main(["track", str(frames), "--box", "20,10,30,24", "--tracker", "mosse", "--fiftyone", str(out)]) == 0
    assert f"wrote      {out}" in capsys.readouterr().out
    assert list(labels(out, "my_car_img")) == ["1", "2", "3", "4"] and (out / "data" / "my_car_img.mp4").stat().st_size


def test_fiftyone_reads_the_dataset(tmp_path, monkeypatch):
    """By its importer, which needs no database; ``Dataset.from_dir`` puts what this gives into MongoDB."""
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "1")
    data = pytest.importorskip("fiftyone.utils.data", reason="needs fiftyone, which has no place beside OpenCV 5")
    with FiftyOneSink(tmp_path, "clip", fps=10.0, label="car") as sink:
        for k in range(4):
            sink.write(frame(k), [FOUND, LOST])
    importer = data.FiftyOneVideoLabelsDatasetImporter(str(tmp_path))
    with importer:
        ((path, _, label, frames),) = list(importer)
    assert path == str(tmp_path / "data" / "clip.mp4") and not label
    assert sorted(frames) == [1, 2, 3, 4]
    found, lost = frames[3]["targets"].detections
    assert (found.label, found.index, found.confidence, found["psr"], found["lost"]) == ("car", 1, 0.75, 12.5, False)
    assert found.bounding_box == pytest.approx([0.25, 0.25, 0.5, 0.5]) and found["source_frame"] == 2
    assert lost.index == 2 and lost["lost"] is True and lost.confidence is None

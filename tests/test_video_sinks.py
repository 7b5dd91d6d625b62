"""Text sinks: what is written, that it is there after every frame, and what cannot be written."""

import csv
import json
import math
import os

import pytest
from doubles import Result, picture

from fasttrack.errors import OutputError
from fasttrack.geometry import Box
from fasttrack.video import CsvSink, Frame, JsonSink, MotSink, check_outputs

A = Result(Box(1.25, 2.5, 30.0, 40.125), 0.875, 12.5, False, 0.0123)
B = Result(Box(-3.0, 4.0, 5.0, 6.0), math.nan, math.inf, True, math.nan)


def frame(k, name=None, time_s=None):
    return Frame(k, picture(k % 256), name or f"{k:06d}", time_s)


def test_csv(tmp_path):
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.write(frame(0, 'a,"b".png'), [A, B])
        sink.write(frame(7), [A, B])
    rows = list(csv.DictReader((tmp_path / "r.csv").open(newline="")))
    assert len(rows) == 4 and list(rows[0]) == list(CsvSink.HEADER)
    assert rows[0] == {
        "frame": "0",
        "name": 'a,"b".png',
        "target": "1",
        "x": "1.250",
        "y": "2.500",
        "w": "30.000",
        "h": "40.125",
        "score": "0.87500",
        "psr": "12.500",
        "lost": "0",
        "seconds": "0.012300",
    }
    assert rows[3]["frame"] == "7" and rows[3]["target"] == "2" and rows[3]["lost"] == "1"
    assert rows[3]["score"] == rows[3]["psr"] == rows[3]["seconds"] == ""


def test_mot_counts_from_one(tmp_path):
    with MotSink(tmp_path / "r.txt") as sink:
        sink.write(frame(0), [A, B])
        sink.write(frame(5), [A])
    assert (tmp_path / "r.txt").read_text().splitlines() == [
        "1,1,2.25,3.50,30.00,40.12,0.8750,-1,-1,-1",
        "1,2,-2.00,5.00,5.00,6.00,0.0000,-1,-1,-1",
        "6,1,2.25,3.50,30.00,40.12,0.8750,-1,-1,-1",
    ]


def test_a_json_array_is_whole_after_every_frame(tmp_path):
    path = tmp_path / "r.json"
    sink = JsonSink(path)
    assert json.loads(path.read_text()) == []
    for k in range(4):
        sink.write(frame(k, time_s=k / 10), [A, B])
        assert len(json.loads(path.read_text())) == 2 * (k + 1)  # before close: what a kill leaves
    sink.close()
    sink.close()
    records = json.loads(path.read_text())
    assert records[0] == {
        "frame": 0,
        "name": "000000",
        "time_s": 0.0,
        "target": 1,
        "box": [1.25, 2.5, 30.0, 40.125],
        "score": 0.875,
        "psr": 12.5,
        "lost": False,
        "seconds": 0.0123,
    }
    assert records[7]["score"] is records[7]["psr"] is records[7]["seconds"] is None and records[7]["lost"] is True


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
def test_json_lines(tmp_path, suffix):
    path = tmp_path / f"r{suffix}"
    with JsonSink(path) as sink:
        for k in range(3):
            sink.write(frame(k), [A, B])
            assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2 * (k + 1)


@pytest.mark.parametrize("make", [CsvSink, MotSink, JsonSink])
def test_an_existing_file_is_replaced(tmp_path, make):
    path = tmp_path / "r.out"
    path.write_text("old " * 10_000)
    with make(path) as sink:
        sink.write(frame(0), [A])
    assert "old" not in path.read_text()


@pytest.mark.parametrize("make", [CsvSink, MotSink, JsonSink])
def test_rows_are_on_disk_before_the_next_frame(tmp_path, make):
    path = tmp_path / "r.out"
    sink, sizes = make(path), []
    for k in range(3):
        sink.write(frame(k), [A])
        sizes.append(path.stat().st_size)
    sink.close()
    assert sizes[0] < sizes[1] < sizes[2] == path.stat().st_size


# --- what cannot be written ---------------------------------------------------------------------


def test_check_outputs_names_what_is_wrong(tmp_path):
    (tmp_path / "in.mp4").write_text("the input")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    (tmp_path / "file").touch()
    good = tmp_path / "good.csv"
    cases = [
        ([tmp_path / "none" / "r.csv"], "the folder .*none does not exist"),
        ([tmp_path / "file" / "r.csv"], "the folder .*file does not exist"),
        ([tmp_path], "is a folder, wanted a file name"),
        ([tmp_path / "in.mp4"], "would overwrite a file read by this run"),
        ([tmp_path / "link.mp4"], "would overwrite a file read by this run"),
        ([tmp_path / "." / "in.mp4"], "would overwrite a file read by this run"),
        ([good, tmp_path / ".." / tmp_path.name / "good.csv"], "would overwrite a file named twice as an output"),
    ]
    for outputs, message in cases:
        with pytest.raises(OutputError, match=message) as caught:
            check_outputs(outputs, [tmp_path / "in.mp4"])
        assert str(outputs[-1]) in str(caught.value) and caught.value.exit_code == 1
    check_outputs([good, tmp_path / "other.csv"], [tmp_path / "in.mp4", "rtsp://camera"])
    assert not good.exists()


def test_a_folder_without_write_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser of a test machine may write anywhere
    with pytest.raises(OutputError, match=r"r.csv: cannot be written: permission denied"):
        check_outputs([tmp_path / "r.csv"])


@pytest.mark.parametrize("make", [CsvSink, MotSink, JsonSink])
def test_a_path_that_cannot_be_opened(tmp_path, make):
    with pytest.raises(OutputError, match=r"none/r.out: cannot be written: No such file or directory"):
        make(tmp_path / "none" / "r.out")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, the disk that is always full")
def test_a_full_disk():
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device"):
        CsvSink("/dev/full")
    with (
        pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device"),
        MotSink("/dev/full") as sink,
    ):
        sink.write(frame(0), [A])


def test_a_json_array_needs_a_plain_file(tmp_path):
    reader, writer = os.pipe()
    try:
        with pytest.raises(OutputError, match="a JSON array needs a plain file"):
            JsonSink(f"/dev/fd/{writer}")
    finally:
        os.close(reader)
        os.close(writer)

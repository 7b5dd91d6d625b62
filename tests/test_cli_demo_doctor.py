"""``fasttrack demo`` and ``fasttrack doctor``."""

import json

import cv2
import doubles
import pytest
from doubles import Result, read_video, refused, table

import fasttrack
from fasttrack import dispatch, native
from fasttrack.cli import doctor, main
from fasttrack.cli.demo import overlaps
from fasttrack.geometry import Box
from fasttrack.video.clip import make_clip


class Oracle:
    """Knows the clip: its boxes are the truth, moved by ``shift`` of their width."""

    name, weights_note = "oracle", ""

    def __init__(self, shift=0.0):
        self.truth, self.shift = (box for _, box in make_clip(400)), shift

    def init(self, _frame, box):
        assert box == next(self.truth)

    def update(self, _frame):
        box = next(self.truth)
        return Result(Box(box.x + self.shift * box.w, box.y, box.w, box.h), seconds=0.01)


@pytest.fixture
def oracle(monkeypatch):
    made = []
    monkeypatch.setattr(fasttrack, "create_tracker", lambda name: made.append(name) or Oracle(), raising=False)
    monkeypatch.delenv("FASTTRACK_DEBUG", raising=False)
    return made


def test_demo_writes_its_files_and_a_line_of_figures(oracle, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "a" / "b"), "--frames", "30"]) == 0
    folder = tmp_path / "a" / "b"
    assert oracle == ["crt"]
    assert len(read_video(folder / "overlay.mp4")) == 30
    assert len(table(folder / "boxes.csv")) == 30
    assert cv2.imread(str(folder / "sheet.png")) is not None
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("demo: crt · 30 frames · mean IoU 1.000 · IoU > 0.5 in 100.0% · ")
    assert said[0].endswith(" FPS") and said[1] == f"  wrote {folder / 'overlay.mp4'}"


def test_demo_shows_the_response_map(tmp_path):
    words = ["demo", "--tracker", "mosse", "--frames", "8", "--quiet", "--out"]
    plain, shown = tmp_path / "plain", tmp_path / "shown"
    assert main([*words, str(plain)]) == 0 and main([*words, str(shown), "--response"]) == 0
    before, after = (read_video(folder / "overlay.mp4") for folder in (plain, shown))
    changed = [abs(a.astype(int) - b).mean() for a, b in zip(before, after, strict=True)]
    assert changed[0] < 1 and min(changed[1:]) > 1  # the first frame is not searched
    places = [[(row["x"], row["y"]) for row in table(folder / "boxes.csv")] for folder in (plain, shown)]
    assert places[0] == places[1]


def test_demo_figures_are_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fasttrack, "create_tracker", lambda name: Oracle(shift=0.25), raising=False)
    assert main(["demo", "--out", str(tmp_path), "--frames", "10", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "mean IoU 0.600" in said and "in 100.0%" in said and said.count("\n") == 1  # IoU = 0.75 / 1.25
    boxes = [Box(0, 0, 4, 4), Box(0, 0, 4, 4), Box(2, 0, 4, 4)]
    assert overlaps(boxes, [Box(9, 9, 4, 4), Box(0, 0, 4, 4), Box(0, 0, 4, 4)]) == [1.0, pytest.approx(1 / 3)]


def test_demo_of_a_tracker_that_loses_the_target_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fasttrack, "create_tracker", lambda name: Oracle(shift=0.9), raising=False)
    refused(capsys, ["demo", "--out", tmp_path, "--frames", "9"], 1, "crt lost the target (mean IoU 0.053")


def test_demo_bad_arguments(oracle, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    refused(capsys, ["demo", "--out", tmp_path / "file"], 1, "file: the folder cannot be made: File exists")
    refused(capsys, ["demo", "--out", tmp_path, "--frames", "0"], 2, "frames must be at least 1, got 0")
    monkeypatch.setattr(fasttrack, "create_tracker", doubles.create_tracker)
    refused(capsys, ["demo", "--out", tmp_path, "--tracker", "nope"], 2, "one of crt, got 'nope'")


# --- doctor -------------------------------------------------------------------------------------


def report(capsys, *words):
    code = main(["doctor", *words])
    return code, capsys.readouterr().out


def test_doctor_names_every_op_and_backend(capsys, monkeypatch):
    monkeypatch.delenv("FASTTRACK_REQUIRE", raising=False)
    code, text = report(capsys, "--json")
    found = json.loads(text)
    assert code == 0 and found["unmet"] == []
    assert set(found["ops"]) == set(dispatch.table())
    for op, rows in dispatch.table().items():
        assert found["ops"][op] == {row.backend: row.unavailable() for row in rows}
        assert found["ops"][op]["reference"] is None
    assert found["versions"]["fasttrack"] == fasttrack.__version__
    assert {"python", "torch", "triton", "cupy", "numpy", "cv2"} <= set(found["versions"])
    assert found["versions"]["cv2"].startswith(cv2.__version__)
    assert found["threads"]["torch"] >= 1 and found["devices"][0].startswith("cpu: ")
    code, text = report(capsys)
    assert code == 0 and all(op in text for op in dispatch.table()) and "ops by backend" in text


def test_doctor_gives_the_reason_of_a_missing_backend(capsys, monkeypatch):
    def rows(reason):
        return (
            dispatch.Row("cuda", lambda *_: reason, print, lambda: reason),
            dispatch.Row("reference", lambda *_: None, print, lambda: None),
        )

    monkeypatch.setattr(dispatch, "_TABLE", {"first": rows("no driver"), "second": rows("no driver")})
    monkeypatch.delenv("FASTTRACK_REQUIRE", raising=False)
    code, text = report(capsys)
    assert code == 0 and text.count("no driver") == 1  # said once, numbered
    lines = [line.split() for line in text.splitlines() if line.strip().startswith(("first", "second"))]
    assert lines == [["first", "no", "[1]", "yes"], ["second", "no", "[1]", "yes"]]
    monkeypatch.setenv("FASTTRACK_REQUIRE", "cuda,triton")
    code, text = report(capsys)
    assert code == 1 and "FASTTRACK_REQUIRE is not met" in text
    assert "cuda: first: no driver" in text and "triton: no op has this backend" in text
    monkeypatch.setenv("FASTTRACK_REQUIRE", "reference")
    assert report(capsys)[0] == 0


def test_doctor_refuses_an_unknown_backend_name(capsys, monkeypatch):
    monkeypatch.setenv("FASTTRACK_REQUIRE", "cpuu")
    monkeypatch.delenv("FASTTRACK_DEBUG", raising=False)
    refused(capsys, ["doctor"], 2, "one of cuda, triton, cpu, reference, got 'cpuu'")


def test_doctor_without_the_extension(capsys, monkeypatch):
    monkeypatch.delenv("FASTTRACK_REQUIRE", raising=False)
    monkeypatch.setattr(native, "why_not", lambda: "it is not built")
    missing = {"loaded": False, "reason": "it is not built", "isa": None, "isas": {}, "cuda": False}
    assert doctor.diagnose()["extension"] == missing
    code, text = report(capsys)
    assert code == 0 and "missing: it is not built" in text

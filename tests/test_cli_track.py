"""``fasttrack track``: outputs, exit codes, messages, and that nothing done is lost."""

import json
import sys
from pathlib import Path

import cv2
import doubles
import pytest
from doubles import read_video, refused, table, write_images, write_video

import fasttrack
import fasttrack.video
from fasttrack.cli import main
from fasttrack.errors import OutputError

BOX = "20,10,30,24"


@pytest.fixture(autouse=True)
def double(monkeypatch):
    monkeypatch.setattr(fasttrack, "create_tracker", doubles.create_tracker, raising=False)
    monkeypatch.delenv("FASTTRACK_DEBUG", raising=False)


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "frames", 12)


# --- the way it should go -----------------------------------------------------------------------


def test_all_outputs_of_a_video(tmp_path, capsys):
    video = write_video(tmp_path / "in.mp4", count=20)
    out = {name: tmp_path / name for name in ("o.mp4", "r.csv", "r.json", "r.txt", "s.png")}
    words = ["--out", "o.mp4", "--csv", "r.csv", "--json", "r.json", "--mot", "r.txt", "--sheet", "s.png"]
    assert main(["track", str(video), "--box", BOX, *(str(out.get(word, word)) for word in words)]) == 0
    rows = table(out["r.csv"])
    assert [int(row["frame"]) for row in rows] == list(range(20))
    assert [float(row["x"]) for row in rows] == [20.0 + k for k in range(20)]
    assert float(rows[0]["score"]) == 1.0 and rows[0]["psr"] == "" and rows[0]["lost"] == "0"
    assert [k for k in range(20) if rows[k]["lost"] == "1"] == [4, 9, 14, 19]
    assert [r["box"][0] for r in json.loads(out["r.json"].read_text())] == [20.0 + k for k in range(20)]
    assert out["r.txt"].read_text().splitlines()[3] == "4,1,24.00,11.00,30.00,24.00,0.7500,-1,-1,-1"
    assert len(read_video(out["o.mp4"])) == 20
    assert cv2.imread(str(out["s.png"])) is not None
    assert cv2.VideoCapture(str(out["o.mp4"])).get(cv2.CAP_PROP_FPS) == pytest.approx(20.0)
    said = capsys.readouterr()
    assert "in.mp4: tracked 20 frames with crt" in said.out and "lost       4 of 20 frames" in said.out
    assert "weights    made weights" in said.out
    assert "FPS (" in said.out and f"wrote      {out['s.png']}" in said.out
    assert said.err == ""


def test_several_targets_in_lock_step(folder, tmp_path):
    out = tmp_path / "r.csv"
    assert main(["track", str(folder), "--box", BOX, "--box", "1 2 3 4", "--csv", str(out), "--quiet"]) == 0
    rows = table(out)
    assert len(rows) == 24 and [row["target"] for row in rows[:4]] == ["1", "2", "1", "2"]
    assert float(rows[-1]["x"]) == 12.0 and float(rows[-2]["x"]) == 31.0


def test_start_and_max_frames(folder, tmp_path, capsys):
    out = tmp_path / "r.csv"
    assert main(["track", str(folder), "--box", BOX, "--csv", str(out), "--start", "4", "--max-frames", "3"]) == 0
    assert [row["name"] for row in table(out)] == ["4.png", "5.png", "6.png"]
    assert "tracked 3 frames" in capsys.readouterr().out


def test_settings_reach_the_tracker(folder, monkeypatch):
    made = []
    monkeypatch.setattr(fasttrack, "create_tracker", lambda name, **config: made.append((name, config)) or _drift())
    words = ["--features", "hog", "--set", "lr=2e-8", "--set", "solver=adam", "--set", "on=true", "--set", "p=(9, 5)"]
    assert main(["track", str(folder), "--box", BOX, "--quiet", *words]) == 0
    assert made == [("crt", {"features": "hog", "lr": 2e-8, "solver": "adam", "on": True, "p": (9, 5)})]


def _drift():
    return doubles.DriftTracker()


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("11,6,30,24\n", ["--one-based"], (10, 5)),
        ("10\t5\t30\t24\n", [], (10, 5)),
        ("10,5,40,5,40,29,10,29\n", [], (10, 5)),
        ("1,1,9,9\n2,2,9,9\n10 5 30 24\n", ["--start", "2"], (10, 5)),
    ],
)
def test_init_from_a_file(folder, tmp_path, text, options, wanted):
    truth, out = tmp_path / "truth.txt", tmp_path / "r.csv"
    truth.write_text(text)
    assert main(["track", str(folder), "--init-from", str(truth), "--csv", str(out), "--quiet", *options]) == 0
    row = table(out)[0]
    assert (float(row["x"]), float(row["y"]), float(row["w"]), float(row["h"])) == (*wanted, 30, 24)


def test_a_box_partly_outside_with_a_leading_minus_is_taken(folder, tmp_path):
    out = tmp_path / "r.csv"
    assert main(["track", str(folder), "--box", "-5,-3.5,20,20", "--csv", str(out), "--quiet"]) == 0
    assert float(table(out)[0]["x"]) == -5.0


def test_broken_frames_are_skipped_warned_and_counted(folder, tmp_path, capsys):
    data = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(data[: len(data) // 2])
    out = tmp_path / "r.csv"
    assert main(["track", str(folder), "--box", BOX, "--csv", str(out)]) == 0
    assert [int(row["frame"]) for row in table(out)] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    said = capsys.readouterr()
    assert "fasttrack: warning: " in said.err and "frame 5.png: the image cannot be decoded; skipped" in said.err
    assert "skipped    1 broken frame\n" in said.out
    refused(capsys, ["track", folder, "--box", BOX, "--csv", out, "--strict", "--quiet"], 1, "frame 5.png: ")
    assert len(table(out)) == 5  # what was done is kept


def test_quiet_prints_nothing(folder, capsys):
    assert main(["track", str(folder), "--box", BOX, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_plain_progress_lines_where_there_is_no_terminal(folder, capsys, monkeypatch):
    monkeypatch.setattr("fasttrack.cli.progress._LINE_S", 0.0)
    assert main(["track", str(folder), "--box", BOX]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12 and "frames: 6/12 frames, " in lines[5] and "FPS, ETA 0:0" in lines[5]


def test_progress_bar_on_a_terminal(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    (folder / "3.png").write_bytes(b"")
    assert main(["track", str(folder), "--box", BOX]) == 0
    err = capsys.readouterr().err
    assert "frames" in err and "FPS" in err and "fasttrack: warning: " in err and "the file is empty" in err


# --- misuse: exit code 2 ------------------------------------------------------------------------


def test_misuse_is_explained_with_exit_code_2(folder, tmp_path, capsys):
    t = ["track", folder]
    cases = [
        (t, "the target must be given by one of --box X,Y,W,H, --select or --init-from FILE, got none of them"),
        ([*t, "--box", BOX, "--init-from", "f"], "got --box and --init-from"),
        ([*t, "--box", "1,2,3"], "four numbers x, y, w, h, got 3 numbers"),
        ([*t, "--box", "a,b,c,d"], "--box must be four numbers X,Y,W,H, got 'a,b,c,d'"),
        ([*t, "--box", "1,2,nan,4"], "four finite numbers"),
        ([*t, "--box", "1,2,inf,4"], "four finite numbers"),
        ([*t, "--box", "1,2,0,4"], "positive width and height, got (1.0, 2.0, 0.0, 4.0)"),
        ([*t, "--box", "1,2,5,-4"], "positive width and height"),
        ([*t, "--box", "200,10,5,5"], "a box that overlaps the 96×64 frame, got 200,10,5,5"),
        ([*t, "--box", "-20,10,20,5"], "a box that overlaps the 96×64 frame"),
        ([*t, "--box", BOX, "--tracker", "nope"], "one of crt, got 'nope'"),
        ([*t, "--box", BOX, "--set", "speed"], "--set must be KEY=VALUE, got 'speed'"),
        ([*t, "--box", BOX, "--set", "name=csrt"], "--set must be a field of the tracker's Config, got name"),
        ([*t, "--box", BOX, "--set", "a=1", "--set", "a=2"], "each KEY once, got a twice"),
        ([*t, "--box", BOX, "--set", "bogus=1"], "config must be features, pause_s, fail_at, got ['bogus']"),
        ([*t, "--box", BOX, "--out", "o.gif"], "--out must be a name ending in .mp4"),
        ([*t, "--box", BOX, "--sheet", "s.txt"], "--sheet must be a name ending in .png"),
        ([*t, "--box", BOX, "--max-frames", "0"], "--max-frames must be at least 1, got 0"),
        ([*t, "--box", BOX, "--start", "-1"], "--start must be 0 or more, got -1"),
        ([*t, "--box", BOX, "--start", "12"], "start must be under the 12 frames of"),
        ([*t, "--box", BOX, "--fps", "0"], "--fps must be over 0"),
        ([*t, "--box", BOX, "--sheet-frames", "0"], "--sheet-frames must be at least 1"),
        ([*t, "--box", BOX, "--nonsense"], "unrecognized arguments: --nonsense"),
        ([], "the following arguments are required: COMMAND"),
        (["track"], "the following arguments are required: SOURCE"),
        (["fly"], "invalid choice: 'fly'"),
    ]
    csv_path = tmp_path / "kept.csv"
    csv_path.write_text("earlier results")
    for arguments, message in cases:
        extra = ["--csv", csv_path] if arguments[:1] == ["track"] and len(arguments) > 1 else []
        refused(capsys, [*arguments, *extra], 2, message)
    assert csv_path.read_text() == "earlier results"  # a refused run overwrites nothing


@pytest.mark.parametrize("option", ["--show", "--select"])
def test_a_window_where_there_is_none(folder, capsys, monkeypatch, option):
    reason = "built without windows (opencv-python-headless)"
    monkeypatch.setattr("fasttrack.cli.window.why_no_window", lambda: reason)
    extra = [] if option == "--select" else ["--box", BOX]
    refused(capsys, ["track", folder, option, *extra], 2, f"{option} must be used where a window can be opened", reason)


# --- failures: exit code 1 ----------------------------------------------------------------------


def test_bad_sources_fail_with_exit_code_1(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video" * 99)
    for name, message in (
        ("none.mp4", "none.mp4: no such file or folder"),
        ("empty", "the folder holds no images"),
        ("*.jpg", "*.jpg: no file matches"),
        ("text.mp4", "text.mp4: not a video that can be decoded"),
    ):
        refused(capsys, ["track", tmp_path / name, "--box", BOX], 1, message)


def test_bad_outputs_fail_before_the_run(folder, tmp_path, capsys):
    video = write_video(tmp_path / "in.mp4")
    size = video.stat().st_size
    t = ["track", folder, "--box", BOX]
    refused(capsys, [*t, "--csv", tmp_path / "none" / "r.csv"], 1, "none/r.csv: the folder", "does not exist")
    refused(capsys, [*t, "--csv", tmp_path], 1, "is a folder, wanted a file name")
    refused(capsys, [*t, "--csv", tmp_path / "a", "--mot", tmp_path / "a"], 1, "named twice as an output")
    refused(capsys, [*t, "--sheet", folder / "3.png"], 1, "3.png: would overwrite a file read by this run")
    refused(capsys, ["track", video, "--box", BOX, "--out", video], 1, "in.mp4: would overwrite a file read by")
    assert video.stat().st_size == size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk that is always full")
def test_a_full_disk_is_named(folder, capsys):
    refused(capsys, ["track", folder, "--box", BOX, "--csv", "/dev/full"], 1, "/dev/full: cannot be written: No space")


def test_a_sink_that_cannot_be_finished_is_named_and_the_others_are_kept(folder, tmp_path, capsys, monkeypatch):
    def close(sink):
        raise OutputError(f"{sink.path}: holds 0 of the 12 frames written (disk full?)")

    monkeypatch.setattr(fasttrack.video.MotSink, "close", close)
    words = ["track", str(folder), "--box", BOX, "--csv", str(tmp_path / "r.csv"), "--mot", str(tmp_path / "r.txt")]
    assert main([*words, "--json", str(tmp_path / "r.json")]) == 1
    said = capsys.readouterr()
    assert f"  wrote      {tmp_path / 'r.json'}\n  damaged    {tmp_path / 'r.txt'}: holds 0 of the 12" in said.out
    assert "fasttrack: error: " in said.err and "r.txt: holds 0 of the 12 frames written" in said.err
    assert len(table(tmp_path / "r.csv")) == len(json.loads((tmp_path / "r.json").read_text())) == 12
    # The cause of a broken run is not hidden by what it entails.
    assert main([*words, "--set", "fail_at=7"]) == 2
    said = capsys.readouterr()
    assert "one before fail_at, got 7" in said.err and "damaged" in said.out


def test_bad_init_files(folder, tmp_path, capsys):
    truth = tmp_path / "t.txt"
    for text, code, message in (
        (None, 1, "t.txt: cannot be read"),
        ("\n\n", 1, "t.txt: holds no box"),
        ("1,2,3,x\n", 2, "t.txt row 1: box must be four numbers x, y, w, h, got '1,2,3,x'"),
        ("1,2,3\n", 2, "t.txt row 1: box must be four numbers x, y, w, h, got 3 numbers"),
        ("nan,nan,nan,nan\n", 2, "four finite numbers"),
    ):
        if text is not None:
            truth.write_text(text)
        refused(capsys, ["track", folder, "--init-from", truth], code, message)
    truth.write_text("1,1,9,9\n1,1,9,9\n")
    refused(capsys, ["track", folder, "--init-from", truth, "--start", "5"], 2, "a file with a row for frame 5")


def test_an_error_in_the_middle_keeps_what_is_done(folder, tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("r.csv", "r.json", "o.mp4", "s.png")}
    words = ["--csv", paths["r.csv"], "--json", paths["r.json"], "--out", paths["o.mp4"], "--sheet", paths["s.png"]]
    refused(
        capsys, ["track", folder, "--box", BOX, "--set", "fail_at=7", "--quiet", *words], 2, "before fail_at, got 7"
    )
    assert len(table(paths["r.csv"])) == len(json.loads(paths["r.json"].read_text())) == 6
    assert len(read_video(paths["o.mp4"])) == 6 and cv2.imread(str(paths["s.png"])) is not None


def test_debug_shows_the_traceback(folder, monkeypatch):
    monkeypatch.setenv("FASTTRACK_DEBUG", "1")
    with pytest.raises(fasttrack.errors.SourceError):
        main(["track", str(folder / "none"), "--box", BOX])

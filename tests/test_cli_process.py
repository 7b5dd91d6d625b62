"""``fasttrack track`` as a process (signals, light help) and with a window (OpenCV's functions replaced)."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import doubles
import pytest
from doubles import picture, read_video, refused, table, write_images

import fasttrack
from fasttrack.cli import main
from fasttrack.video._opencv import opencv, why_no_window

BOX = "20,10,30,24"


@pytest.fixture(autouse=True)
def double(monkeypatch):
    monkeypatch.setattr(fasttrack, "create_tracker", doubles.create_tracker, raising=False)
    monkeypatch.delenv("FASTTRACK_DEBUG", raising=False)


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "frames", 12)


# --- in a process of its own --------------------------------------------------------------------

_CHILD = """
import sys
sys.path.insert(0, {tests!r})
import doubles, fasttrack
fasttrack.create_tracker = doubles.create_tracker
from fasttrack.cli import main
sys.exit(main())
"""


def child(*words, **options):
    root = str(Path(fasttrack.__file__).parent.parent)
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    code = textwrap.dedent(_CHILD).format(tests=str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_keeps_every_frame_done(tmp_path, number, code):
    folder = write_images(tmp_path / "frames", 400)
    paths = {name: tmp_path / name for name in ("r.csv", "r.json", "r.txt", "o.mp4", "s.png")}
    process = child(
        "track", folder, "--box", BOX, "--set", "pause_s=0.02", "--csv", paths["r.csv"], "--json", paths["r.json"],
        "--mot", paths["r.txt"], "--out", paths["o.mp4"], "--sheet", paths["s.png"],
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (paths["r.csv"].exists() and len(table(paths["r.csv"])) > 5):
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    rows = table(paths["r.csv"])
    assert 5 < len(rows) < 400 and [int(r["frame"]) for r in rows] == list(range(len(rows)))
    assert len(json.loads(paths["r.json"].read_text())) == len(rows)
    assert len(paths["r.txt"].read_text().splitlines()) == len(rows)
    assert len(read_video(paths["o.mp4"])) == len(rows)
    assert cv2.imread(str(paths["s.png"])) is not None
    assert f"frames: interrupted after {len(rows)} frames" in out and "Traceback" not in err


def test_a_kill_leaves_whole_text_results(tmp_path):
    folder = write_images(tmp_path / "frames", 400)
    csv_path, json_path = tmp_path / "r.csv", tmp_path / "r.json"
    process = child("track", folder, "--box", BOX, "--set", "pause_s=0.02", "--csv", csv_path, "--json", json_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (csv_path.exists() and len(table(csv_path)) > 5):
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    assert len(table(csv_path)) > 5 and abs(len(json.loads(json_path.read_text())) - len(table(csv_path))) <= 1


def test_stdout_closed_by_its_reader(folder):
    process = child("track", folder, "--box", BOX)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) in (0, 1) and "Traceback" not in err


def test_help_is_light():
    code = (
        "import sys; from fasttrack.cli import main\n"
        "try:\n    main(['track', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'cv2', 'numpy', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    root = str(Path(fasttrack.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--box X,Y,W,H" in done.stdout


# --- window, with OpenCV's window functions replaced --------------------------------------------


class Screen:
    """OpenCV's window functions, with keys pressed by a script."""

    def __init__(self, monkeypatch, keys=(), boxes=()):
        cv = opencv()
        self.shown, self.keys, self.closed = [], list(keys), 0
        monkeypatch.setattr("fasttrack.cli.window.why_no_window", lambda: None)
        monkeypatch.setattr(cv, "imshow", lambda _title, image: self.shown.append(image))
        monkeypatch.setattr(cv, "waitKey", lambda _ms: self.keys.pop(0) if self.keys else -1)
        monkeypatch.setattr(cv, "destroyAllWindows", self._close)
        monkeypatch.setattr(cv, "destroyWindow", lambda _title: None)
        monkeypatch.setattr(cv, "selectROIs", lambda *_: boxes)

    def _close(self):
        self.closed += 1


def test_show_draws_every_frame_and_q_keeps_what_is_done(folder, tmp_path, monkeypatch, capsys):

    screen = Screen(monkeypatch)
    assert main(["track", str(folder), "--box", BOX, "--show", "--quiet"]) == 0
    assert len(screen.shown) == 12 and screen.closed == 1
    assert screen.shown[3][50, 90, 2] == picture(3)[50, 90, 0]  # BGR for the window
    screen = Screen(monkeypatch, keys=[-1, ord(" "), ord("x"), -1, ord("q")])
    out = tmp_path / "r.csv"
    assert main(["track", str(folder), "--box", BOX, "--show", "--csv", str(out)]) == 0
    assert len(table(out)) == 4 and "tracked 4 frames" in capsys.readouterr().out


def test_select_takes_the_drawn_boxes(folder, tmp_path, monkeypatch, capsys):

    out = tmp_path / "r.csv"
    Screen(monkeypatch, boxes=[(5, 6, 7, 8), (0, 0, 0, 0), (9, 9, 20, 20)])
    assert main(["track", str(folder), "--select", "--csv", str(out), "--quiet"]) == 0
    assert [(row["x"], row["w"]) for row in table(out)[:2]] == [("5.000", "7.000"), ("9.000", "20.000")]
    Screen(monkeypatch, boxes=())
    refused(capsys, ["track", folder, "--select"], 2, "at least one box drawn with the mouse, got none")


@pytest.mark.parametrize(
    ("gui", "display", "probe", "reason"),
    [
        ("NONE", ":0", 0, "built without windows (opencv-python-headless); on a machine with a display: pip uninstall"),
        ("QT5", None, 0, "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"),
        ("QT5", ":99", 134, "OpenCV (QT5) could not open a window: could not connect to display"),
        ("QT5", ":0", 0, None),
    ],
)
def test_why_no_window(monkeypatch, gui, display, probe, reason):
    done = subprocess.CompletedProcess([], probe, b"", b"could not connect to display :99\n" if probe else b"")
    monkeypatch.setattr(opencv(), "getBuildInformation", lambda: f"\n  GUI:                           {gui}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if display is None:
        monkeypatch.delenv("DISPLAY", raising=False)
    else:
        monkeypatch.setenv("DISPLAY", display)
    said = why_no_window.__wrapped__()
    assert said is None if reason is None else reason in said

"""Live sources: latest frame only, dropped ones counted, a bounded number of new connections."""

import itertools
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from doubles import create_tracker, picture, table, write_video

import fasttrack
from fasttrack.cli import main
from fasttrack.errors import RangeError, SourceError
from fasttrack.video import open_source
from fasttrack.video.files import VideoSource
from fasttrack.video.live import LiveSource


class Capture:
    """A fake capture: gives its frames, then fails; ``pace_s`` between frames."""

    def __init__(self, frames, pace_s=0.0, opened=True):
        self.frames, self.pace_s, self.opened, self.released = list(frames), pace_s, opened, False

    def isOpened(self):
        return self.opened and not self.released

    def get(self, _property):
        return 30.0

    def read(self):
        time.sleep(self.pace_s)
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.released = True


def frames(count, first=0):
    return [picture(first + k)[..., ::-1] for k in range(count)]


def live(captures, waits_s=(0.01, 0.01), **options):
    """A source over fake captures, one per connection; further connections fail."""
    left = list(captures)
    made = []

    def connect():
        made.append(left.pop(0) if left else Capture([], opened=False))
        return made[-1]

    messages = []
    source = LiveSource("fake", connect, waits_s=waits_s, warn=messages.append, **options)
    return source, made, messages


def test_a_slow_consumer_gets_the_latest_frame_and_the_dropped_ones_are_counted():
    source, made, _ = live([Capture(frames(40), pace_s=0.005)])
    seen = []
    with pytest.raises(SourceError, match="the stream ended after 40 frames"):
        for frame in source:
            assert int(frame.image[0, 0, 0]) == frame.index  # the index counts the camera's frames
            seen.append(frame.index)
            time.sleep(0.03)
    assert seen == sorted(set(seen)) and 4 <= len(seen) < 25
    assert source.dropped == 40 - len(seen)
    assert source.live and source.fps == 30.0 and source.count is None
    assert made[0].released


def test_a_fast_consumer_drops_nothing():
    source, _, _ = live([Capture(frames(10), pace_s=0.02)])
    seen = []
    with pytest.raises(SourceError):
        for frame in source:
            seen.append((frame.index, frame.time_s))
    assert [index for index, _ in seen] == list(range(10)) and source.dropped == 0
    times = [time_s for _, time_s in seen]
    assert times[0] == 0 and all(b > a for a, b in itertools.pairwise(times))


def test_a_broken_stream_is_connected_again_and_goes_on():
    captures = [Capture(frames(3), 0.02), Capture([], opened=False), Capture(frames(3, first=3), 0.02)]
    source, made, messages = live(captures)
    seen = []
    with pytest.raises(SourceError, match="fake: the stream ended after 6 frames; connecting again failed 2×"):
        for frame in source:
            seen.append(frame.index)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert source.reconnects == 1 and len(made) == 5  # one good frame starts the count anew
    assert messages[0] == "fake: the stream broke after 3 frames; connecting again"


def test_strict_ends_at_the_first_break():
    source, made, _ = live([Capture(frames(2), 0.02), Capture(frames(2), 0.02)], strict=True)
    with pytest.raises(SourceError, match=r"the stream ended after 2 frames$"):
        list(source)
    assert len(made) == 1


def test_a_camera_that_is_not_there():
    with pytest.raises(SourceError, match="fake: cannot be opened"):
        live([])
    with pytest.raises(SourceError, match="webcam 97: cannot be opened"):
        open_source("97")
    with pytest.raises(RangeError, match="start must be 0 for the live source fake, got 3"):
        live([Capture(frames(1))], start=3)


def test_stop_and_close_end_a_source_that_waits():
    source, made, _ = live([Capture(frames(1), 0.01), Capture(frames(1), 0.01)], waits_s=(30.0,))
    got = iter(source)
    assert next(got).index == 0
    threading.Timer(0.2, source.stop).start()
    began = time.monotonic()
    assert list(got) == []
    source.close()
    assert time.monotonic() - began < 5 and made[0].released
    unread, made, _ = live([Capture(frames(1))])
    unread.close()
    assert made[0].released


def test_a_picture_of_a_strange_kind_is_skipped():
    strange = np.zeros((8, 8, 2), np.uint8)
    source, _, messages = live([Capture([frames(1)[0], strange, frames(1)[0]], 0.05)])
    seen = []
    with pytest.raises(SourceError):
        for frame in source:
            seen.append(frame.index)
    assert seen == [0, 2] and source.broken == 1 and "2 channels" in messages[0]


# --- a real stream over HTTP on this machine ----------------------------------------------------


class Camera(BaseHTTPRequestHandler):
    """Motion JPEG, ``frames_per_visit`` pictures a connection, then it hangs up; or one file."""

    frames_per_visit, visits, limit, file = 20, 0, 2, None

    def do_GET(self):
        cls = type(self)
        if cls.file is not None:
            self._send_file(cls.file.read_bytes())
            return
        cls.visits += 1
        if cls.visits > cls.limit:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for k in range(cls.frames_per_visit):
            jpeg = cv2.imencode(".jpg", picture(5 * k)[..., ::-1])[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
            self.wfile.write(jpeg + b"\r\n")
            time.sleep(0.01)

    def _send_file(self, data):
        begin = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[begin:])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def camera():
    handler = type("OneCamera", (Camera,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/stream.mjpg"
    server.shutdown()
    server.server_close()


def test_a_motion_jpeg_stream_that_hangs_up(camera, monkeypatch):
    monkeypatch.setattr("fasttrack.video.live.RETRY_WAITS_S", (0.05, 0.05))
    handler, address = camera
    messages = []
    source = open_source(address, warn=messages.append)
    assert isinstance(source, LiveSource)
    seen = []
    with pytest.raises(
        SourceError, match=r"stream.mjpg: the stream ended after \d+ frames; connecting again failed 2×"
    ):
        for frame in source:
            seen.append(frame.index)
            assert frame.image.shape == (64, 96, 3)
    assert handler.visits >= 4  # two with pictures, two refused
    assert source.reconnects >= 1 and len(seen) + source.dropped > 25
    assert "connecting again" in messages[0]


def test_track_a_stream_until_it_ends_for_good(camera, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fasttrack.video.live.RETRY_WAITS_S", (0.05,))
    monkeypatch.setattr(fasttrack, "create_tracker", create_tracker, raising=False)
    monkeypatch.delenv("FASTTRACK_DEBUG", raising=False)
    out = tmp_path / "r.csv"
    words = ["--box", "20,10,30,24", "--csv", str(out), "--set", "pause_s=0.03"]
    assert main(["track", camera[1], *words]) == 1
    said = capsys.readouterr()
    rows = table(out)
    assert len(rows) >= 3 and f"tracked {len(rows)} frames" in said.out
    dropped = int(re.search(r"dropped +(\d+) frames \(connected again \d+ times\)", said.out)[1])
    assert dropped > 0 and "fasttrack: warning: " in said.err and "connecting again failed 1×" in said.err
    indices = [int(row["frame"]) for row in rows]
    assert indices == sorted(set(indices)) and indices[-1] >= len(rows)  # dropped frames leave gaps


def test_a_finite_video_at_an_address_is_read_whole(camera, tmp_path):
    handler, address = camera
    handler.file = write_video(tmp_path / "v.mp4")
    source = open_source(address.replace("stream.mjpg", "v.mp4"))
    assert isinstance(source, VideoSource) and [f.index for f in source] == list(range(30))


def test_an_address_that_does_not_answer():
    with pytest.raises(SourceError, match=r"http://\*\*\*@127.0.0.1:9/x.mjpg: cannot be opened") as caught:
        open_source("http://user:secret@127.0.0.1:9/x.mjpg")
    assert "secret" not in str(caught.value)

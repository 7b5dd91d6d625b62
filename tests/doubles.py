"""Test doubles of the video and command-line tests: a tracker that needs no kernels, and small clips."""

import csv
import time
from dataclasses import dataclass

import cv2
import numpy as np

from fasttrack.cli import main
from fasttrack.errors import RangeError, UnknownTracker
from fasttrack.geometry import Box


@dataclass(frozen=True)
class Result:
    box: Box
    score: float = 0.75
    psr: float = 8.5
    lost: bool = False
    seconds: float = 0.001


class DriftTracker:
    """Moves each box by one pixel to the right per frame; is lost in every fifth frame it sees."""

    name, weights_note = "crt", "made weights"

    def __init__(self, **config):
        unknown = set(config) - {"features", "pause_s", "fail_at"}
        if unknown:
            raise RangeError("drift", "config", "features, pause_s, fail_at", str(sorted(unknown)))
        self.config, self.seen = config, 0

    def init(self, frame, box):
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        self.many = not isinstance(box, Box)
        self.boxes = [Box(*map(float, row)) for row in box] if self.many else [box]
        self.seen = 1

    def update(self, frame):
        assert frame.dtype == np.uint8 and frame.ndim == 3
        self.seen += 1
        time.sleep(self.config.get("pause_s", 0.0))
        if self.seen == self.config.get("fail_at"):
            raise RangeError("drift", "frame", "one before fail_at", str(self.seen))
        self.boxes = [Box(b.x + 1, b.y, b.w, b.h) for b in self.boxes]
        results = [Result(b, lost=self.seen % 5 == 0) for b in self.boxes]
        return results if self.many else results[0]


def create_tracker(name, **config):
    if name != "crt":
        raise UnknownTracker("tracker", name, ["crt"])
    return DriftTracker(**config)


def picture(k, width=96, height=64):
    """A picture that holds its number: the red channel is k modulo 256, green and blue are a ramp."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = k % 256
    image[..., 1] = np.linspace(0, 255, width)[None]
    image[..., 2] = np.linspace(0, 255, height)[:, None]
    return image


def write_images(folder, count, suffix=".png", width=96, height=64, name="{}"):
    folder.mkdir(exist_ok=True)
    for k in range(count):
        assert cv2.imwrite(str(folder / (name.format(k) + suffix)), picture(k, width, height)[..., ::-1])
    return folder


def write_video(path, count=30, width=96, height=64, fps=20.0, codec="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    rng = np.random.default_rng(0)
    for k in range(count):
        # Noise keeps each frame's data large, so that damage to the file hits one frame.
        noise = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        writer.write(picture(3 * k, width, height)[..., ::-1] // 2 + noise)
    writer.release()
    return path


def read_video(path):
    """All frames (RGB) of a video."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, image = capture.read()
        if not good:
            return frames
        frames.append(image[..., ::-1])


def table(path):
    return list(csv.DictReader(path.open(newline="")))


def refused(capsys, arguments, code, *parts):
    """The command ends with ``code`` and one line on stderr that holds every part."""
    try:
        got = main([str(a) for a in arguments])
    except SystemExit as end:  # argparse
        got = end.code
    err = capsys.readouterr().err
    assert got == code, err
    assert err.startswith("fasttrack: error: ") and err.count("\n") == 1, err
    for part in parts:
        assert part in err, err

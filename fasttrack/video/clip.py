"""The built-in clip: a hot-air balloon over a city, drawn by the program itself, with exact truth.

It holds what a tracker meets outside: translation, change of size, a moving and cluttered
background (three layers of different parallax), a dip of the light with a warm tint, a second
balloon of the same shape that passes behind the target (distractor), a clock tower that passes in
front of it and hides about half of its width (partial occlusion), and sensor noise.

Times are counted in frames, so that a shorter clip is the beginning of a longer one:
distractor nearest at frame 55, darkest at frame 100, tower in front at frame 150, then again every
200 frames. The target never leaves the frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fasttrack.errors import RangeError
from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Plane = NDArray[np.float32]
    _Span = tuple[float, float]

__all__ = ["CLIP_FPS", "CLIP_FRAMES", "CLIP_SIZE", "make_clip"]

CLIP_FPS = 30.0
CLIP_FRAMES = 200
CLIP_SIZE = (480, 270)

_PERIOD = 200  # frames after which distractor, dusk and tower come back
_ASPECT = 0.78  # width of a balloon over its height
_SPRITE_H = 400  # px of the drawn balloon, several times what is shown
_SUBSAMPLES = 4  # per axis, for the edges of a moving sprite
_NOISE_STD = 2.5  # grey levels


def make_clip(
    frames: int = CLIP_FRAMES, size: tuple[int, int] = CLIP_SIZE, seed: int = 0
) -> Iterator[tuple[Image, Box]]:
    """Draw the clip, frame by frame, each with the exact box of the target.

    Args:
        frames: number of frames, at least 1; meant to be played at ``CLIP_FPS``.
        size: ``(width, height)`` in px, each at least 64.
        seed: of the city, the clouds, the paths' phases and the noise; same seed, same clip.

    Returns:
        Iterator of ``(image (H, W, 3) uint8 RGB, box)``; the box is the drawn extent of the
        target in edge coordinates, to a fraction of a pixel, also where the tower hides a part.

    Raises:
        RangeError: no frames, a side under 64 px, or a negative seed.
    """
    width, height = size
    if frames < 1:
        raise RangeError("make_clip", "frames", "at least 1", str(frames))
    if width < 64 or height < 64:
        raise RangeError("make_clip", "size", "at least 64 × 64 px", f"{width} × {height}")
    if seed < 0:
        raise RangeError("make_clip", "seed", "0 or more", str(seed))
    return _draw(frames, width, height, seed)


def _draw(frames: int, width: int, height: int, seed: int) -> Iterator[tuple[Image, Box]]:
    rng = np.random.default_rng(seed)
    phase = float(rng.uniform(-0.3, 0.3))
    city = _City.build(rng, width, height)
    target = _balloon(((0.86, 0.20, 0.16), (0.98, 0.83, 0.30), (0.16, 0.30, 0.62)))
    distractor = _balloon(((0.90, 0.45, 0.15), (0.95, 0.90, 0.80), (0.45, 0.18, 0.40)))
    grain = rng.normal(0.0, _NOISE_STD / 255, (height + 64, width + 64, 3)).astype(np.float32)
    for k in range(frames):
        box = _target_box(k, width, height, phase)
        canvas = city.behind(k)
        _paste(canvas, distractor, _distractor_box(k, width, height, phase))
        _paste(canvas, target, box)
        _paste(canvas, city.tower, _tower_box(k, width, height, phase))
        canvas *= _light(k)
        dy, dx = (int(v) for v in rng.integers(0, 64, 2))
        canvas += grain[dy : dy + height, dx : dx + width]
        yield (np.clip(canvas, 0.0, 1.0) * 255 + 0.5).astype(np.uint8), box


# --- what moves ---------------------------------------------------------------------------------


def _target_box(k: float, width: int, height: int, phase: float) -> Box:
    cx = width * (0.50 + 0.27 * math.sin(2 * math.pi * k / 150 + phase))
    cy = height * (0.46 + 0.13 * math.sin(2 * math.pi * k / 95 + 1.0 + phase))
    # Tied to both sides, so that a tall or a wide frame keeps the balloon inside.
    h = min(0.28 * height, 0.20 * width) * (1 + 0.32 * math.sin(2 * math.pi * k / 170 + phase))
    return Box.from_center(cx, cy, _ASPECT * h, h)


def _distractor_box(k: int, width: int, height: int, phase: float) -> Box:
    """Meets the target 55 frames into each period, drifting slowly the other way."""
    since = (k % _PERIOD) - 55
    met = _target_box(k - since, width, height, phase)
    cx, cy = met.center
    h = 0.9 * met.h
    return Box.from_center(cx + (0.012 * since - 0.01) * met.w * 4, cy + 0.35 * met.h, _ASPECT * h, h)


def _tower_box(k: int, width: int, height: int, phase: float) -> Box:
    """In front of the target 150 frames into each period, moving left at 1/80 of the width a frame."""
    since = (k % _PERIOD) - 150
    met = _target_box(k - since, width, height, phase)
    w, top = 0.5 * met.w, 0.12 * height
    return Box(met.center[0] - since * width / 80 - w / 2, top, w, height - top)


def _light(k: int) -> NDArray[np.float32]:
    """Gain per channel: a dip to about a half around frame 100 of each period, red falling least."""
    dip = math.exp(-0.5 * (((k % _PERIOD) - 100) / 16) ** 2)
    return np.array([1 - 0.34 * dip, 1 - 0.46 * dip, 1 - 0.48 * dip], dtype=np.float32)


# --- compositing --------------------------------------------------------------------------------


def _paste(canvas: Plane, sprite: Plane, box: Box) -> None:
    """Lay a sprite (RGBA, colour premultiplied) over the canvas so that it fills ``box`` exactly."""
    cv2 = opencv()
    height, width = canvas.shape[:2]
    x0, y0 = max(math.floor(box.x), 0), max(math.floor(box.y), 0)
    x1, y1 = min(math.ceil(box.x + box.w), width), min(math.ceil(box.y + box.h), height)
    if x0 >= x1 or y0 >= y1:
        return
    n, rows, cols = _SUBSAMPLES, sprite.shape[0], sprite.shape[1]
    # Sub-sample j has its centre at x0 + (j + ½)/n px; sprite texel i at (i + ½)·w/cols px of the box.
    ax, ay = cols / (box.w * n), rows / (box.h * n)
    bx = (x0 + 0.5 / n - box.x) * cols / box.w - 0.5
    by = (y0 + 0.5 / n - box.y) * rows / box.h - 0.5
    fine = cv2.warpAffine(
        sprite,
        np.array([[ax, 0, bx], [0, ay, by]]),
        ((x1 - x0) * n, (y1 - y0) * n),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    patch: Plane = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    region = canvas[y0:y1, x0:x1]
    region *= 1 - patch[..., 3:]
    region += patch[..., :3]


@dataclass(frozen=True)
class _City:
    """The background: a sky and layers that slide at their own speed, and the tower in front."""

    sky: Plane
    layers: tuple[tuple[float, Plane], ...]  # (parallax, RGBA strip wider than the frame)
    tower: Plane
    width: int

    @classmethod
    def build(cls, rng: np.random.Generator, width: int, height: int) -> _City:
        strip = 2 * width
        far = _skyline(rng, strip, height, (0.36, 0.62), (0.045, 0.085), haze=0.55)
        near = _skyline(rng, strip, height, (0.58, 0.86), (0.05, 0.10), haze=0.12)
        return cls(_sky(rng, strip, height), ((0.35, far), (0.8, near)), _tower_sprite(rng), width)

    def behind(self, k: int) -> Plane:
        """Everything behind the balloons, as float RGB in 0 … 1."""
        canvas: Plane = self._slid(self.sky, 0.12, k).copy()
        for parallax, layer in self.layers:
            seen = self._slid(layer, parallax, k)
            canvas *= 1 - seen[..., 3:]
            canvas += seen[..., :3]
        return canvas

    def _slid(self, layer: Plane, parallax: float, k: int) -> Plane:
        cv2 = opencv()
        pan = 0.5 * self.width * (1 - math.cos(2 * math.pi * k / 260)) * parallax
        move = np.array([[1.0, 0.0, pan], [0.0, 1.0, 0.0]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        slid: Plane = cv2.warpAffine(
            layer, move, (self.width, layer.shape[0]), flags=flags, borderMode=cv2.BORDER_REFLECT
        )
        return slid.astype(np.float32, copy=False)


# --- drawing ------------------------------------------------------------------------------------


def _noise(rng: np.random.Generator, width: int, height: int, cell: int, octaves: int) -> Plane:
    """Smooth noise in 0 … 1: octaves of random grids, each half as coarse and half as strong."""
    cv2 = opencv()
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell >> octave, 1)
        grid = rng.random((height // step + 2, width // step + 2)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def _sky(rng: np.random.Generator, width: int, height: int) -> Plane:
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    blue = np.array([0.36, 0.58, 0.84], np.float32) * (1 - down) + np.array([0.93, 0.86, 0.78], np.float32) * down
    clouds = np.clip((_noise(rng, width, height, max(height // 3, 2), 5) - 0.52) * 4, 0, 1)[..., None]
    shade = 0.78 + 0.22 * _noise(rng, width, height, max(height // 8, 2), 3)[..., None]
    sky: Plane = blue * (1 - 0.85 * clouds) + shade * 0.85 * clouds
    return sky.astype(np.float32)


def _skyline(rng: np.random.Generator, width: int, height: int, tops: _Span, widths: _Span, haze: float) -> Plane:
    """A strip of houses with lit and dark windows; ``haze`` mixes in the colour of the horizon."""
    strip = np.zeros((height, width, 4), np.float32)
    misty = np.array([0.78, 0.80, 0.86], np.float32)
    x = 0
    while x < width:
        w = max(int(rng.uniform(*widths) * height * 2), 6)
        top = int(height * (1 - rng.uniform(1 - tops[1], 1 - tops[0])))
        tint = np.array([rng.uniform(0.30, 0.62), rng.uniform(0.26, 0.48), rng.uniform(0.26, 0.48)], np.float32)
        strip[top:, x : x + w, :3] = tint * (1 - haze) + misty * haze
        strip[top:, x : x + w, 3] = 1
        _windows(rng, strip[top:, x : x + w, :3], tint, haze, max(height // 54, 3))
        x += w + int(rng.integers(0, max(height // 60, 2)))
    return strip


def _windows(rng: np.random.Generator, wall: Plane, tint: Plane, haze: float, step: int) -> None:
    lit = np.array([1.0, 0.90, 0.60], np.float32)
    misty = np.array([0.78, 0.80, 0.86], np.float32)
    pane = max(int(step * rng.uniform(0.4, 0.65)), 1)
    for top in range(step // 2, wall.shape[0] - pane, step + 1):
        for left in range(step // 2, wall.shape[1] - pane, step):
            colour = lit if rng.random() < 0.22 else tint * float(rng.uniform(0.3, 0.7))
            wall[top : top + pane, left : left + pane] = colour * (1 - haze) + misty * haze
    wall[: max(step // 4, 1)] *= 0.75


def _tower_sprite(rng: np.random.Generator) -> Plane:
    """A brick clock tower, RGBA, opaque apart from its roof."""
    cv2 = opencv()
    rows, cols = 480, 80
    sprite = np.zeros((rows, cols, 4), np.float32)
    sprite[70:, :, :3] = np.array([0.40, 0.27, 0.22], np.float32)
    for row, top in enumerate(range(70, rows, 10)):
        for left in range(-10 * (row % 2), cols, 20):
            shade = float(rng.uniform(0.75, 1.15))
            sprite[top + 1 : top + 10, max(left, 0) + 1 : left + 20, :3] = np.array([0.46, 0.30, 0.24]) * shade
    sprite[70:, :, 3] = 1
    cv2.fillPoly(sprite, [np.array([[40, 0], [79, 70], [0, 70]])], (0.20, 0.26, 0.28, 1.0), cv2.LINE_AA)
    cv2.circle(sprite, (40, 120), 27, (0.18, 0.14, 0.12, 1.0), -1, cv2.LINE_AA)
    cv2.circle(sprite, (40, 120), 23, (0.95, 0.93, 0.85, 1.0), -1, cv2.LINE_AA)
    for tip in ((40, 103), (52, 126)):
        cv2.line(sprite, (40, 120), tip, (0.1, 0.1, 0.1, 1.0), 3, cv2.LINE_AA)
    side = np.linspace(1.1, 0.6, cols, dtype=np.float32)[None, :, None]
    sprite[..., :3] *= side
    return sprite


def _envelope(depth: Plane) -> Plane:
    """Half-width of the bag, as a share of its widest, at a depth of 0 (crown) … 1 (mouth)."""
    widest, t = 0.42, np.clip(depth, 0, 1)
    upper = np.sqrt(np.clip(1 - ((widest - t) / widest) ** 2, 0, 1))
    lower = 1 - 0.76 * np.clip((t - widest) / (1 - widest), 0, 1) ** 1.8
    shape: Plane = np.where(t < widest, upper, lower).astype(np.float32)
    return shape


def _balloon(colours: tuple[tuple[float, float, float], ...]) -> Plane:
    """A balloon that touches all four edges of its sprite, RGBA, colour premultiplied."""
    cv2 = opencv()
    rows, cols = _SPRITE_H, round(_SPRITE_H * _ASPECT)
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32) + 0.5
    half = cols / 2
    depth = y / (0.80 * rows)
    across = (x - half) / (half * np.maximum(_envelope(depth), 1e-3))  # −1 … 1 over the bag
    gore = np.floor((np.arcsin(np.clip(across, -1, 1)) / math.pi + 0.5) * 9).astype(int)
    palette = np.array(colours, np.float32)
    paint = palette[(gore + np.floor(depth * 3.4).astype(int)) % len(colours)]
    band = np.abs(depth - 0.44) < 0.075
    paint[band] = np.where((gore[band] % 2 == 0)[:, None], palette[1], palette[2])
    glow = np.clip(1.12 - 0.55 * ((across + 0.35) ** 2), 0.35, 1.2)[..., None]
    inside = (np.abs(across) <= 1) & (depth <= 1)
    sprite = np.zeros((rows, cols, 4), np.float32)
    sprite[inside, :3] = np.clip(paint * glow, 0, 1)[inside]
    sprite[inside, 3] = 1
    neck, top, left, right = round(0.80 * rows), round(0.87 * rows), round(0.36 * cols), round(0.64 * cols)
    for foot, hem in ((left, round(half - 0.22 * cols)), (right, round(half + 0.22 * cols))):
        cv2.line(sprite, (hem, neck - 2), (foot, top), (0.16, 0.12, 0.10, 1.0), 5, cv2.LINE_AA)
    sprite[top:, left:right] = (0.42, 0.27, 0.14, 1.0)
    sprite[top : top + 14, left:right] = (0.22, 0.13, 0.07, 1.0)
    sprite[top + 28 :: 12, left:right, :3] *= 0.6
    return sprite

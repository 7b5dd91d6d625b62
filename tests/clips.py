"""Small made clips with exact boxes, for the tests of trackers."""

from __future__ import annotations

import numpy as np

from fasttrack.geometry import Box
from fasttrack.trackers import create_tracker


def texture(height: int, width: int, seed: int, cell: int = 6) -> np.ndarray:
    """Smooth random colours: blocks of ``cell`` px, blurred by bilinear interpolation."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (height // cell + 2, width // cell + 2, 3))
    y, x = np.arange(height) / cell, np.arange(width) / cell
    i, j = y.astype(int), x.astype(int)
    v, u = (y - i)[:, None, None], (x - j)[None, :, None]
    top = coarse[i][:, j] * (1 - u) + coarse[i][:, j + 1] * u
    bottom = coarse[i + 1][:, j] * (1 - u) + coarse[i + 1][:, j + 1] * u
    return top * (1 - v) + bottom * v


class Clip:
    """A textured rectangle moving over a textured background.

    Args:
        path: (N, 2) top-left corners in whole px.
        size: (width, height) of the target.
        frame: (width, height) of the frames.
        seen: N flags; the target is not drawn where one is False.
    """

    def __init__(self, path, size=(40, 30), frame=(200, 150), seen=None, seed=0):
        self.path, self.size = np.asarray(path, int), size
        self.seen = [True] * len(self.path) if seen is None else list(seen)
        self.background = texture(frame[1], frame[0], seed, 11)
        self.target = texture(size[1], size[0], seed + 1, 5)

    def __len__(self):
        return len(self.path)

    def box(self, k):
        return (*map(float, self.path[k]), *map(float, self.size))

    def frame(self, k):
        image = self.background.copy()
        if self.seen[k]:
            x, y = self.path[k]
            w, h = self.size
            rows, cols = (
                slice(min(max(at, 0), limit), min(max(at + n, 0), limit))
                for at, n, limit in ((y, h, image.shape[0]), (x, w, image.shape[1]))
            )
            image[rows, cols] = self.target[rows.start - y : rows.stop - y, cols.start - x : cols.stop - x]
        return image.round().astype(np.uint8)

    def frames(self):
        return [self.frame(k) for k in range(len(self))]


def line(start, step, count):
    """Corners start, start + step, … as an (N, 2) array."""
    return np.asarray(start) + np.arange(count)[:, None] * np.asarray(step)


def follow(name, clip, options, box=None, count=None):
    """Results of a tracker over (the first ``count`` frames of) a clip; ``box``: not the clip's own target."""
    tracker = create_tracker(name, **options)
    return list(tracker.run(clip.frames()[:count], clip.box(0) if box is None else box))


def ious(results, clip):
    """IoU of every result with the clip's target."""
    return np.array([r.box.iou(Box(*clip.box(k + 1))) for k, r in enumerate(results)])


def standing(results, clip):
    """IoU of the clip's target with its first place: what a tracker that stands still would reach."""
    return np.array([Box(*clip.box(0)).iou(Box(*clip.box(k + 1))) for k in range(len(results))])

"""Follow a made target through made frames, and print the numbers as JSON."""

import json

import torch
from tracker import Tracker

PATH = [(70, 84), (73, 82), (77, 81), (76, 86)]


def frame(y, x):
    """A textured blob about (y, x) over a still background."""
    rows, columns = torch.meshgrid(torch.arange(160).double(), torch.arange(180).double(), indexing="ij")
    v, u = rows - y, columns - x
    blob = torch.exp(-(v**2 + 1.5 * u**2) / 60) * (1 + 0.5 * torch.cos(0.8 * v) * torch.sin(0.6 * u + 0.5))
    return (100 * blob + 10 * torch.sin(0.05 * rows) * torch.cos(0.07 * columns))[None, None]


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    tracker = Tracker()
    tracker.initialize(frame(*PATH[0]), PATH[0])
    found = [tracker.track(frame(*place)) for place in PATH[1:]]
    print(json.dumps({"found": found, "filters": [f.flatten().tolist() for f in tracker.filters]}))

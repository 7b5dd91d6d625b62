"""A made repository that imports the foreign names, run unmodified: its numbers against plain torch."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

FOREIGN = Path(__file__).parent / "foreign"
COMPAT = ["-m", "fasttrack.compat"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The repository as it is after a clone: the folders of its submodules are there, and empty."""
    root = shutil.copytree(FOREIGN, tmp_path_factory.mktemp("checkout") / "repository")
    (root / "ltr" / "external" / "PreciseRoIPooling").mkdir(parents=True)
    (root / "pytracking").mkdir()
    return root


def run(words, folder):
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=300)


def numbers(words, folder):
    done = run([*COMPAT, *words], folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return json.loads(done.stdout)


def names_of(program, leave_out):
    """The names a program defines, read without the foreign import ``leave_out``."""
    text = program.read_text()
    assert leave_out in text
    space = {"__name__": "read"}
    exec(compile(text.replace(leave_out, ""), program.name, "exec"), space)
    return space


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("refine_boxes.py", "No module named 'ltr.external.PreciseRoIPooling.pytorch'"),
        ("track.py", "cannot import name 'TensorList' from 'pytracking'"),
    ],
)
def test_without_compat_they_fail(program, message, checkout):
    done = run([program, "1", "1"], checkout)
    assert done.returncode == 1 and message in done.stderr and not done.stdout


def pooled(features, boxes, bins, scale):
    """Mean over each bin of the bilinear surface of one image: dense weights by the primitive of the hat."""

    def weights(low, extent, size):
        edges = (low[:, None] + extent[:, None] * torch.arange(bins + 1) / bins) * scale
        u = (edges[:, :, None] - torch.arange(size)).clamp(-1, 1)
        below = torch.where(u < 0, (1 + u) ** 2 / 2, 1 - (1 - u) ** 2 / 2)
        return (below[:, 1:] - below[:, :-1]) / (extent * scale / bins)[:, None, None]

    across = weights(boxes[:, 0], boxes[:, 2], features.shape[3])
    down = weights(boxes[:, 1], boxes[:, 3], features.shape[2])
    return torch.einsum("kpi,cij,kqj->kcpq", down, features[0], across)


def waves(*shape, step):
    return (torch.cos(step * torch.arange(math.prod(shape)).double()) / math.prod(shape) ** 0.5).view(shape)


def linear(x, outputs, step):
    x = x.flatten(1)
    return torch.relu(x @ waves(outputs, x.shape[1], step=step).T + 0.1)


def plain_refinement(features, steps, rate):
    """What refine_boxes.py does, without its classes."""
    three, four = (f.double() for f in features)
    target = torch.tensor([[40.0, 36.0, 30.0, 44.0]]).double()
    three = three * linear(pooled(three, target, 3, 1 / 8), 6, 0.7)[:, :, None, None]
    four = four * linear(pooled(four, target, 1, 1 / 16), 4, 1.3)[:, :, None, None]
    boxes = torch.tensor([[38, 30, 36, 40], [60.5, 20, 25, 31], [-6, 90, 40, 70]]).double()
    history = []
    for _ in range(steps):
        boxes.requires_grad_()
        both = linear(pooled(three, boxes, 5, 1 / 8), 8, 2.1), linear(pooled(four, boxes, 3, 1 / 16), 8, 0.4)
        overlap = torch.cat(both, 1) @ waves(16, step=0.9)
        gradient = torch.autograd.grad(overlap.sum(), boxes)[0]
        history.append(overlap.detach())
        boxes = (boxes + rate * gradient * boxes[:, 2:].repeat(1, 2)).detach()
    return torch.stack(history), boxes


def test_overlap_network(checkout):
    """An ATOM-style network: forward, gradient ascent in the boxes, no entry of the pooling in the state."""
    got = numbers(["refine_boxes.py", "5", "150"], checkout)
    maps = names_of(FOREIGN / "refine_boxes.py", "import ltr.models.bbreg as bbreg")["feature_maps"]()
    overlap, boxes = plain_refinement(maps, 5, 150)
    close = {"rtol": 2e-6, "atol": 0}  # worst seen: 4e-7; the program computes in float32
    assert torch.allclose(torch.tensor(got["overlap"]).double(), overlap, **close)
    assert torch.allclose(torch.tensor(got["boxes"]).double(), boxes, **close)
    assert (overlap[-1] > overlap[0] * 1.005).all()  # it climbs, and by more than the tolerance
    for wrong in (overlap * 0, overlap * 1.001, overlap[:, [1, 0, 2]]):
        assert not torch.allclose(torch.tensor(got["overlap"]).double(), wrong, **close)
    assert not [name for name in got["state"] if "pool" in name]


class PlainTracker:
    """What tracker/correlation.py does: filters by normal equations, scores by sums over all frequencies."""

    def levels(self, image):
        y, x = self.pos
        block = image[:, :, y - 24 : y + 26, x - 24 : x + 26]
        patch = functional.avg_pool2d(block, 2)
        bell = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(1, 26).double() / 26)
        fine = (patch - patch.mean()) * bell[:, None] * bell
        return fine, functional.avg_pool2d(fine, 3, stride=2, padding=1)

    def initialize(self, image, pos):
        self.pos, self.filters = pos, []
        for sample, weight in zip(self.levels(image), (5.0, 3.0), strict=True):
            n = sample.shape[-1]
            bell = torch.exp(-0.5 * ((torch.arange(n).double() - (n - 1) / 2) / (n / 12)) ** 2)
            rows = functional.unfold(sample, 5, padding=2)[0].T
            system = rows.T @ rows + weight**2 * torch.eye(25).double()
            self.filters.append(torch.linalg.solve(system, rows.T @ torch.outer(bell, bell).flatten()))

    def track(self, image):
        response = torch.zeros(50, 50).double()
        for sample, weights in zip(self.levels(image), self.filters, strict=True):
            n = sample.shape[-1]
            score = functional.conv2d(sample, weights.view(1, 1, 5, 5), padding=2)[0, 0]
            k = torch.arange(n).double() - n // 2
            series = torch.fft.fftshift(torch.fft.fft2(score)) / n**2
            one = math.sqrt(2 * math.pi) / n * torch.exp(-2 * (math.pi * k / n) ** 2)
            place = torch.arange(50).double()[:, None] / 50 + (n - 1) / (2 * n)
            wave = torch.exp(2j * math.pi * place * k) * one
            response += (wave @ series @ wave.T).real
        peak = response.argmax().item()
        moved = [(p + 25) % 50 - 25 for p in divmod(peak, 50)]
        self.pos = [p + m for p, m in zip(self.pos, moved, strict=True)]
        return self.pos, response.max().item()


def test_correlation_filter(checkout):
    """A DCF tracker: patches, two levels in TensorLists, conjugate gradients, Fourier series, the peak."""
    got = numbers(["track.py"], checkout)
    program = names_of(FOREIGN / "track.py", "from tracker import Tracker")
    tracker, path = PlainTracker(), program["PATH"]
    tracker.initialize(program["frame"](*path[0]), path[0])
    for found, weights in zip(got["filters"], tracker.filters, strict=True):
        found = torch.tensor(found).double()
        close = {"rtol": 0, "atol": 3e-9}  # worst seen: 3e-10, of 5e-3
        assert torch.allclose(found, weights, **close)
        for wrong in (weights * 0, weights * 1.001, weights.flip(0)):
            assert not torch.allclose(found, wrong, **close)
    for place, (pos, peak) in zip(path[1:], got["found"], strict=True):
        plain_pos, plain_peak = tracker.track(program["frame"](*place))
        assert pos == plain_pos and peak == pytest.approx(plain_peak, rel=3e-9)  # worst seen: 2e-10
        assert all(abs(p - q) <= 1 for p, q in zip(pos, place, strict=True))

"""Windows of a frame: grid_sample and the kernel.

No PyTorch formulation faster than grid_sample is known: one grid for all windows is equal, gathered taps are slower.
"""

import pytest
import torch
import torch.nn.functional as F
from sides import OURS, make, on_backend

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.crop_resize import SPECS

SPEC = SPECS[0]
ROWS = [pytest.param(case, id=case.name) for case in SPEC.cases if case.bench]
# grid_sample computes positions in float32: on noise it may be off by hundredths of a grey level.
LOOSE = Tolerance(1e-4, 2e-3)


def grid_of(frame, boxes, size):
    """Sample positions in grid_sample's units, (K, out_h, out_w, 2)."""
    (out_h, out_w), (height, width) = size, frame.shape[:2]
    x, y, w, h = boxes.unbind(1)
    u = (x[:, None] + (torch.arange(out_w, device=x.device) + 0.5) * w[:, None] / out_w) * 2 / width - 1
    v = (y[:, None] + (torch.arange(out_h, device=x.device) + 0.5) * h[:, None] / out_h) * 2 / height - 1
    return torch.stack([u[:, None, :].expand(-1, out_h, -1), v[:, :, None].expand(-1, -1, out_w)], -1)


def plain(frame, boxes, size, antialias=False):
    """One image per window (expanded, not copied) through grid_sample; where it shrinks, of a frame pooled before."""
    image = frame.permute(2, 0, 1)[None].float()
    if antialias:
        shrink = int((boxes[:, 2:] / torch.tensor(size[::-1])).min())
        image, boxes = F.avg_pool2d(image, shrink).add_(0.5).floor_(), boxes / shrink
        frame = frame[: image.shape[2], : image.shape[3]]
    image = image.expand(len(boxes), -1, -1, -1)
    return F.grid_sample(image, grid_of(frame, boxes, size), padding_mode="border", align_corners=False)


def into_own_memory(frame, boxes, size, antialias=False):
    """The kernel with ``out=``: no fresh pages for the system to clear."""
    shape = (len(boxes), 3, *size)
    if _KEPT.get("shape") != shape:
        _KEPT.update(shape=shape, out=torch.empty(shape))
    return ops.crop_resize(frame, boxes, size, antialias=antialias, out=_KEPT["out"], backend="cpu")


_KEPT = {}
SIDES = {"plain": plain, **{name: on_backend(ops.crop_resize, name) for name in OURS}}
if "cpu" in OURS:
    SIDES["cpu + out"] = into_own_memory


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ROWS)
def test_crop_resize(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"crop_resize {case.name}"
    tolerance = SPEC.tolerance_of(torch.float32) if side != "plain" else LOOSE
    checked(
        benchmark, lambda: SIDES[side](**arguments), SPEC.truth(arguments), tolerance, SPEC.cost(arguments), side=side
    )

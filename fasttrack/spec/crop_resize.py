"""Bilinear windows of one 8-bit frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.errors import BoxError
from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["LARGEST_SHRINK", "SPECS", "crop_resize", "refuse_bad_box"]

LARGEST_SHRINK = 256  # px: beyond it no window is worth averaging exactly


def refuse_bad_box(boxes: Tensor, index: int) -> None:
    """Raise the BoxError of box ``index``."""
    got = ", ".join(f"{v:g}" for v in boxes[index].tolist())
    raise BoxError("crop_resize", f"boxes[{index}]", "finite x, y, w, h with w > 0 and h > 0", f"({got})")


def _taps(start: float, extent: float, count: int, size: int, border: str) -> list[tuple[Tensor, Tensor]]:
    """The two pixels along one axis that each of ``count`` samples reads, with their weights."""
    u = start + (torch.arange(count, dtype=torch.float64) + 0.5) * extent / count - 0.5
    if border == "replicate":
        u = u.clamp(0, size - 1)
    first = u.floor()
    taps = []
    for pixel, weight in ((first, 1 - (u - first)), (first + 1, u - first)):
        inside = (pixel >= 0) & (pixel <= size - 1)  # what lies outside is black
        taps.append((pixel.clamp(0, size - 1).long(), weight * inside))
    return taps


def _shrink(across: float, down: float, frame: Tensor) -> int:
    """Side of the blocks to average, px; at most the frame's smaller side, so that something of it is left."""
    return max(1, int(min(across, down, LARGEST_SHRINK, *frame.shape[:2])))


def _averaged(frame: Tensor, side: int) -> Tensor:
    """Means over blocks of side × side px, rounded to integers, halves up."""
    height, width = frame.shape[0] // side, frame.shape[1] // side
    blocks = frame[: height * side, : width * side].reshape(height, side, width, side, -1)
    return (blocks.mean((1, 3)) + 0.5).floor() if side > 1 else frame


def crop_resize(
    frame: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    border: str = "replicate",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    antialias: bool = False,
) -> Tensor:
    """out[k, c, i, j] = (Σ over 2 × 2 taps of weight_y·weight_x·frame[row, column, c] − mean[c]) / std[c]."""
    whole = (frame if frame.dim() == 3 else frame[..., None]).cpu().double()
    channels = whole.shape[2]
    out = torch.zeros(len(boxes), channels, *size, dtype=torch.float64)
    for k, (x, y, w, h) in enumerate(boxes.double().tolist()):
        if not (torch.isfinite(boxes[k]).all() and w > 0 and h > 0):
            refuse_bad_box(boxes, k)
        s = _shrink(w / size[1], h / size[0], whole) if antialias else 1
        pixels = _averaged(whole, s)
        for row, weight_y in _taps(y / s, h / s, size[0], pixels.shape[0], border):
            for column, weight_x in _taps(x / s, w / s, size[1], pixels.shape[1], border):
                out[k] += torch.einsum("i,j,ijc->cij", weight_y, weight_x, pixels[row][:, column])
    for c in range(channels):
        out[:, c] = (out[:, c] - (mean[c] if mean else 0.0)) / (std[c] if std else 1.0)
    return out.to(frame.device)


def _windows(
    frame: tuple[int, ...], boxes: Sequence[tuple[float, ...]] | int, size: tuple[int, int], **options: Any
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        pixels = torch.randint(0, 256, frame, generator=generator, dtype=torch.uint8)
        if isinstance(boxes, int):
            # Samples around a target: mostly inside, some beyond the border, 0.6 to 1.6 px per sample.
            extent = torch.tensor([frame[1], frame[0]], dtype=torch.float64)
            sides = torch.tensor(size[::-1]) * (0.6 + torch.rand(boxes, 2, generator=generator, dtype=torch.float64))
            corner = torch.rand(boxes, 2, generator=generator, dtype=torch.float64) * extent - 0.3 * sides
            rows = torch.cat([corner, sides], 1)
        else:
            rows = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
        return {"frame": pixels, "boxes": rows.to(dtype), "size": size, **options}

    return build


_INSIDE = [(3.25, 2.5, 17.75, 11.0)]
_OUTSIDE = [(-30.0, -9.5, 25.3, 14.1), (25.5, 20.25, 31.0, 17.5), (-8.0, -6.0, 60.0, 50.0), (200.0, 5.0, 9.0, 9.0)]
# By 2, 3, 7 and 1 at 9 × 8 samples, beside, over and far from the frame.
_SHRUNK = [
    (1.0, 2.0, 17.3, 25.0), (-9.25, 30.5, 24.75, 31.5), (0.0, 0.0, 62.0, 66.0), (55.5, 44.0, 40.0, 9.5),
    (-300.0, 900.0, 30.0, 30.0), (20.25, 1.5, 20.0, 20.0),
]  # fmt: skip
_IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}

_CASES = (
    Case("inside", _windows((29, 37, 3), _INSIDE, (13, 19))),
    Case("outside", _windows((29, 37, 3), _OUTSIDE, (11, 23))),
    Case("outside_constant", _windows((29, 37, 3), _OUTSIDE, (11, 23), border="constant")),
    Case("normalised", _windows((29, 37, 3), _OUTSIDE, (7, 31), **_IMAGENET)),
    Case("normalised_constant", _windows((29, 37, 3), _OUTSIDE, (7, 31), border="constant", **_IMAGENET)),
    Case("grey", _windows((29, 37), _OUTSIDE, (12, 17))),
    Case("grey_one_channel", _windows((29, 37, 1), _OUTSIDE, (12, 17), mean=(100.0,), std=(50.0,))),
    Case("one_pixel_frame", _windows((1, 1, 3), [(-1.0, -2.0, 3.5, 4.5)], (5, 3), border="constant")),
    Case("narrow_frame", _windows((9, 2, 3), [(-1.0, 0.0, 4.0, 9.0)], (9, 8))),
    Case("one_sample", _windows((29, 37, 3), _INSIDE, (1, 1))),
    Case("shrink", _windows((67, 89, 3), [(1.0, 2.0, 80.0, 60.0), (0.3, 0.7, 88.0, 66.0)], (9, 8))),
    Case("averaged", _windows((67, 89, 3), _SHRUNK, (9, 8), antialias=True)),
    Case("averaged_constant", _windows((67, 89, 3), _SHRUNK, (6, 11), border="constant", antialias=True)),
    Case("averaged_grey", _windows((31, 58), _SHRUNK, (7, 5), antialias=True, mean=(100.0,), std=(50.0,))),
    Case("enlarge", _windows((29, 37, 3), [(10.3, 8.1, 3.5, 2.25)], (41, 53))),
    Case("many", _windows((61, 83, 3), 40, (17, 17))),
    Case("none", _windows((29, 37, 3), [], (11, 23))),
    Case("k256_107", _windows((480, 640, 3), 256, (107, 107)), bench=True, tests=False),
    Case("k1_288x400", _windows((480, 640, 3), 1, (288, 400)), bench=True, tests=False),
    Case(
        "k1_64_of_134",
        _windows((480, 640, 3), [(250.3, 180.7, 134.2, 134.9)], (64, 64), antialias=True),
        bench=True,
        tests=False,
    ),
    Case("k33_64", _windows((480, 640, 3), 33, (64, 64)), bench=True, tests=False),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    frame, (out_h, out_w) = arguments["frame"], arguments["size"]
    samples = len(arguments["boxes"]) * out_h * out_w * (frame.shape[2] if frame.dim() == 3 else 1)
    return Cost(flops=8 * samples, bytes=4 * samples + frame.numel())


# Weights are rounded once to float32, values at most three times.
_TOLERANCE = Tolerance(4e-7, 1e-6, witness="9.3e-8, 1.3e-7")

SPECS = (
    Spec(
        "crop_resize",
        "crop_resize",
        crop_resize,
        _CASES,
        {torch.float32: _TOLERANCE, torch.float64: _TOLERANCE},
        cost=_cost,
        dtypes=(torch.float32, torch.float64),
    ),
)

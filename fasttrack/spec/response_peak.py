"""Peak of response maps: position with sub-cell refinement, score, peak-to-sidelobe ratio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case, Cost, Spec, Tolerance

__all__ = ["SPECS", "ResponsePeak", "response_peak"]


class ResponsePeak(NamedTuple):
    """Where response maps peak and how much they stand out there.

    Attributes:
        position: (T, 2) row and column in cells, sub-cell refined; 0 is the centre of the first cell.
        score: (T,) the largest value of each map.
        psr: (T,) (max − mean) / standard deviation over the whole map; 0 where the map is flat.
    """

    position: Tensor
    score: Tensor
    psr: Tensor


def _parabola_shift(before: float, top: float, after: float) -> float:
    """Vertex of the parabola through (−1, before), (0, top), (1, after)."""
    bend = before - 2 * top + after
    if not -float("inf") < bend < 0:
        return 0.0
    return min(max(0.5 * (before - after) / bend, -0.5), 0.5)


def response_peak(maps: Tensor) -> ResponsePeak:
    """Arg-max (the first in row-major order), parabola per axis, (max − mean)/std."""
    rows = []
    for values in maps.double().cpu():
        height, width = values.shape
        if values.isnan().any():
            rows.append([float("nan")] * 4)
            continue
        top = float(values.max())
        i, j = (int(v) for v in (values == top).nonzero()[0])
        y, x = float(i), float(j)
        if 0 < i < height - 1:
            y += _parabola_shift(float(values[i - 1, j]), top, float(values[i + 1, j]))
        if 0 < j < width - 1:
            x += _parabola_shift(float(values[i, j - 1]), top, float(values[i, j + 1]))
        flat = bool((values == top).all()) and abs(top) < float("inf")
        psr = 0.0 if flat else float((top - values.mean()) / values.std(correction=0))
        rows.append([y, x, top, psr])
    found = torch.tensor(rows, dtype=torch.float64, device=maps.device).reshape(-1, 4)
    return ResponsePeak(found[:, :2], found[:, 2], found[:, 3])


def _maps(
    count: int, height: int, width: int, kind: str = "blob"
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        noise = torch.rand(count, height, width, generator=generator, dtype=torch.float64)
        if kind == "flat":
            return {"maps": torch.full((count, height, width), 0.1, dtype=dtype)}
        if kind == "ties":
            return {"maps": (noise * 3).floor().to(dtype)}
        if kind == "negative":
            return {"maps": (-1000 - 100 * noise).to(dtype)}
        # A Gaussian response with the noise of a real one, somewhere in the map (its border included).
        centre = torch.rand(count, 2, 1, 1, generator=generator, dtype=torch.float64)
        y = torch.arange(height, dtype=torch.float64).view(1, -1, 1) - centre[:, 0] * (height - 1)
        x = torch.arange(width, dtype=torch.float64).view(1, 1, -1) - centre[:, 1] * (width - 1)
        return {"maps": (torch.exp(-(y**2 + x**2) / 8) + 0.05 * noise).to(dtype)}

    return build


_CASES = (
    Case("one_map", _maps(1, 13, 17)),
    Case("batch", _maps(7, 23, 31)),
    Case("one_cell", _maps(3, 1, 1)),
    Case("one_row", _maps(3, 1, 29)),
    Case("one_column", _maps(3, 19, 1)),
    Case("two_rows", _maps(2, 2, 5)),
    Case("ties", _maps(4, 11, 9, "ties")),
    Case("flat", _maps(2, 5, 7, "flat")),
    Case("negative", _maps(2, 7, 18, "negative")),
    Case("t1_72x100", _maps(1, 72, 100), bench=True),
    Case("t33_81x65", _maps(33, 81, 65), bench=True),
    Case("t1_193x193", _maps(1, 193, 193), bench=True),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    n = arguments["maps"].numel()
    return Cost(flops=5 * n, bytes=4 * n)


# Sums run in float64; results are rounded once. Half maps are widened exactly.
_TOLERANCE = Tolerance(2e-7, 2e-7, witness="5e-8, 6e-8")

SPECS = (
    Spec(
        "response_peak",
        "response_peak",
        response_peak,
        _CASES,
        dict.fromkeys((torch.float32, torch.float64, torch.float16, torch.bfloat16), _TOLERANCE),
        cost=_cost,
    ),
)

"""From response maps to a box: peak, footprint of the kernel, and how far the peak stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import ShapeError
from fasttrack.geometry import Box, Window

__all__ = ["Found", "Response", "footprint", "home", "localise", "snr"]


@dataclass(frozen=True, slots=True)
class Response:
    """A response map, as its peak was taken (with its prior), and where in the frame it lies.

    Attributes:
        map: (H, W); a view of the search's tensor.
        window: the window that the feature map was made from.
        kernel: (kh, kw) in cells; response (i, j) sees the cells [i, i + kh) × [j, j + kw).
        stride_px: patch px per cell.
    """

    map: Tensor
    window: Window
    kernel: tuple[int, int]
    stride_px: float

    @property
    def region(self) -> Box:
        """The part of the frame that the map covers, every response around the middle of what it sees."""
        (rows, columns), (kh, kw) = self.map.shape, self.kernel
        left, top = self.window.cell_to_frame((kw - 1) / 2, (kh - 1) / 2, self.stride_px)
        right, bottom = self.window.cell_to_frame((kw - 1) / 2 + columns, (kh - 1) / 2 + rows, self.stride_px)
        return Box(left, top, right - left, bottom - top)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a target was found.

    Attributes:
        box: footprint of the kernel at the peak, in frame px.
        score: response at the peak, before prior and penalties (1 is a perfect match of the labels).
        psr: peak-to-sidelobe ratio of the weighted response.
        level: which window of the scale search.
        peak: (row, column) of the peak in the response map of that window, cells.
        response: that map, for those who want to see it.
    """

    box: Box
    score: float
    psr: float
    level: int
    peak: tuple[float, float]
    response: Response | None = field(default=None, repr=False, compare=False)


def home(features: tuple[int, int], kernel: tuple[int, int]) -> tuple[float, float]:
    """Response index (row, column) at which the kernel lies in the middle of the feature map.

    Args:
        features: (rows, columns) of the feature map.
        kernel: (rows, columns) of the kernel.
    """
    return (features[0] - kernel[0]) / 2, (features[1] - kernel[1]) / 2


def footprint(peak: tuple[float, float], kernel: tuple[int, int], window: Window, stride_px: int) -> Box:
    """The part of the frame that the kernel covers when its first cell lies at ``peak``.

    Args:
        peak: (row, column) of a response; response (i, j) sees the cells [i, i + kh) × [j, j + kw).
        kernel: (kh, kw) in cells.
        window: the window the feature map was made from.
        stride_px: patch px per cell.
    """
    row, column = peak
    left, top = window.cell_to_frame(column, row, stride_px)
    right, bottom = window.cell_to_frame(column + kernel[1], row + kernel[0], stride_px)
    return Box(left, top, right - left, bottom - top)


def localise(
    responses: Tensor,
    windows: Sequence[Sequence[Window]],
    kernel: tuple[int, int],
    stride_px: int,
    prior: Tensor | None = None,
    penalties: Sequence[float] | None = None,
    table: Tensor | None = None,
) -> list[Found]:
    """Best window and place of every target.

    The peak of ``responses · prior`` is taken per window with sub-cell refinement (``ops.response_table``); the
    window whose peak times its penalty is highest wins.

    Args:
        responses: (T, S, H, W), one map per target and window.
        windows: T sequences of S windows.
        kernel: (kh, kw) in cells.
        stride_px: patch px per cell.
        prior: (H, W) factor, e.g. CRT's motion map; None for none.
        penalties: S factors ≤ 1 that hold back a change of scale; None for none.
        table: ``ops.response_table`` of the responses, where it is at hand already and there is no prior.

    Returns:
        T results.

    Raises:
        ShapeError: shapes that do not belong together.
    """
    if responses.dim() != 4 or [len(w) for w in windows] != [responses.shape[1]] * responses.shape[0]:
        wanted = f"(T, S, H, W) for {len(windows)} targets of {[len(w) for w in windows]} windows"
        raise ShapeError("localise", "responses", wanted, f"shape {tuple(responses.shape)}")
    levels = responses.shape[1]
    maps = responses.flatten(0, 1)
    weighted = maps if prior is None else maps * prior
    if table is None or prior is not None:
        table = ops.response_table(weighted)
    if prior is not None:
        table = torch.cat((table, _at_peaks(maps, weighted)), dim=1)
    rows = table.tolist()
    # From here on there are a few numbers per map: a tensor operation would cost more than all of them.
    found = []
    for t, own in enumerate(windows):
        of_target = rows[t * levels : (t + 1) * levels]
        peaks = [row[2] for row in of_target]
        level = _best(peaks if penalties is None else [p * q for p, q in zip(peaks, penalties, strict=True)])
        row, column, peak, psr, *raw = of_target[level]
        box = footprint((row, column), kernel, own[level], stride_px)
        seen = Response(weighted[t * levels + level], own[level], kernel, stride_px)
        found.append(Found(box, raw[0] if raw else peak, psr, level, (row, column), seen))
    return found


def _at_peaks(maps: Tensor, weighted: Tensor) -> Tensor:
    """Values of (N, H, W) maps in the cells where the weighted ones are largest: (N, 1)."""
    cells = weighted.flatten(1).argmax(dim=1, keepdim=True)
    return maps.flatten(1).gather(1, cells)


def _best(values: list[float]) -> int:
    """Where the largest value is; NaN counts as the largest, so that it is not overlooked."""
    best = 0
    for i, value in enumerate(values):
        if value != value:
            return i
        if value > values[best]:
            best = i
    return best


def snr(maps: Tensor) -> Tensor:
    """Signal-to-noise ratio exp(max − mean) of every map.

    Args:
        maps: (…, H, W).

    Returns:
        (…).

    Source: CRT eq. 6.
    """
    flat = maps.flatten(-2)
    return torch.exp(flat.amax(dim=-1) - flat.mean(dim=-1))

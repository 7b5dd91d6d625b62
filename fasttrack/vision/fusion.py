"""Windows over the cells of a feature map, and the coarse-to-fine fusion of two response maps (DRVT)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import ShapeError
from fasttrack.geometry import Box, Window
from fasttrack.vision.features.networks import Tap
from fasttrack.vision.localise import Found, Response, footprint

__all__ = ["area_masks", "at_size", "best_cell", "cell_window", "fuse", "moved_overlaps", "pooled_windows"]


def cell_window(crop: Window, tap: Tap, first: int, cells: int) -> Window:
    """The frame under ``cells`` × ``cells`` cells of a map of this crop, from cell ``first`` on, one px per cell.

    The centre of cell (first + k) is at ``cell_to_frame(k + ½, …, 1)``.
    """
    begin = tap.offset_px + first * tap.stride
    x, y = crop.to_frame(begin, begin)
    across, down = (cells * tap.stride * scale for scale in crop.scale)
    return Window(x, y, across, down, cells, cells)


def pooled_windows(maps: Tensor, tap: Tap, crops: Sequence[Window], windows: Sequence[Sequence[Window]]) -> Tensor:
    """Windows of the frame, read from the feature maps of the crops around them: no pass of the network for each.

    Every cell is the exact mean of the bilinear surface over it (``ops.prroi_pool``); 0 outside the crop.

    Args:
        maps: (T, C, H, W), one map per crop.
        tap: where its cells lie.
        crops: T crops.
        windows: T sequences of S windows, all of one ``out_w`` and ``out_h``, in cells.

    Returns:
        (T, S, C, out_h, out_w).
    """
    centre = tap.first_centre_px
    rois = []
    for t, (crop, own) in enumerate(zip(crops, windows, strict=True)):
        for window in own:
            x, y = crop.to_patch(window.x, window.y)
            across, down = (n / scale for n, scale in zip((window.w, window.h), crop.scale, strict=True))
            rois.append([t, x - centre, y - centre, x + across - centre, y + down - centre])
    size = windows[0][0].out_h, windows[0][0].out_w
    pooled = ops.prroi_pool(maps, torch.tensor(rois, device=maps.device), size, 1 / tap.stride)
    return pooled.view(len(crops), -1, *pooled.shape[1:])


def moved_overlaps(window: Window, box: Box) -> Tensor:
    """(rows, columns) IoU of the box with itself, moved so that its centre is the centre of each cell."""
    sides = []
    for axis, (cells, length) in enumerate(((window.out_h, box.h), (window.out_w, box.w))):
        centres = [window.cell_to_frame(k + 0.5, k + 0.5, 1)[1 - axis] for k in range(cells)]
        away = torch.tensor(centres, dtype=torch.float64) - box.center[1 - axis]
        sides.append((length - away.abs()).clamp_min(0))
    common = sides[0][:, None] * sides[1][None, :]
    return (common / (2 * box.area - common)).float()


def best_cell(scores: Tensor, window: Window) -> Found:
    """The cell of the highest score, as it is: a coarse map is not refined.

    Args:
        scores: (rows, columns).
        window: the frame under them, one px per cell.
    """
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    peak = ops.response_peak(scores[None])
    box = footprint((row, column), (1, 1), window, 1)
    seen = Response(scores, window, (1, 1), 1)
    return Found(box, float(peak.score), float(peak.psr), 0, (float(row), float(column)), seen)


def at_size(place: Found, last: Box, factor: float) -> Found:
    """The place with a box of the last size times a factor around its centre."""
    return replace(place, box=Box.from_center(*place.box.center, last.w * factor, last.h * factor))


def area_masks(areas: Sequence[Box], windows: Sequence[Sequence[Window]]) -> Tensor:
    """1 where the centre of a cell of the window lies in the area, else 0; the nearest cell is always in.

    Args:
        areas: T boxes of the frame.
        windows: T sequences of S windows of one size.

    Returns:
        (T, S, out_h, out_w) bool.

    Source: DRVT eq. 5.
    """
    masks = []
    for area, own in zip(areas, windows, strict=True):
        left, top, right, bottom = area.xyxy
        for w in own:
            (x0, y0), (x1, y1) = w.frame_to_cell(left, top, 1), w.frame_to_cell(right, bottom, 1)
            masks.append(_inside(y0, y1, w.out_h)[:, None] & _inside(x0, x1, w.out_w)[None, :])
    stacked = torch.stack(masks)
    return stacked.view(len(areas), -1, *stacked.shape[1:])


def _inside(low: float, high: float, cells: int) -> Tensor:
    """Which cells of an axis have their centre in [low, high); the nearest to its middle if none."""
    centres = torch.arange(cells) + 0.5
    inside = (centres >= low) & (centres < high)
    if not bool(inside.any()):
        inside[min(max(math.floor((low + high) / 2), 0), cells - 1)] = True
    return inside


def fuse(
    responses: Tensor, masks: Tensor, windows: Sequence[Sequence[Window]], penalties: Sequence[float]
) -> list[Found]:
    """The highest response in the mask, over all windows of a target, with sub-cell refinement.

    R_final = M ⊙ R_cf,  (s, i, j) = arg max P_s · R_final   (a response below 0 in the mask outdoes the 0 outside)

    The refinement looks at the neighbours of the response itself, not at the zeros of the mask.

    Args:
        responses: (T, S, H, W) of the correlation filter.
        masks: (T, S, H, W) bool, some cell of each map in it.
        windows: T sequences of S windows of H × W cells.
        penalties: S factors P on changed sizes.

    Returns:
        T places: the cell at the peak as box, the response there as score, the PSR of the whole response (eq. 8).

    Raises:
        ShapeError: masks and responses differ.

    Source: DRVT eq. 6–8, 10.
    """
    if masks.shape != responses.shape:
        raise ShapeError("fuse", "masks", f"{tuple(responses.shape)}", f"{tuple(masks.shape)}")
    psr = ops.response_peak(responses.flatten(0, 1)).psr.view(responses.shape[:2]).cpu()
    factors = torch.tensor(penalties, device=responses.device)[:, None, None]
    final = (responses * factors).masked_fill(~masks.to(responses.device), -math.inf)
    found = []
    for t, best in enumerate(final.flatten(1).argmax(1).tolist()):
        level, cell = divmod(best, responses[0, 0].numel())
        response = responses[t, level]
        i, j = divmod(cell, response.shape[1])
        peak = i + _vertex(response[:, j], i), j + _vertex(response[i], j)
        box = footprint(peak, (1, 1), windows[t][level], 1)
        seen = Response(response, windows[t][level], (1, 1), 1)
        found.append(Found(box, float(response[i, j]), float(psr[t, level]), level, peak, seen))
    return found


def _vertex(line: Tensor, k: int) -> float:
    """How far from k the parabola through three neighbours peaks: 0 at the border and where k is no peak."""
    if not 0 < k < len(line) - 1:
        return 0.0
    before, here, after = line[k - 1 : k + 2].tolist()
    curvature = before - 2 * here + after
    if not (before <= here >= after and curvature < 0):
        return 0.0
    return float(0.5 * (before - after) / curvature)

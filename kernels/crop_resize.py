"""Bilinear windows of one 8-bit frame: one program per tile of one window, all channels.

Positions are computed in float64, per row and per column of the tile only. The boxes are read by the kernel and
never brought back: a box that is not finite or has no size fills its window with NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "crop_resize"]

SPACE = Space("crop_resize.crop", BLOCK_H=(4, 8, 16, 32), BLOCK_W=(32, 64, 128), num_warps=(2, 4, 8))
LARGEST_SHRINK = tl.constexpr(256)


@triton.jit
def _mean(at, mask, side, stride_y, stride_x, AVERAGED: tl.constexpr):
    """Of the blocks of side × side px that begin at ``at``, halves rounded up; without AVERAGED the px themselves."""
    if AVERAGED:
        total = tl.zeros(mask.shape, tl.int32)
        for dy in range(side):
            for dx in range(side):
                total += tl.load(at + dy * stride_y + dx * stride_x, mask=mask, other=0).to(tl.int32)
        area = side * side
        return ((2 * total + area) // (2 * area)).to(tl.float32)
    else:
        return tl.load(at, mask=mask, other=0).to(tl.float32)


@triton.jit
def _taps(start, extent, index, count, size, CONSTANT: tl.constexpr):
    """First tap of each sample along one axis, and the weight of the second."""
    u = start + (index.to(tl.float64) + 0.5) * (extent / count) - 0.5
    # "constant" meets one black pixel on either side, "replicate" stops at the outermost centres.
    low = -1.0 if CONSTANT else 0.0
    high = size if CONSTANT else size - 1
    u = tl.where(u > low, u, low)  # NaN becomes `low`, so that the taps stay inside the frame
    u = tl.where(u < high, u, high)
    first = tl.floor(u)
    return first.to(tl.int32), (u - first).to(tl.float32)


# No size is specialised: boxes, windows and frames change, the kernel is compiled once.
_NUMBERS = ("height", "width", "stride_y", "stride_x", "stride_c", "stride_box", "stride_side", "out_h", "out_w")


@triton.jit(do_not_specialize=_NUMBERS)
def _crop(
    frame, boxes, out, height, width, stride_y, stride_x, stride_c, stride_box, stride_side, out_h, out_w,
    gain_0, gain_1, gain_2, offset_0, offset_1, offset_2,
    CHANNELS: tl.constexpr, CONSTANT: tl.constexpr, ANTIALIAS: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    columns = tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W)
    box = boxes + k * stride_box
    x = tl.load(box).to(tl.float64)
    y = tl.load(box + stride_side).to(tl.float64)
    w = tl.load(box + 2 * stride_side).to(tl.float64)
    h = tl.load(box + 3 * stride_side).to(tl.float64)
    # v − v is 0 for finite v and NaN otherwise.
    good = (x - x == 0.0) & (y - y == 0.0) & (w - w == 0.0) & (h - h == 0.0) & (w > 0.0) & (h > 0.0)
    side, step_y, step_x = 1, stride_y, stride_x
    if ANTIALIAS:
        most = tl.minimum(tl.minimum(height, width), LARGEST_SHRINK).to(tl.float64)
        least = tl.minimum(tl.minimum(w / out_w, h / out_h), most)
        side = tl.where(good & (least >= 2.0), least, 1.0).to(tl.int32)
        height, width = height // side, width // side
        x, y, w, h = x / side, y / side, w / side, h / side
        step_y, step_x = stride_y * side, stride_x * side
    tap_y, weight_y = _taps(y, h, rows, out_h, height, CONSTANT)
    tap_x, weight_x = _taps(x, w, columns, out_w, width, CONSTANT)
    row_ok, column_ok = rows < out_h, columns < out_w
    upper, lower = row_ok & (tap_y >= 0), row_ok & (tap_y + 1 < height)
    left, right = column_ok & (tap_x >= 0), column_ok & (tap_x + 1 < width)
    if CONSTANT:
        upper, left = upper & (tap_y < height), left & (tap_x < width)
    top = (frame + tap_y.to(tl.int64) * step_y)[:, None] + (tap_x.to(tl.int64) * step_x)[None, :]
    weight_y, weight_x = weight_y[:, None], weight_x[None, :]
    plane = out_h.to(tl.int64) * out_w
    to = out + k * CHANNELS * plane + rows.to(tl.int64)[:, None] * out_w + columns[None, :]
    for c in tl.static_range(CHANNELS):
        gain = gain_0 if c == 0 else (gain_1 if c == 1 else gain_2)
        offset = offset_0 if c == 0 else (offset_1 if c == 1 else offset_2)
        p = top + c * stride_c
        v00 = _mean(p, upper[:, None] & left[None, :], side, stride_y, stride_x, ANTIALIAS)
        v01 = _mean(p + step_x, upper[:, None] & right[None, :], side, stride_y, stride_x, ANTIALIAS)
        v10 = _mean(p + step_y, lower[:, None] & left[None, :], side, stride_y, stride_x, ANTIALIAS)
        v11 = _mean(p + step_y + step_x, lower[:, None] & right[None, :], side, stride_y, stride_x, ANTIALIAS)
        above = v00 + weight_x * (v01 - v00)
        below = v10 + weight_x * (v11 - v10)
        value = (above + weight_y * (below - above)) * gain + offset
        value = tl.where(good, value, float("nan"))
        tl.store(to + c * plane, value, mask=row_ok[:, None] & column_ok[None, :])


def crop_resize(
    frame: Tensor,
    boxes: Tensor,
    out_h: int,
    out_w: int,
    constant: bool,
    antialias: bool,
    gain: Sequence[float],
    offset: Sequence[float],
    out: Tensor | None = None,
) -> Tensor:
    """(K, C, out_h, out_w) float32 samples v·gain + offset of the windows ``boxes`` (K, 4) of a uint8 frame.

    Args:
        frame: (H, W, C) or (H, W) uint8, any strides; C is the length of ``gain``, 1 or 3.
        boxes: float32 or float64 rows x, y, w, h in px on the device of ``frame``, any strides.
        out_h: rows of samples.
        out_w: columns of samples.
        constant: the frame goes on in black; else its edge pixels are repeated.
        antialias: windows that shrink the frame are sampled from its means over blocks.
        gain: factor per channel.
        offset: added per channel.
        out: contiguous result to overwrite, or None for a new one.
    """
    count, channels = boxes.shape[0], len(gain)
    if out is None:
        out = torch.empty((count, channels, out_h, out_w), dtype=torch.float32, device=frame.device)
    if count == 0:
        return out
    config = launch_config(
        SPACE,
        {"windows": count, "out_h": out_h, "out_w": out_w},
        default={"BLOCK_H": 16, "BLOCK_W": 64 if out_w > 32 else 32, "num_warps": 4},
    )
    grid = (count, triton.cdiv(out_h, config["BLOCK_H"]), triton.cdiv(out_w, config["BLOCK_W"]))
    strides = (frame.stride(0), frame.stride(1), frame.stride(2) if channels > 1 else 1)
    affine = [*gain, *[1.0] * (3 - channels), *offset, *[0.0] * (3 - channels)]
    sizes = (*frame.shape[:2], *strides, *boxes.stride(), out_h, out_w)
    _crop[grid](frame, boxes, out, *sizes, *affine, channels, constant, antialias, **config)
    return out


_SIZES = {"height": "i32", "width": "i32", "stride_y": "i64", "stride_x": "i32", "stride_c": "i32"}
_BOXES = {"stride_box": "i64", "stride_side": "i32", "out_h": "i32", "out_w": "i32"}
_AFFINE = {f"{name}_{c}": "fp32" for name in ("gain", "offset") for c in range(3)}


def _build(boxes: str, channels: int, constant: bool, width: int, antialias: bool = False) -> Build:
    signature = {"frame": "*u8", "boxes": f"*{boxes}", "out": "*fp32", **_SIZES, **_BOXES, **_AFFINE}
    constants = {"CHANNELS": channels, "CONSTANT": constant, "ANTIALIAS": antialias, "BLOCK_H": 16, "BLOCK_W": width}
    return Build(_crop, signature, constants, num_warps=4)


BUILDS: tuple[Build, ...] = (
    _build("fp32", 3, False, 64),
    _build("fp64", 3, False, 64),
    _build("fp32", 3, True, 64),
    _build("fp64", 3, False, 64, antialias=True),
    _build("fp32", 1, False, 32),
    _build("fp64", 1, True, 64),
)

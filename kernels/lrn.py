"""Local response normalisation across channels, alone or between a ReLU and a max-pool, in one pass.

Channels-first maps: lanes lie over pixels and walk through the channels with the window in registers, so that each
value is read once per pool window it belongs to. Channels-last maps: lanes lie over channels and read the window as
shifted loads, which the first-level cache serves. Half types are read and written as they are.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "lrn"]

PLANAR = Space("lrn.planar", BLOCK=(32, 64, 128, 256), num_warps=(1, 2, 4))
INTERLEAVED = Space("lrn.interleaved", BLOCK_P=(1, 2, 4, 8), BLOCK_C=(32, 64, 128), num_warps=(2, 4))

PROGRAMS = 528  # four on each of 132 multiprocessors: below that, channels are shared out among programs
MIN_CHUNK = 8  # channels per program, against the SIZE − 1 it reads besides


@triton.jit
def _read(at, ok, RELU: tl.constexpr):
    v = tl.load(at, mask=ok, other=0.0).to(tl.float32)
    if RELU:
        v = tl.where(v < 0.0, 0.0, v)  # keeps NaN
    return v


@triton.jit
def _power(s, beta, THREE_QUARTERS: tl.constexpr):
    """s^−beta of s > 0."""
    if THREE_QUARTERS:
        root = tl.rsqrt(s)
        result = root * tl.sqrt(root)
    else:
        result = tl.exp2(-beta * tl.log2(s))
    return result


@triton.jit(do_not_specialize=["count", "channels", "height", "width", "out_h", "out_w", "stride", "chunk"])
def _planar(
    x, out, count, channels, height, width, out_h, out_w, stride, chunk, k, alpha, beta,
    BEFORE: tl.constexpr, AFTER: tl.constexpr, POOL: tl.constexpr, TAPS: tl.constexpr, RELU: tl.constexpr,
    THREE_QUARTERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    plane, out_plane = height.to(tl.int64) * width, out_h.to(tl.int64) * out_w
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    image = index // out_plane
    pixel = index - image * out_plane
    i = (pixel // out_w).to(tl.int32)
    j = (pixel - i.to(tl.int64) * out_w).to(tl.int32)
    tap = tl.arange(0, TAPS)[:, None]
    row, column = i[None, :] * stride + tap // POOL, j[None, :] * stride + tap % POOL
    here = index < count * out_plane
    # Windows are cut at the far edge: a tap that is missing counts 0, the least that follows a ReLU.
    ok = here[None, :] & (tap < POOL * POOL) & (row < height) & (column < width)
    at = x + (image * channels * plane)[None, :] + row.to(tl.int64) * width + column
    to = out + image * channels * out_plane + pixel
    first = tl.program_id(1) * chunk
    window = (tl.zeros((TAPS, BLOCK), tl.float32),)
    for d in tl.static_range(-BEFORE, AFTER):
        c = first + d
        v = _read(at + plane * c, ok & (c >= 0) & (c < channels), RELU)
        window = window + (v,)  # type: ignore[assignment]  # noqa: RUF005
    for c in range(first, tl.minimum(first + chunk, channels)):
        ahead = c + AFTER
        v = _read(at + plane * ahead, ok & (ahead < channels), RELU)
        window = window[1:] + (v,)  # noqa: RUF005
        energy = window[0] * window[0]
        for d in tl.static_range(1, BEFORE + AFTER + 1):
            energy += window[d] * window[d]
        y = window[BEFORE] * _power(k + alpha * energy, beta, THREE_QUARTERS)
        broken = tl.max(tl.where(y != y, 1, 0), 0) > 0  # the maximum alone may drop NaN
        largest = tl.where(broken, float("nan"), tl.max(y, 0))
        tl.store(to + out_plane * c, largest.to(out.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["count", "channels", "height", "width", "out_h", "out_w", "stride"])
def _interleaved(
    x, out, count, channels, height, width, out_h, out_w, stride, k, alpha, beta,
    BEFORE: tl.constexpr, AFTER: tl.constexpr, POOL: tl.constexpr, RELU: tl.constexpr,
    THREE_QUARTERS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    out_plane = out_h.to(tl.int64) * out_w
    index = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    image = index // out_plane
    pixel = index - image * out_plane
    i = (pixel // out_w).to(tl.int32)
    j = (pixel - i.to(tl.int64) * out_w).to(tl.int32)
    here = index < count * out_plane
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    largest = tl.full((BLOCK_P, BLOCK_C), -float("inf"), tl.float32)
    for tap in range(0, POOL * POOL):
        row, column = i * stride + tap // POOL, j * stride + tap % POOL
        ok = here & (row < height) & (column < width)
        at = x + ((image * height + row) * width + column)[:, None] * channels + c
        centre = _read(at, ok[:, None] & (c < channels), RELU)
        energy = centre * centre
        for d in tl.static_range(-BEFORE, AFTER + 1):
            if d != 0:
                v = _read(at + d, ok[:, None] & (c + d >= 0) & (c + d < channels), RELU)
                energy += v * v
        y = centre * _power(k + alpha * energy, beta, THREE_QUARTERS)
        # A tap beyond the far edge counts 0, the least that follows a ReLU; NaN stays.
        largest = tl.where((y > largest) | (y != y), y, largest)
    to = out + index[:, None] * channels + c
    tl.store(to, largest.to(out.dtype.element_ty), mask=here[:, None] & (c < channels))


def lrn(
    x: Tensor,
    channels_last: bool,
    size: int,
    k: float,
    alpha: float,
    beta: float,
    pool: int,
    stride: int,
    out_h: int,
    out_w: int,
) -> Tensor:
    """(B, C, out_h, out_w) of (B, C, H, W) maps of float32 or a half type, in the dtype of ``x``.

    Args:
        x: maps; copied only where they lie neither channels-first nor, with ``channels_last``, that way.
        channels_last: memory order of the result.
        size: channels in a window of the normalisation.
        k: added to the energy.
        alpha: factor of each square.
        beta: the power.
        pool: side of a pooled window after a ReLU; 0 for the normalisation alone.
        stride: step of the windows.
        out_h: rows of windows.
        out_w: columns of windows.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    values = x.contiguous(memory_format=layout)
    count, channels, height, width = x.shape
    out = torch.empty((count, channels, out_h, out_w), dtype=x.dtype, device=x.device, memory_format=layout)
    pixels = count * out_h * out_w
    if pixels * channels == 0:
        return out
    numbers = (count, channels, height, width, out_h, out_w, stride)
    windows = (size // 2, (size - 1) // 2, max(pool, 1))
    if channels_last:
        wide = min(128, triton.next_power_of_2(channels))
        default = {"BLOCK_P": max(1, 512 // wide), "BLOCK_C": wide, "num_warps": 4}
        config = launch_config(INTERLEAVED, {"pixels": pixels, "channels": channels, "pool": pool}, default)
        grid = (triton.cdiv(pixels, config["BLOCK_P"]), triton.cdiv(channels, config["BLOCK_C"]))
        _interleaved[grid](values, out, *numbers, k, alpha, beta, *windows, pool > 0, beta == 0.75, **config)
        return out
    default = {"BLOCK": 128, "num_warps": 4}
    config = launch_config(PLANAR, {"pixels": pixels, "channels": channels, "pool": pool}, default)
    blocks = triton.cdiv(pixels, config["BLOCK"])
    chunk = triton.cdiv(channels, max(1, min(triton.cdiv(PROGRAMS, blocks), channels // MIN_CHUNK)))
    grid = (blocks, triton.cdiv(channels, chunk))
    taps = triton.next_power_of_2(windows[2] ** 2)
    _planar[grid](
        values, out, *numbers, chunk, k, alpha, beta, *windows, taps, pool > 0, beta == 0.75, **config
    )  # fmt: skip
    return out


_SIZES = dict.fromkeys(("count", "channels", "height", "width", "out_h", "out_w", "stride"), "i32")
_CONSTANTS = dict.fromkeys(("k", "alpha", "beta"), "fp32")


def _planar_build(dtype: str, pool: int, exact: bool) -> Build:
    signature = {"x": f"*{dtype}", "out": f"*{dtype}", **_SIZES, "chunk": "i32", **_CONSTANTS}
    windows = {"BEFORE": 2, "AFTER": 2, "POOL": max(pool, 1), "TAPS": 16 if pool else 1, "RELU": pool > 0}
    return Build(_planar, signature, {**windows, "THREE_QUARTERS": exact, "BLOCK": 128}, num_warps=4)


def _interleaved_build(dtype: str, pool: int, exact: bool) -> Build:
    signature = {"x": f"*{dtype}", "out": f"*{dtype}", **_SIZES, **_CONSTANTS}
    windows = {"BEFORE": 2, "AFTER": 2, "POOL": max(pool, 1), "RELU": pool > 0, "THREE_QUARTERS": exact}
    return Build(_interleaved, signature, {**windows, "BLOCK_P": 4, "BLOCK_C": 128}, num_warps=4)


_KINDS = (("fp32", 0, True), ("fp32", 3, True), ("fp32", 3, False), ("fp16", 3, True), ("bf16", 0, True))
BUILDS: tuple[Build, ...] = (
    *(_planar_build(*kind) for kind in _KINDS),
    *(_interleaved_build(*kind) for kind in _KINDS),
)

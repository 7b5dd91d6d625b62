"""Products of spectra: over channels (response), over tiles (weight gradient), and outer (features gradient).

All sums run in one fixed order, so results repeat bit for bit. A spectrum is a block of ``bins`` complex numbers whose
parts lie ``im`` floats apart, bins ``BIN`` floats apart: 1 and 2 for torch's complex numbers, a plane and 1 for planes.
Tiles are found through a table, one row of ``TABLE`` int64 per tile with the address of its (C, bins) spectra first,
so that the maps of several frames need not lie together.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._conv_tiles import Tiling
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "DONE", "STATE", "TABLE", "accumulate", "correlate", "spectra_table", "spread"]

# Columns of a tile's row: address of the spectra, address of the targets (of the map's first position), row and column
# of the tile's first position in the map, rows and columns of the map's positions.
TABLE = 6
# A target's state is STATE float64; a kernel does nothing for a target whose DONE is set.
STATE = 16
DONE = 1

_TABLE = tl.constexpr(TABLE)
_STATE = tl.constexpr(STATE)
_DONE = tl.constexpr(DONE)


@triton.jit
def _correlate(
    table, weight, out, state, tiles, channels, bins, im_x, im_p,
    BIN: tl.constexpr, GUARDED: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """P[tile, f] = Σ_c X̂[tile, c, f]·conj(ŵ[target of tile, c, f])."""
    tile = tl.program_id(1).to(tl.int64)
    target = tile // tiles
    if GUARDED:
        if tl.load(state + target * _STATE + _DONE) != 0:
            return
    x = tl.load(table + tile * _TABLE).to(tl.pointer_type(tl.float32))
    w = weight + target * channels * bins * 2
    f = tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)
    re = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    im = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        inside = (c < channels)[:, None] & (f < bins)[None, :]
        at = (c.to(tl.int64)[:, None] * bins + f[None, :]) * BIN
        x_re = tl.load(x + at, mask=inside, other=0.0)
        x_im = tl.load(x + at + im_x, mask=inside, other=0.0)
        w_re = tl.load(w + at, mask=inside, other=0.0)
        w_im = tl.load(w + at + im_x, mask=inside, other=0.0)
        re += x_re * w_re + x_im * w_im
        im += x_im * w_re - x_re * w_im
    p = out + tile * bins * 2 + f * BIN
    tl.store(p, tl.sum(re, 0), mask=f < bins)
    tl.store(p + im_p, tl.sum(im, 0), mask=f < bins)


@triton.jit
def _accumulate(
    table, error, out, state, tiles, channels, bins, im_x, im_p,
    BIN: tl.constexpr, GUARDED: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Ĝ[target, c, f] = Σ_tiles X̂[tile, c, f]·conj(ê[tile, f])."""
    target = tl.program_id(2).to(tl.int64)
    if GUARDED:
        if tl.load(state + target * _STATE + _DONE) != 0:
            return
    f = tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (c < channels)[:, None] & (f < bins)[None, :]
    at = (c.to(tl.int64)[:, None] * bins + f[None, :]) * BIN
    re = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    im = tl.zeros((BLOCK_C, BLOCK_F), tl.float32)
    for i in range(0, tiles):
        tile = target * tiles + i
        x = tl.load(table + tile * _TABLE).to(tl.pointer_type(tl.float32))
        e = error + tile * bins * 2 + f * BIN
        e_re = tl.load(e, mask=f < bins, other=0.0)[None, :]
        e_im = tl.load(e + im_p, mask=f < bins, other=0.0)[None, :]
        x_re = tl.load(x + at, mask=inside, other=0.0)
        x_im = tl.load(x + at + im_x, mask=inside, other=0.0)
        re += x_re * e_re + x_im * e_im
        im += x_im * e_re - x_re * e_im
    g = out + target * channels * bins * 2 + at
    tl.store(g, re, mask=inside)
    tl.store(g + im_x, im, mask=inside)


@triton.jit
def _spread(error, weight, out, channels, bins, BLOCK_F: tl.constexpr, BLOCK_C: tl.constexpr):
    """Ŷ[b, c, f] = ê[b, f]·ŵ[c, f], complex numbers as torch keeps them."""
    b = tl.program_id(2).to(tl.int64)
    f = tl.program_id(0) * BLOCK_F + tl.arange(0, BLOCK_F)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (c < channels)[:, None] & (f < bins)[None, :]
    at = (c.to(tl.int64)[:, None] * bins + f[None, :]) * 2
    e = error + (b * bins + f) * 2
    e_re = tl.load(e, mask=f < bins, other=0.0)[None, :]
    e_im = tl.load(e + 1, mask=f < bins, other=0.0)[None, :]
    w_re = tl.load(weight + at, mask=inside, other=0.0)
    w_im = tl.load(weight + at + 1, mask=inside, other=0.0)
    y = out + b * channels * bins * 2 + at
    tl.store(y, e_re * w_re - e_im * w_im, mask=inside)
    tl.store(y + 1, e_re * w_im + e_im * w_re, mask=inside)


CORRELATE = Space("conv_regression.correlate", BLOCK_F=(16, 32, 64, 128), BLOCK_C=(8, 16, 32), num_warps=(2, 4, 8))
ACCUMULATE = Space("conv_regression.accumulate", BLOCK_F=(32, 64, 128, 256), BLOCK_C=(2, 4, 8, 16), num_warps=(2, 4, 8))
SPREAD = Space("conv_regression.spread", BLOCK_F=(64, 128, 256), BLOCK_C=(4, 8, 16), num_warps=(2, 4, 8))
_DEFAULTS = {
    "correlate": {"BLOCK_F": 32, "BLOCK_C": 16, "num_warps": 4},
    "accumulate": {"BLOCK_F": 64, "BLOCK_C": 8, "num_warps": 4},
    "spread": {"BLOCK_F": 128, "BLOCK_C": 8, "num_warps": 4},
}


@lru_cache(maxsize=1024)
def _layout(kind: str, channels: int, bins: int) -> tuple[int, int, int]:
    """BIN and the distances ``im`` within (C, bins) and within (bins,)."""
    return (2, 1, 1) if kind == "fft" else (1, channels * bins, bins)


def spectra_table(spectra: Tensor) -> Tensor:
    """Table of contiguous spectra (tiles, …) with nothing but their addresses in it, made on the device."""
    first, step = spectra.data_ptr(), spectra[0].nbytes
    addresses = torch.arange(first, first + spectra.nbytes, step, dtype=torch.int64, device=spectra.device)
    return addresses[:, None].repeat(1, TABLE)


def correlate(table: Tensor, weight: Tensor, out: Tensor, tiling: Tiling, state: Tensor | None = None) -> None:
    """Spectra of the responses of all tiles.

    Args:
        table: (T·tiles, TABLE).
        weight: spectra of T weights, each (C, bins) complex or (2, C, bins) float.
        out: (T·tiles, …) spectra, written.
        tiling: their layout.
        state: (T, STATE); targets that are done are left out.
    """
    count, channels, bins = len(table), weight.shape[-3], tiling.bins
    step, im_x, im_p = _layout(tiling.kind, channels, bins)
    shape = {"bins": bins, "channels": channels, "tiles": count}
    config = launch_config(CORRELATE, shape, _DEFAULTS["correlate"])
    _correlate[(triton.cdiv(bins, config["BLOCK_F"]), count)](
        table, _floats(weight), _floats(out), table if state is None else state, count // len(weight), channels, bins,
        im_x, im_p, BIN=step, GUARDED=state is not None, **config,
    )  # fmt: skip


def accumulate(table: Tensor, error: Tensor, out: Tensor, tiling: Tiling, state: Tensor | None = None) -> None:
    """Spectra of the weight gradients, summed over the tiles of each target: arguments as of ``correlate``."""
    targets, channels, bins = len(out), out.shape[-3], tiling.bins
    step, im_x, im_p = _layout(tiling.kind, channels, bins)
    shape = {"bins": bins, "channels": channels, "tiles": len(table)}
    config = launch_config(ACCUMULATE, shape, _DEFAULTS["accumulate"])
    grid = (triton.cdiv(bins, config["BLOCK_F"]), triton.cdiv(channels, config["BLOCK_C"]), targets)
    _accumulate[grid](
        table, _floats(error), _floats(out), table if state is None else state, len(table) // targets, channels, bins,
        im_x, im_p, BIN=step, GUARDED=state is not None, **config,
    )  # fmt: skip


def spread(error: Tensor, weight: Tensor) -> Tensor:
    """(B, h, w) and (C, h, w) complex → (B, C, h, w), the product of each error with each channel."""
    batch, (channels, height, width) = len(error), weight.shape
    out = weight.new_empty(batch, channels, height, width)
    bins = height * width
    config = launch_config(SPREAD, {"bins": bins, "channels": channels, "batch": batch}, _DEFAULTS["spread"])
    grid = (triton.cdiv(bins, config["BLOCK_F"]), triton.cdiv(channels, config["BLOCK_C"]), batch)
    _spread[grid](_floats(error), _floats(weight), _floats(out), channels, bins, **config)
    return out


def _floats(spectra: Tensor) -> Tensor:
    return torch.view_as_real(spectra) if spectra.is_complex() else spectra


def _builds() -> tuple[Build, ...]:
    pointers = {"table": "*i64", "weight": "*fp32", "out": "*fp32", "state": "*fp64"}
    sizes = dict.fromkeys(("tiles", "channels", "bins", "im_x", "im_p"), "i32")
    other = {"table": "*i64", "error": "*fp32", "out": "*fp32", "state": "*fp64"}
    layouts = ({"BIN": 2, "GUARDED": True}, {"BIN": 1, "GUARDED": True})

    def blocks(name: str) -> dict[str, int]:
        return {key: value for key, value in _DEFAULTS[name].items() if key != "num_warps"}

    spread_types = {"error": "*fp32", "weight": "*fp32", "out": "*fp32", "channels": "i32", "bins": "i32"}
    return (
        *(Build(_correlate, {**pointers, **sizes}, {**layout, **blocks("correlate")}) for layout in layouts),
        *(Build(_accumulate, {**other, **sizes}, {**layout, **blocks("accumulate")}) for layout in layouts),
        Build(_spread, spread_types, blocks("spread")),
    )


BUILDS = _builds()

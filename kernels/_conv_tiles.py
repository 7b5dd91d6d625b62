"""How a map is cut into overlapping tiles, and the spectra of the tiles.

A tile of th × tw cells yields (th − kh + 1) × (tw − kw + 1) response positions; the last tiles reach over the edge of
the map into zeros. One tile may be the whole map.

Two kinds of spectra, in which the kernels see the same thing, bins with a real and an imaginary part:

``"fft"``  rfft2 of the tile, any 5-smooth size: complex (tiles, C, th, tw/2 + 1).
``"dft"``  sizes that are powers of two, for transforms by matrix products: along the width the frequencies v + ½, of
           which a real row has exactly tw/2 independent ones, so that no bin is special:
           float (tiles, 2, C, th, tw/2). Wrapped positions come back negated; no tile uses them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Tiling", "dft_tiling", "fft_tiling", "run_tiling", "smooth", "spectra_of"]

# A tile of the matrix products has to fit into the registers of one program.
_DFT_CELLS = 2048
# For planning on an H200: bytes per second from its cache, multiprocessors, float32 FLOP/s of one on tensor cores.
_BANDWIDTH, _PROCESSORS, _FLOPS = 3e12, 132, 2e11
# Seconds from one kernel of a graph to the next, and kernels of an iteration of Adam.
_LAUNCH, _FFT_LAUNCHES, _DFT_LAUNCHES = 2e-6, 14, 5


@dataclass(frozen=True)
class Tiling:
    """Kernel and tile size in cells, and the kind of spectra."""

    kind: str
    kernel: tuple[int, int]
    tile: tuple[int, int]

    @property
    def step(self) -> tuple[int, int]:
        """Response positions of one tile."""
        return self.tile[0] - self.kernel[0] + 1, self.tile[1] - self.kernel[1] + 1

    @property
    def bins(self) -> int:
        """Complex numbers of one tile's spectrum."""
        return self.tile[0] * (self.tile[1] // 2 + (self.kind == "fft"))

    @property
    def scale(self) -> float:
        """What an unscaled inverse transform is multiplied with."""
        return (1.0 if self.kind == "fft" else 2.0) / (self.tile[0] * self.tile[1])

    def counts(self, height: int, width: int) -> tuple[int, int]:
        """Tiles down and across a map."""
        rows, columns = (s - k + 1 for s, k in zip((height, width), self.kernel, strict=True))
        return -(-rows // self.step[0]), -(-columns // self.step[1])

    def corners(self, height: int, width: int) -> list[tuple[int, int]]:
        """Row and column of every tile's first response position."""
        down, across = self.counts(height, width)
        return [(i * self.step[0], j * self.step[1]) for i in range(down) for j in range(across)]

    def cut(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) → (B·tiles, C, th, tw)."""
        batch, channels, height, width = maps.shape
        down, across = self.counts(height, width)
        (step_h, step_w), (tile_h, tile_w) = self.step, self.tile
        below, right = (down - 1) * step_h + tile_h - height, (across - 1) * step_w + tile_w - width
        padded: Tensor = torch.nn.functional.pad(maps, (0, right, 0, below))
        tiles = padded.unfold(2, tile_h, step_h).unfold(3, tile_w, step_w)
        # A reshape alone may leave overlapping tiles as they lie in the map, and a transform would keep that order.
        rows = tiles.permute(0, 2, 3, 1, 4, 5).reshape(batch * down * across, channels, tile_h, tile_w)
        return rows.contiguous()

    def join(self, tiles: Tensor, height: int, width: int) -> Tensor:
        """Response positions of (B·tiles, th, tw), of maps of H × W cells: (B, H − kh + 1, W − kw + 1)."""
        down, across = self.counts(height, width)
        step_h, step_w = self.step
        grid: Tensor = tiles[:, :step_h, :step_w].unflatten(0, (-1, down, across)).transpose(2, 3)
        whole: Tensor = grid.reshape(-1, down * step_h, across * step_w)
        return whole[:, : height - self.kernel[0] + 1, : width - self.kernel[1] + 1]

    def spread(self, response: Tensor, height: int, width: int) -> Tensor:
        """Adjoint of ``join``: (B, H − kh + 1, W − kw + 1) → (B·tiles, th, tw), zeros where no position is."""
        down, across = self.counts(height, width)
        (step_h, step_w), (rows, columns) = self.step, response.shape[1:]
        padded: Tensor = torch.nn.functional.pad(response, (0, across * step_w - columns, 0, down * step_h - rows))
        grid = padded.unflatten(2, (across, step_w)).unflatten(1, (down, step_h)).transpose(2, 3)
        tiles = grid.reshape(-1, step_h, step_w)
        whole: Tensor = torch.nn.functional.pad(tiles, (0, self.kernel[1] - 1, 0, self.kernel[0] - 1))
        return whole


def smooth(size: int, *, even: bool = False) -> int:
    """Smallest 5-smooth number that is at least ``size``."""
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and not (even and size % 2):
            return size
        size += 1


@lru_cache(maxsize=256)
def fft_tiling(height: int, width: int, kh: int, kw: int, once: bool = False) -> Tiling:
    """The tiling of rfft2 with the least memory traffic."""
    sizes = [(h, w) for h in _sizes(kh, height, even=False) for w in _sizes(kw, width, even=True)]
    tilings = [Tiling("fft", (kh, kw), size) for size in sizes]
    return min(tilings, key=lambda tiling: _fft_traffic(tiling, height, width, once))


def _fft_traffic(tiling: Tiling, height: int, width: int, once: bool) -> float:
    """Complex numbers per channel that an iteration moves.

    It reads the spectra of the map twice and, once per tile, those of the weight; the spectra of weight and gradient
    are written, read, and go through the passes of their transforms: 3·tiles + 9 times the bins. A map used ``once``
    is transformed for that use: 7 times the bins of its tiles.
    """
    down, across = tiling.counts(height, width)
    return tiling.bins * ((7 if once else 3) * down * across + 9)


def _dft_time(tiling: Tiling, channels: int, height: int, width: int) -> float:
    """Seconds of an iteration by matrix products, without its launches.

    Bytes of the spectra (those of the map twice, those of the weight once per tile from the cache, weight and gradient
    written and read), and the products of a tile's and of a channel's program, one at a time on a multiprocessor.
    """
    (tile_h, tile_w), (kh, kw) = tiling.tile, tiling.kernel
    down, across = tiling.counts(height, width)
    tiles, half = down * across, tile_w // 2
    moved = 8.0 * channels * tiling.bins * (2.5 * tiles + 4)

    def products(rows: int, columns: int) -> float:
        return 8.0 * half * (2 * tile_h + columns) * (-(-rows // 16) * 16)

    of_tiles = products(tiling.step[0], tile_w) * -(-tiles // _PROCESSORS)
    of_channels = products(kh, max(16, kw)) * -(-channels // _PROCESSORS)
    return moved / _BANDWIDTH + (of_tiles + of_channels) / _FLOPS


@lru_cache(maxsize=256)
def dft_tiling(channels: int, height: int, width: int, kh: int, kw: int) -> Tiling | None:
    """The tiling for transforms by matrix products with the least estimated time, or None for too large kernels."""
    sizes = [(h, w) for h in (16, 32, 64, 128) for w in (32, 64, 128) if h * w <= _DFT_CELLS and h > kh and w > kw]
    tilings = [Tiling("dft", (kh, kw), size) for size in sizes]
    return min(tilings, key=lambda tiling: _dft_time(tiling, channels, height, width), default=None)


@lru_cache(maxsize=256)
def run_tiling(channels: int, height: int, width: int, kh: int, kw: int) -> Tiling:
    """The tiling for many iterations: by matrix products or by torch's FFT, whichever is estimated to be faster."""
    by_fft, by_products = fft_tiling(height, width, kh, kw), dft_tiling(channels, height, width, kh, kw)
    if by_products is None:
        return by_fft
    fft_time = 8.0 * channels * _fft_traffic(by_fft, height, width, False) / _BANDWIDTH + _FFT_LAUNCHES * _LAUNCH
    dft_time = _dft_time(by_products, channels, height, width) + _DFT_LAUNCHES * _LAUNCH
    return by_products if dft_time <= fft_time else by_fft


def _sizes(kernel: int, whole: int, *, even: bool) -> list[int]:
    """5-smooth tile sides from about two kernels up to the whole map."""
    sizes = {smooth(whole, even=even)}
    side = max(2 * kernel, 16)
    while side < whole:
        sizes.add(smooth(side, even=even))
        side += max(side // 8, 2)
    return sorted(sizes)


def spectra_of(maps: Tensor, tiling: Tiling) -> Tensor:
    """Spectra of the tiles of float32 maps (B, C, H, W), in the layout of the tiling's kind."""
    tiles = tiling.cut(maps)
    if tiling.kind == "fft":
        spectra: Tensor = torch.fft.rfft2(tiles)
        return spectra.contiguous()
    half = tiling.tile[1] // 2
    # Σ x[n]·exp(−2πi(v + ½)n/N): a DFT after a turn by −πn/N.
    angle = torch.arange(tiling.tile[1], device=maps.device) * (-math.pi / tiling.tile[1])
    turned = tiles * torch.polar(torch.ones_like(angle), angle)
    half_spectra = torch.fft.fft2(turned)[..., :half]
    return torch.stack([half_spectra.real, half_spectra.imag], 1)

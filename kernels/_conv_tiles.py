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

__all__ = ["Tiling", "fft_tiling", "run_tiling", "smooth", "spectra_of"]


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
        return tiles.permute(0, 2, 3, 1, 4, 5).reshape(batch * down * across, channels, tile_h, tile_w)

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
    """The tiling of rfft2 with the least memory traffic, counted in complex numbers per channel.

    An iteration reads the spectra of the map twice and, once per tile, those of the weight; the spectra of weight
    and gradient are written, read, and go through the passes of their transforms: 3·tiles + 9 times the bins.
    A map used ``once`` is transformed for that use: 7 times the bins of its tiles.
    """
    best, least = Tiling("fft", (kh, kw), (height, width)), math.inf
    for tile_h in _sizes(kh, height, even=False):
        for tile_w in _sizes(kw, width, even=True):
            tiling = Tiling("fft", (kh, kw), (tile_h, tile_w))
            down, across = tiling.counts(height, width)
            traffic = tiling.bins * ((7 if once else 3) * down * across + 9)
            if traffic < least:
                best, least = tiling, traffic
    return best


def run_tiling(channels: int, height: int, width: int, kh: int, kw: int) -> Tiling:
    """The tiling for many iterations on maps of this size."""
    return fft_tiling(height, width, kh, kw)


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
        return spectra
    half = tiling.tile[1] // 2
    # Σ x[n]·exp(−2πi(v + ½)n/N): a DFT after a turn by −πn/N.
    angle = torch.arange(tiling.tile[1], device=maps.device) * (-math.pi / tiling.tile[1])
    turned = tiles * torch.polar(torch.ones_like(angle), angle)
    spectra = torch.fft.fft2(turned)[..., :half]
    return torch.stack([spectra.real, spectra.imag], 1)

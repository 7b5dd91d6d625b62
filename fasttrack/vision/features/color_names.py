"""Color Names: how much of each of the eleven basic colour terms a cell holds.

The table most trackers use was learned by van de Weijer et al. (2009) from Google images; it is not
part of this package (``table=`` takes the user's own copy). The built-in table is **ours and another
one**: each term owns a few foci in CIELAB (points, or segments where a term spans light and dark) near
the focal colours that Berlin & Kay (1969) and Sturges & Whitfield (1995) report, and a colour belongs to
a term by the Gaussian of its distance to the term's nearest focus, normalised over the terms:

    p(term | c) = g(term) / Σ g,   g(term) = exp(−d(c, term)² / 2σ²),   σ = 14 ΔE (CIE 1976)

The terms, in the order of the channels and of van de Weijer's table: black, blue, brown, grey, green,
orange, pink, purple, red, white, yellow.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError, WeightsError
from fasttrack.vision.features.base import check_patches
from fasttrack.vision.matfile import read_mat
from fasttrack.vision.weight_formats import BROKEN, broken

__all__ = ["TERMS", "ColorNames", "built_in_table", "load_table"]

TERMS = ("black", "blue", "brown", "grey", "green", "orange", "pink", "purple", "red", "white", "yellow")
BINS = 32  # per colour, 8 levels each; row of the table = r + 32·g + 1024·b
SIGMA = 14.0  # ΔE

_Point = tuple[float, float, float]
# Foci as segments (from, to) in L*, chroma, hue°; a point is a segment onto itself.
_FOCI: dict[str, tuple[tuple[_Point, _Point], ...]] = {
    "black": (((0, 0, 0), (12, 0, 0)),),
    "grey": (((35, 0, 0), (75, 0, 0)),),
    "white": (((95, 0, 0), (100, 0, 0)),),
    "red": (((28, 45, 32), (53, 104, 40)), ((40, 60, 22), (50, 75, 28))),
    "orange": (((62, 78, 58), (75, 80, 70)),),
    "brown": (((22, 22, 55), (38, 38, 58)), ((38, 38, 58), (48, 45, 66))),
    "yellow": (((82, 70, 88), (97, 96, 103)), ((90, 45, 98), (95, 60, 100))),
    "green": (((25, 30, 140), (50, 60, 138)), ((50, 60, 138), (88, 119, 136)), ((55, 35, 165), (80, 60, 155))),
    "blue": (((18, 55, 300), (33, 130, 305)), ((30, 40, 280), (60, 50, 272)), ((60, 45, 265), (78, 32, 235))),
    "purple": (((22, 40, 322), (45, 75, 322)), ((45, 60, 316), (62, 95, 325))),
    "pink": (((62, 65, 355), (84, 25, 10)), ((65, 55, 10), (78, 35, 20))),
}


def _lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB 0..255, (n, 3) (IEC 61966-2-1, CIE 15)."""
    v = rgb / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _from_lch(point: _Point) -> NDArray[np.float64]:
    light, chroma, hue = point
    return np.array([light, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))])


def _squared_distance(lab: NDArray[np.float64], start: _Point, end: _Point) -> NDArray[np.float64]:
    """Squared distance of each colour (n, 3) to a segment of CIELAB."""
    a, b = _from_lch(start), _from_lch(end)
    along = b - a
    length = float(along @ along)
    t = np.clip((lab - a) @ along / length, 0, 1) if length > 0 else np.zeros(len(lab))
    nearest = a + t[:, None] * along
    squared: NDArray[np.float64] = ((lab - nearest) ** 2).sum(axis=1)
    return squared


@functools.cache
def built_in_table() -> Tensor:
    """Our table (32768, 11) float32: row ``r + 32·g + 1024·b`` of the 8-level bins, rows sum to 1."""
    level = np.arange(BINS) * 8 + 3.5  # mean of the eight levels of a bin
    b, g, r = (c.reshape(-1) for c in np.meshgrid(level, level, level, indexing="ij"))
    lab = _lab(np.stack([r, g, b], axis=1))
    nearest = np.stack([np.min([_squared_distance(lab, *s) for s in _FOCI[t]], axis=0) for t in TERMS], axis=1)
    nearest -= nearest.min(axis=1, keepdims=True)  # a factor common to all terms; keeps the largest at 1
    belongs = np.exp(-nearest / (2 * SIGMA**2))
    return torch.from_numpy((belongs / belongs.sum(axis=1, keepdims=True)).astype(np.float32))


def load_table(path: str | Path) -> Tensor:
    """A user's own table (32768, 11) from ``.npy``, ``.mat`` or ``.safetensors`` (its one array of this shape).

    Raises:
        WeightsError: unreadable, no or more than one array of this shape, NaN.
    """
    path = Path(path)
    shape = (BINS**3, len(TERMS))
    try:
        if path.suffix == ".npy":
            arrays = {"array": np.load(path, allow_pickle=False)}
        elif path.suffix == ".mat":
            arrays = {k: v for k, v in read_mat(path).items() if isinstance(v, np.ndarray)}
        elif path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            arrays = load_file(path)
        else:
            raise WeightsError(f"{path}: unknown kind of table; wanted .npy, .mat or .safetensors")
    except BROKEN as error:
        raise broken(path, error) from error
    tables = {k: v for k, v in arrays.items() if v.shape == shape}
    if len(tables) != 1:
        got = {k: v.shape for k, v in arrays.items()}
        raise WeightsError(f"{path}: Color Names table: wanted one array of shape {shape}, got {got}")
    table = torch.from_numpy(np.array(next(iter(tables.values())), dtype=np.float32, order="C"))
    if not bool(torch.isfinite(table).all()):
        raise WeightsError(f"{path}: Color Names table: holds NaN or infinity")
    return table


class ColorNames:
    """Share of each of the eleven basic colour terms in a cell, 0..1, summing to 1 with the built-in table.

    Args:
        stride: px per cell.
        table: file with a (32768, 11) table of the user's; default our own (see the module's text).
    """

    name = "cn"
    channels = len(TERMS)
    needs_fit = False
    typical_rms = 0.21

    def __init__(self, stride: int = 4, table: str | Path | None = None) -> None:
        if stride < 1:
            raise RangeError("cn", "stride", "at least 1 px", str(stride))
        self.stride = stride
        self._table = built_in_table() if table is None else load_table(table)
        self.weights_note = "" if table is None else f"Color Names table {Path(table).name}"

    def fit(self, patches: Tensor) -> None:
        """Nothing to learn."""

    def fork(self) -> ColorNames:
        """Itself: it keeps no state."""
        return self

    @torch.no_grad()
    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, 11, h//stride, w//stride); values outside 0..255 count as the nearest."""
        check_patches(self.name, patches, self.stride)
        self._table = self._table.to(patches.device)
        return ops.color_names(patches, self._table, self.stride)

"""Ridge regression: lower half of a Gram matrix plus λI, small factors and solves, the outer products of the backward.

Matrices up to ``SMALL`` are factored and solved by one program each; larger ones are the library's.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "SMALL", "SMALL_RIGHT", "gram", "outer", "solve_small", "substitute_small"]

SMALL = 64  # rows of a matrix that one program holds in its registers
SMALL_RIGHT = 16  # right-hand sides beside it

# Three products of halves on the matrix units are as exact as float32 (2e-7 in G). One product of TensorFloat-32 has an
# error of 2e-4 in G, and so of 6e-4 in w even at κ = 40.
PRECISION = "tf32x3"


@triton.jit
def _gram(
    x, lam, out, count, depth, tiles, step, stride, x_batch,
    PRECISION: tl.constexpr, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """G[i, j] = Σ_k x[i, k]·x[j, k] + λ·(i = j): one tile on or below the diagonal, and its mirror image.

    Element k of vector i of system b lies at x + b·x_batch + i·step + k·stride.
    """
    b = (tl.program_id(0) // tiles).to(tl.int64)
    t = tl.program_id(0) % tiles
    # Tile t of the rows 0; 1, 2; 3, 4, 5; …: the root may be off by one near a whole number.
    row = ((tl.sqrt(8.0 * t.to(tl.float32) + 1.0) - 1.0) * 0.5).to(tl.int32)
    row = tl.where(row * (row + 1) // 2 > t, row - 1, row)
    row = tl.where((row + 1) * (row + 2) // 2 <= t, row + 1, row)
    i = row * BLOCK + tl.arange(0, BLOCK)
    j = (t - row * (row + 1) // 2) * BLOCK + tl.arange(0, BLOCK)
    base = x + b * x_batch
    left, right = base + i.to(tl.int64)[:, None] * step, base + j.to(tl.int64)[:, None] * step
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for first in range(0, depth, BLOCK_K):
        k = (first + tl.arange(0, BLOCK_K)).to(tl.int64)[None, :]
        a = tl.load(left + k * stride, mask=(i < count)[:, None] & (k < depth), other=0.0)
        c = tl.load(right + k * stride, mask=(j < count)[:, None] & (k < depth), other=0.0)
        total = tl.dot(a, tl.trans(c), total, input_precision=PRECISION)
    total += tl.where(i[:, None] == j[None, :], tl.load(lam + b).to(tl.float32), 0.0)
    matrix = out + b * count * count
    inside = (i < count)[:, None] & (j < count)[None, :]
    tl.store(matrix + i.to(tl.int64)[:, None] * count + j[None, :], total, mask=inside)
    mirror = (j < count)[:, None] & (i < count)[None, :] & (j[:, None] < i[None, :])
    tl.store(matrix + j.to(tl.int64)[:, None] * count + i[None, :], tl.trans(total), mask=mirror)


@triton.jit
def _pick(values, index, at, AXIS: tl.constexpr):
    """Row (AXIS 0) or column (AXIS 1) ``at`` of a tile; NaN elsewhere in the tile stays there."""
    return tl.sum(tl.where(index == at, values, 0.0), AXIS)


@triton.jit
def _substitute(lower, z, n, SIZE: tl.constexpr):
    """(L Lᵀ)⁻¹ z for a tile L of SIZE ≥ n rows."""
    index = tl.arange(0, SIZE)
    rows, columns = index[:, None], index[None, :]
    upper = tl.trans(lower)
    for j in range(0, n):
        column = _pick(lower, columns, j, 1)
        value = _pick(z, rows, j, 0) / tl.sum(tl.where(index == j, column, 0.0), 0)
        below = tl.where(index > j, column, 0.0)
        z = tl.where(rows == j, value[None, :], z - below[:, None] * value[None, :])
    for back in range(0, n):
        j = n - 1 - back
        column = _pick(upper, columns, j, 1)
        value = _pick(z, rows, j, 0) / tl.sum(tl.where(index == j, column, 0.0), 0)
        above = tl.where(index < j, column, 0.0)
        z = tl.where(rows == j, value[None, :], z - above[:, None] * value[None, :])
    return z


@triton.jit
def _solve_small(matrix, right, factor, solution, n, m, SIZE: tl.constexpr, RIGHT: tl.constexpr):
    """Factor L of one symmetric matrix and (L Lᵀ)⁻¹ right; NaN where a pivot is not positive."""
    b = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, SIZE)
    rows, columns = index[:, None], index[None, :]
    at = b * n * n + rows * n + columns
    inside = (rows < n) & (columns < n)
    rest = tl.load(matrix + at, mask=inside, other=0.0)
    lower = tl.zeros((SIZE, SIZE), tl.float32)
    for j in range(0, n):
        column = _pick(rest, columns, j, 1)
        pivot = tl.sum(tl.where(index == j, column, 0.0), 0)
        scale = tl.where(pivot > 0.0, 1.0 / tl.sqrt_rn(pivot), float("nan"))
        column = tl.where(index >= j, column * scale, 0.0)
        lower = tl.where(columns == j, column[:, None], lower)
        rest -= column[:, None] * tl.trans(column[:, None])
    tl.store(factor + at, lower, mask=inside)
    c = tl.arange(0, RIGHT)[None, :]
    at_right, inside_right = b * n * m + rows * m + c, (rows < n) & (c < m)
    z = tl.load(right + at_right, mask=inside_right, other=0.0)
    tl.store(solution + at_right, _substitute(lower, z, n, SIZE), mask=inside_right)


@triton.jit
def _substitute_small(factor, right, solution, n, m, SIZE: tl.constexpr, RIGHT: tl.constexpr):
    """(L Lᵀ)⁻¹ right for one factor L."""
    b = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, SIZE)[:, None]
    columns = tl.arange(0, SIZE)[None, :]
    lower = tl.load(factor + b * n * n + rows * n + columns, mask=(rows < n) & (columns <= rows), other=0.0)
    c = tl.arange(0, RIGHT)[None, :]
    at, inside = b * n * m + rows * m + c, (rows < n) & (c < m)
    z = tl.load(right + at, mask=inside, other=0.0)
    tl.store(solution + at, _substitute(lower, z, n, SIZE), mask=inside)


@triton.jit
def _outer(r, v, b, w, out, n, d, m, across, tiles, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """One tile of r vᵀ − b wᵀ: r, b (n, m), v, w (d, m)."""
    system = (tl.program_id(0) // tiles).to(tl.int64)
    t = tl.program_id(0) % tiles
    i = (t // across).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = (t % across).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for c in range(0, m):
        sample, feature = (system * n + i) * m + c, (system * d + j) * m + c
        total += (
            tl.load(r + sample, mask=i < n, other=0.0)[:, None] * tl.load(v + feature, mask=j < d, other=0.0)[None, :]
        )
        total -= (
            tl.load(b + sample, mask=i < n, other=0.0)[:, None] * tl.load(w + feature, mask=j < d, other=0.0)[None, :]
        )
    at = out + (system * n + i)[:, None] * d + j[None, :]
    tl.store(at, total, mask=(i < n)[:, None] & (j < d)[None, :])


GRAM = Space("ridge_solve.gram", BLOCK=(32, 64, 128), BLOCK_K=(16, 32, 64), num_warps=(4, 8), num_stages=(2, 3, 4))
OUTER = Space("ridge_solve.outer", BLOCK_N=(8, 16, 32, 64), BLOCK_D=(64, 128, 256), num_warps=(4, 8))
_GRAM_BLOCKS = {"BLOCK": 64, "BLOCK_K": 32, "num_warps": 8, "num_stages": 3}
_OUTER_BLOCKS = {"BLOCK_N": 16, "BLOCK_D": 128, "num_warps": 4}


def gram(X: Tensor, lam: Tensor) -> Tensor:
    """XXᵀ + λI where D > N, else XᵀX + λI.

    Args:
        X: (B, N, D) float32, contiguous.
        lam: (B,) float64.

    Returns:
        (B, k, k) float32, k = min(N, D), both halves.
    """
    batch, n, d = X.shape
    count, depth, step, stride = (n, d, d, 1) if d > n else (d, n, 1, d)
    out = X.new_empty(batch, count, count)
    if out.numel() == 0:
        return out
    config = launch_config(GRAM, {"batch": batch, "count": count, "depth": depth}, _GRAM_BLOCKS)
    side = triton.cdiv(count, config["BLOCK"])
    tiles = side * (side + 1) // 2
    _gram[(batch * tiles,)](X, lam, out, count, depth, tiles, step, stride, n * d, PRECISION=PRECISION, **config)
    return out


def solve_small(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Factor (B, n, n) and solution (B, n, m) of symmetric systems, n ≤ SMALL, m ≤ SMALL_RIGHT."""
    factor, solution = torch.empty_like(matrix), torch.empty_like(right)
    batch, n, m = right.shape
    if right.numel():
        _solve_small[(batch,)](matrix, right, factor, solution, n, m, **_small(n, m))
    return factor, solution


def substitute_small(factor: Tensor, right: Tensor) -> Tensor:
    """(L Lᵀ)⁻¹ right for factors (B, n, n), right (B, n, m) contiguous."""
    solution = torch.empty_like(right)
    batch, n, m = right.shape
    if right.numel():
        _substitute_small[(batch,)](factor, right, solution, n, m, **_small(n, m))
    return solution


def outer(r: Tensor, v: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """Tensor r vᵀ − b wᵀ (B, N, D) of contiguous r, b (B, N, M) and v, w (B, D, M)."""
    (batch, n, m), d = r.shape, v.shape[1]
    out = r.new_empty(batch, n, d)
    if out.numel():
        config = launch_config(OUTER, {"batch": batch, "n": n, "d": d, "m": m}, _OUTER_BLOCKS)
        across = triton.cdiv(d, config["BLOCK_D"])
        tiles = across * triton.cdiv(n, config["BLOCK_N"])
        _outer[(batch * tiles,)](r, v, b, w, out, n, d, m, across, tiles, **config)
    return out


def _small(n: int, m: int) -> dict[str, Any]:
    """Launch of one program per matrix: tile sizes are powers of two, eight rows to a warp."""
    size = max(16, triton.next_power_of_2(n))
    return {"SIZE": size, "RIGHT": triton.next_power_of_2(m), "num_warps": size // 8}


def _builds() -> tuple[Build, ...]:
    def types(pointers: str, sizes: str) -> dict[str, str]:
        return dict.fromkeys(pointers.split(), "*fp32") | dict.fromkeys(sizes.split(), "i32")

    gram_types = types("x out", "count depth tiles step stride x_batch") | {"lam": "*fp64"}
    small = types("matrix right factor solution", "n m")
    outer_types = types("r v b w out", "n d m across tiles")
    blocks = {"PRECISION": PRECISION, "BLOCK": 64, "BLOCK_K": 32}
    return (
        # The launcher's ones are known to the compiler: of the dual along k, of the primal along the vectors.
        Build(_gram, gram_types, blocks | {"stride": 1}, num_warps=8, num_stages=3, tensor_cores=True),
        Build(_gram, gram_types, blocks | {"step": 1}, num_warps=8, num_stages=3, tensor_cores=True),
        Build(_solve_small, small, {"SIZE": 16, "RIGHT": 1}, num_warps=2),
        Build(_solve_small, small, {"SIZE": 64, "RIGHT": 16}, num_warps=8),
        Build(
            _substitute_small, {k: v for k, v in small.items() if k != "matrix"}, {"SIZE": 64, "RIGHT": 16}, num_warps=8
        ),
        Build(_outer, outer_types, {"BLOCK_N": 16, "BLOCK_D": 128}),
    )


BUILDS = _builds()

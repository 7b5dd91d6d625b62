"""Projection on principal components, (x − mean)·basis, as tiles of a matrix product.

Products of tensor cores in three parts keep the precision of float32. Where there are few samples of many numbers,
the numbers are shared out among programs and the parts are added in a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "pca_apply"]

SPACE = Space(
    "pca.apply",
    BLOCK_N=(32, 64),
    BLOCK_K=(32, 64),
    BLOCK_D=(32,),
    num_warps=(4, 8),
    without=({"BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4},),
)
_SMALL = {"BLOCK_N": 32, "BLOCK_K": 32, "BLOCK_D": 32, "num_warps": 4}
_LARGE = {"BLOCK_N": 64, "BLOCK_K": 64, "BLOCK_D": 32, "num_warps": 8}

PROGRAMS = 132  # below that many tiles the numbers of a sample are shared out
MIN_PART = 512  # numbers of a sample per program


@triton.jit(do_not_specialize=["samples", "dims", "components", "part"])
def _apply(
    x, mean, basis, out, samples, dims, components, part, stride_xb, stride_xn, stride_xd, stride_wd, stride_wk,
    stride_part, stride_b, stride_n, stride_k,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    tiles = (components + BLOCK_K - 1) // BLOCK_K
    image = tl.program_id(1).to(tl.int64)
    first = tl.program_id(2) * part
    last = tl.minimum(first + part, dims)
    n = (tl.program_id(0) // tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = (tl.program_id(0) % tiles) * BLOCK_K + tl.arange(0, BLOCK_K)
    here, wanted = n < samples, k < components
    rows = x + image * stride_xb + n.to(tl.int64)[:, None] * stride_xn
    columns = basis + k.to(tl.int64)[None, :] * stride_wk
    total = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for start in range(first, last, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = d < last
        centre = tl.load(mean + d, mask=inside, other=0.0).to(tl.float32)
        at = d.to(tl.int64)
        v = tl.load(rows + at[None, :] * stride_xd, mask=here[:, None] & inside[None, :], other=0.0).to(tl.float32)
        w = tl.load(columns + at[:, None] * stride_wd, mask=inside[:, None] & wanted[None, :], other=0.0)
        total += tl.dot(v - centre[None, :], w.to(tl.float32), input_precision="tf32x3")
    to = out + tl.program_id(2).to(tl.int64) * stride_part + image * stride_b
    to = to + n.to(tl.int64)[:, None] * stride_n + k.to(tl.int64)[None, :] * stride_k
    tl.store(to, total.to(out.dtype.element_ty), mask=here[:, None] & wanted[None, :])


def pca_apply(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """(N, k) of (N, D) samples or contiguous (B, k, H, W) of (B, D, H, W) maps, in the dtype of ``x``.

    Args:
        x: float32 or a half type, any strides.
        mean: (D,) float.
        basis: (D, k) float, any strides.
    """
    dims, components = basis.shape
    values = x if x.dim() == 2 else x.contiguous().flatten(2)
    out = torch.empty((x.shape[0], components, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    if x.dim() == 2:
        count, samples = 1, x.shape[0]
        strides = (0, *x.stride())
        to = (0, components, 1)
    else:
        count, samples = x.shape[0], values.shape[2]
        strides = (values.stride(0), values.stride(2), values.stride(1))
        to = (components * samples, 1, samples)
    sizes = {"samples": count * samples, "dims": dims, "components": components}
    config = launch_config(SPACE, sizes, default=_LARGE if count * samples >= 64 * PROGRAMS else _SMALL)
    tiles = triton.cdiv(samples, config["BLOCK_N"]) * triton.cdiv(components, config["BLOCK_K"])
    parts = max(1, min(triton.cdiv(PROGRAMS, tiles * count), dims // MIN_PART))
    part = triton.cdiv(triton.cdiv(dims, parts), config["BLOCK_D"]) * config["BLOCK_D"]
    parts = triton.cdiv(dims, part)
    grid = (tiles, count, parts)
    target = out if parts == 1 else torch.empty((parts, *out.shape), dtype=torch.float32, device=x.device)
    numbers = (samples, dims, components, part, *strides, *basis.stride(), out.numel(), *to)
    _apply[grid](values, mean.contiguous(), basis, target, *numbers, **config)
    return out if parts == 1 else target.sum(0).to(x.dtype)


def _build(dtype: str, config: dict[str, int]) -> Build:
    pointers = {"x": f"*{dtype}", "mean": "*fp32", "basis": "*fp32", "out": f"*{dtype}"}
    sizes = dict.fromkeys(("samples", "dims", "components", "part"), "i32")
    names = ("xb", "xn", "xd", "wd", "wk", "part", "b", "n", "k")
    strides = {f"stride_{name}": "i64" if name in ("xb", "part", "b") else "i32" for name in names}
    constants, warps = {k: v for k, v in config.items() if k != "num_warps"}, config["num_warps"]
    return Build(_apply, {**pointers, **sizes, **strides}, constants, num_warps=warps, tensor_cores=True)


BUILDS: tuple[Build, ...] = (
    *(_build(dtype, config) for dtype in ("fp32", "bf16") for config in (_SMALL, _LARGE)),
    *(_build("fp16", config) for config in SPACE.configurations()),  # which needs the most registers
)

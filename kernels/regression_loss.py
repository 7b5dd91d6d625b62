"""Value and gradient of a regression loss in one pass over the positions.

Half types are read and written as they are and computed in float32. Sums run in two fixed stages (float32 lanes,
float64 across lanes and programs), so that two runs give the same bits; a map of up to ``ONE_PROGRAM`` positions
is summed by the kernel itself, in one launch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fasttrack.kernels._aot import Build
from fasttrack.kernels._losses import loss_at
from fasttrack.kernels._tuning import Space, launch_config

__all__ = ["BUILDS", "loss_and_gradient"]

# Where the values go: one per position, one float64 sum per program, or the sum of the only program.
PER_POSITION = tl.constexpr(0)
PER_PROGRAM = tl.constexpr(1)
TOTAL = tl.constexpr(2)

ONE_PROGRAM = 8192
MAX_PROGRAMS = 1024  # about 8 on each of 132 multiprocessors; larger inputs stride

SPACE = Space(
    "regression_loss.loss",
    BLOCK=(256, 512, 1024, 2048, 4096),
    num_warps=(2, 4, 8, 16),
    # 32 positions and more to a thread
    without=({"BLOCK": 2048, "num_warps": 2}, {"BLOCK": 4096, "num_warps": 2}, {"BLOCK": 4096, "num_warps": 4}),
)


@triton.jit
def _rounded(total, dtype: tl.constexpr):
    """A float64 sum as stored: as it is, or through float32 as the maps are."""
    return total if dtype == tl.float64 else total.to(tl.float32).to(dtype)


@triton.jit
def _loss(
    prediction, target, weight, value, grad, n, a, c, scale,
    FORM: tl.constexpr, WEIGHTED: tl.constexpr, OUTPUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    lanes = tl.arange(0, BLOCK)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    stride = tl.num_programs(0).to(tl.int64) * BLOCK
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(first, n, stride):
        at = start + lanes
        inside = at < n
        p = tl.load(prediction + at, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(target + at, mask=inside, other=0.0).to(tl.float32)
        v, g = loss_at(p, y, a, c, FORM)
        factor = scale
        if WEIGHTED:
            factor = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) * scale
        v = v * factor
        tl.store(grad + at, (g * factor).to(grad.dtype.element_ty), mask=inside)
        if OUTPUT == PER_POSITION:
            tl.store(value + at, v.to(value.dtype.element_ty), mask=inside)
        else:
            total += tl.where(inside, v, 0.0)
    if OUTPUT != PER_POSITION:
        out = value + tl.program_id(0) if OUTPUT == PER_PROGRAM else value
        tl.store(out, _rounded(tl.sum(total.to(tl.float64), 0), value.dtype.element_ty))


@triton.jit
def _sum_of_programs(partial, value, count, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    sums = tl.load(partial + lanes, mask=lanes < count, other=0.0)
    tl.store(value, _rounded(tl.sum(sums, 0), value.dtype.element_ty))


def loss_and_gradient(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: int, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    """Value (a scalar, or a map for "none") and d value / d prediction, both of the dtype of ``prediction``.

    Args:
        prediction: map of float32, float16 or bfloat16, any strides.
        target: labels of the same shape and dtype.
        weight: factor per position likewise, or None.
        form: number of the loss in csrc/regression_loss.h.
        a: exponent or speed of the loss.
        c: threshold of the truncated loss, or centre of the shrinkage.
        reduction: "none", "sum" or "mean".
    """
    p, y = prediction.contiguous(), target.contiguous()
    w = p if weight is None else weight.contiguous()
    n, reduced = p.numel(), reduction != "none"
    grad = torch.empty_like(p)
    value = torch.empty((), dtype=p.dtype, device=p.device) if reduced else torch.empty_like(p)
    if n == 0:
        # Nothing to launch: the sum of nothing is 0, its mean 0/0, as in torch.
        return (value.fill_(float("nan") if reduction == "mean" else 0.0) if reduced else value), grad
    alone = reduced and n <= ONE_PROGRAM
    default = {"BLOCK": 2048, "num_warps": 16} if alone else {"BLOCK": 512, "num_warps": 4}
    config = launch_config(SPACE, {"n": n, "reduced": reduced}, default)
    programs = 1 if alone else min(triton.cdiv(n, config["BLOCK"]), MAX_PROGRAMS)
    scale = 1.0 / n if reduction == "mean" else 1.0
    sums, output = value, TOTAL if reduced else PER_POSITION
    two_stages = reduced and programs > 1
    if two_stages:
        sums, output = torch.empty(programs, dtype=torch.float64, device=p.device), PER_PROGRAM
    _loss[(programs,)](p, y, w, sums, grad, n, a, c, scale, form, weight is not None, output, **config)
    if two_stages:
        _sum_of_programs[(1,)](sums, value, programs, MAX_PROGRAMS, num_warps=4)
    return value, grad


def _build(dtype: str, form: int, weighted: bool, output: int, value: str, sizes: tuple[int, ...] = ()) -> Build:
    maps = dict.fromkeys(("prediction", "target", "weight"), f"*{dtype}")
    numbers = {"n": "i32", "a": "fp32", "c": "fp32", "scale": "fp32"}
    block, warps = sizes or ((2048, 16) if output == TOTAL.value else (512, 4))
    constants = {"FORM": form, "WEIGHTED": weighted, "OUTPUT": output, "BLOCK": block}
    signature = {**maps, "value": f"*{value}", "grad": f"*{dtype}", **numbers}
    return Build(_loss, signature, constants, num_warps=warps)


BUILDS: tuple[Build, ...] = (
    *(_build("fp32", form, True, PER_PROGRAM.value, "fp64") for form in range(5)),
    *(_build("fp32", form, False, TOTAL.value, "fp32") for form in range(5)),
    _build("fp16", 0, True, TOTAL.value, "fp16"),
    _build("fp16", 1, False, PER_POSITION.value, "fp16"),
    _build("bf16", 2, True, PER_POSITION.value, "bf16"),
    # The most positions to a thread that the tuner may try, of a half type, which needs the most registers.
    *(_build("fp16", form, True, TOTAL.value, "fp16", (2048, 4)) for form in (1, 2)),
    Build(_sum_of_programs, {"partial": "*fp64", "value": "*fp32", "count": "i32"}, {"BLOCK": MAX_PROGRAMS}),
)

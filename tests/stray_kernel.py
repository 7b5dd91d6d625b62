"""Kernels whose masks can be wrong by as many elements as asked: what the guards must see."""

import torch
import triton
import triton.language as tl


@triton.jit
def _double(x, out, n, beyond, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + at, 2.0 * v, mask=at < n + beyond)


@triton.jit
def _total(x, out, n, beyond, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + at, mask=at < n + beyond, other=0.0), 0))


def double(x, beyond):
    out = torch.empty_like(x)
    _double[(1,)](x, out, x.numel(), beyond, 64)
    return out


def total(x, beyond):
    out = torch.zeros((), device=x.device)
    _total[(1,)](x, out, x.numel(), beyond, 64)
    return out

"""Launchers of the CUDA kernels of precise RoI pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import gpu
from fasttrack.ops._rows import cuda_row, kernel_input, on_gpu

__all__ = ["FEATURES_GRADIENT", "FORWARD", "ROIS_GRADIENT"]

# As in csrc/cuda/prroi_args.h.
_THREADS, _WARPS, _LANE_CHANNELS, _BIN_ROWS, _CELLS, _CHANNELS = 256, 8, 4, 8, 8, 16
_GROUP = 32  # channels of a forward block: two rounds of 8 columns × 4 lanes × 4 channels
_SLAB = 24 * 1024  # floats of a forward block's map at most: two blocks then share a multiprocessor
_ROIS = "P2qd5q"
_POOL = gpu.Kernel("prroi_pool", "prroi_pool", _ROIS + "P5qP" + "2q")
_SPREAD = gpu.Kernel("prroi_pool_features_gradient", "prroi_gradient", _ROIS + "PqP")
_EDGES = gpu.Kernel("prroi_pool_rois_gradient", "prroi_gradient", _ROIS + "P5q2P" + "q")


def why_not(features: Tensor, *_: Any) -> str | None:
    """Why the kernels cannot pool ``features``; None when they can."""
    if (reason := on_gpu(features, "features")) is not None:
        return reason
    height = features.shape[2]
    if gpu.resident_blocks(_POOL, _THREADS, _forward_shared(height, 0), features) == 0:
        return f"keeps weights of every row in shared memory, too small for features of height {height}"
    return None


def gradient_why_not(grad: Tensor, *_: Any) -> str | None:
    """Why the kernels cannot spread ``grad`` over the features; None when they can."""
    if (reason := on_gpu(grad, "grad")) is not None:
        return reason
    bins_y, bins_x = grad.shape[2:]
    if gpu.resident_blocks(_SPREAD, _THREADS, _features_shared(bins_y, bins_x), grad) == 0:
        return f"keeps the bins of {_CHANNELS} channels in shared memory, too small for {bins_y} × {bins_x} bins"
    return None


def _rois(
    rois: Tensor, scale: float, bins_y: int, bins_x: int, images: int, height: int, width: int
) -> tuple[Any, ...]:
    """The members of ``PrroiRois``; the first keeps the rows alive until the launch."""
    rows = rois.detach().contiguous()
    return rows, rows.dtype == torch.float64, rows.shape[0], scale, bins_y, bins_x, images, height, width


def _map(features: Tensor) -> Tensor:
    """float32 of any strides."""
    return features.detach() if features.dtype == torch.float32 else features.detach().float()


def _forward_shared(height: int, slab: int) -> int:
    return 4 * (_WARPS * height * _BIN_ROWS + slab)


def _features_shared(bins_y: int, bins_x: int) -> int:
    return 4 * (_CELLS * (bins_y + bins_x) + _CHANNELS * bins_y * bins_x)


def _plane(cells: int) -> int:
    """Cells of a channel in shared memory, padded against bank conflicts."""
    return (cells + 3) // 8 * 8 + 4


def forward(features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float, deterministic: bool) -> Tensor:
    """(K, C, P, Q) in the dtype of ``features``."""
    x = _map(features)
    images, channels, height, width = x.shape
    members = _rois(rois, scale, bins_y, bins_x, images, height, width)
    count: int = members[2]
    out = torch.empty((count, channels, bins_y, bins_x), dtype=torch.float32, device=x.device)
    if out.numel() == 0:
        return out.to(features.dtype)
    group = min(_GROUP, -(-channels // _LANE_CHANNELS) * _LANE_CHANNELS)
    slab = min(_SLAB, group * _plane(height * width))
    shared = _forward_shared(height, slab)
    others = -(-channels // group) * images
    blocks = gpu.resident_blocks(_POOL, _THREADS, shared, x) // others
    if blocks == 0 and gpu.resident_blocks(_POOL, _THREADS, shared, x) == 0:
        slab, shared = 0, _forward_shared(height, 0)  # the map is then read where it lies
    blocks = max(1, min(-(-count // _WARPS), blocks))
    arguments = (*members, x, channels, *x.stride(), out, group, slab)
    gpu.launch(_POOL, (blocks, others // images, images), _THREADS, arguments, x, shared_bytes=shared)
    return out.to(features.dtype)


def features_gradient(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, scale: float, deterministic: bool
) -> Tensor:
    """(N, C, H, W) in the dtype of ``grad``; the same bits on every run, asked for or not."""
    g = kernel_input(grad)
    channels, bins_y, bins_x = g.shape[1:]
    out = torch.empty((images, channels, height, width), dtype=torch.float32, device=g.device)
    if out.numel() > 0:
        tiles = -(-height // _CELLS) * -(-width // _CELLS)
        arguments = (*_rois(rois, scale, bins_y, bins_x, images, height, width), g, channels, out)
        grid = tiles, -(-channels // _CHANNELS), images
        gpu.launch(_SPREAD, grid, _THREADS, arguments, g, shared_bytes=_features_shared(bins_y, bins_x))
    return out.to(grad.dtype)


def rois_gradient(features: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    """(K, 5) in the dtype of ``rois``; the image index has gradient 0."""
    x, g = _map(features), kernel_input(grad)
    images, channels, height, width = x.shape
    count, _, bins_y, bins_x = g.shape
    if g.numel() == 0:
        return torch.zeros_like(rois, memory_format=torch.contiguous_format)
    shared = 4 * 3 * height * _BIN_ROWS
    # A share of the channels has at least one column of bins for every thread.
    wanted = gpu.resident_blocks(_EDGES, _THREADS, shared, x) // count
    shares = max(1, min(wanted, channels * bins_x // _THREADS))
    group = -(-channels // shares)
    shares = -(-channels // group)
    out = torch.empty((shares, count, 5), dtype=torch.float64, device=x.device)
    members = _rois(rois, scale, bins_y, bins_x, images, height, width)
    arguments = (*members, x, channels, *x.stride(), g, out, group)
    gpu.launch(_EDGES, (count, shares, 1), _THREADS, arguments, x, shared_bytes=shared)
    return (out[0] if shares == 1 else out.sum(0)).to(rois.dtype)


FORWARD = cuda_row(why_not, forward)
FEATURES_GRADIENT = cuda_row(gradient_why_not, features_gradient)
ROIS_GRADIENT = cuda_row(why_not, rois_gradient)

"""The Triton rows of precise RoI pooling and of the scores without pooled features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fasttrack.ops._rows import kernel_input, on_gpu, triton_row

__all__ = [
    "BIN_SUM",
    "BIN_SUM_MAPS_GRADIENT",
    "BIN_SUM_ROIS_GRADIENT",
    "FEATURES_GRADIENT",
    "FORWARD",
    "ROIS_GRADIENT",
]


def _why_not(first: Tensor, *_: Any) -> str | None:
    return on_gpu(first, "features")


def _forward(features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float, deterministic: bool) -> Tensor:
    from fasttrack.kernels import prroi_pool as kernels

    return kernels.forward(features.detach(), rois.detach().contiguous(), bins_y, bins_x, scale)


def _features_gradient(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, scale: float, deterministic: bool
) -> Tensor:
    from fasttrack.kernels import prroi_pool as kernels

    rows = rois.detach().contiguous()
    out = kernels.features_gradient(kernel_input(grad), rows, images, height, width, scale, deterministic)
    return out.to(grad.dtype)


def _rois_gradient(features: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    from fasttrack.kernels import prroi_pool as kernels

    rows = rois.detach().contiguous()
    return kernels.rois_gradient(features.detach(), kernel_input(grad), rows, scale).to(rois.dtype)


def _bin_sum(maps: Tensor, rois: Tensor, scale: float, deterministic: bool) -> Tensor:
    from fasttrack.kernels import prroi_score as kernels

    return kernels.bin_sum(kernel_input(maps), rois.detach().contiguous(), scale).to(maps.dtype)


def _maps_gradient(
    grad: Tensor,
    rois: Tensor,
    images: int,
    height: int,
    width: int,
    bins_y: int,
    bins_x: int,
    scale: float,
    deterministic: bool,
) -> Tensor:
    from fasttrack.kernels import prroi_score as kernels

    rows, size = rois.detach().contiguous(), (images, height, width, bins_y, bins_x)
    return kernels.maps_gradient(kernel_input(grad), rows, size, scale, deterministic).to(grad.dtype)


def _bin_sum_rois_gradient(maps: Tensor, grad: Tensor, rois: Tensor, scale: float) -> Tensor:
    from fasttrack.kernels import prroi_score as kernels

    rows = rois.detach().contiguous()
    return kernels.rois_gradient(kernel_input(maps), kernel_input(grad), rows, scale).to(rois.dtype)


FORWARD = triton_row(_why_not, _forward)
FEATURES_GRADIENT = triton_row(_why_not, _features_gradient)
ROIS_GRADIENT = triton_row(_why_not, _rois_gradient)
BIN_SUM = triton_row(_why_not, _bin_sum)
BIN_SUM_MAPS_GRADIENT = triton_row(_why_not, _maps_gradient)
BIN_SUM_ROIS_GRADIENT = triton_row(_why_not, _bin_sum_rois_gradient)

"""The ops as plain operators that ONNX has, without a look at values: one function per registered op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fasttrack import ops  # noqa: F401 - registers the ops that the formulas are for
from fasttrack.spec import lrn as spec_lrn
from fasttrack.spec import pca as spec_pca
from fasttrack.spec.prroi_pool import axis_weights

__all__ = ["FORMULAS"]


def _axes(
    rois: Tensor, images: int, height: int, width: int, bins_y: int, bins_x: int, scale: float
) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Image (K), weights (K, P, H) and (K, Q, W), and what puts 0 and NaN where a RoI is empty or undefined."""
    given = rois[:, 0]
    index = given.round()
    exists = (index >= 0) & (index < images) & ((given - index).abs() <= 1e-3)
    x1, y1, x2, y2 = ((rois[:, i] * scale).float() for i in range(1, 5))
    # Neither infinity nor NaN passes a comparison with the largest number.
    largest = torch.finfo(torch.float32).max
    finite = exists & ((x2 - x1).abs() <= largest) & ((y2 - y1).abs() <= largest)
    proper = finite & (x2 > x1) & (y2 > y1)
    x1, y1 = (torch.where(proper, v, torch.zeros_like(v)) for v in (x1, y1))
    x2, y2 = (torch.where(proper, v, torch.ones_like(v)) for v in (x2, y2))
    image = torch.where(exists, index, torch.zeros_like(index)).long()

    def finished(value: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (value.dim() - 1)
        value = torch.where(proper.view(shape), value, torch.zeros_like(value))
        return torch.where(finite.view(shape), value, torch.full_like(value, float("nan")))

    return image, axis_weights(y1, y2, bins_y, height), axis_weights(x1, x2, bins_x, width), finished


def _prroi_pool(features: Tensor, rois: Tensor, bins_y: int, bins_x: int, scale: float, deterministic: bool) -> Tensor:
    """(K, 1, P, H) · (K or 1, C, H, W) · (K, 1, W, Q)."""
    images, _, height, width = features.shape
    image, wy, wx, finished = _axes(rois, images, height, width, bins_y, bins_x, scale)
    maps = features.float() if images == 1 else features.float().index_select(0, image)
    pooled = wy[:, None] @ maps @ wx[:, None].transpose(-1, -2)
    return finished(pooled).to(features.dtype)


def _prroi_bin_sum(maps: Tensor, rois: Tensor, scale: float, deterministic: bool) -> Tensor:
    """Σ_pq wy[k, p] · M[n_k, :, :, p, q] · wx[k, q]ᵀ."""
    images, height, width, bins_y, bins_x = maps.shape
    image, wy, wx, finished = _axes(rois, images, height, width, bins_y, bins_x, scale)
    by_bin = maps.float().permute(0, 3, 4, 1, 2)  # (N, P, Q, H, W)
    by_roi = by_bin if images == 1 else by_bin.index_select(0, image)
    rows = (wy[:, :, None, None] @ by_roi)[:, :, :, 0]  # (K, P, Q, W)
    return finished((rows * wx[:, None]).sum((1, 2, 3))).to(maps.dtype)


def _conv_regression(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.conv2d(features, weight[None], bias)[:, 0]


def _conv_regression_each(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution in as many groups as there are maps, whose number is fixed."""
    maps, channels, height, width = features.shape
    together = features.reshape(1, maps * channels, height, width)
    return functional.conv2d(together, weight, bias, groups=maps)[0]


def _relu_lrn_maxpool(x: Tensor, *options: Any) -> Tensor:
    return spec_lrn.relu_lrn_maxpool(x, *options)


def _pca_apply(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    return spec_pca.pca_apply(x, (mean, basis, mean))


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "conv_regression": _conv_regression,
    "conv_regression_each": _conv_regression_each,
    "lrn": spec_lrn.lrn,
    "pca_apply": _pca_apply,
    "prroi_bin_sum": _prroi_bin_sum,
    "prroi_pool": _prroi_pool,
    "relu_lrn_maxpool": _relu_lrn_maxpool,
}

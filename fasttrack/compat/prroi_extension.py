"""The compiled module ``_prroi_pooling`` of PreciseRoIPooling: its three functions, on any device.

Values in, values out: as in the original no graph is recorded. The arguments are those of the version for torch ≥ 1.0,
whose functions return their result; the older ones, which took a tensor to write into, are refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import ArgumentError

__all__ = ["prroi_pooling_backward_cuda", "prroi_pooling_coor_backward_cuda", "prroi_pooling_forward_cuda"]


def prroi_pooling_forward_cuda(
    features: Tensor, rois: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float
) -> Tensor:
    """Bin means (K, C, pooled_height, pooled_width) of (N, C, H, W) features over (K, 5) rois.

    Raises:
        ArgumentError: a number of bins is a tensor (the older calling form), and the errors of ``ops.prroi_pool``.
    """
    bins = _bins("prroi_pooling_forward_cuda", pooled_height, pooled_width)
    with torch.no_grad():
        return ops.prroi_pool(features, rois, bins, float(spatial_scale))


def prroi_pooling_backward_cuda(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    output_diff: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> Tensor:
    """Gradient (N, C, H, W) in the features of ⟨prroi_pool, output_diff⟩; ``output`` is not needed.

    Raises:
        ArgumentError: as ``prroi_pooling_forward_cuda``.
    """
    bins = _bins("prroi_pooling_backward_cuda", pooled_height, pooled_width)
    return _gradient(features, rois, output_diff, bins, spatial_scale, 0)


def prroi_pooling_coor_backward_cuda(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    output_diff: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> Tensor:
    """Gradient (K, 5) in the rois of ⟨prroi_pool, output_diff⟩, 0 in the image index; ``output`` is not needed.

    Raises:
        ArgumentError: as ``prroi_pooling_forward_cuda``.
    """
    bins = _bins("prroi_pooling_coor_backward_cuda", pooled_height, pooled_width)
    return _gradient(features, rois, output_diff, bins, spatial_scale, 1)


def _gradient(
    features: Tensor, rois: Tensor, output_diff: Tensor, bins: tuple[int, int], spatial_scale: float, place: int
) -> Tensor:
    """Gradient in the features (``place`` 0) or in the rois (1)."""
    inputs = [features.detach(), rois.detach()]
    with torch.enable_grad():
        inputs[place].requires_grad_()
        pooled = ops.prroi_pool(inputs[0], inputs[1], bins, float(spatial_scale))
    return torch.autograd.grad(pooled, inputs[place], output_diff.detach())[0]


def _bins(op: str, pooled_height: Any, pooled_width: Any) -> tuple[int, int]:
    for name, value in (("pooled_height", pooled_height), ("pooled_width", pooled_width)):
        if isinstance(value, torch.Tensor):
            hint = "the form that writes into a tensor it is given (torch 0.4) is not served: leave that tensor out"
            raise ArgumentError(op, name, "a number of bins", f"a tensor of shape {tuple(value.shape)}", hint)
    return int(pooled_height), int(pooled_width)

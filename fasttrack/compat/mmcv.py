"""mmcv's names of PrRoI pooling on ``ops.prroi_pool``."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack import ops

__all__ = ["PrRoIPool", "prroi_pool"]


def prroi_pool(
    features: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> Tensor:
    """``ops.prroi_pool``: (K, C, P, Q) bin means of (N, C, H, W) features over (K, 5) rois.

    Args:
        features: (N, C, H, W) float tensor.
        rois: (K, 5) rows (image index, x1, y1, x2, y2) in px of the input image.
        output_size: bins per side, (P, Q) or one int.
        spatial_scale: feature cells per input px.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError, RoiIndexError: as ``ops.prroi_pool``.
    """
    return ops.prroi_pool(features, rois, output_size, float(spatial_scale))


class PrRoIPool(torch.nn.Module):
    """``prroi_pool`` with fixed bins and scale; no parameters, no entry in a state_dict.

    Attributes:
        output_size: bins (P, Q).
        spatial_scale: feature cells per input px.
    """

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        height, width = (output_size, output_size) if isinstance(output_size, int) else output_size
        self.output_size = (height, width)
        self.spatial_scale = float(spatial_scale)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Bin means (K, C, P, Q) of (N, C, H, W) features over (K, 5) rois."""
        return prroi_pool(features, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        """Parameters for ``repr``."""
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"

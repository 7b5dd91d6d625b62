"""PreciseRoIPooling's names on ``ops.prroi_pool``: any device, any float type, gradients of every order.

Where the original takes float32 on a GPU only, this takes what ``ops.prroi_pool`` takes, with its errors.
"""

from __future__ import annotations

from torch import Tensor

from fasttrack import nn, ops

__all__ = ["PrRoIPool2D", "PrRoIPool2DFunction", "prroi_pool2d"]


class PrRoIPool2DFunction:
    """What the original writes as ``torch.autograd.Function``: a class with ``apply``."""

    @staticmethod
    def apply(features: Tensor, rois: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float) -> Tensor:
        """``ops.prroi_pool(features, rois, (pooled_height, pooled_width), spatial_scale)``.

        Args:
            features: (N, C, H, W) float tensor.
            rois: (K, 5) rows (image index, x1, y1, x2, y2) in px of the input image.
            pooled_height: bins in y; like the other two numbers anything that ``int`` or ``float`` takes.
            pooled_width: bins in x.
            spatial_scale: feature cells per input px.

        Returns:
            (K, C, pooled_height, pooled_width), differentiable in features and rois.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError, RoiIndexError: as ``ops.prroi_pool``.

        Source: Jiang et al. 2018 (PrRoI pooling).
        """
        return ops.prroi_pool(features, rois, (int(pooled_height), int(pooled_width)), float(spatial_scale))


prroi_pool2d = PrRoIPool2DFunction.apply


class PrRoIPool2D(nn.PrRoIPool2D):
    """``nn.PrRoIPool2D``: pools to (pooled_height, pooled_width) bins; no parameters, no entry in a state_dict."""

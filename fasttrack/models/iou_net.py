"""The network that predicts how well a box fits the target: ATOM's IoU-net, differentiable in the box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fasttrack import ops
from fasttrack.errors import ShapeError
from fasttrack.models.blocks import ConvBlock, LinearBlock, start_weights_
from fasttrack.vision.features.networks import Tap

__all__ = ["IoUNet"]


class IoUNet(nn.Module):
    """IoU, mapped to [−1, 1], of boxes in test patches with the target that a reference patch shows.

    Reference: a convolution on each map, the target's box pooled 3×3 and 1×1, the former through a 3×3 convolution
    without padding to 1×1; both (512 numbers) give one vector of 256 factors per map. Test: two convolutions on each
    map; every box is pooled 5×5 and 3×3 and multiplied by those factors, channel by channel; a linear block to 256
    each; one number from both. Factors and pooling are linear, so the boxes are pooled before they are multiplied.

    T targets are one batch: T patches with K boxes each.

    Args:
        taps: the two maps of the backbone (layer2 and layer3).
        test_bins: pooled side of a box in the test maps.
        reference_bins: pooled side of the target in the reference maps; the first by its own convolution to 1×1.
        channels: of the test maps and factors.

    Source: Danelljan et al. 2019 (ATOM) §3.1; the sizes are its code's, which DCFST's authors use unchanged.
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        test_bins: tuple[int, int] = (5, 3),
        reference_bins: tuple[int, int] = (3, 1),
        channels: int = 256,
    ) -> None:
        super().__init__()
        if len(taps) != 2:
            raise ShapeError("IoUNet", "taps", "two maps", str(len(taps)))
        self.taps, self.test_bins, self.reference_bins = tuple(taps), test_bins, reference_bins
        self.test = nn.ModuleList(
            nn.Sequential(ConvBlock(tap.channels, channels), ConvBlock(channels, channels)) for tap in taps
        )
        self.reference = nn.ModuleList(
            ConvBlock(tap.channels, count) for tap, count in zip(taps, (channels // 2, channels), strict=True)
        )
        self.reference_shallow = ConvBlock(channels // 2, channels, reference_bins[0], padding=0)
        joined = channels + channels * reference_bins[1] ** 2
        self.factors = nn.ModuleList(ConvBlock(joined, channels, 1, padding=0) for _ in taps)
        self.linear = nn.ModuleList(LinearBlock(channels * side**2, channels) for side in test_bins)
        self.iou = nn.Linear(len(taps) * channels, 1)
        start_weights_(self, random_gains=True)

    def modulation(self, maps: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, ...]:
        """(T, channels) factors per map, from reference maps of the backbone and (T, 4) boxes x, y, w, h, patch px."""
        rois = _rois(boxes[:, None])
        shallow, deep = (
            self._pool(block(x), tap, rois, side)
            for block, x, tap, side in zip(self.reference, maps, self.taps, self.reference_bins, strict=True)
        )
        deep = deep.reshape(len(deep), -1, 1, 1)
        joined = torch.cat([self.reference_shallow(shallow), deep], 1)
        return tuple(block(joined).flatten(1) for block in self.factors)

    def maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Test maps of those of the backbone, of unchanged size; they serve every step of a refinement."""
        return tuple(convs(x) for convs, x in zip(self.test, maps, strict=True))

    def forward(self, maps: Sequence[Tensor], modulation: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """(T, K) predictions for (T, K, 4) boxes x, y, w, h in px of the patches that the test maps are of."""
        targets, count = boxes.shape[:2]
        rois, parts = _rois(boxes), []
        for x, tap, factors, side, block in zip(maps, self.taps, modulation, self.test_bins, self.linear, strict=True):
            pooled = self._pool(x, tap, rois, side)
            parts.append(block(pooled * factors.repeat_interleave(count, 0)[:, :, None, None]))
        out: Tensor = self.iou(torch.cat(parts, 1))
        return out.view(targets, count)

    @staticmethod
    def _pool(x: Tensor, tap: Tap, rois: Tensor, side: int) -> Tensor:
        """Pooled (K, C, side, side); the place of cell 0 is the tap's."""
        moved = torch.cat([rois[:, :1], rois[:, 1:] - tap.first_centre_px], 1)
        return ops.prroi_pool(x, moved, side, 1 / tap.stride)


def _rois(boxes: Tensor) -> Tensor:
    """(T, K, 4) boxes x, y, w, h as (T·K, 5) rows (patch, x1, y1, x2, y2)."""
    targets, count = boxes.shape[:2]
    patch = torch.arange(targets, dtype=boxes.dtype, device=boxes.device).repeat_interleave(count)[:, None]
    flat = boxes.flatten(0, 1)
    return torch.cat([patch, flat[:, :2], flat[:, :2] + flat[:, 2:]], 1)

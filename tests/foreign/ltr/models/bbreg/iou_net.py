import torch
from torch import nn

from ltr.external.PreciseRoIPooling.pytorch.prroi_pool import PrRoIPool2D
from ltr.models.layers.blocks import Block, waves


class OverlapNet(nn.Module):
    """Predicts the overlap of boxes with a target seen once: modulation by the target, two levels of features."""

    def __init__(self, channels=(6, 4), hidden=8):
        super().__init__()
        self.ref_pool3 = PrRoIPool2D(3, 3, 1 / 8)
        self.ref_pool4 = PrRoIPool2D(1, 1, 1 / 16)
        self.pool3 = PrRoIPool2D(5, 5, spatial_scale=1 / 8)
        self.pool4 = PrRoIPool2D(pooled_height=3, pooled_width=3, spatial_scale=1 / 16)
        self.ref3 = Block(channels[0], 3, channels[0], 0.7)
        self.ref4 = Block(channels[1], 1, channels[1], 1.3)
        self.box3 = Block(channels[0], 5, hidden, 2.1)
        self.box4 = Block(channels[1], 3, hidden, 0.4)
        self.register_buffer("readout", waves(2 * hidden, step=0.9))

    @staticmethod
    def to_rois(boxes):
        """(K, 4) boxes x, y, w, h of one image as rows of index and corners."""
        return torch.cat((boxes.new_zeros(len(boxes), 1), boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)

    def modulation(self, features, box):
        roi = self.to_rois(box)
        return self.ref3(self.ref_pool3(features[0], roi)), self.ref4(self.ref_pool4(features[1], roi))

    def forward(self, features, modulation, boxes):
        rois = self.to_rois(boxes)
        level3 = self.box3(self.pool3(features[0] * modulation[0][:, :, None, None], rois))
        level4 = self.box4(self.pool4(features[1] * modulation[1][:, :, None, None], rois))
        return torch.cat((level3, level4), 1) @ self.readout

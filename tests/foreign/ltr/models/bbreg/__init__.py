from .iou_net import OverlapNet as OverlapNet

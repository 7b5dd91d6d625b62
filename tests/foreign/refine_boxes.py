"""Predict the overlap of boxes, climb it by gradient, and print the numbers as JSON."""

import json
import sys

import ltr.models.bbreg as bbreg
import torch


def feature_maps():
    """Two levels of one image."""
    maps = []
    for channels, side in ((6, 18), (4, 9)):
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        rows = [torch.sin(0.5 * y * (1 + c / 4)) + torch.cos(0.4 * x + c) for c in range(channels)]
        maps.append(torch.stack(rows)[None].float())
    return maps


def main(steps, rate):
    net, features = bbreg.OverlapNet().float().eval(), feature_maps()
    with torch.no_grad():
        modulation = net.modulation(features, torch.tensor([[40.0, 36.0, 30.0, 44.0]]))
    boxes = torch.tensor([[38.0, 30.0, 36.0, 40.0], [60.5, 20.0, 25.0, 31.0], [-6.0, 90.0, 40.0, 70.0]])
    history = []
    for _ in range(steps):
        variable = boxes.clone().requires_grad_()
        overlap = net(features, modulation, variable)
        overlap.backward(gradient=torch.ones_like(overlap))
        history.append(overlap.tolist())
        boxes = boxes + rate * variable.grad * boxes[:, 2:].repeat(1, 2)
    print(json.dumps({"overlap": history, "boxes": boxes.tolist(), "state": sorted(net.state_dict())}))


if __name__ == "__main__":
    main(int(sys.argv[1]), rate=float(sys.argv[2]))

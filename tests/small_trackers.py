"""Every tracker at a size for tests: few channels, steps and samples, on made weights."""

import torch
from made_weights import INPUT, made

from fasttrack.vision.architectures import RESNET18, VGG_M


def small_options(folder):
    """Options of every tracker by its name; files of made weights are written into the folder."""
    weights = {}
    for arch in (RESNET18, VGG_M):
        torch.save(made(arch), folder / f"{arch.name}.pth")
        weights[arch.name] = {"weights": folder / f"{arch.name}.pth", "convention": INPUT}
    resnet, vgg = weights["resnet18"], weights["vgg-m"]
    return {
        "crt": {"object_cells": 64.0},
        "dcfst": {"backbone_options": resnet, "side_px": 160, "grid": 21, "bins": (4, 2), "augment": False},
        "dlst": {
            "network": "vgg-m", "class_options": vgg, "place_options": vgg,
            "first_samples": (16, 40), "samples": (4, 8), "regression_samples": 16, "regions": (3, 1),
            "candidates": 16, "batch_positives": 8, "batch_negatives": 16, "batch_candidates": 32, "batch_regions": 2,
            "first_steps": 3, "steps": 1,
        },
        "drvt": {
            "backbone_options": resnet, "width": 32, "fit_iterations": 5, "update_iterations": 2, "augment": False,
        },
        "dslt": {
            "backbone_options": resnet, "crop_px": 100.0, "region_width": 5, "region_height": 3, "object_cells": 25.0,
            "fit_steps": 40, "reduced": 32,
        },
        "kcf": {},
        "mosse": {},
    }  # fmt: skip

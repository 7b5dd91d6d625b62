"""Checks of the arguments that RoI pooling and its scores share."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check

__all__ = ["check_bins", "check_interval", "check_rois", "is_deterministic"]

_COORDINATES = (torch.float32, torch.float64)


def check_rois(op: str, features: Tensor, rois: Tensor) -> None:
    """``rois`` must be (K, 5) float32 or float64 on the device of ``features``."""
    check.tensor(op, "rois", rois, dims=(2,), dtypes=_COORDINATES, layout="(K, 5)")
    if rois.shape[1] != 5:
        check.shape_error(op, "rois", "(K, 5), rows (image index, x1, y1, x2, y2)", rois)
    check.same_device(op, "rois", rois, "features", features)


def check_interval(op: str, name: str, boxes: Tensor, images: int | None) -> None:
    """``boxes`` must be intervals, (G, 2) or (N, G, 2), of so many images."""
    layout = "(G, 2) or (N, G, 2)"
    check.tensor(op, name, boxes, dims=(2, 3), dtypes=_COORDINATES, layout=layout)
    if boxes.shape[-1] != 2 or (boxes.dim() == 3 and images not in (None, boxes.shape[0])):
        check.shape_error(op, name, f"{layout}, rows (low, high), N the images of features", boxes)


def check_bins(op: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """(P, Q) of an output size, one int or two, each ≥ 1."""
    pair = (size, size) if isinstance(size, int) else size
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(n, int) and n >= 1 for n in pair)):
        raise RangeError(op, "output_size", "one int ≥ 1 or two, (P, Q)", repr(size))
    return pair[0], pair[1]


def is_deterministic(asked: bool | None) -> bool:
    """What was asked for, or torch's setting."""
    return torch.are_deterministic_algorithms_enabled() if asked is None else asked

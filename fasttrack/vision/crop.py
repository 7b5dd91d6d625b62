"""Windows of a frame as patches, without aliasing where a window is shrunk."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import ShapeError
from fasttrack.geometry import Window

__all__ = ["Scene", "sample"]


class Scene:
    """The frames of one moment: a single one that all targets are in, or one for each (videos in lock-step).

    Args:
        images: (H, W, 3) uint8 tensors of one device: one, or as many as there are targets.
    """

    def __init__(self, images: Sequence[Tensor]) -> None:
        self.images = tuple(images)

    @property
    def device(self) -> torch.device:
        """Where the frames lie."""
        return self.images[0].device

    def image(self, target: int) -> Tensor:
        """The frame that a target is in."""
        return self.images[target if len(self.images) > 1 else 0]

    def boxes(self, windows: Sequence[Sequence[Window]]) -> tuple[Tensor, Tensor]:
        """The one frame that all targets are in, and their windows in it as rows (x, y, w, h), on its device."""
        frame = self.images[0]
        return frame, _rows([w for own in windows for w in own], frame)

    def sample(self, windows: Sequence[Sequence[Window]], targets: Sequence[int]) -> Tensor:
        """Patches of all windows of the targets, in order; ``windows[i]`` lie in the frame of ``targets[i]``.

        Raises:
            ShapeError: no window, or windows of unequal patch size.
        """
        if len(self.images) == 1:
            return sample(self.images[0], [w for own in windows for w in own])
        return torch.cat([sample(self.image(k), own) for own, k in zip(windows, targets, strict=True)])


def sample(frame: Tensor, windows: Sequence[Window]) -> Tensor:
    """Patches of equal size from one frame, bilinear, the edge pixels repeated outside, without aliasing.

    Args:
        frame: (H, W, 3) uint8.
        windows: K ≥ 1 windows of equal ``out_w`` and ``out_h``.

    Returns:
        (K, 3, out_h, out_w) float32, 0..255.

    Raises:
        ShapeError: no window, or windows of unequal patch size.
    """
    sizes = {(w.out_h, w.out_w) for w in windows}
    if len(sizes) != 1:
        raise ShapeError("sample", "windows", "at least one window, all of one patch size", str(sorted(sizes)))
    return ops.crop_resize(frame, _rows(windows, frame), sizes.pop(), antialias=True)


def _rows(windows: Sequence[Window], frame: Tensor) -> Tensor:
    numbers = array("d")  # a list of them would take a tensor longer than the rest of the call
    for w in windows:
        numbers.extend((w.x, w.y, w.w, w.h))
    rows = torch.frombuffer(numbers, dtype=torch.float64).view(-1, 4)
    return rows if frame.is_cpu else rows.to(frame.device)

"""Windows of a frame as patches, without aliasing where a window is shrunk."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

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

    def sample(self, windows: Sequence[Sequence[Window]], targets: Sequence[int]) -> Tensor:
        """Patches of all windows of the targets, in order; ``windows[i]`` lie in the frame of ``targets[i]``.

        Raises:
            ShapeError: no window, or windows of unequal patch size.
        """
        if len(self.images) == 1:
            return sample(self.images[0], [w for own in windows for w in own])
        return torch.cat([sample(self.image(k), own) for own, k in zip(windows, targets, strict=True)])


def sample(frame: Tensor, windows: Sequence[Window]) -> Tensor:
    """Patches of equal size from one frame, bilinear, the edge pixels repeated outside.

    ``ops.crop_resize`` has no low-pass filter. A window that shrinks the frame by ``s ≥ 2`` is therefore
    sampled from the frame averaged over blocks of ``⌊s⌋ × ⌊s⌋`` px: in edge coordinates the averaged frame is
    the frame divided by ``⌊s⌋``, so the geometry is exact. Rows and columns of an incomplete last block go.

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
    size = sizes.pop()
    largest = min(frame.shape[0], frame.shape[1])
    shrinks = [_shrink(w, largest) for w in windows]
    if len(set(shrinks)) == 1:
        return _crop(frame, windows, shrinks[0], size)
    out = torch.empty((len(windows), 3, *size), dtype=torch.float32, device=frame.device)
    for shrink in sorted(set(shrinks)):
        rows = [k for k, s in enumerate(shrinks) if s == shrink]
        out[rows] = _crop(frame, [windows[k] for k in rows], shrink, size)
    return out


def _shrink(window: Window, largest: int) -> int:
    """Side of the blocks to average, px; at most the frame's smaller side, so that something of it is left."""
    return max(1, min(math.floor(min(window.scale)), largest))


def _crop(frame: Tensor, windows: Sequence[Window], shrink: int, size: tuple[int, int]) -> Tensor:
    numbers = array("d")  # a list of them would take a tensor longer than the rest of the call
    if shrink == 1:
        for w in windows:
            numbers.extend((w.x, w.y, w.w, w.h))
    else:  # only the part that the windows see is averaged
        s = shrink
        height, width = frame.shape[0] // s, frame.shape[1] // s
        top, bottom = _blocks(min([w.y for w in windows]) / s, max([w.y + w.h for w in windows]) / s, height)
        left, right = _blocks(min([w.x for w in windows]) / s, max([w.x + w.w for w in windows]) / s, width)
        frame = _averaged(frame, (top, bottom), (left, right), s)
        for w in windows:
            numbers.extend((w.x / s - left, w.y / s - top, w.w / s, w.h / s))
    boxes = torch.frombuffer(numbers, dtype=torch.float64).view(-1, 4)
    return ops.crop_resize(frame, boxes if frame.is_cpu else boxes.to(frame.device), size)


def _blocks(low: float, high: float, count: int) -> tuple[int, int]:
    """Blocks of the frame that [low, high) needs, and one more each side for the interpolation; at least one."""
    first = min(max(math.floor(low) - 1, 0), count - 1)
    return first, min(max(math.ceil(high) + 1, first + 1), count)


def _averaged(frame: Tensor, rows: tuple[int, int], columns: tuple[int, int], side: int) -> Tensor:
    """The mean over blocks of ``side × side`` px of the blocks in these rows and columns, first to last."""
    down = slice(rows[0] * side, rows[1] * side)
    across = slice(columns[0] * side, columns[1] * side)
    if frame.is_cpu:
        import cv2  # ten times as fast as pooling, which needs the frame as floats

        size = columns[1] - columns[0], rows[1] - rows[0]
        return torch.from_numpy(cv2.resize(frame.numpy()[down, across], size, interpolation=cv2.INTER_AREA))
    blocks = functional.avg_pool2d(frame[down, across].permute(2, 0, 1).float(), side)
    return blocks.round_().to(torch.uint8).permute(1, 2, 0)

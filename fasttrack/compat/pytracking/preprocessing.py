"""Image patches around a target, as the feature extractors of pytracking take them.

Source: behaviour of ``pytracking.features.preprocessing``, which ATOM (Danelljan et al. 2019) and DiMP (Bhat et al.
2019) take their search areas with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fasttrack.compat.pytracking._crop import MODES, plan_crop
from fasttrack.errors import RangeError, ShapeError

__all__ = [
    "numpy_to_torch",
    "sample_patch",
    "sample_patch_multiscale",
    "sample_patch_transformed",
    "torch_to_numpy",
]


def numpy_to_torch(a: NDArray[Any]) -> Tensor:
    """An image (H, W, C) as a float32 batch (1, C, H, W) of the same values; a view of an array that is float32.

    Raises:
        ShapeError: ``a`` has not 3 dimensions.
    """
    if a.ndim != 3:
        raise ShapeError("numpy_to_torch", "a", "an image (H, W, C)", f"shape {a.shape}")
    if min(a.strides) < 0:  # as of a colour order reversed by [..., ::-1], which PyTorch does not take
        a = np.ascontiguousarray(a)
    return torch.from_numpy(a).float().permute(2, 0, 1).unsqueeze(0)


def torch_to_numpy(a: Tensor) -> NDArray[Any]:
    """A batch of one image (1, C, H, W) as an array (H, W, C) on the host, without gradient.

    Raises:
        ShapeError: ``a`` has other dimensions.
    """
    if a.dim() != 4 or a.shape[0] != 1:
        raise ShapeError("torch_to_numpy", "a", "(1, C, H, W)", f"shape {tuple(a.shape)}")
    image: NDArray[Any] = a[0].permute(1, 2, 0).detach().cpu().numpy()
    return image


def sample_patch(
    im: Tensor,
    pos: Tensor | Sequence[float],
    sample_sz: Tensor | Sequence[float],
    output_sz: Tensor | Sequence[float] | None = None,
    mode: str = "replicate",
    max_scale_change: float | None = None,
    is_mask: bool = False,
) -> tuple[Tensor, Tensor]:
    """One patch of an image, resampled, and where it lies.

    1. "inside" and "inside_major" shrink the patch until all of it, or its one side, fits into the image.
    2. Where the patch is more than 1.1 + d times as large as the output on both sides, d ≥ 1 whole, only every d-th
       pixel is looked at, of those in step with the centre.
    3. The patch is ``sample_sz``/d of these pixels, rounded, at least 2, about ⌊pos/d⌋ (the pixel before the middle, of
       an even number). The "inside" modes then move it inside, or to the middle of the image where it is larger.
    4. Outside the image the edge pixels repeat; a mask is 0 there.
    5. It is resampled to ``output_sz`` bilinearly (pixel centres, no antialiasing); a mask to the nearest pixel.

    Args:
        im: (N, C, H, W), any strides.
        pos: centre (y, x), px.
        sample_sz: (height, width) of the patch, px of the image.
        output_sz: (height, width) of the result, fractions dropped. None keeps the pixels.
        mode: "replicate", "inside" or "inside_major".
        max_scale_change: the "inside" modes shrink by no more than this.
        is_mask: as said.

    Returns:
        The patch (N, C, height, width), of the dtype and device of ``im`` and its own memory, and int64 (1, 4) on the
        CPU: top, left, bottom, right (exclusive) in px of the image. A gradient reaches ``im``.

    Raises:
        ShapeError: ``im`` has not 4 dimensions or no pixels; a position or size is not two numbers.
        RangeError: another mode, a number that is not finite, or an ``output_sz`` below 1.
    """
    if im.dim() != 4 or im.shape[2] < 1 or im.shape[3] < 1:
        raise ShapeError("sample_patch", "im", "(N, C, H, W) with H, W ≥ 1", f"shape {tuple(im.shape)}")
    if mode not in MODES:
        raise RangeError("sample_patch", "mode", " or ".join(map(repr, MODES)), repr(mode))
    crop = plan_crop((im.shape[2], im.shape[3]), pos, sample_sz, output_sz, mode, max_scale_change)
    step = crop.step
    seen = im if step == 1 else im[..., crop.offset[0] :: step, crop.offset[1] :: step]
    patch = _cut(seen, crop.top_left, crop.bottom_right, is_mask)
    coordinates = torch.tensor([[step * edge for edge in (*crop.top_left, *crop.bottom_right)]])
    if crop.output is None or crop.output == tuple(patch.shape[2:]):
        return patch.clone(memory_format=torch.contiguous_format), coordinates
    if is_mask:
        return F.interpolate(patch, crop.output, mode="nearest"), coordinates
    return F.interpolate(patch, crop.output, mode="bilinear", align_corners=False), coordinates


def _cut(im: Tensor, top_left: tuple[int, int], bottom_right: tuple[int, int], zero_outside: bool) -> Tensor:
    """The window of ``im``: a view of it if it lies inside."""
    pads: list[int] = []
    for axis, low, high in ((2, top_left[0], bottom_right[0]), (3, top_left[1], bottom_right[1])):
        size = im.shape[axis]
        # Of a window beyond the image there is at least the outermost pixel to repeat, and nothing where it is black.
        least = 0 if zero_outside else 1
        start = min(max(low, 0), size - least)
        stop = max(min(high, size), start + least)
        im = im.narrow(axis, start, stop - start)
        before = min(max(-low, 0), high - low - (stop - start))
        pads = [before, high - low - (stop - start) - before, *pads]
    if not any(pads):
        return im
    return F.pad(im, pads) if zero_outside else F.pad(im, pads, mode="replicate")


def sample_patch_multiscale(
    im: Tensor,
    pos: Tensor | Sequence[float],
    scales: float | Tensor | Iterable[float],
    image_sz: Tensor,
    mode: str = "replicate",
    max_scale_change: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Patches of several sizes about one position, each resampled to ``image_sz``.

    Args:
        im: (1, C, H, W).
        pos: centre (y, x), px.
        scales: sizes of the patches, as multiples of ``image_sz``: one or several.
        image_sz: (height, width) of the results.
        mode: as in ``sample_patch``.
        max_scale_change: as in ``sample_patch``.

    Returns:
        (S, C, height, width) and the (S, 4) places, one row per scale.

    Raises:
        As ``sample_patch``; RangeError where there are no scales.
    """
    several = [scales] if isinstance(scales, (int, float)) else list(scales)
    if not several:
        raise RangeError("sample_patch_multiscale", "scales", "at least one", "none")
    samples = [sample_patch(im, pos, scale * image_sz, image_sz, mode, max_scale_change) for scale in several]
    if len(samples) == 1:
        return samples[0]
    patches, places = zip(*samples, strict=True)
    return torch.cat(patches), torch.cat(places)


def sample_patch_transformed(
    im: Tensor,
    pos: Tensor | Sequence[float],
    scale: float | Tensor,
    image_sz: Tensor,
    transforms: Iterable[Callable[..., Tensor]],
    is_mask: bool = False,
) -> Tensor:
    """One patch of size ``scale``·``image_sz``, resampled to ``image_sz``, seen through each of the transforms.

    Args:
        im: (N, C, H, W).
        pos: centre (y, x), px.
        scale: size of the patch as a multiple of ``image_sz``.
        image_sz: (height, width) of the patch before it is transformed.
        transforms: called as ``transform(patch, is_mask=is_mask)``.
        is_mask: as in ``sample_patch``.

    Returns:
        What they return, one after the other along the first dimension.
    """
    patch, _ = sample_patch(im, pos, scale * image_sz, image_sz, is_mask=is_mask)
    return torch.cat([transform(patch, is_mask=is_mask) for transform in transforms])

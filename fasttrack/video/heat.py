"""Response maps laid over the frame they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fasttrack.geometry import Box
from fasttrack.video._opencv import opencv

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["heated"]

# Share of the colour where a response is lowest and highest: the scene stays visible everywhere.
_FAINT, _STRONG = 0.25, 0.75


def heated(image: NDArray[np.uint8], maps: Sequence[tuple[NDArray[np.float32], Box]]) -> NDArray[np.uint8]:
    """A copy of the picture with maps in colour over the parts that were searched: blue where they are low.

    Every map goes from its least to its largest value (a flat one is low everywhere); where several lie over each
    other, the highest is seen.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (rows, columns) values, and the part of the picture that these cover, in px; it may reach outside.
    """
    import numpy as np

    cv2 = opencv()
    height, width = image.shape[:2]
    level = np.full((height, width), -1.0, np.float32)
    for values, region in maps:
        finite = np.nan_to_num(np.ascontiguousarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        low, span = float(finite.min()), float(np.ptp(finite))
        unit = (finite - low) / span if span > 0 else np.zeros_like(finite)
        rows, columns = finite.shape
        # Edge coordinates → OpenCV's, where an integer is a pixel's centre.
        across, down = region.w / columns, region.h / rows
        place = np.array([[across, 0, region.x + across / 2 - 0.5], [0, down, region.y + down / 2 - 0.5]])
        seen = region.clipped(width, height)
        part = slice(round(seen.y), round(seen.y + seen.h)), slice(round(seen.x), round(seen.x + seen.w))
        spread = cv2.warpAffine(unit, place, (width, height), borderMode=cv2.BORDER_REPLICATE)
        level[part] = np.maximum(level[part], spread[part])
    colours = cv2.applyColorMap((np.clip(level, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    share = np.where(level < 0, 0.0, _FAINT + (_STRONG - _FAINT) * level)[:, :, None]
    return np.asarray(np.rint(image * (1 - share) + colours * share), np.uint8)

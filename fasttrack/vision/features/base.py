"""What a feature is: the protocol that every family follows, and the check of its input."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fasttrack.errors import DtypeError, ShapeError

__all__ = ["Feature", "check_patches"]


@runtime_checkable
class Feature(Protocol):
    """Turns patches into feature maps: (T, 3, h, w) float32 RGB 0..255 → (T, channels, h//stride, w//stride).

    Cell ``k`` of a map covers the patch edges ``[k·stride, (k+1)·stride)`` px, so the point of the map
    that belongs to a patch position ``p`` is ``p / stride`` in cells; pixels of a last, incomplete cell
    take no part. The map is an ordinary contiguous tensor without gradient.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def stride(self) -> int:
        """Patch px per cell."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the map."""
        ...

    @property
    def needs_fit(self) -> bool:
        """Whether :meth:`fit` must be called on the first frame."""
        ...

    @property
    def typical_rms(self) -> float:
        """Root mean square of one channel value over natural images: the scale that λ and learning rate go with."""
        ...

    @property
    def weights_note(self) -> str:
        """Which weights are used, to be said beside every result made with them ("" where there are none)."""
        ...

    def fit(self, patches: Tensor) -> None:
        """Learn what the feature needs from the patches of the first frame; does nothing where nothing is needed."""
        ...

    def fork(self) -> Feature:
        """The same feature for another target: frozen parts shared, not fitted."""
        ...

    def __call__(self, patches: Tensor) -> Tensor:
        """Feature maps of the patches."""
        ...


def check_patches(op: str, patches: Tensor, stride: int) -> None:
    """Prove that ``patches`` is (T, 3, h, w) float32 with at least one whole cell.

    Raises:
        ShapeError: another number of dimensions or channels, or sides below ``stride`` px.
        DtypeError: not float32.
    """
    if patches.dim() != 4 or patches.shape[1] != 3 or min(patches.shape[2:]) < stride:
        wanted = f"(T, 3, h, w) with h and w of at least {stride} px"
        raise ShapeError(op, "patches", wanted, str(tuple(patches.shape)))
    if patches.dtype != torch.float32:
        raise DtypeError(op, "patches", "float32 (RGB, 0..255)", str(patches.dtype))

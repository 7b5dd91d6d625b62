"""VGG-16 with only its first two max-pools kept, at any convolution, reduced by PCA."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack.errors import RangeError, UnknownName
from fasttrack.vision.architectures import VGG16, InputConvention
from fasttrack.vision.features.backbone import Backbone
from fasttrack.vision.features.base import check_patches
from fasttrack.vision.features.networks import network
from fasttrack.vision.features.pca import PCA

__all__ = ["VGG16Feature"]


class VGG16Feature:
    """Output of convolution ``depth`` (1..13) of VGG-16, averaged to ``stride``, PCA to ``channels``.

    Only the first two max-pools are kept: a convolution has the native stride 1 (depth 1, 2), 2 (3, 4) or
    4 (5 and deeper). With ``stride`` above that the map is pooled on, so that every depth can serve a
    tracker of 4-px cells; ``stride=None`` keeps the native one.

    Geometry: convolutions pad by one (same size) and pools are aligned 2×2 blocks, so the receptive field
    of cell ``k`` is centred at the middle of ``[k·stride, (k+1)·stride)`` px exactly. Border effect: the
    padding is zero after mean subtraction (a mean-coloured surround), felt within ``border_cells`` of the edge.

    Scale: it depends on the weights. On a natural image the RMS of a channel (after PCA) is about 130 at
    conv-2 and 80 at conv-4 of the original weights (0–255 input), 2 at conv-7 of SSD300's (RGB/255 input);
    λ and learning rate go with its square. ``unit_rms=True`` divides by the RMS over the first frame, after
    which ``typical_rms`` is 1; otherwise ``typical_rms`` is what was measured there.

    Args:
        depth: which convolution.
        weights: file of any format that ``load_weights`` reads; default: searched (see ``find_weights``).
        convention: input convention, where the file does not say.
        stride: px per cell, a multiple of the native stride; None for the native one.
        pool: how maps are brought to ``stride``: "avg", or "max" (the network's own way).
        relu: take the map after the ReLU (default) or before.
        channels: PCA channels; None for no PCA (nothing to fit then, unless ``unit_rms``).
        unit_rms: divide by the RMS over the first frame.
        max_batch_px: patch pixels in one pass of the network; larger batches are run in parts (memory).

    Raises:
        WeightsError: weights missing (says what to put where), broken, or of unknown input convention.

    Source: CRT §4.1.
    """

    def __init__(
        self,
        depth: int,
        *,
        weights: str | Path | None = None,
        convention: InputConvention | None = None,
        stride: int | None = 4,
        pool: str = "avg",
        relu: bool = True,
        channels: int | None = 64,
        unit_rms: bool = False,
        max_batch_px: int = 1 << 20,
    ) -> None:
        if not 1 <= depth <= len(VGG16.layers):
            raise RangeError("VGG16Feature", "depth", "1..13", str(depth))
        native = network("vgg16").tap(f"conv-{depth}").stride
        if stride is not None and (stride < native or stride % native):
            raise RangeError(f"conv-{depth}", "stride", f"a multiple of the native {native} px, or None", str(stride))
        if pool not in ("avg", "max"):
            raise UnknownName("pooling", pool, ("avg", "max"))
        if channels is not None and channels < 1:
            raise RangeError(f"conv-{depth}", "channels", "at least 1, or None for no PCA", str(channels))
        self.name, self.depth = f"conv-{depth}", depth
        self.native_stride, self.stride = native, native if stride is None else stride
        self.pool, self.unit_rms = pool, unit_rms
        self._pca_channels = channels
        width = VGG16.layers[depth - 1].shape[0]
        self.channels = width if channels is None else min(channels, width)
        self._backbone = Backbone(
            "vgg16",
            (self.name,),
            weights=weights,
            convention=convention,
            relu=relu,
            max_batch_px=max_batch_px,
            purpose=self.name,
        )
        self.weights, self.weights_note = self._backbone.weights, self._backbone.weights_note
        self._forget()

    def _forget(self) -> None:
        self._pca = None if self._pca_channels is None else PCA(self._pca_channels)
        self._fitted, self._scale, self._rms = False, 1.0, math.nan

    @property
    def needs_fit(self) -> bool:
        """True with PCA or ``unit_rms``."""
        return self._pca is not None or self.unit_rms

    @property
    def typical_rms(self) -> float:
        """RMS of one channel value over the first frame (1 with ``unit_rms``); NaN before :meth:`fit`."""
        return self._rms

    @property
    def receptive_field_px(self) -> int:
        """Side of the square of patch px that one cell sees."""
        tap = self._backbone.taps[0]
        return tap.receptive_field_px + self.stride - tap.stride

    @property
    def border_cells(self) -> int:
        """Cells from the edge of a map within which the zero padding is felt."""
        return math.ceil((self.receptive_field_px - self.stride) / 2 / self.stride)

    def fork(self) -> VGG16Feature:
        """Same network, not fitted: for another target of the same frame loop."""
        twin = copy.copy(self)
        twin._forget()
        return twin

    def fit(self, patches: Tensor) -> None:
        """PCA and scale from the patches of the first frame (one target's).

        Raises:
            ShapeError, DtypeError: see ``__call__``.
            RangeError: NaN, or patches whose features do not vary.
        """
        maps = self.backbone(patches)
        if self._pca is not None:
            maps = self._pca.fit(maps).apply(maps)
        rms = float(maps.double().square().mean().sqrt())
        if not (math.isfinite(rms) and rms > 0):
            raise RangeError(f"{self.name}.fit", "patches", "patches with features that vary", f"features of RMS {rms}")
        self._scale = 1 / rms if self.unit_rms else 1.0
        self._rms = rms * self._scale
        self._fitted = True

    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) float32 RGB 0..255 → (T, channels, h//stride, w//stride).

        Raises:
            ShapeError, DtypeError: patches of another shape or type.
            RangeError: not fitted yet, though this feature needs it.
        """
        return self.project(self.backbone(patches))

    def project(self, maps: Tensor) -> Tensor:
        """PCA and scale of this target, on maps of :meth:`backbone` (which several targets may share)."""
        if self.needs_fit and not self._fitted:
            raise RangeError(self.name, "features", "fitted (call fit on the first frame)", "not fitted")
        with torch.no_grad():
            if self._pca is not None:
                maps = self._pca.apply(maps)
            return maps.contiguous() if self._scale == 1.0 else (maps * self._scale).contiguous()

    def backbone(self, patches: Tensor) -> Tensor:
        """Maps of the frozen network at ``stride``, before PCA: (T, C, h//stride, w//stride)."""
        check_patches(self.name, patches, self.stride)
        (maps,) = self._backbone(patches)
        factor = self.stride // self.native_stride
        if factor == 1:
            return maps
        return F.avg_pool2d(maps, factor) if self.pool == "avg" else F.max_pool2d(maps, factor)

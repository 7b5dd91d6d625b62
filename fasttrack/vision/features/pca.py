"""Principal components of feature channels, fitted on the first frame."""

from __future__ import annotations

import logging

from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError, ShapeError

__all__ = ["PCA"]

logger = logging.getLogger(__name__)


class PCA:
    """Projection of C channels onto the ``k`` directions of largest variance (``ops.pca_fit``, ``ops.pca_apply``).

    ``model`` holds the mean, the (C, kept) basis and the variances of the fit; None before it.

    Args:
        k: channels to keep; of fewer than k channels all are kept (rotated), which ``kept`` says.

    Source: CRT §4.1 (64 channels, fitted on the first frame).
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise RangeError("PCA", "k", "at least 1", str(k))
        self.k = k
        self.model: ops.PCAModel | None = None

    @property
    def kept(self) -> int:
        """Channels kept by the fit; 0 before it."""
        return 0 if self.model is None else self.model.basis.shape[1]

    def fit(self, features: Tensor) -> PCA:
        """Learn mean and directions from all cells of (T, C, H, W) maps.

        Raises:
            ShapeError: not four dimensions, or fewer than two cells.
            RangeError: NaN or infinity, or features that do not vary.
        """
        if features.dim() != 4 or features.shape[0] * features.shape[2] * features.shape[3] < 2:
            raise ShapeError("PCA.fit", "features", "(T, C, H, W) with at least two cells", str(tuple(features.shape)))
        samples = features.detach().float().transpose(0, 1).flatten(1).T
        model = ops.pca_fit(samples, min(self.k, samples.shape[1]))
        if float(model.variances[0]) == 0:
            raise RangeError("PCA.fit", "features", "features that vary from cell to cell", "a constant map")
        if model.basis.shape[1] < self.k:
            logger.info("PCA: %d channels wanted, %d are there: all kept", self.k, model.basis.shape[1])
        self.model = model
        return self

    def apply(self, features: Tensor) -> Tensor:
        """(T, C, H, W) → contiguous (T, kept, H, W) in float32.

        Raises:
            RangeError: before a fit.
            ShapeError: other channels than those of the fit.
        """
        if self.model is None:
            raise RangeError("PCA.apply", "self", "fitted (call fit on the first frame)", "not fitted")
        channels = self.model.basis.shape[0]
        if features.dim() != 4 or features.shape[1] != channels:
            raise ShapeError("PCA.apply", "features", f"(T, {channels}, H, W)", str(tuple(features.shape)))
        if self.model.basis.device != features.device:
            self.model = ops.PCAModel(*(part.to(features.device) for part in self.model))
        return ops.pca_apply(features.float(), self.model)

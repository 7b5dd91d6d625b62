"""Principal components of feature channels, fitted on the first frame."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from fasttrack.errors import RangeError, ShapeError

__all__ = ["PCA"]

logger = logging.getLogger(__name__)


class PCA:
    """Projection of C channels onto the ``k`` directions of largest variance.

    ``y = B·(x − μ)``, B (k, C) the first k eigenvectors of the channel covariance ``cov(x)`` in float64
    (``torch.linalg.eigh``), largest eigenvalue first. The sign of an eigenvector is free: here its entry
    of largest magnitude (the first of equals) is positive, so that a fit is repeatable.

    Args:
        k: channels to keep; of fewer than k channels all are kept (rotated), which ``kept`` says.

    Source: CRT §4.1 (64 channels, fitted on the first frame).
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise RangeError("PCA", "k", "at least 1", str(k))
        self.k = k
        self.mean: Tensor | None = None
        self.basis: Tensor | None = None
        self.variances: Tensor | None = None

    @property
    def kept(self) -> int:
        """Channels kept by the fit; 0 before it."""
        return 0 if self.basis is None else self.basis.shape[0]

    def fit(self, features: Tensor) -> PCA:
        """Learn mean and directions from all cells of (T, C, H, W) maps.

        Raises:
            ShapeError: not four dimensions, or fewer than two cells.
            RangeError: NaN or infinity, or features that do not vary.
        """
        if features.dim() != 4 or features.shape[0] * features.shape[2] * features.shape[3] < 2:
            raise ShapeError("PCA.fit", "features", "(T, C, H, W) with at least two cells", str(tuple(features.shape)))
        x = features.detach().to(torch.float64).transpose(0, 1).flatten(1)
        if not bool(torch.isfinite(x).all()):
            raise RangeError("PCA.fit", "features", "finite", "NaN or infinity")
        mean = x.mean(1)
        x = x - mean[:, None]
        covariance = (x @ x.T) / (x.shape[1] - 1)
        # Relative to the size of the values: rounding alone makes a constant vary by 1e-14 of itself.
        if float(covariance.diagonal().sum()) <= 1e-18 * float(mean.square().sum()):
            raise RangeError("PCA.fit", "features", "features that vary from cell to cell", "a constant map")
        values, vectors = torch.linalg.eigh(covariance)
        basis = vectors.flip(1).T[: self.k]
        largest = basis.abs().argmax(1, keepdim=True)
        basis = basis * basis.gather(1, largest).sign()
        if basis.shape[0] < self.k:
            logger.info("PCA: %d channels wanted, %d are there: all kept", self.k, basis.shape[0])
        self.mean, self.variances = mean, values.flip(0)[: self.k]
        self.basis = basis.contiguous()
        self._project = (self.basis.float(), -(self.basis @ mean).float()[:, None])
        return self

    def apply(self, features: Tensor) -> Tensor:
        """(T, C, H, W) → contiguous (T, kept, H, W) in float32.

        Raises:
            RangeError: before a fit.
            ShapeError: other channels than those of the fit.
        """
        if self.basis is None:
            raise RangeError("PCA.apply", "self", "fitted (call fit on the first frame)", "not fitted")
        if features.dim() != 4 or features.shape[1] != self.basis.shape[1]:
            wanted = f"(T, {self.basis.shape[1]}, H, W)"
            raise ShapeError("PCA.apply", "features", wanted, str(tuple(features.shape)))
        t, _, h, w = features.shape
        basis, offset = (part.to(features.device) for part in self._project)
        maps = torch.baddbmm(offset.expand(t, -1, h * w), basis.expand(t, -1, -1), features.float().flatten(2))
        return maps.view(t, -1, h, w)

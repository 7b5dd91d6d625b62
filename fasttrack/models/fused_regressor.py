"""Regressors on reduced, fused maps of several layers, trained with their reductions (DSLT §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError
from fasttrack.models.base import Fit
from fasttrack.nn import FocalRegressionLoss, ShrinkageLoss, SquareLoss
from fasttrack.ops.conv_problem import RegressionLoss
from fasttrack.ops.conv_regression import composed

__all__ = ["LOSSES", "FusedConfig", "FusedRegressor", "learn"]

LOSSES = ("shrinkage", "shrinkage-original", "square", "focal")


@dataclass(frozen=True)
class FusedConfig:
    """How a :class:`FusedRegressor` learns, in units of maps of RMS 1, to which it brings every map.

    With ``x′ = x/s`` a reduction ``A′ = s·A`` gives the same reduced map; Adam moves every number by about its rate
    a step, so a rate η for maps of RMS s is ``η·s`` here.

    Args:
        mixing: per map its shares in what the regressors read, as ``ops.Fusion`` has them.
        reduced: channels D that every map is reduced to.
        loss: one of ``LOSSES``.
        a: speed of the shrinkage.
        c: where it sets in, in units of the labels.
        weight_decay: λ of ``Σ loss + λ‖w‖²``.
        fit_lr: Adam's learning rates on the first frame, per map: of its reduction, and of its regressor.
        fit_steps: most iterations on the first frame.
        fit_loss: the first frame is learnt when the data loss of a copy of it, summed, falls below this.
        update_lr: Adam's learning rates afterwards, per map.
        update_steps: iterations per update, each on all frames kept.
        history: frames an update learns from, the newest included.
        init_std: standard deviation of the zero-mean Gaussian the regressors start from.
        seed: of that Gaussian and of the reductions'.
    """

    mixing: tuple[tuple[float, ...], ...]
    reduced: int
    loss: str
    a: float
    c: float
    weight_decay: float
    fit_lr: tuple[float, ...]
    fit_steps: int
    fit_loss: float
    update_lr: tuple[float, ...]
    update_steps: int
    history: int
    init_std: float
    seed: int

    def criterion(self) -> RegressionLoss:
        """The loss of this name."""
        if self.loss == "square":
            return SquareLoss()
        if self.loss == "focal":
            return FocalRegressionLoss()
        return ShrinkageLoss(self.a, self.c, "original" if self.loss == "shrinkage-original" else "modified")


class FusedRegressor:
    """``R = Σ_r w_r ⋆ Σ_i m[i][r]·A_i F_i`` on maps of several layers, all ``A_i`` and ``w_r`` trained together.

    Args:
        sizes: channels of every map.
        kernel: (kh, kw), the object's size in cells.
        config: how to learn.
    """

    def __init__(self, sizes: tuple[int, ...], kernel: tuple[int, int], config: FusedConfig) -> None:
        self.sizes, self.kernel, self.config = sizes, kernel, config
        self._gain = torch.ones(sum(sizes), 1, 1)
        self._weight = self._reduction = torch.empty(0)
        self._problem: ops.ConvRegressionProblem | None = None
        self._state: ops.AdamState | None = None

    def spectra(self, features: Tensor) -> ops.FeatureSpectra:
        """One (C, H, W) map at the model's scale, to be responded to and learnt from."""
        return ops.FeatureSpectra(features * self._gain, self.kernel)

    def respond(self, spectra: ops.FeatureSpectra) -> Tensor:
        """(H′, W′) with H′ = H − kh + 1, W′ = W − kw + 1."""
        fusion = self.fusion(self.config.fit_lr)
        return spectra.response(self._weight, None, self._reduction, fusion=fusion)

    def composed(self) -> Tensor:
        """The one kernel (C, kh, kw) on maps as they come that does all of it: s_i·A_iᵀ Σ_r m[i][r]·w_r, map by map.

        Raises:
            RangeError: not fitted.
        """
        if self._weight.numel() == 0:
            raise RangeError("FusedRegressor", "self", "fitted (call fit on the first frame)", "not fitted")
        parts = zip(self._reduction.split(self.sizes, 1), self.config.mixing, strict=True)
        kernels = [
            composed(sum((share * w for share, w in zip(shares, self._weight, strict=True)), torch.zeros(())), matrix)
            for matrix, shares in parts
        ]
        return torch.cat(kernels) * self._gain

    def fusion(self, rates: tuple[float, ...]) -> ops.Fusion:
        """What the regressors read, with these rates per map, as factors of the first."""
        factors = tuple(rate / rates[0] for rate in rates)
        return ops.Fusion(self.sizes, self.config.mixing, rates=factors, reduction_rates=factors)

    def fit(self, copies: Tensor, labels: Tensor) -> Fit:
        """Learn from (N, C, H, W) copies of the first frame, forgetting everything before; the first is kept."""
        config = self.config
        rms = [part.square().mean().sqrt().clamp(min=1e-6) for part in copies.split(self.sizes, 1)]
        gains = [1 / r.expand(n) for r, n in zip(rms, self.sizes, strict=True)]
        self._gain = torch.cat(gains)[:, None, None]
        random = torch.Generator().manual_seed(config.seed)
        shape = (len(self.sizes), config.reduced, *self.kernel)
        self._weight = (torch.randn(shape, generator=random) * config.init_std).to(copies.device)
        # Reduced maps of RMS 1 too.
        parts = [torch.randn(config.reduced, n, generator=random) / n**0.5 for n in self.sizes]
        self._reduction = torch.cat(parts, 1).to(copies.device)
        self._state = None
        spectra = [self.spectra(copy) for copy in copies]
        self._problem = self._made(spectra, labels)
        (fit,) = _run([self], config.fit_steps, config.fit_lr, config.fit_loss * len(copies))
        self._problem = self._made(spectra[:1], labels, config.history)
        return fit

    def _made(
        self, spectra: list[ops.FeatureSpectra], labels: Tensor, capacity: int | None = None
    ) -> ops.ConvRegressionProblem:
        targets, criterion = [labels] * len(spectra), self.config.criterion()
        return ops.ConvRegressionProblem(spectra, targets, criterion, self.config.weight_decay, capacity)

    def keep(self, spectra: ops.FeatureSpectra, labels: Tensor) -> None:
        """Take a frame into the history; :func:`learn` learns from it."""
        self.problem.append(spectra, labels)

    @property
    def problem(self) -> ops.ConvRegressionProblem:
        """The frames learnt from."""
        if self._problem is None:
            raise RangeError("FusedRegressor", "self", "fitted (call fit on the first frame)", "not fitted")
        return self._problem


def learn(models: Sequence[FusedRegressor]) -> list[Fit]:
    """Take ``update_steps`` iterations of every model on the frames it keeps, in one call; all of one config."""
    if not models:
        return []
    config = models[0].config
    return _run(models, config.update_steps, config.update_lr, None)


def _run(models: Sequence[FusedRegressor], steps: int, rates: tuple[float, ...], tolerance: float | None) -> list[Fit]:
    batch = ops.ConvRegressionBatch([m.problem for m in models])
    states = [m._state for m in models]
    runs = batch.run(
        [m._weight for m in models],
        None,
        steps,
        "adam",
        rates[0],
        tolerance,
        evaluate=tolerance is not None,
        state=None if None in states else [s for s in states if s is not None],
        reduction=[m._reduction for m in models],
        bias_lr=0.0,  # DSLT has none
        fusion=models[0].fusion(rates),
    )
    for model, run in zip(models, runs, strict=True):
        assert run.reduction is not None
        model._weight, model._reduction, model._state = run.weight, run.reduction, run.state
    return [Fit(run.steps, run.loss, tuple(run.history[:, 1].tolist())) for run in runs]

"""Convolutional regression: one convolution as large as the object, one response channel (CRT §3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.models.base import Fit
from fasttrack.nn import TruncatedLoss

__all__ = ["ConvRegressor", "RegressorConfig"]


@dataclass(frozen=True)
class RegressorConfig:
    """How a :class:`ConvRegressor` learns, in units of the features it is given.

    Args:
        threshold: th of the truncated loss, in units of the labels.
        a: exponent of its label weight.
        weight_decay: λ of ``Σ loss + λ‖w‖²``; the bias is not decayed.
        solver: "adam" or "cg".
        fit_lr: Adam's learning rate on the first frame (no meaning for "cg").
        fit_steps: most iterations on the first frame.
        fit_loss: the first frame is learnt when the data loss falls below this.
        update_lr: Adam's learning rate afterwards.
        update_steps: iterations per update.
        history: frames an update learns from, the newest included.
        init_std: standard deviation of the zero-mean Gaussian the weight starts from.
        seed: of that Gaussian.
    """

    threshold: float
    a: float
    weight_decay: float
    solver: str
    fit_lr: float
    fit_steps: int
    fit_loss: float
    update_lr: float
    update_steps: int
    history: int
    init_std: float
    seed: int

    def in_units_of(self, rms: float) -> RegressorConfig:
        """The same problem for features ``rms`` times as large.

        With ``x′ = s·x`` the response ``⟨w, x⟩`` is kept by ``w′ = w/s``. Then ``λ‖w‖² = λs²‖w′‖²``, so
        ``λ′ = λs²``; and Adam moves every weight by about its learning rate a step, so ``lr′ = lr/s``.
        The iterates are the same up to the ε of Adam.
        """
        values = dict(self.__dict__)
        values["weight_decay"] *= rms * rms
        for field in ("fit_lr", "update_lr", "init_std"):
            values[field] /= rms
        return RegressorConfig(**values)


class ConvRegressor:
    """``R = Σ_c corr(x_c, w_c) + bias``, trained on whole patches with the truncated loss.

    Spectra of the features are computed once: those of a detection are learnt from in the update that follows.

    Args:
        kernel: (kh, kw), the object's size in cells.
        config: how to learn.
    """

    def __init__(self, kernel: tuple[int, int], config: RegressorConfig) -> None:
        self.kernel, self.config = kernel, config
        self._loss = TruncatedLoss(config.threshold, config.a)
        self._samples: deque[tuple[ops.FeatureSpectra, Tensor]] = deque(maxlen=config.history)
        self._weight = torch.empty(0)
        self._bias = torch.empty(0)
        self._state: ops.AdamState | None = None

    @property
    def weight(self) -> Tensor:
        """(C, kh, kw); empty before :meth:`fit`."""
        return self._weight

    @property
    def bias(self) -> Tensor:
        """(1,); empty before :meth:`fit`."""
        return self._bias

    def spectra(self, features: Tensor) -> ops.FeatureSpectra:
        """Spectra of one map (C, H, W), to be responded to and learnt from."""
        return ops.FeatureSpectra(features, self.kernel)

    def fit(self, features: Tensor, labels: Tensor) -> Fit:
        """Learn from the first frame until the data loss is below ``fit_loss``, forgetting everything before."""
        config = self.config
        random = torch.Generator().manual_seed(config.seed)
        shape = (features.shape[0], *self.kernel)
        self._weight = torch.randn(shape, generator=random).mul_(config.init_std).to(features.device)
        self._bias = torch.zeros(1, device=features.device)
        self._samples.clear()
        self._state = None
        self._samples.append((self.spectra(features), labels))
        return self._run(config.fit_steps, config.fit_lr, config.fit_loss)

    def respond(self, features: Tensor | Sequence[ops.FeatureSpectra]) -> Tensor:
        """(S, C, H, W) or the spectra of S maps → (S, H′, W′) with H′ = H − kh + 1, W′ = W − kw + 1."""
        if isinstance(features, Tensor):
            return ops.conv_regression(features, self._weight, self._bias)
        return torch.stack([s.response(self._weight, self._bias) for s in features])

    def update(self, features: Tensor | ops.FeatureSpectra, labels: Tensor) -> Fit:
        """Take ``update_steps`` iterations on this frame and those before it."""
        spectra = self.spectra(features) if isinstance(features, Tensor) else features
        self._samples.append((spectra, labels))
        return self._run(self.config.update_steps, self.config.update_lr, None)

    def _run(self, steps: int, lr: float, tolerance: float | None) -> Fit:
        problem = ops.ConvRegressionProblem(
            [s for s, _ in self._samples], [y for _, y in self._samples], self._loss, self.config.weight_decay
        )
        run = problem.run(
            self._weight, self._bias, steps, self.config.solver, lr=lr, tolerance=tolerance, state=self._state
        )
        self._weight, self._bias, self._state = run.weight, run.bias, run.state
        return Fit(run.steps, run.loss, tuple(run.history[:, 1].tolist()))

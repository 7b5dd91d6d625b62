"""The regression problem solved with ``conv_regression``, step by step in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fasttrack.spec._conv_fusion import Fusion, fused_response
from fasttrack.spec.conv_regression import conv_regression
from fasttrack.spec.regression_loss import value_at

__all__ = ["OPTIMIZERS", "AdamState", "Optimization", "Outcome", "position_weight", "run_problem"]

OPTIMIZERS = ("adam", "cg", "gd")


def position_weight(form: str, target: Tensor, a: float) -> Tensor:
    """What multiplies e² at a position by its label alone: the weight conjugate gradient solves with."""
    if form == "truncated":
        return torch.exp(2 * a * target)
    return torch.exp(target) if form.startswith("shrinkage") else torch.ones_like(target)


@dataclass(frozen=True)
class AdamState:
    """What Adam remembers between two runs (``exp_avg``, ``exp_avg_sq`` and ``step`` of ``torch.optim.Adam``).

    Args:
        moments: (2, D, kh, kw), or (2, R, D, kh, kw), first and second moment of the weight's gradient.
        bias_moments: (2,), those of the bias.
        steps: updates they have seen.
        reduction_moments: (2, D, C), those of the reduction; None without one.
    """

    moments: Tensor
    bias_moments: Tensor
    steps: int
    reduction_moments: Tensor | None = None

    @classmethod
    def start(cls, weight: Tensor, reduction: Tensor | None = None) -> AdamState:
        """The state before the first step on this weight, and reduction."""
        like = weight.detach()
        of_reduction = None if reduction is None else like.new_zeros(2, *reduction.shape)
        return cls(like.new_zeros(2, *like.shape), like.new_zeros(2), 0, of_reduction)


@dataclass(frozen=True)
class Optimization:
    """From where to optimise, how, and when to stop; see ``ConvRegressionProblem.run``."""

    weight: Tensor
    bias: Tensor
    steps: int
    optimizer: str = "adam"
    lr: float = 0.0
    tolerance: float | None = None
    evaluate: bool = True
    state: AdamState | None = None
    reduction: Tensor | None = None
    reduction_lr: float = 0.0
    reduction_decay: float = 0.0
    patience: int | None = None
    bias_lr: float | None = None  # None: that of the weight
    fusion: Fusion | None = None


@dataclass(frozen=True)
class Outcome:
    """Where an optimisation ended; ``history`` has rows of loss and SNR, one per iterate measured."""

    weight: Tensor
    bias: Tensor
    reduction: Tensor | None
    steps: int
    history: Tensor
    state: AdamState | None
    stalled: bool


def run_problem(
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    form: str,
    a: float,
    c: float,
    weight_decay: float,
    how: Optimization,
) -> Outcome:
    """The whole optimisation, step by step."""
    w, b = how.weight.detach().clone().requires_grad_(), how.bias.detach().clone().requires_grad_()
    matrix = None if how.reduction is None else how.reduction.detach().clone().requires_grad_()
    if how.optimizer == "cg":
        update: Callable[[Tensor], bool] = _cg(w, b, features, targets, form, a, weight_decay)
    else:
        update = _TorchStep(w, b, matrix, how)
    history: list[tuple[float, float]] = []
    step, mark, since, stalled = 0, math.inf, 0, False
    while step < how.steps or how.evaluate:
        responses = [_response(x, w, b, matrix, how.fusion) for x in features]
        data = torch.stack([value_at(form, r, y, a, c).sum() for r, y in zip(responses, targets, strict=True)]).sum()
        flat = torch.cat([r.detach().flatten() for r in responses])
        history.append((data.item(), (flat.max() - flat.mean()).double().exp().item()))
        if step == how.steps or (how.tolerance is not None and history[-1][0] < how.tolerance):
            break
        decays = [1.0] if how.fusion is None else how.fusion.decays
        squares = [p.square().sum() for p in ([w] if how.fusion is None else w)]
        penalty = weight_decay * torch.stack([d * s for d, s in zip(decays, squares, strict=True)]).sum()
        if matrix is not None:
            penalty = penalty + how.reduction_decay * matrix.square().sum()
        fit = _squares(responses, targets, form, a) if how.optimizer == "cg" else data
        if (fit + penalty).item() < 0.999 * mark:
            mark, since = (fit + penalty).item(), step
        stalled = how.patience is not None and step - since >= how.patience
        if stalled or not update(data + penalty):
            break
        step += 1
    rows = torch.tensor(history, dtype=torch.float64).reshape(-1, 2)
    after = update.state() if isinstance(update, _TorchStep) else None
    return Outcome(w.detach(), b.detach(), matrix if matrix is None else matrix.detach(), step, rows, after, stalled)


def _response(x: Tensor, w: Tensor, b: Tensor, matrix: Tensor | None, fusion: Fusion | None) -> Tensor:
    if fusion is None or matrix is None:
        return conv_regression(x, w, b, matrix)
    return fused_response(x, w, b, matrix, fusion)


class _TorchStep:
    """One step of ``torch.optim.Adam``, from a given state, or of ``torch.optim.SGD``.

    What has a rate of its own is a parameter of its own to the optimizer: regressors, the matrices of the maps, and
    the bias. They are views of ``w``, ``matrix`` and ``b``, and get their share of those tensors' gradients.
    """

    def __init__(self, w: Tensor, b: Tensor, matrix: Tensor | None, how: Optimization) -> None:
        self.wholes, self.fusion = [w, b] if matrix is None else [w, b, matrix], how.fusion
        self.parts = [self._split(whole.detach()) for whole in self.wholes]
        rates = ([1.0],) * 3 if how.fusion is None else (how.fusion.rates, [1.0], how.fusion.reduction_rates)
        bases = how.lr, how.lr if how.bias_lr is None else how.bias_lr, how.reduction_lr
        groups: list[dict[str, Any]] = []
        for parts, base, factors in zip(self.parts, bases, rates, strict=False):
            groups += [{"params": [p], "lr": base * factor} for p, factor in zip(parts, factors, strict=True)]
        adam = how.optimizer == "adam"
        kind: type[torch.optim.Adam | torch.optim.SGD] = torch.optim.Adam if adam else torch.optim.SGD
        self.optimizer = kind(groups, lr=how.lr)
        self.before = (AdamState.start(w, matrix) if how.state is None else how.state) if adam else None
        self.moments: list[Tensor] = []
        self.steps = 0
        if self.before is not None:
            self._begin(self.before)

    def _begin(self, before: AdamState) -> None:
        """Adam's state, views of ``moments`` like the parameters."""
        wholes = before.moments, before.bias_moments[:, None], before.reduction_moments
        self.moments = [whole.clone() for whole in wholes if whole is not None]
        for parts, moments in zip(self.parts, self.moments, strict=True):
            for part, first, second in zip(parts, self._split(moments[0]), self._split(moments[1]), strict=True):
                step = torch.tensor(float(before.steps))
                self.optimizer.state[part] = {"step": step, "exp_avg": first, "exp_avg_sq": second}

    def _split(self, whole: Tensor) -> list[Tensor]:
        """Regressors of (R, D, kh, kw), matrices of (D, C); all else stays whole."""
        if self.fusion is None or whole.dim() == 1:
            return [whole]
        return list(whole) if whole.dim() == 4 else list(whole.split(self.fusion.channels, 1))

    def __call__(self, objective: Tensor) -> bool:
        for parts, gradient in zip(self.parts, torch.autograd.grad(objective, self.wholes), strict=True):
            for part, piece in zip(parts, self._split(gradient), strict=True):
                part.grad = piece
        self.optimizer.step()
        self.steps += 1
        return True

    def state(self) -> AdamState | None:
        """Adam's state; None for SGD."""
        if self.before is None:
            return None
        of_matrix = self.moments[2] if len(self.moments) > 2 else None
        return AdamState(self.moments[0], self.moments[1][:, 0], self.before.steps + self.steps, of_matrix)


def _squares(responses: Sequence[Tensor], targets: Sequence[Tensor], form: str, a: float) -> Tensor:
    """Σ W(y)²(R − y)², what conjugate gradient minimises beside the decay."""
    pairs = zip(responses, targets, strict=True)
    return torch.stack([(position_weight(form, y, a) * (r - y).square()).sum() for r, y in pairs]).sum()


def _cg(
    w: Tensor,
    b: Tensor,
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    form: str,
    a: float,
    weight_decay: float,
) -> Callable[[Tensor], bool]:
    """Conjugate gradient (Polak-Ribière, exact line search) on Σ W(y)²(R − y)² + weight_decay·‖w‖²."""
    squares = [position_weight(form, y, a) for y in targets]
    before: list[Tensor] = []
    direction = torch.zeros(w.numel() + 1, dtype=w.dtype)

    def step(_: Tensor) -> bool:
        nonlocal direction
        parts = [conv_regression(x, w, b) for x in features]
        slopes = torch.autograd.grad(_squares(parts, targets, form, a) + weight_decay * w.square().sum(), [w, b])
        residual = -0.5 * torch.cat([s.flatten() for s in slopes])
        keep = 0.0
        if before:
            keep = max(0.0, float(residual @ (residual - before[0]) / (before[0] @ before[0])))
        direction = residual + keep * direction
        before[:] = [residual]
        dw, db = direction[:-1].view_as(w), direction[-1:]
        images = [conv_regression(x, dw, db) for x in features]
        curvature = sum(float((s * q.square()).sum()) for s, q in zip(squares, images, strict=True))
        curvature += weight_decay * float(dw.square().sum())
        if curvature <= 0:
            return False
        along = float(residual @ direction) / curvature
        with torch.no_grad():
            w.add_(dw, alpha=along)
            b.add_(db, alpha=along)
        return True

    return step

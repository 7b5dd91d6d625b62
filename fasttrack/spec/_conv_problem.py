"""The regression problem solved with ``conv_regression``, step by step in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
        moments: (2, D, kh, kw), first and second moment of the weight's gradient.
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
    update: Callable[[Tensor], bool] = (
        _cg(w, b, features, targets, form, a, weight_decay) if how.optimizer == "cg" else _TorchStep(w, b, matrix, how)
    )
    history: list[tuple[float, float]] = []
    step, mark, since, stalled = 0, math.inf, 0, False
    while step < how.steps or how.evaluate:
        responses = [conv_regression(x, w, b, matrix) for x in features]
        data = torch.stack([value_at(form, r, y, a, c).sum() for r, y in zip(responses, targets, strict=True)]).sum()
        flat = torch.cat([r.detach().flatten() for r in responses])
        history.append((data.item(), math.exp((flat.max() - flat.mean()).item())))
        if step == how.steps or (how.tolerance is not None and history[-1][0] < how.tolerance):
            break
        penalty = weight_decay * w.square().sum()
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


class _TorchStep:
    """One step of ``torch.optim.Adam``, from a given state, or of ``torch.optim.SGD``."""

    def __init__(self, w: Tensor, b: Tensor, matrix: Tensor | None, how: Optimization) -> None:
        self.w, self.b, self.matrix, self.adam = w, b, matrix, how.optimizer == "adam"
        groups: list[dict[str, Any]] = [{"params": [w, b]}]
        if matrix is not None:
            groups.append({"params": [matrix], "lr": how.reduction_lr})
        kind: type[torch.optim.Adam | torch.optim.SGD] = torch.optim.Adam if self.adam else torch.optim.SGD
        self.optimizer = kind(groups, lr=how.lr)
        if self.adam:
            before = AdamState.start(w, matrix) if how.state is None else how.state
            for p, moments in ((w, before.moments), (b, before.bias_moments), (matrix, before.reduction_moments)):
                if p is not None and moments is not None:
                    first, second = (m.reshape(p.shape).clone() for m in moments)
                    step = torch.tensor(float(before.steps))
                    self.optimizer.state[p] = {"step": step, "exp_avg": first, "exp_avg_sq": second}

    def __call__(self, objective: Tensor) -> bool:
        self.optimizer.zero_grad()
        objective.backward()
        self.optimizer.step()
        return True

    def state(self) -> AdamState | None:
        """Adam's state; None for SGD."""
        if not self.adam:
            return None
        of_w, of_b = self.optimizer.state[self.w], self.optimizer.state[self.b]
        of_matrix = None if self.matrix is None else self._moments(self.matrix)
        bias_moments = torch.cat([of_b["exp_avg"], of_b["exp_avg_sq"]])
        return AdamState(self._moments(self.w), bias_moments, int(of_w["step"]), of_matrix)

    def _moments(self, p: Tensor) -> Tensor:
        return torch.stack([self.optimizer.state[p]["exp_avg"], self.optimizer.state[p]["exp_avg_sq"]])


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

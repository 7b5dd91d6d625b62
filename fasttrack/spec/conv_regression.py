"""Large-kernel, one-output convolution, and the regression problem solved with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from fasttrack.spec.base import Case, Cost, Spec, Tolerance
from fasttrack.spec.regression_loss import value_at

__all__ = ["OPTIMIZERS", "SPECS", "AdamState", "conv_regression", "position_weight", "run_problem"]

OPTIMIZERS = ("adam", "cg", "gd")


def conv_regression(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """R[b, i, j] = Σ_c,p,q X[b, c, i + p, j + q]·w[c, p, q] + bias."""
    batched = features if features.dim() == 4 else features[None]
    response = functional.conv2d(batched, weight[None], bias)[:, 0]
    return response if features.dim() == 4 else response[0]


def position_weight(form: str, target: Tensor, a: float) -> Tensor:
    """What multiplies e² at a position by its label alone: the weight conjugate gradient solves with."""
    if form == "truncated":
        return torch.exp(2 * a * target)
    return torch.exp(target) if form.startswith("shrinkage") else torch.ones_like(target)


@dataclass(frozen=True)
class AdamState:
    """What Adam remembers between two runs (``exp_avg``, ``exp_avg_sq`` and ``step`` of ``torch.optim.Adam``).

    Args:
        moments: (2, C, kh, kw), first and second moment of the weight's gradient.
        bias_moments: (2,), those of the bias.
        steps: updates they have seen.
    """

    moments: Tensor
    bias_moments: Tensor
    steps: int

    @classmethod
    def start(cls, weight: Tensor) -> AdamState:
        """The state before the first step on this weight."""
        like = weight.detach()
        return cls(like.new_zeros(2, *like.shape), like.new_zeros(2), 0)


def run_problem(
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    form: str,
    a: float,
    c: float,
    weight_decay: float,
    optimizer: str,
    lr: float,
    steps: int,
    tolerance: float | None = None,
    evaluate: bool = True,
    state: AdamState | None = None,
) -> tuple[Tensor, Tensor, int, Tensor, AdamState | None]:
    """The whole optimisation, step by step: (weight, bias, steps, history rows of loss and SNR, Adam's state)."""
    w, b = weight.detach().clone().requires_grad_(), bias.detach().clone().requires_grad_()
    update: Callable[[Tensor], bool] = (
        _cg(w, b, features, targets, form, a, weight_decay)
        if optimizer == "cg"
        else _TorchStep(w, b, optimizer, lr, state)
    )
    history: list[tuple[float, float]] = []
    step = 0
    while step < steps or evaluate:
        responses = [conv_regression(x, w, b) for x in features]
        data = sum(
            (value_at(form, r, y, a, c).sum() for r, y in zip(responses, targets, strict=True)),
            torch.zeros_like(b).sum(),
        )
        flat = torch.cat([r.detach().flatten() for r in responses])
        history.append((data.item(), math.exp((flat.max() - flat.mean()).item())))
        if step == steps or (tolerance is not None and history[-1][0] < tolerance):
            break
        if not update(data + weight_decay * w.square().sum()):
            break
        step += 1
    rows = torch.tensor(history, dtype=torch.float64).reshape(-1, 2)
    after = update.state() if isinstance(update, _TorchStep) else None
    return w.detach(), b.detach(), step, rows, after


class _TorchStep:
    """One step of ``torch.optim.Adam``, from a given state, or of ``torch.optim.SGD``."""

    def __init__(self, w: Tensor, b: Tensor, optimizer: str, lr: float, state: AdamState | None) -> None:
        self.w, self.b, self.adam = w, b, optimizer == "adam"
        self.optimizer = torch.optim.Adam([w, b], lr=lr) if self.adam else torch.optim.SGD([w, b], lr=lr)
        if self.adam:
            before = AdamState.start(w) if state is None else state
            for p, moments in ((w, before.moments), (b, before.bias_moments)):
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
        moments = torch.stack([of_w["exp_avg"], of_w["exp_avg_sq"]])
        return AdamState(moments, torch.cat([of_b["exp_avg"], of_b["exp_avg_sq"]]), int(of_w["step"]))


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
        fit = [(s * (r - y).square()).sum() for s, r, y in zip(squares, parts, targets, strict=True)]
        slopes = torch.autograd.grad(torch.stack(fit).sum() + weight_decay * w.square().sum(), [w, b])
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


def _maps(
    batch: int | None, channels: int, height: int, width: int, kh: int, kw: int, bias: bool = True
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        shape = (channels, height, width) if batch is None else (batch, channels, height, width)
        arguments = {"features": normal(*shape).to(dtype), "weight": normal(channels, kh, kw).to(dtype)}
        if bias:
            arguments["bias"] = normal(1).to(dtype)
        return arguments

    return build


_CASES = (
    Case("small", _maps(2, 3, 9, 8, 4, 3)),
    Case("one_map", _maps(None, 5, 13, 11, 6, 5)),
    Case("no_bias", _maps(1, 2, 12, 17, 5, 3, bias=False)),
    Case("kernel_is_map", _maps(9, 4, 7, 6, 7, 6)),
    Case("kernel_1x1", _maps(1, 9, 5, 7, 1, 1)),
    Case("row", _maps(1, 3, 1, 40, 1, 7)),
    Case("column", _maps(1, 3, 40, 1, 7, 1)),
    Case("one_channel", _maps(3, 1, 23, 19, 11, 2)),
    Case("prime", _maps(2, 17, 53, 47, 13, 7)),
    Case("wide", _maps(1, 31, 29, 83, 5, 19)),
    Case("kernel_3x3", _maps(1, 16, 24, 31, 3, 3)),
    Case("kernel_5x5", _maps(1, 12, 31, 24, 5, 5)),
    Case("S_64x100x72_k20x8", _maps(1, 64, 100, 72, 20, 8), bench=True, tests=False),
    Case("M_64x160x126_k32x14", _maps(1, 64, 160, 126, 32, 14), bench=True, tests=False),
    Case("L_64x240x216_k48x24", _maps(1, 64, 240, 216, 48, 24), bench=True, tests=False),
    Case("hog_31x100x72_k20x8", _maps(1, 31, 100, 72, 20, 8), bench=True, tests=False),
    Case("64x72x120_k9x9", _maps(1, 64, 72, 120, 9, 9), bench=True, tests=False),
    Case("128x72x120_k5x5", _maps(1, 128, 72, 120, 5, 5), bench=True, tests=False),
    Case("128x72x120_k3x3", _maps(1, 128, 72, 120, 3, 3), bench=True, tests=False),
)


def _cost(arguments: dict[str, Any]) -> Cost:
    """Of the definition, not of the FFT that the kernel runs instead."""
    features, weight = arguments["features"], arguments["weight"]
    height, width = features.shape[-2:]
    kh, kw = weight.shape[-2:]
    maps = features.numel() // (features.shape[-3] * height * width)
    positions = maps * (height - kh + 1) * (width - kw + 1)
    return Cost(flops=2.0 * weight.numel() * positions, bytes=4.0 * (features.numel() + weight.numel() + positions))


_TOLERANCE = {
    torch.float32: Tolerance(2e-6, 4e-6, witness="2.5e-7, 5e-7"),
    torch.float64: Tolerance(1e-13, 1e-12, witness="exact reference"),
    torch.float16: Tolerance(2e-3, 2e-3, witness="3e-4, 5e-4: one rounding of the result"),
    torch.bfloat16: Tolerance(1e-2, 1e-2, witness="2e-3, 4e-3: one rounding of the result"),
}

SPECS = (
    Spec(
        "conv_regression",
        "conv_regression",
        conv_regression,
        _CASES,
        _TOLERANCE,
        # The gradient in the bias is a bare sum, which the contract's alternating weights cancel to nothing:
        # tests/test_conv_regression.py checks it.
        ("features", "weight"),
        cost=_cost,
    ),
)

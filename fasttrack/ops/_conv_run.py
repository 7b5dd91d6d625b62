"""How regression problems are run, one or several at once: start, backends, result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fasttrack import dispatch, native
from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops import conv_device_run as device
from fasttrack.ops._conv_run_cuda import CUDA_ROW
from fasttrack.ops._rows import cpu_row, reference_row, triton_row
from fasttrack.ops.conv_regression import aligned
from fasttrack.ops.feature_spectra import FeatureSpectra, check_weight
from fasttrack.spec._conv_fusion import Fusion
from fasttrack.spec._conv_problem import OPTIMIZERS, AdamState, Optimization, Outcome, run_problem
from fasttrack.spec.regression_loss import FORMS

__all__ = ["PATIENCE", "ConvRegressionResult", "Problem", "run_together", "start_of"]

_OP = "conv_regression_problem"

# A learning run of CRT falls by a thousandth every step or two until it is learnt; 200 steps are far from both.
PATIENCE = 200


@dataclass(frozen=True)
class ConvRegressionResult:
    """Where an optimisation ended.

    Args:
        weight: (D, kh, kw), D = C without a reduction; (R, D, kh, kw) with a fusion.
        bias: (1,).
        steps: updates made.
        loss: Σ loss over all positions of all frames, without the weight decay, at ``weight``
            (before the last update if the run was told not to evaluate its end).
        snr: exp(max R − mean R) over the same positions (CRT eq. 6).
        history: (rows, 2) float64, loss and SNR of every iterate measured, the start first.
        state: what Adam goes on from in a later run; None after other optimizers.
        reduction: (D, C), or None without one.
        stalled: whether ``patience`` ran out.
    """

    weight: Tensor
    bias: Tensor
    steps: int
    loss: float
    snr: float
    history: Tensor
    state: AdamState | None
    reduction: Tensor | None = None
    stalled: bool = False


class Problem(Protocol):
    """What a backend reads of a problem, and where it may keep scratch memory between runs."""

    frames: list[FeatureSpectra]
    targets: list[Tensor]
    loss: Any
    weight_decay: float
    workspace: Tensor | None


def start_of(
    frame: FeatureSpectra,
    weight: Tensor | None,
    bias: Tensor | None,
    steps: int,
    optimizer: str,
    lr: float | None,
    tolerance: float | None,
    *,
    evaluate: bool,
    state: AdamState | None,
    patience: int | None,
    reduction: Tensor | None,
    reduction_lr: float | None,
    reduction_decay: float,
    bias_lr: float | None,
    fusion: Fusion | None,
) -> Optimization:
    """The checked arguments of ``ConvRegressionProblem.run``; ``frame`` is one of the problem's."""
    like = frame.features
    if weight is None:
        channels = like.shape[0] if reduction is None or reduction.dim() == 0 else reduction.shape[0]
        several = () if fusion is None else (fusion.regressors,)
        weight = like.new_zeros((*several, channels, *frame.kernel_size))
    bias = like.new_zeros(1) if bias is None else bias
    check_weight(_OP, weight, bias, frame, reduction, fusion)
    check.choice(_OP, "optimizer", optimizer, OPTIMIZERS)
    if optimizer == "cg" and reduction is not None:
        raise RangeError(_OP, "reduction", "None with optimizer 'cg'", "a reduction", "train it with 'adam'")
    _check_rates(optimizer, lr, bias_lr, reduction_lr)
    if steps < (0 if evaluate else 1):
        raise RangeError(_OP, "steps", "at least 0, or 1 without evaluation", repr(steps))
    if tolerance is not None:
        check.number(_OP, "tolerance", tolerance, low=0.0)
    if patience is not None and patience < 1:
        raise RangeError(_OP, "patience", "at least 1, or None", repr(patience))
    check.number(_OP, "reduction_decay", reduction_decay, low=0.0)
    if state is not None:
        _check_state(state, optimizer, weight, reduction)
    rate = 0.0 if lr is None else float(lr)
    second = rate if reduction_lr is None else float(reduction_lr)
    of_bias = rate if bias_lr is None else float(bias_lr)
    rest = state, reduction, second, float(reduction_decay), patience, of_bias, fusion
    return Optimization(weight, bias, steps, optimizer, rate, tolerance, evaluate, *rest)


def _check_rates(optimizer: str, lr: float | None, bias_lr: float | None, reduction_lr: float | None) -> None:
    if optimizer == "cg" and bias_lr is not None:
        raise RangeError(_OP, "bias_lr", "None with optimizer 'cg'", repr(bias_lr))
    if optimizer != "cg":
        if lr is None:
            raise RangeError(_OP, "lr", f"a finite number > 0 for {optimizer!r}", "None")
        check.number(_OP, "lr", lr, low=0.0, low_open=True)
    if bias_lr is not None:
        check.number(_OP, "bias_lr", bias_lr, low=0.0)
    if reduction_lr is not None:
        check.number(_OP, "reduction_lr", reduction_lr, low=0.0, low_open=True)


def run_together(
    problems: Sequence[Problem], starts: Sequence[Optimization], backend: str | None
) -> tuple[ConvRegressionResult, ...]:
    """Run every problem from its start, all on one backend."""
    row = dispatch.choose(_OP, (problems, starts), backend)
    outcomes: list[Outcome] = row.run(problems, starts)
    return tuple(
        ConvRegressionResult(
            o.weight,
            o.bias,
            o.steps,
            float(o.history[-1, 0]),
            float(o.history[-1, 1]),
            o.history,
            o.state,
            o.reduction,
            o.stalled,
        )
        for o in outcomes
    )


def _check_state(state: AdamState, optimizer: str, weight: Tensor, reduction: Tensor | None) -> None:
    if optimizer != "adam":
        raise RangeError(_OP, "state", f"None with optimizer {optimizer!r}", "a state of Adam")
    if state.moments.shape != (2, *weight.shape) or state.bias_moments.shape != (2,):
        check.shape_error(_OP, "state", f"of a weight of shape {tuple(weight.shape)}", state.moments)
    if (reduction is None) != (state.reduction_moments is None):
        wanted = (
            "without reduction_moments" if reduction is None else "with reduction_moments, as the run has a reduction"
        )
        raise RangeError(_OP, "state", wanted, "the other")
    for name in ("moments", "bias_moments", "reduction_moments"):
        value = getattr(state, name)
        if value is not None:
            check.same_dtype(_OP, f"state.{name}", value, "features", weight)
            check.same_device(_OP, f"state.{name}", value, "features", weight)
    moments = state.reduction_moments
    if reduction is not None and moments is not None and moments.shape != (2, *reduction.shape):
        check.shape_error(_OP, "state", f"of a reduction of shape {tuple(reduction.shape)}", moments)


def _cpu_why_not(problems: Sequence[Problem], starts: Sequence[Optimization]) -> str | None:
    return next((p.frames[0].why_not for p in problems if p.frames[0].why_not is not None), None)


class _Call:
    """One run on the CPU: its tensors, and how the kernels are told of them."""

    def __init__(self, problem: Problem, how: Optimization) -> None:
        frames, self.problem, self.how = problem.frames, problem, how
        for frame in frames:  # one tile for all: their gradients are summed before the inverse transform
            frame.retile(frames[0].tile)
        self.weight, self.bias = _own(how.weight), _own(how.bias)
        self.reduction = None if how.reduction is None else _own(how.reduction)
        before = AdamState.start(self.weight, self.reduction) if how.state is None else how.state
        self.moments, self.bias_moments, self.steps_before = (
            _own(before.moments),
            _own(before.bias_moments),
            before.steps,
        )
        self.reduction_moments = None if before.reduction_moments is None else _own(before.reduction_moments)
        self.history = torch.empty(how.steps + 1, 2, dtype=torch.float64)

    def describe(self) -> dict[str, Any]:
        """The call, as the kernels take it; without a workspace large enough it only asks for its size."""
        problem, how = self.problem, self.how
        form, p, q = problem.loss.kernel_form()
        adam = how.optimizer == "adam"
        pairs = zip(problem.frames, problem.targets, strict=True)
        return {
            "channels": problem.frames[0].features.shape[0],
            "kernel": problem.frames[0].kernel_size,
            "tile": problem.frames[0].tile,
            "frames": [(f.address(), y.data_ptr(), *f.features.shape[1:]) for f, y in pairs],
            "loss": (FORMS.index(form), p, q),
            "weight_decay": problem.weight_decay,
            "optimizer": OPTIMIZERS.index(how.optimizer),
            "lr": how.lr,
            "steps": how.steps,
            "tolerance": -1.0 if how.tolerance is None else how.tolerance,
            "patience": 0 if how.patience is None else how.patience,
            "evaluate": how.evaluate,
            "weight": self.weight.data_ptr(),
            "bias": self.bias.data_ptr(),
            "moments": self.moments.data_ptr() if adam else 0,
            "bias_moments": self.bias_moments.data_ptr() if adam else 0,
            "steps_before": self.steps_before,
            "bias_lr": how.lr if how.bias_lr is None else how.bias_lr,
            "reduced": self.weight.shape[-3],
            "fusion": _described(how.fusion, problem.frames[0].features.shape[0]),
            "reduction": 0 if self.reduction is None else self.reduction.data_ptr(),
            "reduction_moments": 0 if self.reduction_moments is None or not adam else self.reduction_moments.data_ptr(),
            "reduction_lr": how.reduction_lr,
            "reduction_decay": how.reduction_decay,
            "history": self.history.data_ptr(),
            "workspace": 0,
        }

    def outcome(self, steps: int, rows: int, stalled: int) -> Outcome:
        """What the kernels left."""
        after = AdamState(self.moments, self.bias_moments, self.steps_before + steps, self.reduction_moments)
        state = after if self.how.optimizer == "adam" else None
        return Outcome(self.weight, self.bias, self.reduction, steps, self.history[:rows], state, bool(stalled))


def _described(
    fusion: Fusion | None, channels: int
) -> tuple[list[int], list[float], list[float], list[float], list[float]]:
    """Channels of the maps, their shares map by map, and the factors of the rates and of the decay."""
    if fusion is None:
        return [channels], [1.0], [1.0], [1.0], [1.0]
    shares = [share for row in fusion.mixing for share in row]
    return list(fusion.channels), shares, list(fusion.rates), list(fusion.reduction_rates), list(fusion.decays)


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _run_cpu(problems: Sequence[Problem], starts: Sequence[Optimization]) -> list[Outcome]:
    lib = native.lib()
    calls = [_Call(problem, how) for problem, how in zip(problems, starts, strict=True)]
    one_tile = all(f.tile == p.frames[0].tile for p in problems for f in p.frames)
    if len(calls) > 1 and not (one_tile and len({id(p) for p in problems}) == len(problems)):
        # Problems that share scratch memory, or spectra they need in different tiles, take turns.
        return [_run_cpu([problem], [how])[0] for problem, how in zip(problems, starts, strict=True)]
    described = [call.describe() for call in calls]
    for call, one, (size, *_) in zip(calls, described, lib.conv_runs(described), strict=True):
        if call.problem.workspace is None or call.problem.workspace.numel() < size:
            call.problem.workspace = aligned(size)
        one["workspace"] = call.problem.workspace.data_ptr()
    return [call.outcome(*counts) for call, (_, *counts) in zip(calls, lib.conv_runs(described), strict=True)]


def _run_reference(problems: Sequence[Problem], starts: Sequence[Optimization]) -> list[Outcome]:
    outcomes = []
    with torch.enable_grad():
        for problem, how in zip(problems, starts, strict=True):
            maps, (form, a, c) = [f.features for f in problem.frames], problem.loss.kernel_form()
            outcomes.append(run_problem(maps, problem.targets, form, a, c, problem.weight_decay, how))
    return outcomes


dispatch.register(
    _OP,
    (
        CUDA_ROW,
        triton_row(device.why_not, device.run_triton),
        cpu_row(_cpu_why_not, _run_cpu),
        reference_row(_run_reference),
    ),
)

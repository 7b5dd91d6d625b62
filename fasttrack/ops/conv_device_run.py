"""Optimisations of a ``ConvRegressionProblem`` by the Triton kernels, with or without a look at the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fasttrack.errors import BackendUnavailable, RangeError, ShapeError
from fasttrack.native import triton_why_not
from fasttrack.ops._rows import on_gpu
from fasttrack.ops.feature_spectra import check_weight
from fasttrack.spec._conv_fusion import Fusion
from fasttrack.spec._conv_problem import AdamState, Optimization, Outcome
from fasttrack.spec.regression_loss import FORMS

if TYPE_CHECKING:
    from fasttrack.ops.conv_problem import ConvRegressionProblem

__all__ = ["ConvDeviceRun", "DeviceResult", "run_triton", "why_not"]

_OP = "conv_regression_problem"


class DeviceResult(NamedTuple):
    """Where an optimisation stands, as tensors of the device: nothing has waited for them.

    Attributes:
        weight: (D, kh, kw), D = C without a reduction; (R, D, kh, kw) with a fusion.
        bias: (1,).
        moments: (2, …), Adam's moments of the weight.
        bias_moments: (2,), those of the bias.
        steps: (1,) float64, updates made.
        rows: (1,) float64, rows of ``history`` that are written.
        history: (rows there is room for, 2) float64, loss and SNR of the iterates.
        reduction: (D, C), without elements where none is trained.
        reduction_moments: (2, D, C), those of the reduction, likewise.
    """

    weight: Tensor
    bias: Tensor
    moments: Tensor
    bias_moments: Tensor
    steps: Tensor
    rows: Tensor
    history: Tensor
    reduction: Tensor
    reduction_moments: Tensor


class ConvDeviceRun:
    """One optimisation on the GPU that the host never waits for: to overlap it, or to capture it.

    ``launch`` only starts kernels on memory this object owns: it may stand in a CUDA graph of the caller, whose
    replays each take the run on by as many iterations. A run that has ended (by its steps or its tolerance) stays as
    it is, whatever is launched. To begin anew on the same memory, ``load`` again, outside the graph.

    Args:
        problem: frames and loss; its list of frames must not change in length between two ``load``.
        optimizer: "adam", "gd" or "cg".
        steps: most updates there will be room for in the history.
        reduced: channels D that a reduction trained along leaves, not with "cg"; None: none is trained.
        regressors: R, those of the fusion the runs will have.

    Raises:
        BackendUnavailable: the Triton kernels cannot take the problem, with the reason.
        RangeError: a reduction with "cg", or of no channels.
    """

    def __init__(
        self,
        problem: ConvRegressionProblem,
        optimizer: str,
        steps: int,
        reduced: int | None = None,
        regressors: int = 1,
    ) -> None:
        reason = triton_why_not() or why_not([problem])
        if reason is not None:
            raise BackendUnavailable(f"{_OP}: no run on the device: {reason}")
        from fasttrack.kernels.conv_problem import Run

        if reduced is not None and (optimizer == "cg" or reduced < 1):
            wanted = "None with optimizer 'cg', else at least 1"
            raise RangeError(_OP, "reduced", wanted, repr(reduced))
        self.problem = problem
        frame = problem.frames[0].features
        self._run = Run(_shape(problem, optimizer, steps, reduced=(reduced or 0, regressors)), frame.device)
        self._iterations = 0
        self._weight: tuple[int, ...] = self._run.shape.weight[1:]

    def load(
        self,
        weight: Tensor,
        bias: Tensor,
        steps: int,
        lr: float = 0.0,
        tolerance: float | None = None,
        *,
        evaluate: bool = True,
        state: AdamState | None = None,
        patience: int | None = None,
        reduction: Tensor | None = None,
        reduction_lr: float | None = None,
        reduction_decay: float = 0.0,
        bias_lr: float | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        """Write start and numbers, as ``ConvRegressionProblem.run`` takes them; steps up to the room there is.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        """
        check_weight(_OP, weight, bias, self.problem.frames[0], reduction, fusion)
        optimizer, rate = self._run.shape.optimizer, lr if reduction_lr is None else reduction_lr
        rest = state, reduction, rate, reduction_decay, patience, bias_lr, fusion
        how = Optimization(weight, bias, steps, optimizer, lr, tolerance, evaluate, *rest)
        reduced, room = _reduced_channels(how), (self._run.shape.reduced, self._run.shape.regressors)
        if reduced != room:
            wanted = f"{room[0] or 'no'} reduced channels for {room[1]} regressors, as when the run was made"
            raise ShapeError(_OP, "reduction", wanted, f"{reduced[0] or 'none'} for {reduced[1]}")
        if not 0 <= steps < self._run.shape.rows:
            raise RangeError(_OP, "steps", f"0 to {self._run.shape.rows - 1}, the room of this run", repr(steps))
        now = _shape(self.problem, optimizer, steps, reduced=reduced)
        if (now.tiling, now.tiles) != (self._run.shape.tiling, self._run.shape.tiles):
            wanted = f"frames of {self._run.shape.tiles} tiles together, as when the run was made"
            raise ShapeError(_OP, "problem", wanted, f"{now.tiles}")
        self._iterations, self._weight = _load(self._run, [self.problem], [how]), tuple(weight.shape)

    def launch(self, iterations: int | None = None) -> None:
        """Start iterations: as many as the run can need, or a number of them."""
        self._run.launch(self._iterations if iterations is None else iterations)

    def result(self) -> DeviceResult:
        """Copies of weight, bias, moments, counts and history as the launches so far leave them."""
        out = self._run.result()
        weight, moments = out.weight[0].view(self._weight), out.moments[:, 0].reshape(2, *self._weight)
        matrices = out.matrix[0], out.matrix_moments[:, 0]
        counts = out.steps, out.rows, out.history[0]
        return DeviceResult(weight, out.bias, moments, out.bias_moments[0], *counts, *matrices)


def why_not(problems: Sequence[ConvRegressionProblem], starts: Sequence[Optimization] = ()) -> str | None:
    """Why the Triton kernels cannot run these problems."""
    return next((reason for p in problems if (reason := on_gpu(p.frames[0].features, "features"))), None)


def run_triton(problems: Sequence[ConvRegressionProblem], starts: Sequence[Optimization]) -> list[Outcome]:
    """Row of the problem. Problems of one shape run side by side, and are waited for together, once."""
    groups: dict[Any, list[int]] = {}
    for i, (problem, how) in enumerate(zip(problems, starts, strict=True)):
        positions = tuple(target.shape for target in problem.targets)
        before = None if how.state is None else how.state.steps
        shape = _shape(problem, how.optimizer, how.steps, reduced=_reduced_channels(how))
        key = shape, _numbers(problem, how), positions, before, how.reduction_lr, how.fusion
        groups.setdefault(key, []).append(i)
    outcomes: dict[int, Outcome] = {}
    for members in groups.values():
        together = _run_together([problems[i] for i in members], [starts[i] for i in members])
        outcomes |= dict(zip(members, together, strict=True))
    return [outcomes[i] for i in range(len(problems))]


def _run_together(problems: Sequence[ConvRegressionProblem], starts: Sequence[Optimization]) -> list[Outcome]:
    from fasttrack.kernels.conv_problem import run_of

    how = starts[0]
    shape = _shape(problems[0], how.optimizer, how.steps, len(problems), _reduced_channels(how))
    run = run_of(shape, how.weight.device)
    run.launch(_load(run, problems, starts))
    out = run.result()
    read = torch.stack([out.steps, out.rows, out.stalled], 1)
    read = torch.cat([read, out.history.flatten(1)], 1).cpu()
    before = 0 if how.state is None else how.state.steps
    outcomes = []
    for t in range(len(problems)):
        taken, rows = int(read[t, 0]), int(read[t, 1])
        reduction = None if how.reduction is None else out.matrix[t]
        of_reduction = None if reduction is None else out.matrix_moments[:, t]
        moments = out.moments[:, t].reshape(2, *how.weight.shape)
        after = AdamState(moments, out.bias_moments[t], before + taken, of_reduction)
        state = after if how.optimizer == "adam" else None
        history = read[t, 3 : 3 + 2 * rows].view(rows, 2)
        stalled = bool(read[t, 2])
        weight = out.weight[t].view(how.weight.shape)
        outcomes.append(Outcome(weight, out.bias[t : t + 1], reduction, taken, history, state, stalled))
    return outcomes


def _shape(
    problem: ConvRegressionProblem, optimizer: str, steps: int, targets: int = 1, reduced: tuple[int, int] = (0, 1)
) -> Any:
    """``reduced``: channels that a reduction leaves, 0 without one, and regressors on them."""
    from fasttrack.kernels import _conv_tiles
    from fasttrack.kernels.conv_problem import Shape

    first = problem.frames[0]
    tiling = first.spectra_for(None)[0]
    if reduced[0] and tiling.kind != "fft":  # the kernel is composed of its parts between the transforms
        tiling = _conv_tiles.fft_tiling(*first.features.shape[1:], *first.kernel_size)
    tiles = sum(len(frame.spectra_for(tiling)[1]) for frame in problem.frames)
    form = FORMS.index(problem.loss.kernel_form()[0])
    # A power of two of rows: runs of similar lengths share their memory and their graph.
    rows = 1 << steps.bit_length()
    return Shape(targets, first.features.shape[0], tiling, tiles, optimizer, form, rows, *reduced)


def _reduced_channels(how: Optimization) -> tuple[int, int]:
    regressors = 1 if how.fusion is None else how.fusion.regressors
    return (0, 1) if how.reduction is None else (how.reduction.shape[0], regressors)


def _numbers(problem: ConvRegressionProblem, how: Optimization) -> Any:
    from fasttrack.kernels.conv_problem import Numbers

    _, a, c = problem.loss.kernel_form()
    limits = how.tolerance, how.steps, how.evaluate, how.patience
    bias_rate = 1.0 if how.bias_lr is None or how.lr == 0 else how.bias_lr / how.lr
    return Numbers(how.lr, problem.weight_decay, a, c, *limits, bias_rate, how.reduction_decay)


def _reduced(problem: ConvRegressionProblem, starts: Sequence[Optimization]) -> Any:
    """The reductions of targets that share everything but their values."""
    from fasttrack.kernels.conv_problem import Reduced

    matrices = [how.reduction.detach() for how in starts if how.reduction is not None]
    if not matrices:
        return None
    ratio, fusion = starts[0].reduction_lr / starts[0].lr, starts[0].fusion
    if fusion is None:
        fusion = Fusion((matrices[0].shape[1],), ((1.0,),))
    rows = [*zip(*fusion.mixing, strict=True), [ratio * rate for rate in fusion.reduction_rates]]
    mix = torch.tensor(rows).repeat_interleave(torch.tensor(fusion.channels), 1)
    decays = [problem.weight_decay * decay for decay in fusion.decays]
    before = [how.state.reduction_moments for how in starts if how.state is not None]
    moments = [m for m in before if m is not None]
    rates = torch.tensor(list(zip(fusion.rates, decays, strict=True)))
    return Reduced(torch.stack(matrices), torch.stack(moments, 1) if moments else None, mix, rates)


def _load(run: Any, problems: Sequence[ConvRegressionProblem], starts: Sequence[Optimization]) -> int:
    from fasttrack.kernels.conv_problem import Frame

    numbers, tiling = _numbers(problems[0], starts[0]), run.shape.tiling
    frames = [
        [Frame(f.spectra_for(tiling)[1], y) for f, y in zip(problem.frames, problem.targets, strict=True)]
        for problem in problems
    ]
    size = run.shape.weight[1:]
    start = (
        torch.stack([how.weight.detach().reshape(size) for how in starts]),
        torch.cat([how.bias.detach() for how in starts]),
    )
    states, reduced = [how.state for how in starts if how.state is not None], _reduced(problems[0], starts)
    if states:
        moments = torch.stack([state.moments.reshape(2, *size) for state in states], 1)
        bias_moments = torch.stack([state.bias_moments for state in states])
        run.load(frames, *start, numbers, moments, bias_moments, states[0].steps, reduced)
    else:
        run.load(frames, *start, numbers, reduced=reduced)
    return int(run.iterations(numbers))

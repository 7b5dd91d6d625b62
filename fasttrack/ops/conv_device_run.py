"""Optimisations of a ``ConvRegressionProblem`` by the Triton kernels, with or without a look at the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fasttrack.errors import BackendUnavailable, RangeError, ShapeError
from fasttrack.native import triton_why_not
from fasttrack.ops._rows import on_gpu
from fasttrack.ops.feature_spectra import check_weight
from fasttrack.spec.conv_regression import AdamState
from fasttrack.spec.regression_loss import FORMS

if TYPE_CHECKING:
    from fasttrack.ops.conv_problem import ConvRegressionProblem

__all__ = ["ConvDeviceRun", "DeviceResult", "run_triton", "why_not"]

_OP = "conv_regression_problem"


class DeviceResult(NamedTuple):
    """Where an optimisation stands, as tensors of the device: nothing has waited for them.

    Args:
        weight: (C, kh, kw).
        bias: (1,).
        moments: (2, C, kh, kw), Adam's moments of the weight.
        bias_moments: (2,), those of the bias.
        steps: (1,) float64, updates made.
        rows: (1,) float64, rows of ``history`` that are written.
        history: (rows there is room for, 2) float64, loss and SNR of the iterates.
    """

    weight: Tensor
    bias: Tensor
    moments: Tensor
    bias_moments: Tensor
    steps: Tensor
    rows: Tensor
    history: Tensor


class ConvDeviceRun:
    """One optimisation on the GPU that the host never waits for: to overlap it, or to capture it.

    ``launch`` only starts kernels on memory this object owns: it may stand in a CUDA graph of the caller, whose
    replays each take the run on by as many iterations. A run that has ended (by its steps or its tolerance) stays as
    it is, whatever is launched. To begin anew on the same memory, ``load`` again, outside the graph.

    Args:
        problem: frames and loss; its list of frames must not change in length between two ``load``.
        optimizer: "adam", "gd" or "cg".
        steps: most updates there will be room for in the history.

    Raises:
        BackendUnavailable: the Triton kernels cannot take the problem, with the reason.
    """

    def __init__(self, problem: ConvRegressionProblem, optimizer: str, steps: int) -> None:
        reason = triton_why_not() or why_not(problem)
        if reason is not None:
            raise BackendUnavailable(f"{_OP}: no run on the device: {reason}")
        from fasttrack.kernels.conv_problem import Run

        self.problem = problem
        frame = problem.frames[0].features
        self._run = Run(_shape(problem, optimizer, steps), frame.device)
        self._iterations = 0

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
    ) -> None:
        """Write start and numbers, as ``ConvRegressionProblem.run`` takes them; steps up to the room there is.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        """
        check_weight(_OP, weight, bias, self.problem.frames[0])
        if not 0 <= steps < self._run.shape.rows:
            raise RangeError(_OP, "steps", f"0 to {self._run.shape.rows - 1}, the room of this run", repr(steps))
        now = _shape(self.problem, self._run.shape.optimizer, steps)
        if (now.tiling, now.tiles) != (self._run.shape.tiling, self._run.shape.tiles):
            wanted = f"frames of {self._run.shape.tiles} tiles together, as when the run was made"
            raise ShapeError(_OP, "problem", wanted, f"{now.tiles}")
        self._iterations = _load(self._run, self.problem, weight, bias, steps, lr, tolerance, evaluate, state)

    def launch(self, iterations: int | None = None) -> None:
        """Start iterations: as many as the run can need, or a number of them."""
        self._run.launch(self._iterations if iterations is None else iterations)

    def result(self) -> DeviceResult:
        """Copies of weight, bias, moments, counts and history as the launches so far leave them."""
        out = self._run.result()
        return DeviceResult(
            out.weight[0], out.bias, out.moments[:, 0], out.bias_moments[0], out.steps, out.rows, out.history[0]
        )


def why_not(problem: ConvRegressionProblem, *_: Any) -> str | None:
    """Why the Triton kernels cannot run this problem."""
    return on_gpu(problem.frames[0].features, "features")


def run_triton(
    problem: ConvRegressionProblem,
    weight: Tensor,
    bias: Tensor,
    steps: int,
    optimizer: str,
    lr: float,
    tolerance: float | None,
    evaluate: bool,
    state: AdamState | None,
) -> tuple[Tensor, Tensor, int, Tensor, AdamState | None]:
    """Row of the problem. It waits for the device once, at the end, to read counts and history together."""
    from fasttrack.kernels.conv_problem import run_of

    run = run_of(_shape(problem, optimizer, steps), weight.device)
    run.launch(_load(run, problem, weight, bias, steps, lr, tolerance, evaluate, state))
    out = run.result()
    read = torch.cat([out.steps, out.rows, out.history.flatten()]).cpu()
    taken, rows = int(read[0]), int(read[1])
    history = read[2 : 2 + 2 * rows].view(rows, 2)
    before = 0 if state is None else state.steps
    after = AdamState(out.moments[:, 0], out.bias_moments[0], before + taken)
    return out.weight[0], out.bias, taken, history, after if optimizer == "adam" else None


def _shape(problem: ConvRegressionProblem, optimizer: str, steps: int) -> Any:
    from fasttrack.kernels.conv_problem import Shape

    tiling, first = problem.frames[0].spectra_for(None)
    tiles = sum(len(frame.spectra_for(tiling)[1]) for frame in problem.frames)
    form = FORMS.index(problem.loss.kernel_form()[0])
    # A power of two of rows: runs of similar lengths share their memory and their graph.
    rows = 1 << steps.bit_length()
    return Shape(1, first.shape[-3], tiling, tiles, optimizer, form, rows)


def _load(
    run: Any,
    problem: ConvRegressionProblem,
    weight: Tensor,
    bias: Tensor,
    steps: int,
    lr: float,
    tolerance: float | None,
    evaluate: bool,
    state: AdamState | None,
) -> int:
    from fasttrack.kernels.conv_problem import Frame, Numbers

    _, a, c = problem.loss.kernel_form()
    numbers = Numbers(lr, problem.weight_decay, a, c, tolerance, steps, evaluate)
    tiling = run.shape.tiling
    frames = [
        Frame(frame.spectra_for(tiling)[1], target)
        for frame, target in zip(problem.frames, problem.targets, strict=True)
    ]
    start = weight.detach()[None], bias.detach()
    if state is None:
        run.load([frames], *start, numbers)
    else:
        run.load([frames], *start, numbers, state.moments[:, None], state.bias_moments[None], state.steps)
    return int(run.iterations(numbers))

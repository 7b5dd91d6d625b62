"""Whole optimisations of ``ConvRegressionProblem`` on the device, without a look from the host in between.

A ``Run`` owns all memory of an optimisation of one ``Shape``; ``load`` writes a problem into it, ``launch`` starts
iterations and ``result`` hands out device tensors. Early stops, step sizes and history are kept in the targets' state
(``_conv_state``): iterations beyond a target's end do nothing. So ``launch`` reads nothing back, may be captured into
a CUDA graph, and itself replays one of ``CHUNK`` iterations where many are asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fasttrack.kernels._conv_dft_passes import DftPasses
from fasttrack.kernels._conv_fft import FftPasses
from fasttrack.kernels._conv_products import STATE, TABLE
from fasttrack.kernels._conv_reduced_passes import ReducedPasses
from fasttrack.kernels._conv_state import BIAS, PARAMS, Param, Slot
from fasttrack.kernels._conv_tiles import Tiling

__all__ = ["CHUNK", "Frame", "Numbers", "Outcome", "Reduced", "Run", "Shape", "run_of"]

CHUNK = 16
# Runs kept per thread and stream: a tracker has one for its first frame and one for its updates.
_KEPT = 4


@dataclass(frozen=True)
class Shape:
    """All that launches depend on.

    Args:
        targets: problems solved side by side, T.
        channels: C.
        tiling: of all maps.
        tiles: of all frames of one target.
        optimizer: "adam", "gd" or "cg".
        form: number of the loss among ``_losses.FORMS``.
        rows: rows of history there is room for.
        reduced: channels D that a trained reduction leaves; 0: there is none. It needs a tiling of kind "fft".
        regressors: R, kernels on the reduced channels.
    """

    targets: int
    channels: int
    tiling: Tiling
    tiles: int
    optimizer: str
    form: int
    rows: int
    reduced: int = 0
    regressors: int = 1

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """(T, C, kh, kw), or (T, R·D, kh, kw)."""
        return self.targets, self.reduced * self.regressors or self.channels, *self.tiling.kernel


class Frame(NamedTuple):
    """One map of one target: the spectra of its tiles, its (oh, ow) targets, both contiguous float32 or complex64."""

    spectra: Tensor
    target: Tensor


class Numbers(NamedTuple):
    """What may change from run to run."""

    rate: float
    decay: float
    a: float
    c: float
    tolerance: float | None
    steps: int
    evaluate: bool
    patience: int | None = None
    bias_rate: float = 1.0  # in units of ``rate``
    matrix_decay: float = 0.0


class Reduced(NamedTuple):
    """A trained reduction: matrix (T, D, C), Adam's moments (2, T, D, C) or None for zeros, and ``mix`` (R + 1, C)
    and ``rates`` (R, 2) as ``_conv_reduction`` reads them.
    """

    matrix: Tensor
    moments: Tensor | None
    mix: Tensor
    rates: Tensor


class Outcome(NamedTuple):
    """Device tensors, owned by the caller: weight (T, C, kh, kw), bias (T,), Adam's moments (2, T, C, kh, kw) and
    (T, 2), updates made, rows of history and whether it stalled (T,) float64, history (T, rows, 2) float64; matrix
    and its moments, (T, D, C) and (2, T, D, C), without elements where no reduction is trained.
    """

    weight: Tensor
    bias: Tensor
    moments: Tensor
    bias_moments: Tensor
    steps: Tensor
    rows: Tensor
    stalled: Tensor
    history: Tensor
    matrix: Tensor
    matrix_moments: Tensor


class Passes(Protocol):
    """The transforms of one kind, with the steps between them."""

    def start(self) -> None:
        """Make ready what the first iteration reads."""

    def descend(self) -> None:
        """Start one iteration of Adam or gradient descent."""

    def conjugate(self) -> None:
        """Start one iteration of conjugate gradient."""


class Run:
    """Memory and launches of one optimisation."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        t = shape.targets

        def memory(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.table = memory(t * shape.tiles, TABLE, dtype=torch.int64)
        self.weight, self.moments = memory(*shape.weight), memory(2, *shape.weight)
        self.bias, self.state = memory(t, BIAS), memory(t, STATE, dtype=torch.float64)
        self.params = memory(PARAMS, dtype=torch.float64)
        self.history = memory(t, shape.rows, 2, dtype=torch.float64)
        self.matrix = memory(t, shape.reduced, shape.channels)
        self.matrix_moments = memory(2, t, shape.reduced, shape.channels)
        self.mix, self.rates = memory(shape.regressors + 1, shape.channels), memory(shape.regressors, 2)
        self.frames: list[Frame] = []
        self.graph: torch.cuda.CUDAGraph | None = None
        kinds: dict[str, type[FftPasses] | type[DftPasses]] = {"fft": FftPasses, "dft": DftPasses}
        kind = ReducedPasses if shape.reduced else kinds[shape.tiling.kind]
        self.passes: Passes = kind(self)

    def load(
        self,
        targets: Sequence[Sequence[Frame]],
        weight: Tensor,
        bias: Tensor,
        numbers: Numbers,
        moments: Tensor | None = None,
        bias_moments: Tensor | None = None,
        steps_before: int = 0,
        reduced: Reduced | None = None,
    ) -> None:
        """Write a problem in: the frames of every target, the start (T, C, kh, kw) and (T,), Adam's state."""
        self.frames = [frame for frames in targets for frame in frames]  # kept alive: the table has addresses
        rows = torch.tensor([row for frame in self.frames for row in self._rows(frame)])
        self.table.copy_(rows, non_blocking=True)
        self.weight.copy_(weight)
        if moments is None or bias_moments is None:
            self.moments.zero_()
            self.bias[:, 1:3] = 0.0
        else:
            self.moments.copy_(moments)
            self.bias[:, 1:3] = bias_moments
        self.bias[:, 0] = bias
        self.bias[:, 3] = bias  # conjugate gradient's first "direction" is the start itself
        positions = sum(frame.target.numel() for frame in targets[0])
        tolerance = -1.0 if numbers.tolerance is None else numbers.tolerance
        params = dict.fromkeys(Param, 0.0) | {
            Param.RATE: numbers.rate, Param.DECAY: numbers.decay, Param.A: numbers.a, Param.C: numbers.c,
            Param.TOLERANCE: tolerance, Param.LIMIT: float(numbers.steps), Param.EVALUATE: float(numbers.evaluate),
            Param.POSITIONS: float(positions),
            Param.PATIENCE: float(numbers.patience or 0), Param.BIAS_RATE: numbers.bias_rate,
            Param.MATRIX_DECAY: numbers.matrix_decay, Param.PENALTY: numbers.decay if reduced is None else 1.0,
        }  # fmt: skip
        self.params.copy_(torch.tensor([params[p] for p in Param], dtype=torch.float64), non_blocking=True)
        state = torch.zeros(STATE, dtype=torch.float64)
        state[Slot.POWER_1], state[Slot.POWER_2] = 0.9**steps_before, 0.999**steps_before
        state[Slot.MARK] = float("inf")
        self.state.copy_(state.repeat(self.shape.targets, 1), non_blocking=True)
        if reduced is not None:
            self._load_reduced(reduced)
        self.passes.start()

    def _load_reduced(self, reduced: Reduced) -> None:
        self.matrix.copy_(reduced.matrix)
        if reduced.moments is None:
            self.matrix_moments.zero_()
        else:
            self.matrix_moments.copy_(reduced.moments)
        self.mix.copy_(reduced.mix, non_blocking=True)
        self.rates.copy_(reduced.rates, non_blocking=True)

    def _rows(self, frame: Frame) -> list[list[int]]:
        rows, columns = frame.target.shape
        kh, kw = self.shape.tiling.kernel
        first, size = frame.spectra.data_ptr(), frame.spectra[0].nbytes
        corners = self.shape.tiling.corners(rows + kh - 1, columns + kw - 1)
        target = frame.target.data_ptr()
        return [[first + k * size, target, y, x, rows, columns] for k, (y, x) in enumerate(corners)]

    def iterations(self, numbers: Numbers) -> int:
        """Iterations that reach the end of a run of so many steps."""
        return numbers.steps + int(numbers.evaluate or self.shape.optimizer == "cg")

    def launch(self, iterations: int) -> None:
        """Start iterations. Many of them run as replays of one graph; the last replay may go idle before its end."""
        if self.device.type != "cuda" or torch.cuda.is_current_stream_capturing():
            for _ in range(iterations):
                self.iterate()
            return
        if self.graph is None and iterations > 2 * CHUNK:
            self.iterate()  # kernels and FFT plans are compiled before the capture
            iterations -= 1
            self.graph = self.capture(CHUNK)
        while iterations > 0:
            if self.graph is None:
                self.iterate()
                iterations -= 1
            else:
                self.graph.replay()
                iterations -= CHUNK

    def iterate(self) -> None:
        """Start one iteration."""
        if self.shape.optimizer == "cg":
            self.passes.conjugate()
        else:
            self.passes.descend()

    def capture(self, iterations: int) -> torch.cuda.CUDAGraph:
        """A graph of so many iterations on this run's memory; nothing runs, nothing waits."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for _ in range(iterations):
                    self.iterate()
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return graph

    def result(self) -> Outcome:
        """Copies of what the iterations left."""
        return Outcome(
            self.weight.clone(), self.bias[:, 0].clone(), self.moments.clone(), self.bias[:, 1:3].clone(),
            self.state[:, Slot.STEP].clone(), self.state[:, Slot.ROWS].clone(), self.state[:, Slot.STALLED].clone(),
            self.history.clone(), self.matrix.clone(), self.matrix_moments.clone(),
        )  # fmt: skip


_RUNS = threading.local()


def run_of(shape: Shape, device: torch.device) -> Run:
    """This thread's and stream's run of a shape: its memory and its graph serve again."""
    runs: OrderedDict[tuple[Shape, torch.device, int], Run] | None = getattr(_RUNS, "runs", None)
    if runs is None:
        runs = _RUNS.runs = OrderedDict()
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    key = shape, device, stream
    if key not in runs:
        runs[key] = Run(shape, device)
        while len(runs) > _KEPT:
            runs.popitem(last=False)
    runs.move_to_end(key)
    return runs[key]

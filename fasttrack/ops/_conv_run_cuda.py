"""A whole optimisation of a convolution regression in one CUDA launch, for problems that fit into shared memory."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fasttrack import gpu
from fasttrack.ops._rows import cuda_row, on_gpu
from fasttrack.spec._conv_problem import AdamState, Optimization, Outcome
from fasttrack.spec.regression_loss import FORMS

if TYPE_CHECKING:
    from fasttrack.ops.conv_problem import ConvRegressionProblem

__all__ = ["CUDA_ROW", "Plan"]

# As in csrc/cuda/conv_regression.h.
_THREADS, _WARPS = 256, 8
_ROWS, _COLUMNS, _TAP_ROWS, _TAP_COLUMNS, _TAPS = 3, 8, 5, 8, 40
_FRAMES = 8
_FRAME = "2P10q"
_KERNEL = gpu.Kernel(
    "conv_regression_run",
    "conv_regression",
    _FRAME * _FRAMES + "3q" + "q" + "i3f" + "3d" + "d" + "2d" + "q" + "3q" + "6P" + "2q" + "5P" + "4q" + "q",
)
_NO_FRAME = (None,) * 2 + (0,) * 10


class Plan:
    """How a problem of these sizes is cut up: padding, shared memory per block, blocks.

    Args:
        kernel: (C, kh, kw).
        sizes: (H, W) of every map.
    """

    def __init__(self, kernel: tuple[int, int, int], sizes: tuple[tuple[int, int], ...]) -> None:
        channels, kh, kw = kernel
        self.down, self.across = -(-kh // _TAP_ROWS), -(-kw // _TAP_COLUMNS)
        self.tiles = channels * self.down * self.across
        self.outputs, self.positions = 0, 0
        self.frames: list[tuple[int, ...]] = []
        self.map_floats: list[int] = []  # of one channel
        for height, width in sizes:
            out_h, out_w = height - kh + 1, width - kw + 1
            rows, columns = _up(out_h, _ROWS), _up(out_w, _COLUMNS)
            # What the padded positions meet of the padded taps; never less than the map.
            x_rows = max(rows + self.down * _TAP_ROWS - 1, height)
            x_stride = _odd_fours(max(columns + self.across * _TAP_COLUMNS, width))
            self.frames.append((height, width, out_h, out_w, rows, columns, self.positions, x_rows, x_stride))
            self.map_floats.append(x_rows * x_stride)
            self.outputs += out_h * out_w
            self.positions += rows * columns
        self.error_stride = _odd_fours(max(f[5] for f in self.frames))
        self.error_floats = max(f[4] for f in self.frames) * self.error_stride

    def blocks(self, resident: int) -> int:
        """Blocks with as few tiles each as ``resident`` blocks allow, all nearly equal."""
        each = -(-self.tiles // resident)
        return -(-self.tiles // each)

    def shared_floats(self, blocks: int) -> tuple[int, int, int, int]:
        """Offsets of the error, the taps and the warps' sums behind the maps, and the end of all."""
        tiles = -(-self.tiles // blocks)
        error = self.channels_at_once(blocks) * sum(self.map_floats)
        taps = error + self.error_floats
        parts = taps + 3 * tiles * _TAPS
        return error, taps, parts, parts + _WARPS * tiles * _TAPS

    def channels_at_once(self, blocks: int) -> int:
        """The most channels that the tiles of one block lie in."""
        per_channel = self.down * self.across
        edges = [self.tiles * b // blocks for b in range(blocks + 1)]
        return 1 + max((end - 1) // per_channel - begin // per_channel for begin, end in itertools.pairwise(edges))

    def members(self, blocks: int) -> list[tuple[int, ...]]:
        """What follows the two addresses of each frame in ``ConvCudaFrame``."""
        channels, at, out = self.channels_at_once(blocks), 0, []
        for (*head, x_rows, x_stride), floats in zip(self.frames, self.map_floats, strict=True):
            out.append((*head, at, x_rows, x_stride))
            at += channels * floats
        return out


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _odd_fours(floats: int) -> int:
    """The next multiple of 4 that is an odd one: rows then start in different banks."""
    return 4 * (-(-floats // 4) | 1)


@functools.lru_cache(maxsize=64)
def _plan(kernel: tuple[int, int, int], sizes: tuple[tuple[int, int], ...]) -> Plan:
    return Plan(kernel, sizes)


def _plan_of(problem: ConvRegressionProblem) -> Plan:
    maps = [frame.features for frame in problem.frames]
    return _plan((maps[0].shape[0], *problem.kernel_size), tuple((int(x.shape[1]), int(x.shape[2])) for x in maps))


def _grid(plan: Plan, like: Tensor) -> tuple[int, int] | None:
    """Blocks and bytes of shared memory of each; None where no number of blocks fits."""
    # Fewer blocks hold more channels each: what does not fit with all blocks does not fit with fewer.
    blocks = plan.blocks(gpu.resident_blocks(_KERNEL, _THREADS, 0, like))
    needed = 4 * plan.shared_floats(blocks)[3]
    while (held := gpu.resident_blocks(_KERNEL, _THREADS, needed, like)) < blocks:
        if held == 0:
            return None
        blocks = plan.blocks(held)
        needed = 4 * plan.shared_floats(blocks)[3]
    return blocks, needed


def _why_not(problems: Sequence[ConvRegressionProblem], starts: Sequence[Optimization]) -> str | None:
    """Why the one-launch kernel cannot run these problems; None when it can."""
    pairs = zip(problems, starts, strict=True)
    return next((reason for problem, how in pairs if (reason := _why_not_one(problem, how))), None)


def _why_not_one(problem: ConvRegressionProblem, how: Optimization) -> str | None:
    like = problem.frames[0].features
    if (reason := on_gpu(like, "features")) is not None:
        return reason
    if how.optimizer == "cg":
        return "runs 'adam' and 'gd', got 'cg'"
    if how.reduction is not None:
        return "trains no reduction"
    if len(problem) > _FRAMES:
        return f"holds at most {_FRAMES} frames, got {len(problem)}"
    if _grid(_plan_of(problem), like) is None:
        sizes = " and ".join(str(tuple(f.features.shape)) for f in problem.frames)
        return f"keeps whole channels in shared memory, too small for maps of {sizes}"
    return None


def _run(problems: Sequence[ConvRegressionProblem], starts: Sequence[Optimization]) -> list[Outcome]:
    return [_run_one(problem, how) for problem, how in zip(problems, starts, strict=True)]


def _run_one(problem: ConvRegressionProblem, how: Optimization) -> Outcome:
    """Waits for the device once, to read how many steps it took."""
    plan, adam, steps = _plan_of(problem), how.optimizer == "adam", how.steps
    grid = _grid(plan, how.weight)
    assert grid is not None, "_why_not says so"
    blocks, shared_bytes = grid
    w = how.weight.detach().clone(memory_format=torch.contiguous_format)
    b = how.bias.detach().clone()
    state = AdamState.start(w) if how.state is None else how.state
    moments, bias_moments = state.moments.clone(), state.bias_moments.clone()
    history = torch.empty(steps + 1, 2, dtype=torch.float64, device=w.device)
    counts = torch.zeros(3, dtype=torch.int64, device=w.device)
    positions = torch.empty(blocks + 1, plan.positions, device=w.device)
    sums = torch.empty(blocks, 4, dtype=torch.float64, device=w.device)
    squares = torch.empty(blocks, dtype=torch.float64, device=w.device)
    arrived = torch.zeros(1, dtype=torch.int32, device=w.device)
    form, p, q = problem.loss.kernel_form()
    limit = -1.0 if how.tolerance is None else how.tolerance
    error_at, taps_at, parts_at, _ = plan.shared_floats(blocks)
    arguments = (
        *_frames(problem, plan.members(blocks)),
        *(len(problem), w.shape[0], *problem.kernel_size),
        *(FORMS.index(form), p, q, 0.0),
        *(problem.weight_decay, how.lr, how.lr if how.bias_lr is None else how.bias_lr, limit),
        *(0.9**state.steps, 0.999**state.steps, adam, steps, how.evaluate, how.patience or 0),
        *(w, b, moments if adam else None, bias_moments if adam else None, history, counts),
        *(plan.positions, plan.outputs, positions, positions[blocks], sums, squares, arrived),
        *(error_at, plan.error_stride, taps_at, parts_at, plan.tiles),
    )
    gpu.launch(_KERNEL, blocks, _THREADS, arguments, w, shared_bytes=shared_bytes, cooperative=True)
    taken, rows, stalled = (int(count) for count in counts.tolist())
    after = AdamState(moments, bias_moments, state.steps + taken) if adam else None
    return Outcome(w, b, None, taken, history[:rows].cpu(), after, bool(stalled))


def _frames(problem: ConvRegressionProblem, members: Sequence[tuple[int, ...]]) -> list[object]:
    """The members of all ``ConvCudaFrame``s, those without a frame too."""
    out: list[object] = []
    for frame, target, sizes in zip(problem.frames, problem.targets, members, strict=True):
        out += [frame.features, target, *sizes]
    return out + list(_NO_FRAME) * (_FRAMES - len(members))


CUDA_ROW = cuda_row(_why_not, _run)

"""A convolution regression solved in place: spectra kept, whole optimisations in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fasttrack import dispatch, native
from fasttrack.errors import RangeError, ShapeError
from fasttrack.ops import _checks as check
from fasttrack.ops import conv_device_run as device
from fasttrack.ops._rows import cpu_row, reference_row, triton_row
from fasttrack.ops.conv_regression import aligned
from fasttrack.ops.feature_spectra import FLOATS, FeatureSpectra, check_state, check_weight
from fasttrack.spec.conv_regression import OPTIMIZERS, AdamState, run_problem
from fasttrack.spec.regression_loss import FORMS

__all__ = ["AdamState", "ConvRegressionProblem", "ConvRegressionResult", "RegressionLoss"]

_OP = "conv_regression_problem"


class RegressionLoss(Protocol):
    """A loss the problem can minimise: one of the loss modules of ``fasttrack.nn``."""

    def kernel_form(self) -> tuple[str, float, float]:
        """Name of the form and its two parameters, as the kernels number them."""


@dataclass(frozen=True)
class ConvRegressionResult:
    """Where an optimisation ended.

    Args:
        weight: (C, kh, kw).
        bias: (1,).
        steps: updates made.
        loss: Σ loss over all positions of all frames, without the weight decay, at ``weight``
            (before the last update if the run was told not to evaluate its end).
        snr: exp(max R − mean R) over the same positions (CRT eq. 6).
        history: (rows, 2) float64, loss and SNR of every iterate measured, the start first.
        state: what Adam goes on from in a later run; None after other optimizers.
    """

    weight: Tensor
    bias: Tensor
    steps: int
    loss: float
    snr: float
    history: Tensor
    state: AdamState | None


class ConvRegressionProblem:
    """Regression of several maps on their labels by one large kernel: min over (w, b) of

    Σ_frames Σ_positions loss(X ⋆ w + b, Y) + weight_decay·‖w‖²

    The bias is not decayed; the losses are summed whatever the module's reduction. The spectra of a map
    are computed when it is added, and every step of ``run`` works on them.

    Args:
        features: (C, H, W) float maps, or ``FeatureSpectra`` of them; sizes may differ, C may not.
        targets: (H − kh + 1, W − kw + 1) label maps, which give the kernel's size.
        loss: one of ``fasttrack.nn``'s ``TruncatedLoss``, ``ShrinkageLoss``, ``FocalRegressionLoss``,
            ``SquareLoss``.
        weight_decay: λ ≥ 0.
        capacity: frames kept; adding one more drops the oldest. None: no limit.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Chen & Tao 2018 (CRT), §3 and §4 (training and updating).
    """

    def __init__(
        self,
        features: Sequence[Tensor | FeatureSpectra],
        targets: Sequence[Tensor],
        loss: RegressionLoss,
        weight_decay: float = 0.0,
        capacity: int | None = None,
    ) -> None:
        if len(features) == 0 or len(features) != len(targets):
            wanted = "a list of one label map per feature map, at least one"
            raise ShapeError(_OP, "targets", wanted, f"{len(targets)} for {len(features)} feature maps")
        if capacity is not None and capacity < 1:
            raise RangeError(_OP, "capacity", "at least 1, or None", repr(capacity))
        self.loss, self.capacity = loss, capacity
        self.weight_decay = check.number(_OP, "weight_decay", weight_decay, low=0.0)
        self.frames: list[FeatureSpectra] = []
        self.targets: list[Tensor] = []
        self.workspace: Tensor | None = None  # scratch of the compiled runs, kept between them
        for x, y in zip(features, targets, strict=True):
            self.append(x, y)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def kernel_size(self) -> tuple[int, int]:
        """(kh, kw)."""
        return self.frames[0].kernel_size

    def spectra(self, features: Tensor) -> FeatureSpectra:
        """The spectra of a (C, H, W) map for this problem's kernel: for ``response``, then ``append``."""
        return FeatureSpectra(features, self.kernel_size)

    def append(self, features: Tensor | FeatureSpectra, target: Tensor) -> None:
        """Add a frame; beyond ``capacity`` the oldest goes. Spectra already computed are not touched.

        Args:
            features: (C, H, W) map or its ``FeatureSpectra``.
            target: (H − kh + 1, W − kw + 1) labels.

        Raises:
            ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.
        """
        if isinstance(features, Tensor):
            frame = FeatureSpectra(features, self.kernel_size if self.frames else _kernel_from(features, target))
        else:
            frame = features
        if self.frames:
            first = self.frames[0]
            if frame.kernel_size != first.kernel_size:
                raise ShapeError(_OP, "features", f"spectra for kernel {first.kernel_size}", f"for {frame.kernel_size}")
            if frame.features.shape[0] != first.features.shape[0]:
                wanted = f"a map of {first.features.shape[0]} channels, as the first"
                check.shape_error(_OP, "features", wanted, frame.features)
            check.same_dtype(_OP, "features", frame.features, "the first map", first.features)
            check.same_device(_OP, "features", frame.features, "the first map", first.features)
        self._check_target(frame, target)
        self.frames.append(frame)
        self.targets.append(target.detach().contiguous())
        if self.capacity is not None and len(self.frames) > self.capacity:
            self.remove(0)

    def remove(self, index: int) -> None:
        """Drop a frame; the last one cannot be dropped, since it gives the kernel's size."""
        if len(self.frames) == 1:
            raise RangeError(_OP, "index", "a frame of a problem with more than one", repr(index))
        del self.frames[index], self.targets[index]

    def set_target(self, index: int, target: Tensor) -> None:
        """Replace the labels of a frame."""
        self._check_target(self.frames[index], target)
        self.targets[index] = target.detach().contiguous()

    def response(self, weight: Tensor, bias: Tensor | None = None, index: int = -1) -> Tensor:
        """Response map of a stored frame (by default the newest), from its spectra."""
        return self.frames[index].response(weight, bias)

    def run(
        self,
        weight: Tensor | None,
        bias: Tensor | None,
        steps: int,
        optimizer: str = "adam",
        lr: float | None = None,
        tolerance: float | None = None,
        *,
        evaluate: bool = True,
        state: AdamState | None = None,
        backend: str | None = None,
    ) -> ConvRegressionResult:
        """Optimise from a given weight; the arguments are not changed.

        Args:
            weight: (C, kh, kw) start, or None for zeros.
            bias: (1,) start, or None for zero.
            steps: most updates to make.
            optimizer: "adam" (``torch.optim.Adam``'s update with its defaults), "gd"
                (plain gradient descent), or "cg": conjugate gradient on the position-weighted squares
                Σ W(y)²·(R − y)² + λ‖w‖², W² = exp(2ay) for the truncated loss, exp(y) for the shrinkage
                losses, 1 else; the loss itself then serves to stop.
            lr: step size of "adam" and "gd"; "cg" has none.
            tolerance: stop once the data loss (summed, without the decay) is below it; None: never.
            evaluate: measure loss and SNR at the final weight. False saves half a step and reports them
                before the last update.
            state: ``result.state`` of an earlier run, from which Adam goes on; None: its moments start at zero.
            backend: explicit backend; None chooses.

        Returns:
            Weight and bias, steps made, loss, SNR and their history.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        """
        like = self.frames[0].features
        weight = like.new_zeros((like.shape[0], *self.kernel_size)) if weight is None else weight
        bias = like.new_zeros(1) if bias is None else bias
        check_weight(_OP, weight, bias, self.frames[0])
        check.choice(_OP, "optimizer", optimizer, OPTIMIZERS)
        if optimizer != "cg":
            if lr is None:
                raise RangeError(_OP, "lr", f"a finite number > 0 for {optimizer!r}", "None")
            check.number(_OP, "lr", lr, low=0.0, low_open=True)
        if steps < (0 if evaluate else 1):
            raise RangeError(_OP, "steps", "at least 0, or 1 without evaluation", repr(steps))
        if tolerance is not None:
            check.number(_OP, "tolerance", tolerance, low=0.0)
        if state is not None:
            check_state(_OP, state, optimizer, weight)
        row = dispatch.choose(_OP, (self,), backend)
        rate = 0.0 if lr is None else float(lr)
        out = row.run(self, weight, bias, steps, optimizer, rate, tolerance, evaluate, state)
        w, b, taken, history, after = out
        return ConvRegressionResult(w, b, taken, float(history[-1, 0]), float(history[-1, 1]), history, after)

    def _check_target(self, frame: FeatureSpectra, target: Tensor) -> None:
        check.tensor(_OP, "target", target, dims=(2,), layout="(H − kh + 1, W − kw + 1)")
        if tuple(target.shape) != frame.response_size:
            wanted = f"{frame.response_size}, the response of kernel {frame.kernel_size}"
            check.shape_error(_OP, "target", wanted, target)
        check.same_dtype(_OP, "target", target, "features", frame.features)
        check.same_device(_OP, "target", target, "features", frame.features)


def _kernel_from(features: Tensor, target: Tensor) -> tuple[int, int]:
    check.tensor(_OP, "features", features, dims=(3,), dtypes=FLOATS, layout="(C, H, W)")
    check.tensor(_OP, "target", target, dims=(2,), layout="(H − kh + 1, W − kw + 1)")
    kh, kw = (features.shape[i + 1] - target.shape[i] + 1 for i in (0, 1))
    if kh < 1 or kw < 1 or target.numel() == 0:
        check.shape_error(_OP, "target", f"at least 1 × 1 and no larger than the map, {tuple(features.shape)}", target)
    return kh, kw


def _cpu_why_not(problem: ConvRegressionProblem) -> str | None:
    return problem.frames[0].why_not


def _run_cpu(
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
    frames, targets = problem.frames, problem.targets
    for frame in frames:  # one tile for all: their gradients are summed before the inverse transform
        frame.retile(frames[0].tile)
    w = weight.detach().clone(memory_format=torch.contiguous_format)
    b = bias.detach().clone()
    state = AdamState.start(w) if state is None else state
    moments, bias_moments = state.moments.clone(), state.bias_moments.clone()
    history = torch.empty(steps + 1, 2, dtype=torch.float64)
    form, p, q = problem.loss.kernel_form()
    common = (
        [w.shape[0], *frames[0].kernel_size, *frames[0].tile],
        [(f.address(), y.data_ptr(), *f.features.shape[1:]) for f, y in zip(frames, targets, strict=True)],
        (FORMS.index(form), p, q),
        problem.weight_decay,
        OPTIMIZERS.index(optimizer),
        lr,
        steps,
        -1.0 if tolerance is None else tolerance,
        evaluate,
        w.data_ptr(),
        b.data_ptr(),
        moments.data_ptr() if optimizer == "adam" else 0,
        bias_moments.data_ptr() if optimizer == "adam" else 0,
        state.steps,
        history.data_ptr(),
    )
    lib = native.lib()
    size: int = lib.conv_run(*common, 0)[0]
    if problem.workspace is None or problem.workspace.numel() < size:
        problem.workspace = aligned(size)
    _, taken, rows = lib.conv_run(*common, problem.workspace.data_ptr())
    after = AdamState(moments, bias_moments, state.steps + taken)
    return w, b, taken, history[:rows], after if optimizer == "adam" else None


def _run_reference(
    problem: ConvRegressionProblem, weight: Tensor, bias: Tensor, steps: int, optimizer: str, *rest: Any
) -> tuple[Tensor, Tensor, int, Tensor, AdamState | None]:
    maps, form = [frame.features for frame in problem.frames], problem.loss.kernel_form()
    start = maps, problem.targets, weight, bias, *form, problem.weight_decay, optimizer, rest[0], steps
    with torch.enable_grad():
        return run_problem(*start, *rest[1:])


dispatch.register(
    _OP,
    (triton_row(device.why_not, device.run_triton), cpu_row(_cpu_why_not, _run_cpu), reference_row(_run_reference)),
)

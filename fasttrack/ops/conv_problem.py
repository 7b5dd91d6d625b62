"""A convolution regression solved in place: spectra kept, whole optimisations in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from fasttrack.errors import RangeError, ShapeError
from fasttrack.ops import _checks as check
from fasttrack.ops._conv_run import PATIENCE, ConvRegressionResult, run_together, start_of
from fasttrack.ops.feature_spectra import FLOATS, FeatureSpectra
from fasttrack.spec._conv_fusion import Fusion
from fasttrack.spec._conv_problem import AdamState

__all__ = ["AdamState", "ConvRegressionProblem", "ConvRegressionResult", "Fusion", "RegressionLoss"]

_OP = "conv_regression_problem"


class RegressionLoss(Protocol):
    """A loss the problem can minimise: one of the loss modules of ``fasttrack.nn``."""

    def kernel_form(self) -> tuple[str, float, float]:
        """Name of the form and its two parameters, as the kernels number them."""


class ConvRegressionProblem:
    """Regression of several maps on their labels by one large kernel: min over (w, b) of

    Σ_frames Σ_positions loss(X ⋆ w + b, Y) + weight_decay·‖w‖²

    or, with a trained reduction A of the channels, over (A, w, b) with Aᵀw in the place of w; with a ``Fusion``
    there are several maps, reductions and regressors, trained together. The bias is not decayed; the losses are
    summed whatever the module's reduction. The spectra of a map are computed when it is added, and every step of
    ``run`` works on them. Many problems at once: ``ConvRegressionBatch``.

    Args:
        features: (C, H, W) float maps, or ``FeatureSpectra`` of them; sizes may differ, C may not.
        targets: (H − kh + 1, W − kw + 1) label maps, which give the kernel's size.
        loss: one of ``fasttrack.nn``'s ``TruncatedLoss``, ``ShrinkageLoss``, ``FocalRegressionLoss``,
            ``SquareLoss``.
        weight_decay: λ ≥ 0.
        capacity: frames kept; adding one more drops the oldest. None: no limit.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Examples:
        >>> from fasttrack import nn
        >>> features, label = torch.ones(1, 4, 4), torch.ones(3, 3)  # so the kernel has 2×2 cells
        >>> problem = ConvRegressionProblem([features], [label], nn.SquareLoss())
        >>> problem.kernel_size
        (2, 2)
        >>> fitted = problem.run(torch.zeros(1, 2, 2), torch.zeros(1), steps=20, optimizer="cg")
        >>> torch.allclose(problem.response(fitted.weight, fitted.bias), label, atol=1e-3)
        True

    Source: Chen & Tao 2018 (CRT), §3 and §4 (training and updating); Lu et al. 2018 (DSLT), §3.1 and §5.1.
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

    def response(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        index: int = -1,
        reduction: Tensor | None = None,
        fusion: Fusion | None = None,
    ) -> Tensor:
        """Response map of a stored frame (by default the newest), from its spectra."""
        return self.frames[index].response(weight, bias, reduction, fusion=fusion)

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
        patience: int | None = PATIENCE,
        reduction: Tensor | None = None,
        reduction_lr: float | None = None,
        reduction_decay: float = 0.0,
        bias_lr: float | None = None,
        fusion: Fusion | None = None,
        backend: str | None = None,
    ) -> ConvRegressionResult:
        """Optimise from a given weight; the arguments are not changed.

        Args:
            weight: (D, kh, kw) start, D = C without a reduction, (R, D, kh, kw) with a fusion; None for zeros.
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
            patience: stop, with ``result.stalled``, once the objective (loss and decay; for "cg" its squares) has
                not fallen by a thousandth within so many steps: a map without features, or a loss at its floor.
                Until then no iterate differs. None: never.
            reduction: (D, C) start of a matrix A trained along, not with "cg": the kernel on the map is Aᵀw.
            reduction_lr: its step size; None: ``lr``.
            reduction_decay: λ of its own term λ‖A‖² ≥ 0.
            bias_lr: step size of the bias, not with "cg"; 0 leaves it as it is; None: ``lr``.
            fusion: several maps and regressors, mixed; ``reduction`` has their matrices side by side.
            backend: explicit backend; None chooses.

        Returns:
            Weight, bias and reduction, steps made, loss, SNR and their history.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        """
        start = start_of(
            self.frames[0],
            weight,
            bias,
            steps,
            optimizer,
            lr,
            tolerance,
            evaluate=evaluate,
            state=state,
            patience=patience,
            reduction=reduction,
            reduction_lr=reduction_lr,
            reduction_decay=reduction_decay,
            bias_lr=bias_lr,
            fusion=fusion,
        )
        return run_together([self], [start], backend)[0]

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

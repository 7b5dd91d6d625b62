"""Convolution regressions of several targets, solved in one call."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fasttrack.errors import ShapeError
from fasttrack.ops import _checks as check
from fasttrack.ops._conv_run import PATIENCE, ConvRegressionResult, run_together, start_of
from fasttrack.ops.conv_problem import ConvRegressionProblem, RegressionLoss
from fasttrack.spec._conv_fusion import Fusion
from fasttrack.spec._conv_problem import AdamState

__all__ = ["ConvRegressionBatch"]

_OP = "conv_regression_batch"


class ConvRegressionBatch:
    """Regressions that share nothing, one per target, run in one call: each as its own ``run`` would, bit for bit.

    Where there are as many targets as threads, or more, each thread takes whole targets. The problems may differ in
    frames, sizes, losses and channels: a target that was lost has learnt from fewer frames than the others.

    Args:
        problems: T problems, at least one; the batch reads them when it runs, so frames may be added to each.

    Raises:
        ShapeError: no problems.
    """

    def __init__(self, problems: Sequence[ConvRegressionProblem]) -> None:
        if len(problems) == 0:
            raise ShapeError(_OP, "problems", "at least one problem", "none")
        self.problems = list(problems)

    @classmethod
    def stacked(
        cls,
        features: Sequence[Tensor],
        targets: Sequence[Tensor],
        loss: RegressionLoss,
        weight_decay: float = 0.0,
        capacity: int | None = None,
    ) -> ConvRegressionBatch:
        """A batch of T targets of equal sizes.

        Args:
            features: per frame the (T, C, H, W) maps of the targets.
            targets: per frame their (T, H − kh + 1, W − kw + 1) labels.
            loss: of all.
            weight_decay: of all.
            capacity: of all.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        """
        for name, values, layout, dims in (
            ("features", features, "a list of (T, C, H, W) maps", 4),
            ("targets", targets, "a list of (T, H′, W′) label maps", 3),
        ):
            if len(values) == 0 or len(values) != len(features):
                raise ShapeError(_OP, name, f"{layout}, one per frame, at least one", f"{len(values)}")
            for value in values:
                check.tensor(_OP, name, value, dims=(dims,), layout=layout)
                if len(value) != len(features[0]):
                    check.shape_error(_OP, name, f"{layout} with T = {len(features[0])}, as the first", value)
        columns = zip(zip(*features, strict=True), zip(*targets, strict=True), strict=True)
        return cls([ConvRegressionProblem(x, y, loss, weight_decay, capacity) for x, y in columns])

    def __len__(self) -> int:
        """Number of targets T."""
        return len(self.problems)

    def run(
        self,
        weight: Tensor | Sequence[Tensor] | None,
        bias: Tensor | Sequence[Tensor] | None,
        steps: int,
        optimizer: str = "adam",
        lr: float | None = None,
        tolerance: float | None = None,
        *,
        evaluate: bool = True,
        state: Sequence[AdamState] | None = None,
        patience: int | None = PATIENCE,
        reduction: Tensor | Sequence[Tensor] | None = None,
        reduction_lr: float | None = None,
        reduction_decay: float = 0.0,
        bias_lr: float | None = None,
        fusion: Fusion | None = None,
        backend: str | None = None,
    ) -> tuple[ConvRegressionResult, ...]:
        """``ConvRegressionProblem.run`` of every target.

        Args:
            weight: (T, D, kh, kw), or T starts (D, kh, kw), or None for zeros.
            bias: (T, 1), or T starts (1,), or None for zeros.
            steps: most updates to make for each target.
            optimizer: as there.
            lr: as there.
            tolerance: as there; each target stops by itself.
            evaluate: as there.
            state: one per target, or None.
            patience: as there; each target stops by itself.
            reduction: (T, D, C), or T starts (D, C), or None.
            reduction_lr: as there.
            reduction_decay: as there.
            bias_lr: as there.
            fusion: as there, of all; a weight then has (T, R, D, kh, kw).
            backend: explicit backend; None chooses.

        Returns:
            One result per target.

        Raises:
            ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.
        """
        columns = {"weight": weight, "bias": bias, "state": state, "reduction": reduction}
        for name, values in columns.items():
            if values is not None and len(values) != len(self):
                raise ShapeError(_OP, name, f"one per target, {len(self)}, or None", str(len(values)))
        starts = [
            start_of(
                problem.frames[0],
                None if weight is None else weight[t],
                None if bias is None else bias[t],
                steps,
                optimizer,
                lr,
                tolerance,
                evaluate=evaluate,
                state=None if state is None else state[t],
                patience=patience,
                reduction=None if reduction is None else reduction[t],
                reduction_lr=reduction_lr,
                reduction_decay=reduction_decay,
                bias_lr=bias_lr,
                fusion=fusion,
            )
            for t, problem in enumerate(self.problems)
        ]
        return run_together(self.problems, starts, backend)

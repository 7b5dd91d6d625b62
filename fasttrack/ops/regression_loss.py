"""Losses of a regression, value and gradient in one pass over the positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasttrack import gpu, native
from fasttrack.ops import _checks as check
from fasttrack.ops._autocast import promoted
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._regression_loss_gradient import backward, function, rule, scaled, setup, wide_dtype
from fasttrack.ops._rows import cpu_row, cuda_row, kernel_input, on_cpu, on_gpu, reference_row, triton_row
from fasttrack.spec.regression_loss import FORMS, gradient_at, reduce, value_at

__all__ = ["focal_regression_loss", "shrinkage_loss", "square_loss", "truncated_loss"]

REDUCTIONS = ("none", "sum", "mean")
_KERNEL = gpu.Kernel("regression_loss", "regression_loss", "5Pqi3f?P")
_SUM = gpu.Kernel("regression_loss_sum", "regression_loss", "2Pq")
_CUDA_THREADS = 256
_FORM = {form: number for number, form in enumerate(FORMS)}
_CUDA_BLOCKS = 1024  # 8 blocks of 256 threads on each of 128 multiprocessors; larger inputs stride


def truncated_loss(
    prediction: Tensor,
    target: Tensor,
    threshold: float = 0.1,
    a: float = 1.0,
    reduction: str = "sum",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Truncated, label-weighted squared error: easy positions count nothing, positives count more.

    loss = Σ (exp(a·y)·T(p − y))²,   T(e) = e if |e| > threshold else 0

    At |e| = threshold the position counts as easy: value and gradient are 0.

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        threshold: errors up to this size are ignored, ≥ 0.
        a: exponent of the label weight.
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none"; dtype of ``prediction`` (computed in float32 or wider).

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Chen & Tao 2018 (CRT), eq. 3–5.
    """
    check.number("truncated_loss", "threshold", threshold, low=0.0)
    return _loss("truncated_loss", prediction, target, weight, "truncated", a, threshold, reduction, backend)


def shrinkage_loss(
    prediction: Tensor,
    target: Tensor,
    a: float = 10.0,
    c: float = 0.2,
    form: str = "modified",
    reduction: str = "mean",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Squared error shrunk where it is small: easy positions fade out smoothly.

    loss = Σ exp(y)·e² / (1 + exp(a·(c − l))),   e = p − y,   l = |e| ("modified") or e ("original")

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        a: speed of the shrinkage.
        c: error at which half of the squared error is left.
        form: "modified" (absolute error) or "original" (signed error).
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none"; dtype of ``prediction`` (computed in float32 or wider).

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Lu et al. 2018 (DSLT), eq. 7; Zheng et al. 2020 (DCFST), eq. 4.
    """
    check.choice("shrinkage_loss", "form", form, ("modified", "original"))
    return _loss("shrinkage_loss", prediction, target, weight, f"shrinkage_{form}", a, c, reduction, backend)


def focal_regression_loss(
    prediction: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Cubed absolute error, loss = Σ |p − y|³: the L3 form of the focal loss for regression.

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none".

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Lu et al. 2018 (DSLT), §3.2 (the loss it compares with).
    """
    return _loss("focal_regression_loss", prediction, target, weight, "focal", 0.0, 0.0, reduction, backend)


def square_loss(
    prediction: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Squared error, loss = Σ (p − y)².

    Args:
        prediction: response map, any shape, float.
        target: labels y of the same shape.
        reduction: "none", "sum" or "mean" (over all positions).
        weight: factor per position of the same shape, or None.
        backend: explicit backend; None chooses.

    Returns:
        The loss: a scalar, or a map for "none".

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: CRT eq. 1 (ridge regression without its penalty).
    """
    return _loss("square_loss", prediction, target, weight, "square", 0.0, 0.0, reduction, backend)


def _loss(
    op: str,
    prediction: Tensor,
    target: Tensor,
    weight: Tensor | None,
    form: str,
    a: float,
    c: float,
    reduction: str,
    backend: str | None,
) -> Tensor:
    check.tensor(op, "prediction", prediction)
    if not (_alike(target, prediction) and (weight is None or _alike(weight, prediction))):
        prediction, target, weight = promoted(prediction, target, weight)
    for name, other in (("target", target), ("weight", weight)):
        if other is not None and not _alike(other, prediction):
            check.tensor(op, name, other)
            check.same_shape(op, name, other, "prediction", prediction)
            check.same_dtype(op, name, other, "prediction", prediction)
            check.same_device(op, name, other, "prediction", prediction)
    check.number(op, "a", a)
    check.number(op, "c", c)
    check.choice(op, "reduction", reduction, REDUCTIONS)
    out = _OP(prediction, target, weight, form, float(a), float(c), reduction, backend=backend)
    value: Tensor = out if isinstance(out, Tensor) else out[0]
    return value


def _alike(other: Any, prediction: Tensor) -> bool:
    """Whether the checks will pass: three comparisons at a quarter of the price of checks that can word an error."""
    return (
        isinstance(other, Tensor)
        and other.shape == prediction.shape
        and other.dtype == prediction.dtype
        and other.device == prediction.device
    )


def _cpu_why_not(prediction: Tensor, *_: Any) -> str | None:
    return on_cpu(prediction, "prediction")


def _gpu_why_not(prediction: Tensor, *_: Any) -> str | None:
    return on_gpu(prediction, "prediction")


def _allocate(
    prediction: Tensor, target: Tensor, weight: Tensor | None, reduction: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """What a kernel reads and writes, in float32: prediction, target, weight, value, gradient."""
    p = kernel_input(prediction)
    value = torch.empty_like(p) if reduction == "none" else p.new_empty(())
    w = None if weight is None else kernel_input(weight)
    return p, kernel_input(target), w, value, torch.empty_like(p)


def _options(n: int, form: str, a: float, c: float, reduction: str) -> tuple[int, int, float, float, float, bool]:
    """The members of ``RegressionLossArgs`` behind the addresses."""
    scale = 1.0 / n if reduction == "mean" and n else 1.0
    return n, _FORM[form], a, c, scale, reduction != "none"


def _finish(prediction: Tensor, value: Tensor, grad: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    """Value and gradient, rounded to the input's dtype."""
    if reduction == "mean" and prediction.numel() == 0:
        value.fill_(float("nan"))  # the mean of nothing is 0/0, as in torch
    if prediction.dtype == torch.float32:
        return value, grad
    return value.to(prediction.dtype), grad.to(prediction.dtype)


def _cpu(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    p, y, w, value, grad = _allocate(prediction, target, weight, reduction)
    weights = 0 if w is None else w.data_ptr()
    addresses = p.data_ptr(), y.data_ptr(), weights, value.data_ptr(), grad.data_ptr()
    native.lib().regression_loss(*addresses, *_options(prediction.numel(), form, a, c, reduction))
    return _finish(prediction, value, grad, reduction)


def _cuda(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    tensors = _allocate(prediction, target, weight, reduction)
    value, n = tensors[3], prediction.numel()
    blocks = max(1, min(_CUDA_BLOCKS, -(-n // _CUDA_THREADS)))
    partial = torch.empty(blocks, dtype=torch.float64, device=value.device)
    gpu.launch(_KERNEL, blocks, _CUDA_THREADS, (*tensors, *_options(n, form, a, c, reduction), partial), value)
    if reduction != "none":
        gpu.launch(_SUM, 1, _CUDA_THREADS, (partial, value, blocks), value)
    return _finish(prediction, *tensors[3:], reduction)


def _triton(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    from fasttrack.kernels import regression_loss as kernels

    return kernels.loss_and_gradient(prediction, target, weight, FORMS.index(form), a, c, reduction)


def _reference(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    dtype = prediction.dtype
    wide = wide_dtype(dtype)
    p, y = prediction.to(wide), target.to(wide)
    w = None if weight is None else weight.to(wide)
    value = reduce(value_at(form, p, y, a, c), w, reduction)
    grad = scaled(gradient_at(form, p, y, a, c), w, reduction).detach()
    return value.to(dtype), grad.to(dtype)


def _meta(
    prediction: Tensor, target: Tensor, weight: Tensor | None, form: str, a: float, c: float, reduction: str
) -> tuple[Tensor, Tensor]:
    grad = torch.empty_like(prediction, memory_format=torch.contiguous_format)
    return (torch.empty_like(grad) if reduction == "none" else prediction.new_empty(())), grad


_OP = Op(
    "regression_loss",
    "(Tensor prediction, Tensor target, Tensor? weight, str form, float a, float c, str reduction)"
    " -> (Tensor value, Tensor grad)",
    rows=(
        cuda_row(_gpu_why_not, _cuda),
        triton_row(_gpu_why_not, _triton),
        cpu_row(_cpu_why_not, _cpu),
        reference_row(_reference),
    ),
    meta=_meta,
    gradient=Gradient(setup, backward, function),
    batch=rule,
)

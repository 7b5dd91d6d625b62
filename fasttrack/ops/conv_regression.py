"""Convolution of a feature map with one kernel as large as the object: forward and all gradients."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _checks as check
from fasttrack.ops import _conv_triton as triton
from fasttrack.ops._autocast import promoted
from fasttrack.ops._conv_batching import response_rule, to_features_rule, to_weight_rule
from fasttrack.ops._conv_each import per_map
from fasttrack.ops._op import Gradient, Op
from fasttrack.ops._rows import cpu_row, kernel_input, on_cpu, reference_row, triton_row, wide
from fasttrack.spec.conv_regression import conv_regression as reference

__all__ = ["aligned", "check_kernel", "check_reduction", "composed", "conv_regression", "tile_of"]

# Kernels up to this many cells are summed directly when a map is used once: its spectra would cost more.
_DIRECT_UP_TO = 25


def conv_regression(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    reduction: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Valid cross-correlation of a map with one large kernel, summed over channels.

    R[b, i, j] = Σ_{c,p,q} X[b, c, i + p, j + q]·u[c, p, q] + bias,   u = w or, with a reduction, u = Aᵀw

    A 1×1 reduction commutes with the correlation, w ⋆ (A X) = (Aᵀw) ⋆ X: neither the reduced map nor a gradient
    in it is computed. Gradients in features, weight, bias and reduction, of any order. To take many steps on the
    same maps use ``ConvRegressionProblem``, which transforms them once.

    Args:
        features: (B, C, H, W) or (C, H, W) float tensor X.
        weight: (D, kh, kw) of the same dtype, 1 ≤ kh ≤ H, 1 ≤ kw ≤ W, D = C without a reduction; or
            (B, D, kh, kw), a kernel per map.
        bias: (1,) of the same dtype, (B,) with a kernel per map, or None.
        reduction: (D, C) matrix A, (B, D, C) with a kernel per map, or None.
        backend: explicit backend; None chooses.

    Returns:
        (B, H − kh + 1, W − kw + 1), or without B for one map; dtype of ``features``
        (half types are computed in float32).

    Memory: the spectra of one map's tiles, which overlap, up to 2.5 times the map in float32, live for the call; the
    tables of each length of transform, some kilobytes, for the process.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.

    Examples:
        >>> features = torch.arange(9.0).view(1, 3, 3)
        >>> conv_regression(features, torch.ones(1, 2, 2), torch.zeros(1))
        tensor([[ 8., 12.],
                [20., 24.]])

    Source: Chen & Tao 2018 (CRT), §3.1; Lu et al. 2018 (DSLT), §5.1 (reduction).
    """
    op = "conv_regression"
    check.tensor(op, "features", features, dims=(3, 4), layout="(B, C, H, W) or (C, H, W)")
    check.tensor(op, "weight", weight, dims=(3, 4), layout="(D, kh, kw) or, per map, (B, D, kh, kw)")
    features, weight, bias, reduction = promoted(features, weight, bias, reduction)
    for name, value in (("weight", weight), ("bias", bias), ("reduction", reduction)):
        if value is not None:
            check.tensor(op, name, value)
            check.same_dtype(op, name, value, "features", features)
            check.same_device(op, name, value, "features", features)
    each = weight.dim() == 4
    if each and (features.dim() != 4 or weight.shape[0] != features.shape[0]):
        wanted = f"(D, kh, kw), or (B, D, kh, kw) with features (B, C, H, W), here {tuple(features.shape)}"
        check.shape_error(op, "weight", wanted, weight)
    if reduction is not None:
        check_reduction(op, reduction, weight, features.shape[-3])
        weight = composed(weight, reduction)
    check_kernel(op, features, weight)
    if bias is not None and bias.shape != ((weight.shape[0],) if each else (1,)):
        check.shape_error(op, "bias", f"({weight.shape[0]},), one per map" if each else "(1,)", bias)
    batched = features if features.dim() == 4 else features.unsqueeze(0)
    response: Tensor = (_EACH[0] if each else _FORWARD)(batched, weight, bias, backend=backend)
    return response if features.dim() == 4 else response.squeeze(0)


def composed(weight: Tensor, reduction: Tensor) -> Tensor:
    """The kernel Aᵀw (…, C, kh, kw) on the map itself, of w (…, D, kh, kw) and A (…, D, C); half types in float32."""
    with torch.autocast(weight.device.type, enabled=False):
        matrix, kernel = wide(reduction).transpose(-1, -2), wide(weight)
        kernels: Tensor = (matrix @ kernel.flatten(-2)).unflatten(-1, kernel.shape[-2:])
        return kernels


def check_reduction(op: str, reduction: Tensor, weight: Tensor, channels: int) -> None:
    """``reduction`` must lead from ``channels`` of a map to those of ``weight`` (…, D, kh, kw)."""
    reduced = weight.shape[-3]
    wanted = [(reduced, channels), (weight.shape[0], reduced, channels)][: 1 + (weight.dim() == 4)]
    if tuple(reduction.shape) not in wanted or 0 in reduction.shape:
        sizes = " or ".join(map(str, wanted))
        check.shape_error(op, "reduction", f"{sizes}: D of weight, at least 1, and C of features", reduction)


def check_kernel(op: str, features: Tensor, weight: Tensor) -> None:
    """``weight`` (C, kh, kw) must fit into ``features`` (…, C, H, W)."""
    channels, height, width = features.shape[-3:]
    if weight.shape[-3] != channels or channels == 0:
        check.shape_error(op, "weight", f"(C, kh, kw) with the C ≥ 1 of features, {channels}", weight)
    if not (1 <= weight.shape[-2] <= height and 1 <= weight.shape[-1] <= width):
        wanted = f"(C, kh, kw) with 1 ≤ kh ≤ {height} and 1 ≤ kw ≤ {width}, the size of features"
        check.shape_error(op, "weight", wanted, weight)


def aligned(floats: int) -> Tensor:
    """Uninitialised float32 memory on a 64-byte boundary, as the kernels' vectors need it."""
    memory = torch.empty(floats + 16, dtype=torch.float32)
    skip = -memory.data_ptr() // 4 % 16
    return memory[skip : skip + floats]


@lru_cache(maxsize=256)
def tile_of(channels: int, height: int, width: int, kh: int, kw: int) -> tuple[int, int]:
    """Height and width of the FFT tiles for maps of this size."""
    tile: tuple[int, int] = native.lib().conv_plan([channels, height, width, kh, kw, 0, 0], 1)
    return tile


def _shape(features: Tensor, kh: int, kw: int) -> list[int]:
    channels, height, width = features.shape[-3:]
    return [channels, height, width, kh, kw, *tile_of(channels, height, width, kh, kw)]


def _cpu_why_not(first: Tensor, *_: Any) -> str | None:
    return on_cpu(first, "features")


# R = X ⋆ w, and the two adjoints. The three are the same trilinear form ⟨g, X ⋆ w⟩ seen from each of its
# arguments, so each one's gradients are the other two, to any order.


def _forward_cpu(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, w = kernel_input(features), kernel_input(weight)
    b = None if bias is None else kernel_input(bias)
    kh, kw = w.shape[1:]
    w_at, b_at = w.data_ptr(), 0 if b is None else b.data_ptr()
    out = torch.empty((x.shape[0], *_response_size(x, kh, kw)), dtype=torch.float32)
    lib = native.lib()
    if kh * kw <= _DIRECT_UP_TO:
        for one, response in zip(x, out, strict=True):
            lib.conv_direct([*x.shape[1:], kh, kw, 0, 0], one.data_ptr(), w_at, b_at, response.data_ptr())
        return out.to(features.dtype)
    shape = _shape(x, kh, kw)
    spectra = aligned(lib.conv_spectra_size(shape))
    for one, response in zip(x, out, strict=True):
        lib.conv_spectra(shape, one.data_ptr(), spectra.data_ptr())
        lib.conv_response(shape, spectra.data_ptr(), w_at, b_at, response.data_ptr())
    return out.to(features.dtype)


def _weight_gradient_cpu(features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    x, g = kernel_input(features), kernel_input(grad)
    shape = _shape(x, kh, kw)
    total = torch.zeros(x.shape[1], kh, kw)
    lib, spectra, one = native.lib(), aligned(native.lib().conv_spectra_size(shape)), torch.empty_like(total)
    for map_, response_gradient in zip(x, g, strict=True):
        lib.conv_spectra(shape, map_.data_ptr(), spectra.data_ptr())
        lib.conv_weight_gradient(shape, spectra.data_ptr(), response_gradient.data_ptr(), one.data_ptr())
        total += one
    return total.to(features.dtype)


def _features_gradient_cpu(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    g, w = kernel_input(grad), kernel_input(weight)
    channels, kh, kw = w.shape
    out = torch.empty(g.shape[0], channels, height, width)
    tile = tile_of(channels, height + kh - 1, width + kw - 1, kh, kw)
    for response_gradient, one in zip(g, out, strict=True):
        native.lib().conv_features_gradient(
            [channels, height, width, kh, kw, *tile], response_gradient.data_ptr(), w.data_ptr(), one.data_ptr()
        )
    return out.to(grad.dtype)


def _response_size(features: Tensor, kh: int, kw: int) -> tuple[int, int]:
    return features.shape[-2] - kh + 1, features.shape[-1] - kw + 1


def _forward_reference(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return reference(wide(features), wide(weight), None if bias is None else wide(bias)).to(features.dtype)


def _weight_gradient_reference(features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    # Correlating the map with the response's gradient: batch and channels change places.
    x, g = wide(features).transpose(0, 1), wide(grad).unsqueeze(0)
    return torch.nn.functional.conv2d(x, g).squeeze(1).to(features.dtype)


def _features_gradient_reference(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    return torch.nn.functional.conv_transpose2d(wide(grad).unsqueeze(1), wide(weight).unsqueeze(0)).to(grad.dtype)


def _forward_meta(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return features.new_empty((features.shape[0], *_response_size(features, weight.shape[1], weight.shape[2])))


def _weight_gradient_meta(features: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    return features.new_empty((features.shape[1], kh, kw))


def _features_gradient_meta(grad: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((grad.shape[0], weight.shape[0], height, width))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    features, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        _FEATURES_GRADIENT(grad, weight, features.shape[2], features.shape[3]) if needs[0] else None,
        _WEIGHT_GRADIENT(features, grad, weight.shape[1], weight.shape[2]) if needs[1] else None,
        grad.sum(dtype=torch.float64).reshape(1).to(grad.dtype) if needs[2] else None,
    )


def _weight_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    features, grad = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        _FEATURES_GRADIENT(grad, u, features.shape[2], features.shape[3]) if needs[0] else None,
        _FORWARD(features, u, None) if needs[1] else None,
        None,
        None,
    )


def _features_gradient_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    grad, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        _FORWARD(u, weight, None) if needs[0] else None,
        _WEIGHT_GRADIENT(u, grad, weight.shape[1], weight.shape[2]) if needs[1] else None,
        None,
        None,
    )


_FORWARD = Op(
    "conv_regression",
    "(Tensor features, Tensor weight, Tensor? bias) -> Tensor",
    rows=(
        triton_row(triton.why_not, triton.forward),
        cpu_row(_cpu_why_not, _forward_cpu),
        reference_row(_forward_reference),
    ),
    meta=_forward_meta,
    gradient=Gradient(_save, _forward_backward),
    batch=response_rule(lambda: _EACH[0]),
)
_WEIGHT_GRADIENT = Op(
    "conv_regression_weight_gradient",
    "(Tensor features, Tensor grad, SymInt kh, SymInt kw) -> Tensor",
    rows=(
        triton_row(triton.why_not, triton.weight_gradient),
        cpu_row(_cpu_why_not, _weight_gradient_cpu),
        reference_row(_weight_gradient_reference),
    ),
    meta=_weight_gradient_meta,
    gradient=Gradient(_save, _weight_gradient_backward),
    batch=to_weight_rule(lambda: _EACH[1]),
)
_FEATURES_GRADIENT = Op(
    "conv_regression_features_gradient",
    "(Tensor grad, Tensor weight, SymInt height, SymInt width) -> Tensor",
    rows=(
        triton_row(triton.why_not, triton.features_gradient),
        cpu_row(_cpu_why_not, _features_gradient_cpu),
        reference_row(_features_gradient_reference),
    ),
    meta=_features_gradient_meta,
    gradient=Gradient(_save, _features_gradient_backward),
    batch=to_features_rule(lambda: _EACH[2]),
)
_EACH: tuple[Op, Op, Op] = per_map(_FORWARD, _WEIGHT_GRADIENT, _FEATURES_GRADIENT)

"""``pytracking.libs.operation``: convolutions of tensors, or of lists of tensors element by element."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fasttrack.compat.pytracking._correlation import correlate
from fasttrack.compat.pytracking.tensorlist import tensor_operation
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError

__all__ = ["conv1x1", "conv2d"]

Pair = tuple[int, int]


@tensor_operation
def conv2d(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    mode: str | None = None,
) -> Tensor:
    """Cross-correlation as ``torch.nn.functional.conv2d`` does it, with padding by name.

    out[b, o, i, j] = Σ_{c,p,q} x[b, c, i + p − P, j + q − Q]·w[o, c, p, q] + bias[o]        (stride and dilation 1)

    | mode | padding P of a kernel of k cells | size of the output |
    | --- | --- | --- |
    | "same" | ⌊k/2⌋, and for even k without the last row or column | H |
    | "valid" | 0 | H − k + 1 |
    | "full" | k − 1 | H + k − 1 |

    The padding of a mode knows neither stride nor dilation. Differentiable to any order.

    Args:
        input: (B, C, H, W), or a TensorList of such.
        weight: (O, C/groups, kh, kw), or a TensorList of such; None: the input comes back.
        bias: (O,) or None.
        stride: cells between outputs.
        padding: zeros on each side, where no mode is given.
        dilation: cells from tap to tap.
        groups: groups of channels.
        mode: "same", "valid", "full", or None for ``padding``.

    Returns:
        (B, O, H', W'), as a TensorList where ``input`` or ``weight`` is one.

    Raises:
        ArgumentError: both padding and mode.
        RangeError: another mode.
        ShapeError, DtypeError: of an input or weight that is no tensor of four dimensions.

    Source: behaviour of ``pytracking.libs.operation``; the target model f = φ₂(w₂ ∗ φ₁(w₁ ∗ x)) of ATOM §3.2.
    """
    if weight is None:
        return input
    for name, value in (("input", input), ("weight", weight)):
        _four("conv2d", name, value)
    kernel: Pair = (weight.shape[2], weight.shape[3])
    pads, crop = _pair(padding), (0, 0)
    if mode is not None:
        if pads != (0, 0):
            raise ArgumentError("conv2d", "padding", "0 where a mode is given", f"{padding} with mode={mode!r}")
        pads = _padding(mode, kernel)
        crop = ((kernel[0] + 1) % 2, (kernel[1] + 1) % 2) if mode == "same" else crop
    steps, gaps = _pair(stride), _pair(dilation)
    if any(n + 2 * p < d * (k - 1) + 1 for n, p, d, k in zip(input.shape[2:], pads, gaps, kernel, strict=True)):
        wanted = f"a kernel of at most the padded input, {tuple(input.shape[2:])} and {pads} on each side"
        raise ShapeError("conv2d", "weight", wanted, str(tuple(weight.shape)))
    if steps == (1, 1) and groups >= 1 and input.shape[1] == groups * weight.shape[1] and weight.shape[0] % groups == 0:
        out = correlate(input.unsqueeze(1), weight.unsqueeze(0), pads, gaps).squeeze(1)
        out = out if bias is None else out + bias[:, None, None]
    else:
        out = F.conv2d(input, weight, bias, steps, pads, gaps, groups)
    return out[..., : out.shape[-2] - crop[0], : out.shape[-1] - crop[1]] if any(crop) else out


@tensor_operation
def conv1x1(input: Tensor, weight: Tensor | None) -> Tensor:
    """Convolution with kernels of one cell: a matrix applied to the channels of every cell.

    out[b, o, i, j] = Σ_c w[o, c]·x[b, c, i, j]

    Args:
        input: (B, C, H, W), or a TensorList of such.
        weight: (O, C, 1, 1), or a TensorList of such; None: the input comes back.

    Returns:
        (B, O, H, W), as a TensorList where ``input`` or ``weight`` is one.

    Raises:
        ShapeError, DtypeError: of an input or weight that is no tensor of four dimensions, or kernels of more cells.

    Source: behaviour of ``pytracking.libs.operation``; w₁ of ATOM §3.2, and P of ECO §3.1.
    """
    if weight is None:
        return input
    for name, value in (("input", input), ("weight", weight)):
        _four("conv1x1", name, value)
    if weight.shape[2:] != (1, 1):
        raise ShapeError("conv1x1", "weight", "(O, C, 1, 1)", str(tuple(weight.shape)))
    return F.conv2d(input, weight)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(mode: str, kernel: Pair) -> Pair:
    if mode == "same":
        return kernel[0] // 2, kernel[1] // 2
    if mode == "valid":
        return 0, 0
    if mode == "full":
        return kernel[0] - 1, kernel[1] - 1
    raise RangeError("conv2d", "mode", "'same', 'valid', 'full' or None", repr(mode))


def _four(op: str, argument: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise DtypeError(op, argument, "a torch.Tensor", type(value).__name__)
    if value.dim() != 4:
        raise ShapeError(op, argument, "a tensor of four dimensions", str(tuple(value.shape)))

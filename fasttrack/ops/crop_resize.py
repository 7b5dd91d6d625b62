"""Windows of a frame, resampled: what every tracker does first."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.errors import ArgumentError, RangeError, ShapeError
from fasttrack.ops import _checks as check
from fasttrack.ops._batching import folded, refused
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, on_cpu, on_gpu, reference_row, triton_row
from fasttrack.ops._transforms import current_transform
from fasttrack.spec import crop_resize as spec

__all__ = ["check_windows", "crop_resize"]

BORDERS = ("replicate", "constant")


def crop_resize(
    frame: Tensor,
    boxes: Tensor,
    size: int | tuple[int, int],
    border: str = "replicate",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    antialias: bool = False,
    *,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Bilinear samples of K windows of one 8-bit frame, as a float batch.

    out[k, c, i, j] = (f_c(v, u) − mean[c]) / std[c],
    u = x_k + (j + ½)·w_k/out_w − ½,   v = y_k + (i + ½)·h_k/out_h − ½

    f is the bilinear surface through the pixel values, with pixel centres at integers (so a box whose
    edges are integers and whose size is ``size`` returns its pixels unchanged). Positions are computed
    in float64. A window that shrinks the frame by more than 2× aliases, unless there is ``antialias``: it is then
    sampled from the frame averaged over blocks of s × s px, s = ⌊min(w_k/out_w, h_k/out_h)⌋ if that is at least 2,
    and at most 256 and the smaller side of the frame. Means are 8-bit like the frame, halves rounded up; in edge
    coordinates the averaged frame is the frame divided by s, so the geometry is exact. Rows and columns of an
    incomplete last block go.

    Args:
        frame: (H, W, 3), (H, W, 1) or (H, W) uint8, any strides; ``torch.from_numpy(image)`` is not copied.
        boxes: (K, 4) float32 or float64 rows (x, y, w, h) in px, edge coordinates; K may be 0.
        size: samples per window, (out_h, out_w) or one int for both.
        border: "replicate" repeats the edge pixels (positions are clamped to the outermost pixel centres);
            "constant" continues the frame with black pixels, to which mean and std apply as to any other.
        mean: subtracted per channel (or one number), in grey levels 0–255; None is 0.
        std: divides per channel (or one number), > 0; None is 1.
        antialias: average over blocks where a window shrinks the frame.
        out: contiguous float32 tensor of the result's shape and device, which is overwritten and returned: large
            results cost less where their memory is in use already. Whoever keeps a result must not pass it
            again. Where the call raises, it is unchanged.
        backend: explicit backend; None chooses.

    Returns:
        (K, C, out_h, out_w) float32 on the device of ``frame``, a new tensor without ``out``. It carries no
        gradient.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came;
            also where ``boxes`` asks for a gradient (an 8-bit frame has none).
        BoxError: a box is not finite or its size is not positive. A kernel of the GPU reads the boxes there and
            nothing comes back to be checked: it fills the window of such a box with NaN instead.

    Source: the pixel-centre convention as in ``torch.nn.functional.interpolate(align_corners=False)``.
    """
    op = "crop_resize"
    channels = check_windows(op, frame, boxes)
    check.choice(op, "border", border, BORDERS)
    out_h, out_w = _size(size)
    gain, offset = _affine(mean, std, channels)
    if out is None:
        made: Tensor = _OP(frame, boxes, out_h, out_w, border == "constant", antialias, gain, offset, backend=backend)
        return made
    _check_out(out, (boxes.shape[0], channels, out_h, out_w), frame, boxes)
    _INTO(out, frame, boxes, border == "constant", antialias, gain, offset, backend=backend)
    return out


def check_windows(op: str, frame: Tensor, boxes: Tensor) -> int:
    """``boxes`` must be windows of an 8-bit ``frame``; returns the frame's channels."""
    check.tensor(op, "frame", frame, dims=(2, 3), dtypes=(torch.uint8,), layout="(H, W, 3), (H, W, 1) or (H, W)")
    shape = frame.shape
    channels = shape[2] if len(shape) == 3 else 1
    if channels not in (1, 3) or shape[0] < 1 or shape[1] < 1:
        check.shape_error(op, "frame", "(H, W, 3), (H, W, 1) or (H, W) with H, W ≥ 1", frame)
    check.tensor(op, "boxes", boxes, dims=(2,), dtypes=(torch.float32, torch.float64), layout="(K, 4)")
    if boxes.shape[1] != 4:
        check.shape_error(op, "boxes", "(K, 4), rows (x, y, w, h)", boxes)
    check.same_device(op, "boxes", boxes, "frame", frame)
    check.no_gradient(op, "boxes", boxes)
    return channels


def _check_out(out: Tensor, shape: tuple[int, int, int, int], frame: Tensor, boxes: Tensor) -> None:
    op = "crop_resize"
    check.tensor(op, "out", out, dtypes=(torch.float32,))
    if out.shape != shape or not out.is_contiguous():
        wanted = f"contiguous, of shape {shape}"
        raise ShapeError(op, "out", wanted, f"shape {tuple(out.shape)}, strides {out.stride()}")
    check.same_device(op, "out", out, "frame", frame)
    if out.requires_grad:
        raise ArgumentError(op, "out", "a tensor that asks for no gradient", "requires_grad=True")
    if torch.compiler.is_compiling() or current_transform() is not None:
        return
    storages = {t.untyped_storage().data_ptr() for t in (frame, boxes)}
    if out.numel() > 0 and out.untyped_storage().data_ptr() in storages:
        raise ArgumentError(op, "out", "memory of its own", "memory of frame or boxes")


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else size
    if isinstance(pair, (tuple, list)) and len(pair) == 2:
        height, width = pair
        if isinstance(height, int) and isinstance(width, int) and height >= 1 and width >= 1:
            return height, width
    raise RangeError("crop_resize", "size", "one int ≥ 1 or two, (out_h, out_w)", repr(size))


def _affine(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, channels: int
) -> tuple[list[float], list[float]]:
    """(v − mean)/std as v·gain + offset."""
    if mean is None and std is None:
        return [1.0] * channels, [0.0] * channels
    means, stds = _per_channel("mean", mean, 0.0, channels), _per_channel("std", std, 1.0, channels)
    for s in stds:
        check.number("crop_resize", "std", s, low=0.0, low_open=True)
    return [1.0 / s for s in stds], [-m / s for m, s in zip(means, stds, strict=True)]


def _per_channel(name: str, value: float | Sequence[float] | None, default: float, channels: int) -> list[float]:
    if value is None:
        return [default] * channels
    given = [value] * channels if isinstance(value, (int, float)) else list(value)
    if not all(isinstance(v, (int, float)) for v in given):
        raise RangeError("crop_resize", name, f"a number or {channels}, one per channel", repr(value))
    values = [float(v) for v in given]
    if len(values) != channels:
        raise ShapeError("crop_resize", name, f"one number or {channels}, one per channel", f"{len(values)} numbers")
    if not all(map(math.isfinite, values)):
        raise RangeError("crop_resize", name, "finite", repr(value))
    return values


def _cpu_why_not(frame: Tensor, *_: Any) -> str | None:
    return on_cpu(frame, "frame")


def _cpu(
    frame: Tensor,
    boxes: Tensor,
    out_h: int,
    out_w: int,
    constant: bool,
    antialias: bool,
    gain: list[float],
    offset: list[float],
) -> Tensor:
    out = torch.empty((boxes.shape[0], len(gain), out_h, out_w), dtype=torch.float32)
    _cpu_into(out, frame, boxes, constant, antialias, gain, offset)
    return out


def _cpu_into(
    out: Tensor, frame: Tensor, boxes: Tensor, constant: bool, antialias: bool, gain: list[float], offset: list[float]
) -> None:
    height, width, *_ = frame.shape
    channels = len(gain)
    stride_y, stride_x, *stride_c = frame.stride()
    rows = boxes
    if rows.dtype != torch.float64 or not rows.is_contiguous():
        rows = boxes.detach().to(torch.float64).contiguous()
    count, _, out_h, out_w = out.shape
    # An array costs a tenth of a tensor here, where a call may take only microseconds.
    affine = array("f", (*gain, *offset))
    address = affine.buffer_info()[0]
    bad = native.lib().crop_resize(
        frame.data_ptr(),
        height,
        width,
        channels,
        stride_y,
        stride_x,
        stride_c[0] if channels > 1 else 1,
        rows.data_ptr(),
        count,
        address,
        address + affine.itemsize * channels,
        constant,
        antialias,
        out.data_ptr(),
        out_h,
        out_w,
    )
    if bad >= 0:
        spec.refuse_bad_box(rows, bad)


def _into_why_not(_: Tensor, frame: Tensor, *__: Any) -> str | None:
    return _cpu_why_not(frame)


def _gpu_why_not(frame: Tensor, *_: Any) -> str | None:
    return on_gpu(frame, "frame")


def _triton(
    frame: Tensor,
    boxes: Tensor,
    out_h: int,
    out_w: int,
    constant: bool,
    antialias: bool,
    gain: list[float],
    offset: list[float],
) -> Tensor:
    from fasttrack.kernels import crop_resize as kernels

    return kernels.crop_resize(frame, boxes, out_h, out_w, constant, antialias, gain, offset)


def _into_gpu_why_not(_: Tensor, frame: Tensor, *__: Any) -> str | None:
    return _gpu_why_not(frame)


def _triton_into(
    out: Tensor, frame: Tensor, boxes: Tensor, constant: bool, antialias: bool, gain: list[float], offset: list[float]
) -> None:
    from fasttrack.kernels import crop_resize as kernels

    kernels.crop_resize(frame, boxes, out.shape[2], out.shape[3], constant, antialias, gain, offset, out)


def _reference(
    frame: Tensor,
    boxes: Tensor,
    out_h: int,
    out_w: int,
    constant: bool,
    antialias: bool,
    gain: list[float],
    offset: list[float],
) -> Tensor:
    raw = spec.crop_resize(frame, boxes.detach(), (out_h, out_w), BORDERS[constant], antialias=antialias)
    scale, shift = raw.new_tensor(gain).view(-1, 1, 1), raw.new_tensor(offset).view(-1, 1, 1)
    return (raw * scale + shift).float()


def _reference_into(
    out: Tensor, frame: Tensor, boxes: Tensor, constant: bool, antialias: bool, gain: list[float], offset: list[float]
) -> None:
    out.copy_(_reference(frame, boxes, out.shape[2], out.shape[3], constant, antialias, gain, offset))


def _meta(
    frame: Tensor,
    boxes: Tensor,
    out_h: int,
    out_w: int,
    constant: bool,
    antialias: bool,
    gain: list[float],
    offset: list[float],
) -> Tensor:
    return frame.new_empty((boxes.shape[0], len(gain), out_h, out_w), dtype=torch.float32)


_OP = Op(
    "crop_resize",
    "(Tensor frame, Tensor boxes, int out_h, int out_w, bool constant, bool antialias, float[] gain,"
    " float[] offset) -> Tensor",
    rows=(triton_row(_gpu_why_not, _triton), cpu_row(_cpu_why_not, _cpu), reference_row(_reference)),
    meta=_meta,
    batch=folded(1, shared=(0,)),
)
_INTO = Op(
    "crop_resize_into",
    "(Tensor(a!) out, Tensor frame, Tensor boxes, bool constant, bool antialias, float[] gain, float[] offset) -> ()",
    rows=(
        triton_row(_into_gpu_why_not, _triton_into),
        cpu_row(_into_why_not, _cpu_into),
        reference_row(_reference_into),
    ),
    meta=lambda *_: None,
    batch=refused("call crop_resize without out="),
)

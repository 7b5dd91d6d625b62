"""A correlation filter on the brightness of windows of a frame: all that MOSSE does with a frame, in two calls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops import _grey_filter_rows as rows
from fasttrack.ops._correlation_filter_model import CorrelationFilter, check_rate, pairs
from fasttrack.ops._correlation_filter_update import places_of
from fasttrack.ops.crop_resize import check_windows
from fasttrack.spec import correlation_filter as spec

__all__ = ["grey_filter", "grey_filter_detect", "grey_filter_learn_"]


def grey_filter(
    frame: Tensor,
    boxes: Tensor,
    search: Tensor,
    label: Tensor,
    lam: float = 1e-2,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
    cell_size: int = 1,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """A filter learnt from windows of a frame (``grey_filter_learn_``), asked in others (``grey_filter_detect``).

    Args:
        frame: (H, W, 3), (H, W, 1) or (H, W) uint8.
        boxes: (T, 4) windows to learn from.
        search: (T·S, 4) windows to look in, those of a target side by side.
        label: (h, w) or (T, h, w) float32: the wanted responses, in cells.
        lam: λ > 0.
        kernel: "linear" or "gaussian".
        sigma: width of the Gaussian kernel, > 0.
        window: (h, w) factor on every map, or None.
        cell_size: px per cell.
        backend: explicit backend; None chooses.

    Returns:
        As ``grey_filter_detect``.

    Raises:
        As ``grey_filter_learn_`` and ``grey_filter_detect``.
    """
    check.choice("grey_filter", "kernel", kernel, spec.KERNELS)
    sigma = check.number("grey_filter", "sigma", sigma, low=0.0, low_open=True)
    check.tensor("grey_filter", "label", label, dims=(2, 3), dtypes=(torch.float32,), layout="(h, w) or (T, h, w)")
    height, width = label.shape[-2:]
    if min(height, width) < 1:
        check.shape_error("grey_filter", "label", "(…, h, w) with h, w ≥ 1", label)
    shape = boxes.shape[0], width, height // 2 + 1
    # Real memory: a complex view of it can be traced, a real view of complex memory cannot.
    spectrum = torch.view_as_complex(label.new_zeros((shape[0], 1, *shape[1:], 2)))
    b = torch.view_as_complex(label.new_zeros((*shape, 2))) if kernel == "gaussian" else label.new_zeros(shape)
    model = CorrelationFilter(spectrum, b, height, kernel, sigma)
    grey_filter_learn_(model, frame, boxes, label, 1.0, lam, window, None, cell_size, backend=backend)
    return grey_filter_detect(model, frame, search, window, cell_size, backend=backend)


def grey_filter_detect(
    model: CorrelationFilter,
    frame: Tensor,
    boxes: Tensor,
    window: Tensor | None = None,
    cell_size: int = 1,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """``crop_resize`` (with antialias), ``grey``, ``cf_detect`` and ``response_table``, in one call.

    Args:
        model: of T targets and one channel, (T, 1, …), float32; of ``cf_train`` or ``grey_filter_learn_``.
        frame: (H, W, 3), (H, W, 1) or (H, W) uint8.
        boxes: (T·S, 4) float32 or float64 rows (x, y, w, h) in px, the S windows of a target side by side.
        window: (h, w) float32 factor on every map, or None.
        cell_size: px of a patch per cell of the model.
        backend: explicit backend; None chooses.

    Returns:
        Responses (T, S, h, w) and (T·S, 4) rows (row, column, score, psr) of their peaks. Not differentiable.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError, BoxError, ArgumentError: as the four.

    Source: Bolme et al. 2010 (MOSSE).
    """
    op = "grey_filter_detect"
    _check_inputs(op, model, frame, boxes, window, cell_size)
    targets, count = model.template.shape[0], boxes.shape[0]
    if count % max(1, targets) or (count and not targets):
        check.shape_error(op, "boxes", f"as many for each of the model's {targets} targets", boxes)
    gaussian = model.kernel == "gaussian"
    a, b = pairs(model.template), pairs(model.coefficients) if gaussian else model.coefficients
    got: tuple[Tensor, Tensor] = rows.DETECT(
        a, b, frame, boxes, window, model.height, cell_size, model.sigma, gaussian, backend=backend
    )
    return got


def grey_filter_learn_(
    model: CorrelationFilter,
    frame: Tensor,
    boxes: Tensor,
    label: Tensor,
    rate: float,
    lam: float = 1e-2,
    window: Tensor | None = None,
    targets: Sequence[int] | None = None,
    cell_size: int = 1,
    *,
    backend: str | None = None,
) -> CorrelationFilter:
    """``crop_resize`` (with antialias), ``grey`` and ``cf_learn_``, in one call.

    Args:
        model: of T targets and one channel, (T, 1, …), float32, which is changed and returned.
        frame: (H, W, 3), (H, W, 1) or (H, W) uint8.
        boxes: (len(targets), 4) float32 or float64 rows (x, y, w, h) in px.
        label: (h, w), or (len(targets), h, w), float32.
        rate: share of the new frame, in [0, 1].
        lam: λ > 0.
        window: (h, w) float32 factor on every map, or None.
        targets: places in the model of the targets that learn, each once, in the order of the boxes; None: all.
        cell_size: px of a patch per cell of the model.
        backend: explicit backend; None chooses.

    Returns:
        ``model``. Not differentiable.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError, BoxError, ArgumentError: as the three.

    Source: Bolme et al. 2010 (MOSSE), eq. 10–12.
    """
    op = "grey_filter_learn_"
    _check_inputs(op, model, frame, boxes, window, cell_size)
    rate = check_rate(op, rate)
    places = places_of(op, model, targets)
    if boxes.shape[0] != len(places):
        check.shape_error(op, "boxes", f"({len(places)}, 4), one row for each target that learns", boxes)
    _check_map(op, "label", label, model, frame, len(places))
    lam = check.number(op, "lam", lam, low=0.0, low_open=True)
    gaussian = model.kernel == "gaussian"
    a, b = pairs(model.template), pairs(model.coefficients) if gaussian else model.coefficients
    y = label if label.dim() == 3 else label[None]
    rows.LEARN(a, b, frame, boxes, y, window, cell_size, lam, model.sigma, gaussian, rate, places, backend=backend)
    return model


def _check_inputs(
    op: str, model: CorrelationFilter, frame: Tensor, boxes: Tensor, window: Tensor | None, cell_size: int
) -> None:
    template, b = model.template, model.coefficients
    if template.dim() != 4 or template.shape[1] != 1:
        check.shape_error(op, "model", "of targets of one channel, (T, 1, w, h//2 + 1)", template)
    if min(model.height, template.shape[2]) < 1:
        check.shape_error(op, "model", "of maps with h, w ≥ 1", template)
    check.tensor(op, "model", template, dtypes=(torch.complex64,))
    check_windows(op, frame, boxes)
    check.same_device(op, "model", template, "frame", frame)
    if template.requires_grad or b.requires_grad:
        check.no_gradient(op, "model", template if template.requires_grad else b)
    if not isinstance(cell_size, int) or cell_size < 1:
        raise RangeError(op, "cell_size", "an int ≥ 1", repr(cell_size))
    if window is not None:
        _check_map(op, "window", window, model, frame, None)


def _check_map(op: str, name: str, value: Tensor, model: CorrelationFilter, frame: Tensor, targets: int | None) -> None:
    check.tensor(op, name, value, dtypes=(torch.float32,))
    size = (model.height, model.template.shape[2])
    if value.shape != size and (targets is None or value.shape != (targets, *size)):
        check.shape_error(op, name, f"{size}" + ("" if targets is None else f" or {(targets, *size)}"), value)
    check.same_device(op, name, value, "frame", frame)
    check.no_gradient(op, name, value)

"""The registered ops of a filter on brightness: rows and fake implementations.

Where there is no kernel for the whole, a backend runs its kernels of the steps. Complex tensors cross as real ones with
a last axis of (re, im).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fasttrack import native
from fasttrack.ops import _correlation_filter_rows as rows
from fasttrack.ops._batching import refused
from fasttrack.ops._correlation_filter_update import LEARN as CF_LEARN
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, kernel_input, on_cpu, on_gpu, reference_row, triton_row
from fasttrack.ops.crop_resize import crop_resize
from fasttrack.ops.grey import grey
from fasttrack.ops.response_peak import response_table
from fasttrack.spec.crop_resize import refuse_bad_box

__all__ = ["DETECT", "LEARN"]


def _layout(frame: Tensor) -> tuple[int, ...]:
    if frame.dim() == 3:
        return (*frame.shape, *frame.stride())
    return (*frame.shape, 1, *frame.stride(), 1)


def _detect_cpu(
    template: Tensor,
    coefficients: Tensor,
    frame: Tensor,
    boxes: Tensor,
    window: Tensor | None,
    height: int,
    cell_size: int,
    sigma: float,
    gaussian: bool,
) -> tuple[Tensor, Tensor]:
    a, b, w = kernel_input(template), kernel_input(coefficients), None if window is None else kernel_input(window)
    lines = boxes if boxes.dtype == torch.float64 and boxes.is_contiguous() else boxes.double().contiguous()
    targets, width, count = a.shape[0], a.shape[2], lines.shape[0]
    scales = count // max(1, targets)
    response = torch.empty((targets, scales, height, width), dtype=torch.float32)
    table = torch.empty((count, 4), dtype=torch.float32)
    bad = native.lib().grey_detect(
        frame.data_ptr(),
        _layout(frame),
        lines.data_ptr(),
        (targets, scales, height, width),
        cell_size,
        0 if w is None else w.data_ptr(),
        a.data_ptr(),
        b.data_ptr(),
        gaussian,
        sigma,
        response.data_ptr(),
        table.data_ptr(),
    )
    if bad >= 0:
        refuse_bad_box(lines, bad)
    return response, table


def _learn_cpu(
    template: Tensor,
    coefficients: Tensor,
    frame: Tensor,
    boxes: Tensor,
    label: Tensor,
    window: Tensor | None,
    cell_size: int,
    lam: float,
    sigma: float,
    gaussian: bool,
    rate: float,
    targets: list[int],
) -> None:
    y, w = kernel_input(label), None if window is None else kernel_input(window)
    lines = boxes if boxes.dtype == torch.float64 and boxes.is_contiguous() else boxes.double().contiguous()
    bad = native.lib().grey_learn(
        frame.data_ptr(),
        _layout(frame),
        lines.data_ptr(),
        (lines.shape[0], 1, *y.shape[1:]),
        cell_size,
        0 if w is None else w.data_ptr(),
        y.data_ptr(),
        0 if y.shape[0] == 1 else y.stride(0),
        template.data_ptr(),
        coefficients.data_ptr(),
        gaussian,
        lam,
        sigma,
        targets,
        rate,
    )
    if bad >= 0:
        refuse_bad_box(lines, bad)


def _maps(frame: Tensor, boxes: Tensor, size: tuple[int, int], cell_size: int, backend: str) -> Tensor:
    patch = size[0] * cell_size, size[1] * cell_size
    return grey(crop_resize(frame, boxes, patch, antialias=True, backend=backend), cell_size, backend=backend)


def _detect_on(backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The four steps on a backend."""

    def run(
        template: Tensor,
        coefficients: Tensor,
        frame: Tensor,
        boxes: Tensor,
        window: Tensor | None,
        height: int,
        cell_size: int,
        *options: Any,
    ) -> tuple[Tensor, Tensor]:
        targets, width = template.shape[0], template.shape[2]
        maps = _maps(frame, boxes, (height, width), cell_size, backend)
        maps = maps.view(targets, boxes.shape[0] // max(1, targets), 1, height, width)
        response = rows.DETECT(template, coefficients, maps, window, *options, backend=backend)
        return response, response_table(response.flatten(0, 1), backend=backend)

    return run


def _learn_on(backend: str) -> Callable[..., None]:
    """The three steps on a backend."""

    def run(
        template: Tensor,
        coefficients: Tensor,
        frame: Tensor,
        boxes: Tensor,
        label: Tensor,
        window: Tensor | None,
        cell_size: int,
        *options: Any,
    ) -> None:
        height, width = label.shape[-2:]
        maps = _maps(frame, boxes, (height, width), cell_size, backend)
        CF_LEARN(template, coefficients, maps, label, window, *options, backend=backend)

    return run


def _meta(template: Tensor, coefficients: Tensor, frame: Tensor, boxes: Tensor, _: Any, height: int, *__: Any) -> Any:
    targets, count = template.shape[0], boxes.shape[0]
    shape = (targets, count // max(1, targets), height, template.shape[2])
    return template.new_empty(shape), template.new_empty((count, 4))


def _detect_why_not(
    template: Tensor, coefficients: Tensor, frame: Tensor, boxes: Tensor, window: Tensor | None, height: int, *_: Any
) -> str | None:
    return on_cpu(frame, "frame") or rows.size_why_not(height, template.shape[2])


def _learn_why_not(
    template: Tensor, coefficients: Tensor, frame: Tensor, boxes: Tensor, label: Tensor, *_: Any
) -> str | None:
    if not (template.is_contiguous() and coefficients.is_contiguous()):
        return "changes the model where it lies, which must be contiguous"
    return on_cpu(frame, "frame") or rows.size_why_not(*label.shape[-2:])


def _gpu_why_not(template: Tensor, coefficients: Tensor, frame: Tensor, *_: Any) -> str | None:
    return on_gpu(frame, "frame")


DETECT = Op(
    "grey_filter_detect",
    "(Tensor template, Tensor coefficients, Tensor frame, Tensor boxes, Tensor? window, int height, int cell_size,"
    " float sigma, bool gaussian) -> (Tensor response, Tensor table)",
    rows=(
        triton_row(_gpu_why_not, _detect_on("triton")),
        cpu_row(_detect_why_not, _detect_cpu),
        reference_row(_detect_on("reference")),
    ),
    meta=_meta,
)
LEARN = Op(
    "grey_filter_learn",
    "(Tensor(a!) template, Tensor(b!) coefficients, Tensor frame, Tensor boxes, Tensor label, Tensor? window,"
    " int cell_size, float lam, float sigma, bool gaussian, float rate, int[] targets) -> ()",
    rows=(
        triton_row(_gpu_why_not, _learn_on("triton")),
        cpu_row(_learn_why_not, _learn_cpu),
        reference_row(_learn_on("reference")),
    ),
    meta=lambda *_: None,
    batch=refused("call grey, cf_train and cf_update, which return new tensors"),
)

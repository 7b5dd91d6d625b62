"""Running averages of correlation filters: of two filters, or of a filter and what one more frame teaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops import _correlation_filter_rows as rows
from fasttrack.ops._autocast import promoted
from fasttrack.ops._correlation_filter_model import (
    CorrelationFilter,
    check_label,
    check_of_model,
    check_rate,
    check_update,
    check_window,
    needs_gradient,
    pairs,
)
from fasttrack.ops._op import Op
from fasttrack.ops._rows import cpu_row, on_gpu, reference_row, triton_row

__all__ = ["LEARN", "cf_learn_", "cf_update", "cf_update_", "places_of"]


def cf_update(
    model: CorrelationFilter, new: CorrelationFilter, rate: float, *, backend: str | None = None
) -> CorrelationFilter:
    """Running average of filters: every tensor becomes (1 − rate)·model + rate·new.

    Args:
        model: the filter so far.
        new: a filter of the same kernel and sizes, trained on the newest frame.
        rate: share of the new one, in [0, 1] (KCF: 0.02; MOSSE: 0.125).
        backend: explicit backend; None chooses.

    Returns:
        A new filter; differentiable in the tensors of both.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Henriques et al. 2015 (KCF), §4.2; Bolme et al. 2010 (MOSSE), eq. 10–12.
    """
    rate = check_update("cf_update", model, new, rate)
    gaussian = model.kernel == "gaussian"
    old_b, new_b = (pairs(m.coefficients) if gaussian else m.coefficients for m in (model, new))
    spectra, b = rows.UPDATE(pairs(model.template), old_b, pairs(new.template), new_b, rate, backend=backend)
    return replace(
        model, template=torch.view_as_complex(spectra), coefficients=torch.view_as_complex(b) if gaussian else b
    )


def cf_update_(model: CorrelationFilter, new: CorrelationFilter, rate: float) -> CorrelationFilter:
    """``cf_update`` in the memory of ``model``, which is returned. Not differentiable.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came;
        ArgumentError: a tensor of the model asks for a gradient.
    """
    rate = check_update("cf_update_", model, new, rate)
    check.no_gradient("cf_update_", "model", model.template)
    check.no_gradient("cf_update_", "model", model.coefficients)
    gaussian = model.kernel == "gaussian"
    with torch.no_grad():
        pairs(model.template).lerp_(pairs(new.template), rate)
        old, fresh = (pairs(m.coefficients) if gaussian else m.coefficients for m in (model, new))
        old.lerp_(fresh, rate)
    return model


def cf_learn_(
    model: CorrelationFilter,
    features: Tensor,
    label: Tensor,
    rate: float,
    lam: float = 1e-4,
    window: Tensor | None = None,
    targets: Sequence[int] | None = None,
    *,
    backend: str | None = None,
) -> CorrelationFilter:
    """``cf_train`` on one more frame and ``cf_update_`` with the result, in one call: what a tracker does per frame.

    Args:
        model: the filter so far, which is changed and returned; kernel and σ are its own.
        features: (C, H, W) for a filter of one target; (T, C, H, W) for the T targets that learn.
        label: (H, W), or (T, H, W), of the dtype of the features.
        rate: share of the new frame, in [0, 1] (KCF: 0.02; MOSSE: 0.125).
        lam: λ > 0.
        window: (H, W) factor on every map, or None.
        targets: places in the model of the targets that learn, each once, in the order of the features; None: all.
        backend: explicit backend; None chooses.

    Returns:
        ``model``. Not differentiable.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came;
        ArgumentError: an argument asks for a gradient.

    Source: Henriques et al. 2015 (KCF), §4.2; Bolme et al. 2010 (MOSSE), eq. 10–12.
    """
    op, batched = "cf_learn_", model.batched
    features, label, window = promoted(features, label, window)
    rate = check_rate(op, rate)
    places = places_of(op, model, targets)
    layout = "(T, C, H, W)" if batched else "(C, H, W)"
    check.tensor(op, "features", features, dims=(4 if batched else 3,), layout=layout)
    check_of_model(op, model, features, len(places) if batched else None, layout)
    check_label(op, features, label)
    if window is not None:
        check_window(op, features, window)
    lam = check.number(op, "lam", lam, low=0.0, low_open=True)
    template, b, gaussian = model.template, model.coefficients, model.kernel == "gaussian"
    if needs_gradient(template, b, features, label, *([] if window is None else [window])):
        given = {"model": template, "model.coefficients": b, "features": features, "label": label, "window": window}
        for name, value in given.items():
            if value is not None:
                check.no_gradient(op, name, value)
    b = pairs(b) if gaussian else b
    if not batched:
        template, b, features = template[None], b[None], features[None]
    label = label if label.dim() == 3 else label[None]
    LEARN(pairs(template), b, features, label, window, lam, model.sigma, gaussian, rate, places, backend=backend)
    return model


def places_of(op: str, model: CorrelationFilter, targets: Sequence[int] | None) -> list[int]:
    """The places in the model that learn: those told, each once, or all."""
    count = model.template.shape[0] if model.batched else 1
    everyone = list(range(count))
    places = everyone if targets is None else list(targets)
    if places != everyone and (len(set(places)) < len(places) or not set(places) <= set(everyone)):
        raise RangeError(op, "targets", f"some of 0..{count - 1}, each once", repr(places))
    return places


def _cpu_why_not(template: Tensor, coefficients: Tensor, features: Tensor, *_: Any) -> str | None:
    if not (template.is_contiguous() and coefficients.is_contiguous()):
        return "changes the model where it lies, which must be contiguous"
    return rows.cpu_why_not(features)


def _on(backend: str) -> Callable[..., None]:
    """Training on a backend, and then the average."""

    def run(template: Tensor, coefficients: Tensor, *training: Any) -> None:
        *arguments, rate, targets = training
        new = rows.TRAIN(*arguments, backend=backend)
        at = torch.tensor(targets, dtype=torch.int64, device=template.device)
        for old, fresh in zip((template, coefficients), new, strict=True):
            old.index_copy_(0, at, torch.lerp(old[at], fresh, rate))

    return run


def _triton_why_not(template: Tensor, coefficients: Tensor, features: Tensor, *_: Any) -> str | None:
    return on_gpu(features, "features")


LEARN = Op(
    "correlation_filter_learn",
    "(Tensor(a!) template, Tensor(b!) coefficients, Tensor features, Tensor label, Tensor? window, float lam,"
    " float sigma, bool gaussian, float rate, int[] targets) -> ()",
    rows=(
        triton_row(_triton_why_not, _on("triton")),
        cpu_row(_cpu_why_not, rows.learn_cpu),
        reference_row(_on("reference")),
    ),
    meta=lambda *_: None,
)

"""Correlation filters: ridge regression over all cyclic shifts of a patch, solved per frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.ops import _checks as check
from fasttrack.ops import _correlation_filter_rows as rows
from fasttrack.ops._autocast import promoted
from fasttrack.ops._correlation_filter_gradient import windowed
from fasttrack.ops._correlation_filter_model import (
    CorrelationFilter,
    check_label,
    check_of_model,
    check_window,
    needs_gradient,
    pairs,
    prepared,
)
from fasttrack.ops._correlation_filter_update import cf_learn_, cf_update, cf_update_
from fasttrack.ops._rows import wide
from fasttrack.spec import correlation_filter as spec

__all__ = [
    "CorrelationFilter",
    "cf_detect",
    "cf_features_window",
    "cf_learn_",
    "cf_train",
    "cf_update",
    "cf_update_",
    "correlation_filter",
    "correlation_filter_learnt",
    "fft_size",
]

LAYOUTS = ("(C, H, W) or (S, C, H, W)", "(T, C, H, W) or (T, S, C, H, W)")  # of one target, of many


def fft_size(n: int) -> int:
    """The least size ≥ n that every backend transforms fast: without prime factors above 5.

    Raises:
        RangeError: n < 1.

    Examples:
        >>> fft_size(163), fft_size(60)
        (180, 60)
    """
    if n < 1:
        raise RangeError("fft_size", "n", "an integer ≥ 1", str(n))
    return rows.fft_size(n)


def cf_features_window(features: Tensor, window: Tensor) -> Tensor:
    """Features times a window, which fades their border out: a cyclic shift then moves no edge into the patch.

    ``cf_train`` and ``cf_detect`` take the same window as an argument and multiply while they read (fused in the
    C++ and Triton kernels): use this function only where the product itself is wanted.

    Args:
        features: (…, H, W).
        window: (H, W), e.g. ``vision.labels.hann_window``.

    Returns:
        Of the shape of ``features``; differentiable in both.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.
    """
    check.tensor("cf_features_window", "features", features)
    check_window("cf_features_window", features, window)
    return features * window


def cf_train(
    features: Tensor,
    label: Tensor,
    lam: float = 1e-4,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
    *,
    backend: str | None = None,
) -> CorrelationFilter:
    """Ridge regression of the label on all cyclic shifts of the (windowed) features, in closed form.

    linear:    min_w Σ_p (⟨w, shift_p x⟩ − y_p)² + (λ/κ)·‖w‖²,   κ = 1/(C·H·W)
    Gaussian:  α̂ = ŷ/(k̂ + λ),   k_d = exp(−max(0, 2‖x‖² − 2⟨x, shift_d x⟩)/(σ²·C·H·W))

    The label's own peak is home: ``cf_detect`` on the training features gives nearly the label back, and on
    features moved by (d, e) cells a response moved by (d, e), cyclically. Put it where it is handy, e.g. in the
    middle (``vision.labels.gaussian_map``); nothing has to be rolled. With κ in front, λ and σ keep their meaning
    when the number of channels or the size changes.

    The C++ kernels take sizes without prime factors above 5 (``fft_size``; tested up to 512). Other sizes run on
    the reference, announced once in the log: correct, but slow (163 takes 7 times as long as 160). On the GPU any
    size runs, with cuFFT for the transforms and Triton kernels for the rest; smooth sizes are the fast ones there too.

    Args:
        features: (C, H, W), or (T, C, H, W) for T targets.
        label: (H, W), or (T, H, W) for T targets, of the same dtype.
        lam: λ > 0.
        kernel: "linear" or "gaussian".
        sigma: width of the Gaussian kernel, > 0.
        window: (H, W) factor on every map, or None.
        backend: explicit backend; None chooses.

    Returns:
        The filter. Differentiable in features, label and window: the linear kernel with kernels of its own in the
        forward pass, the Gaussian one through the reference; both to any order.

    Memory: the CPU kernels keep the tables of each length of transform they met, some kilobytes, for the process.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Examples:
        >>> label = torch.zeros(16, 16)
        >>> label[8, 8] = 1.0
        >>> patch = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> moved = cf_detect(cf_train(patch, label), patch.roll((2, -3), dims=(1, 2)))
        >>> divmod(int(moved.argmax()), 16)  # the peak moved with the patch
        (10, 5)

    Source: Henriques et al. 2015 (KCF), eq. 17 and 31 (a running average then also of x̂ and α̂); Bolme et al. 2010
    (MOSSE) and Danelljan et al. 2014 (DSST) for the linear filter as numerator and denominator.
    """
    op = "cf_train"
    features, label, window = promoted(features, label, window)
    check.tensor(op, "features", features, dims=(3, 4), layout="(C, H, W) or (T, C, H, W)")
    if min(features.shape[-3:]) < 1:
        check.shape_error(op, "features", "(…, C, H, W) with C, H, W ≥ 1", features)
    check_label(op, features, label)
    lam = check.number(op, "lam", lam, low=0.0, low_open=True)
    check.choice(op, "kernel", kernel, spec.KERNELS)
    sigma = check.number(op, "sigma", sigma, low=0.0, low_open=True)
    features, window = prepared(op, features, window)
    batched, gaussian = features.dim() == 4, kernel == "gaussian"
    x, y = features if batched else features[None], label if label.dim() == 3 else label[None]
    if gaussian and needs_gradient(x, y):
        template, b = spec.train(windowed(x, window), wide(y), lam, kernel, sigma)
    else:
        spectra, coefficients = rows.TRAIN(x, y, window, lam, sigma, gaussian, backend=backend)
        template, b = torch.view_as_complex(spectra), torch.view_as_complex(coefficients) if gaussian else coefficients
    if not batched:
        template, b = template[0], b[0]
    return CorrelationFilter(template, b, features.shape[-2], kernel, sigma)


def cf_detect(
    model: CorrelationFilter, features: Tensor, window: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Response of a filter to every cyclic shift of feature maps: all scales and targets in one call.

    linear:    r = F⁻¹( Σ_c conj(numerator_c)·ẑ_c / denominator )
    Gaussian:  r = F⁻¹( k̂·α̂ ),   k_d = exp(−max(0, ‖x‖² + ‖z‖² − 2⟨shift_d x, z⟩)/(σ²·C·H·W))

    Features moved by (d, e) cells move the response by (d, e); see ``cf_train`` for where it peaks.

    Args:
        model: of ``cf_train``, for maps of the same C, H and W.
        features: (C, H, W) or (S, C, H, W) for a filter of one target; (T, C, H, W) or (T, S, C, H, W) for T.
        window: (H, W) factor on every map, or None.
        backend: explicit backend; None chooses.

    Returns:
        ``features`` without its axis of channels, of the same dtype. Differentiable like ``cf_train``, in the
        features and in the tensors of the model.

    Raises:
        ShapeError, DtypeError, DeviceError: naming the argument, what was wanted and what came.

    Source: Henriques et al. 2015 (KCF), eq. 22 and 31.
    """
    op = "cf_detect"
    features, window = promoted(features, window)
    front = 1 if model.batched else 0
    check.tensor(op, "features", features, dims=(3 + front, 4 + front), layout=LAYOUTS[front])
    check_of_model(op, model, features, model.template.shape[0] if front else None, LAYOUTS[front])
    features, window = prepared(op, features, window)
    one_scale = features.dim() == 3 + front
    z = features.unsqueeze(front) if one_scale else features
    a, b = model.template, model.coefficients
    if not front:
        a, b, z = a[None], b[None], z[None]
    gaussian = model.kernel == "gaussian"
    if gaussian and needs_gradient(a, b, z):
        response = spec.detect(a, b, windowed(z, window), model.kernel, model.sigma).to(z.dtype)
    else:
        response = rows.DETECT(pairs(a), pairs(b) if gaussian else b, z, window, model.sigma, gaussian, backend=backend)
    response = response if front else response[0]
    return response.squeeze(front) if one_scale else response


def correlation_filter(
    features: Tensor,
    label: Tensor,
    search: Tensor,
    lam: float = 1e-4,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """``cf_train`` on one map and ``cf_detect`` in others: the filter as a differentiable layer.

    Args:
        features: (C, H, W) or (T, C, H, W), to train on.
        label: (H, W) or (T, H, W).
        search: (C, H, W), (S, C, H, W), or with T in front, to detect in.
        lam: λ > 0.
        kernel: "linear" or "gaussian".
        sigma: width of the Gaussian kernel, > 0.
        window: (H, W) factor on the maps of both, or None.
        backend: explicit backend; None chooses.

    Returns:
        Responses: ``search`` without its axis of channels. Differentiable in all four tensors.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError: naming the argument, what was wanted and what came.

    Source: Valmadre et al. 2017 (CFNet) and Wang et al. 2017 (DCFNet) train features through this layer.
    """
    model = cf_train(features, label, lam, kernel, sigma, window, backend=backend)
    return cf_detect(model, search, window, backend=backend)


def correlation_filter_learnt(
    features: Tensor,
    label: Tensor,
    newer: Tensor,
    search: Tensor,
    rate: float,
    lam: float = 1e-4,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """``cf_train`` on one map, ``cf_learn_`` from a newer one, ``cf_detect`` in others: two frames of T targets.

    Args:
        features: (T, C, H, W), to train on.
        label: (H, W) or (T, H, W).
        newer: (T, C, H, W), to learn from next.
        search: (T, C, H, W) or (T, S, C, H, W), to detect in.
        rate: share of the newer map, in [0, 1].
        lam: λ > 0.
        kernel: "linear" or "gaussian".
        sigma: width of the Gaussian kernel, > 0.
        window: (H, W) factor on all maps, or None.
        backend: explicit backend; None chooses.

    Returns:
        Responses (T, H, W) or (T, S, H, W). Not differentiable.

    Raises:
        ShapeError, DtypeError, DeviceError, RangeError, ArgumentError: as the three.

    Source: Henriques et al. 2015 (KCF), §4.2; Bolme et al. 2010 (MOSSE), eq. 10–12.
    """
    model = cf_train(features, label, lam, kernel, sigma, window, backend=backend)
    cf_learn_(model, newer, label, rate, lam, window, backend=backend)
    return cf_detect(model, search, window, backend=backend)

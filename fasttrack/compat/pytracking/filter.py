"""``ltr.models.layers.filter``: target filters applied to a batch of sequences, and the gradient in the filters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fasttrack.compat.pytracking._correlation import correlate, correlate_adjoint
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError

__all__ = ["apply_feat_transpose", "apply_filter", "filter_gradient"]

Pair = tuple[int, int]
_FEATURES = "(images, sequences, C, H, W) or (images, C, H, W)"


def apply_filter(feat: Tensor, filter: Tensor, dilation_factors: Mapping[int, int] | None = None) -> Tensor:
    """Scores of the maps of each sequence under the filter, or filters, of that sequence.

    s[n, m, f, i, j] = Σ_{c,p,q} x[n, m, c₀ + c, i + p − ⌊kh/2⌋, j + q − ⌊kw/2⌋]·w[m, f, c, p, q]

    with zeros outside the map; c₀ is the first channel of the group of filter f. Any number of images, sequences,
    filters and groups. Differentiable in both, to any order.

    Args:
        feat: (images, sequences, C, H, W), or (images, C, H, W) of one sequence.
        filter: (sequences, C, kh, kw), one filter per sequence, or (sequences, filters, C/groups, kh, kw). The number
            of groups follows from the channels.
        dilation_factors: {d: filters with it}: the first so many filters have their taps d cells apart, the next so
            many those of the next entry. Padding is then ⌊k/2⌋ + d − 1, which keeps the size of the scores for taps
            of 3×3. None: all 1.

    Returns:
        (images, sequences, H', W'), with several filters (images, sequences, filters, H', W'); H' = H for odd kh,
        H + 1 for even.

    Raises:
        ShapeError: sizes that do not fit each other, or dilations whose scores differ in size.
        RangeError: ``dilation_factors`` that do not cover the filters, or below 1.
        DtypeError: something else than tensors, or tensors of two dtypes.

    Source: DiMP (Bhat et al. 2019) §3.1, s = x ∗ f; LWL (Bhat et al. 2020) for several filters.
    """
    maps, filters = _sequences("apply_filter", feat), _filters(feat, filter)
    size: Pair = (filter.shape[-2], filter.shape[-1])
    if dilation_factors is None:
        scores = correlate(maps, filters, _padding(size))
    else:
        scores = _dilated(maps, filters, dilation_factors, size)
    return scores if filter.dim() == 5 else scores.squeeze(2)


def apply_feat_transpose(
    feat: Tensor, input: Tensor, filter_ksz: int | Pair, training: bool = True, groups: int = 1
) -> Tensor:
    """Scores taken back to the filter: the adjoint of ``apply_filter``, ⟨x ⋆ w, y⟩ = ⟨w, g⟩ for every w.

    g[m, f, c, p, q] = Σ_{n,i,j} x[n, m, c₀ + c, i + p − ⌊kh/2⌋, j + q − ⌊kw/2⌋]·y[n, m, f, i, j]

    With y the (weighted) residuals this is the gradient of half their squares in the filter. Any number of images,
    sequences, filters and groups. Differentiable in both, to any order.

    Args:
        feat: (images, sequences, C, H, W), or (images, C, H, W) of one sequence.
        input: scores y, (images, sequences, H', W') or (images, sequences, filters, H', W').
        filter_ksz: kh, kw of the filter, or one number for both.
        training: no effect here: the same form is the fastest with and without gradients.
        groups: groups of channels of the filters.

    Returns:
        (sequences, C, kh, kw); with several filters (sequences, filters, C/groups, kh, kw).

    Raises:
        ShapeError: sizes that do not fit each other.
        RangeError: a size of the filter or a number of groups that is not possible.
        DtypeError: something else than tensors, or tensors of two dtypes.

    Source: DiMP (Bhat et al. 2019) §3.2 and supplementary material: the transposed Jacobian of the scores in ∇L.
    """
    op, maps = "apply_feat_transpose", _sequences("apply_feat_transpose", feat)
    _same_dtype(op, "input", input, feat)
    size: Pair = (filter_ksz, filter_ksz) if isinstance(filter_ksz, int) else (filter_ksz[0], filter_ksz[1])
    if min(size) < 1:
        raise RangeError(op, "filter_ksz", "at least 1 cell on each side", str(filter_ksz))
    images, sequences, channels, height, width = maps.shape
    padding = _padding(size)
    out = (height + 2 * padding[0] - size[0] + 1, width + 2 * padding[1] - size[1] + 1)
    leading, trailing = tuple(input.shape[:2]), tuple(input.shape[-2:])
    if input.dim() not in (4, 5) or leading != (images, sequences) or trailing != out:
        wanted = f"({images}, {sequences}, {out[0]}, {out[1]}) or ({images}, {sequences}, filters, {out[0]}, {out[1]})"
        raise ShapeError(
            op, "input", f"the scores of filters of {size[0]}×{size[1]}, {wanted}", str(tuple(input.shape))
        )
    scores = input if input.dim() == 5 else input.unsqueeze(2)
    if groups < 1 or channels % groups or scores.shape[2] % groups:
        wanted = f"a divisor of the channels, {channels}, and of the filters, {scores.shape[2]}"
        raise RangeError(op, "groups", wanted, str(groups))
    gradient = correlate_adjoint(maps, scores, size, padding, groups)
    return gradient if input.dim() == 5 else gradient.squeeze(1)


def filter_gradient(feat: Tensor, filter: Tensor, label: Tensor | None = None, training: bool = True) -> Tensor:
    """Gradient in the filter of half the squared distance of the scores to a label.

    ∇L = Xᵀ(X w − y) of L(w) = ½ Σ (apply_filter(x, w) − y)², X the linear map of ``apply_filter``.

    Args:
        feat: (images, sequences, C, H, W), or (images, C, H, W) of one sequence.
        filter: (sequences, C, kh, kw) or (sequences, filters, C/groups, kh, kw).
        label: y, of the shape of the scores or one that broadcasts to it; None: 0.
        training: no effect here, as in ``apply_feat_transpose``.

    Returns:
        The shape of ``filter``.

    Raises:
        ShapeError, RangeError, DtypeError: as ``apply_filter``.

    Source: DiMP (Bhat et al. 2019) §3.2.
    """
    residuals = apply_filter(feat, filter)
    if label is not None:
        residuals = residuals - label
    groups = feat.shape[-3] // filter.shape[-3]
    return apply_feat_transpose(feat, residuals, (filter.shape[-2], filter.shape[-1]), training, groups)


def _padding(size: Pair) -> Pair:
    return size[0] // 2, size[1] // 2


def _sequences(op: str, feat: Tensor) -> Tensor:
    """``feat`` with an axis of sequences."""
    if not isinstance(feat, Tensor):
        raise DtypeError(op, "feat", "a torch.Tensor", type(feat).__name__)
    if feat.dim() not in (4, 5) or 0 in feat.shape:
        raise ShapeError(op, "feat", f"{_FEATURES}, none of them 0", str(tuple(feat.shape)))
    return feat if feat.dim() == 5 else feat.unsqueeze(1)


def _same_dtype(op: str, argument: str, value: Tensor, feat: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise DtypeError(op, argument, "a torch.Tensor", type(value).__name__)
    if value.dtype != feat.dtype and not torch.is_autocast_enabled(feat.device.type):
        raise DtypeError(op, argument, f"of the dtype of feat, {feat.dtype}", str(value.dtype))


def _filters(feat: Tensor, filter: Tensor) -> Tensor:
    """``filter`` as (sequences, filters, C/groups, kh, kw), checked against ``feat``."""
    op = "apply_filter"
    _same_dtype(op, "filter", filter, feat)
    sequences, channels = feat.shape[1] if feat.dim() == 5 else 1, feat.shape[-3]
    filters = filter.unsqueeze(1) if filter.dim() == 4 else filter
    if filters.dim() != 5 or 0 in filters.shape or len(filters) != sequences or channels % filters.shape[2]:
        wanted = f"({sequences}, {channels}, kh, kw) or ({sequences}, filters, {channels}/groups, kh, kw)"
        raise ShapeError(op, "filter", wanted, str(tuple(filter.shape)))
    if filters.shape[1] % (channels // filters.shape[2]):
        groups, hint = channels // filters.shape[2], "the channels of feat over those of filter are the groups"
        wanted = f"of a number of filters that {groups} groups divide"
        raise ShapeError(op, "filter", wanted, str(tuple(filter.shape)), hint)
    return filters


def _dilated(maps: Tensor, filters: Tensor, dilation_factors: Mapping[int, int], size: Pair) -> Tensor:
    """The scores of filters of several dilations, in the order of the filters."""
    op, counts = "apply_filter", list(dilation_factors.values())
    if sum(counts) != filters.shape[1] or min([*dilation_factors, *counts]) < 1:
        wanted = f"dilations of 1 or more for {filters.shape[1]} filters in all"
        raise RangeError(op, "dilation_factors", wanted, str(dict(dilation_factors)))
    if maps.shape[2] != filters.shape[2]:
        hint = "split the filters and call once for each dilation"
        raise ArgumentError(
            op, "dilation_factors", "None where filters are in groups", str(dict(dilation_factors)), hint
        )
    scores = []
    for dilation, part in zip(dilation_factors, filters.split(counts, 1), strict=True):
        padding = (size[0] // 2 + dilation - 1, size[1] // 2 + dilation - 1)
        scores.append(correlate(maps, part, padding, (dilation, dilation)))
    if len({part.shape[-2:] for part in scores}) > 1:
        hint = "only taps of 3×3 keep their size under every dilation"
        raise ShapeError(op, "filter", "of taps whose scores have one size", str(tuple(filters.shape)), hint)
    return torch.cat(scores, 2)

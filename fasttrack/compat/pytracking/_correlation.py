"""Correlation of maps with few filters as one product of matrices, and its adjoint in the filters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

__all__ = ["correlate", "correlate_adjoint"]

Pair = tuple[int, int]
# A product costs as much as a convolution once it writes half as many numbers as the maps hold, or has this many rows
# per tap. Measured on one thread of an AVX2 machine, 64 to 512 channels, filters of 3×3 and 4×4.
_MOST_FILTERS = 8


def correlate(features: Tensor, filters: Tensor, padding: Pair, dilation: Pair = (1, 1)) -> Tensor:
    """Zero-padded cross-correlation of the maps of each sequence with that sequence's filters.

    out[n, s, f, i, j] = Σ_{c,p,q} X[n, s, c₀ + c, i + p·d − P, j + q·d − P]·w[s, f, c, p, q]

    c₀ = (C/G)·⌊f·G/F⌋ is the first channel of the group of filter f, P the padding and d the dilation of each axis.

    A matrix of the taps of all filters times the maps gives every tap's share of every cell; folding adds the shares
    up. The maps are read once, and the shares are few where the filters are: a convolution with one or two filters
    leaves most of its registers empty.

    Args:
        features: (N, S, C, H, W) maps X.
        filters: (S, F, C/G, kh, kw) filters w in G groups.
        padding: zeros on each side, vertical and horizontal.
        dilation: cells from tap to tap, vertical and horizontal.

    Returns:
        (N, S, F, H + 2P − d(kh − 1), W + 2P − d(kw − 1)).
    """
    images, sequences, channels, height, width = features.shape
    size: Pair = (filters.shape[-2], filters.shape[-1])
    groups, rest = channels // filters.shape[2], _rest(size, padding, dilation)
    if not _few(features, filters.shape, groups, rest):
        scores = F.conv2d(features.flatten(1, 2), filters.flatten(0, 1), None, 1, padding, dilation, sequences * groups)
        return scores.reshape(images, sequences, -1, *scores.shape[-2:])
    maps = features.reshape(images, sequences, groups, -1, height * width)
    taps = filters.flip(-2, -1).reshape(sequences, groups, -1, *filters.shape[2:])
    matrix = taps.flatten(-2).transpose(-1, -2).flatten(2, 3)
    if sequences * groups == 1:
        # Without axes to broadcast over, the matrix is not copied for every image.
        shares = torch.matmul(matrix[0, 0], maps[:, 0, 0])
    else:
        shares = torch.matmul(matrix, maps).flatten(2, 3).flatten(0, 1)
    out: Pair = (height + padding[0] - rest[0], width + padding[1] - rest[1])
    return F.fold(shares, out, size, dilation, rest).view(images, sequences, -1, *out)


def correlate_adjoint(features: Tensor, scores: Tensor, size: Pair, padding: Pair, groups: int) -> Tensor:
    """The adjoint of ``correlate`` in its filters: Σ over images of the maps correlated with their scores.

    out[s, f, c, p, q] = Σ_{n,i,j} X[n, s, c₀ + c, i + p − P, j + q − P]·y[n, s, f, i, j]

    Args:
        features: (N, S, C, H, W) maps X.
        scores: (N, S, F, H + 2P − kh + 1, W + 2P − kw + 1) scores y.
        size: kh, kw of the filters.
        padding: P of each axis.
        groups: G of the filters.

    Returns:
        (S, F, C/G, kh, kw), in the wider of the two dtypes.
    """
    # Autocast knows no adjoint: both tensors are taken to the wider of their types, and stay there.
    dtype = torch.promote_types(features.dtype, scores.dtype)
    with torch.autocast(features.device.type, enabled=False):
        return _adjoint(features.to(dtype), scores.to(dtype), size, padding, groups)


def _adjoint(features: Tensor, scores: Tensor, size: Pair, padding: Pair, groups: int) -> Tensor:
    images, sequences, channels, height, width = features.shape
    filters, rest = scores.shape[2], _rest(size, padding, (1, 1))
    shape = (sequences, filters, channels // groups, *size)
    if not _few(features, shape, groups, rest):
        # Groups of a convolution are the sequences: each has maps, scores and filters of its own.
        flat = (sequences * filters, *shape[2:])
        gradient: Tensor = conv2d_weight(
            features.flatten(1, 2), flat, scores.flatten(1, 2), 1, padding, 1, sequences * groups
        )
        return gradient.reshape(shape)
    maps = features.reshape(images, sequences, groups, -1, height * width)
    seen = F.unfold(scores.flatten(0, 1), size, 1, rest).view(images, sequences, groups, -1, height * width)
    shares = torch.matmul(maps, seen.transpose(-1, -2)).sum(0)
    taps = shares.unflatten(-1, (filters // groups, -1)).transpose(2, 3)
    out: Tensor = taps.reshape(shape).flip(-2, -1)
    return out


def _rest(size: Pair, padding: Pair, dilation: Pair) -> Pair:
    """What is missing to full padding on each axis; negative where there is more than that."""
    return dilation[0] * (size[0] - 1) - padding[0], dilation[1] * (size[1] - 1) - padding[1]


def _few(features: Tensor, filters: tuple[int, ...], groups: int, rest: Pair) -> bool:
    """Whether the product is the faster form: few numbers against those of the maps, in a dtype whose sums are exact.

    Half types keep the convolution, which sums in float32; folding would round each share. A filter of one cell is a
    product already.
    """
    each, channels, taps = filters[1] // groups, filters[2], filters[3] * filters[4]
    few = taps > 1 and each <= _MOST_FILTERS and 2 * each * taps <= channels and min(rest) >= 0
    exact = features.dtype in (torch.float32, torch.float64)
    return few and exact and not torch.is_autocast_enabled(features.device.type)

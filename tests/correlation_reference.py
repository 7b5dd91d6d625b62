"""Correlation of maps with filters as loops over every output, every tap and every channel, in float64."""

import itertools

import torch
from torch import Tensor


def taps(out_size, kernel, padding, dilation, map_size):
    """Of every output cell and tap inside the map: (i, j), (p, q), (y, x)."""
    for i, j, p, q in itertools.product(*map(range, (*out_size, *kernel))):
        y, x = i + p * dilation[0] - padding[0], j + q * dilation[1] - padding[1]
        if 0 <= y < map_size[0] and 0 <= x < map_size[1]:
            yield (i, j), (p, q), (y, x)


def correlation(features: Tensor, filters: Tensor, padding, dilation=(1, 1)) -> Tensor:
    """(N, S, C, H, W) maps and (S, F, C/G, kh, kw) filters give (N, S, F, H', W')."""
    features, filters = features.double(), filters.double()
    (n, s, channels, *size), (_, f, per, *kernel) = features.shape, filters.shape
    out = [size[k] + 2 * padding[k] - dilation[k] * (kernel[k] - 1) for k in (0, 1)]
    scores = torch.zeros(n, s, f, *out, dtype=torch.float64)
    each = f // (channels // per)
    for image, sequence, one in itertools.product(range(n), range(s), range(f)):
        first = one // each * per
        for (i, j), (p, q), (y, x) in taps(out, kernel, padding, dilation, size):
            seen = features[image, sequence, first : first + per, y, x]
            scores[image, sequence, one, i, j] += (seen * filters[sequence, one, :, p, q]).sum()
    return scores


def adjoint(features: Tensor, scores: Tensor, kernel, padding, groups: int) -> Tensor:
    """(N, S, C, H, W) maps and (N, S, F, H', W') scores give (S, F, C/G, kh, kw)."""
    features, scores = features.double(), scores.double()
    n, s, channels, *size = features.shape
    f, per = scores.shape[2], channels // groups
    filters = torch.zeros(s, f, per, *kernel, dtype=torch.float64)
    for image, sequence, one in itertools.product(range(n), range(s), range(f)):
        first = one // (f // groups) * per
        for (i, j), (p, q), (y, x) in taps(scores.shape[-2:], kernel, padding, (1, 1), size):
            seen = features[image, sequence, first : first + per, y, x]
            filters[sequence, one, :, p, q] += seen * scores[image, sequence, one, i, j]
    return filters

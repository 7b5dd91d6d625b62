"""Peak, sub-cell position and PSR of response maps: PyTorch without reading anything back, and the kernel."""

import pytest
import torch
from sides import OURS, make, on_backend

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.response_peak import SPECS

SPEC = SPECS[0]
ROWS = [pytest.param(case, id=case.name) for case in SPEC.cases if case.bench]
LOOSE = Tolerance(1e-5, 1e-5)


def vertex(before, top, after, inside):
    bend = before - 2 * top + after
    shift = (0.5 * (before - after) / bend).clamp(-0.5, 0.5)
    return torch.where(inside & (bend < 0), shift, torch.zeros_like(shift))


def plain(maps):
    count, height, width = maps.shape
    flat = maps.reshape(count, -1)
    score, at = flat.max(1)
    row, column = at // width, at % width
    at_row, at_column = row.clamp(1, max(1, height - 2)), column.clamp(1, max(1, width - 2))
    k = torch.arange(count, device=maps.device)
    y = vertex(maps[k, at_row - 1, column], score, maps[k, at_row + 1, column], (row == at_row))
    x = vertex(maps[k, row, at_column - 1], score, maps[k, row, at_column + 1], (column == at_column))
    psr = (score - flat.mean(1)) / flat.std(1, correction=0)
    return torch.stack([row + y, column + x], 1), score, psr


@pytest.mark.parametrize("side", ["plain", *OURS])
@pytest.mark.parametrize("case", ROWS)
def test_response_peak(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"response_peak {case.name}"
    function, tolerance = (
        (plain, LOOSE)
        if side == "plain"
        else (
            on_backend(ops.response_peak, side),
            SPEC.tolerance_of(torch.float32),
        )
    )
    checked(benchmark, lambda: function(**arguments), SPEC.truth(arguments), tolerance, SPEC.cost(arguments), side=side)

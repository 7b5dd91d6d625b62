"""Colour terms per cell: a full-size map of terms pooled, one bag of table rows per cell, and the kernel."""

import pytest
import torch
from sides import OURS, make, on_backend
from torch.nn import functional as F

from fasttrack import ops
from fasttrack.spec.color_names import SPECS

SPEC = SPECS[0]
ROWS = [pytest.param(case, id=case.name) for case in SPEC.cases if case.bench]


def table_rows(patches):
    bins = patches.clamp(0, 255).to(torch.int32).bitwise_right_shift_(3)
    return bins[:, 0].add(bins[:, 1], alpha=32).add_(bins[:, 2], alpha=1024)


def plain(patches, table, cell_size):
    return F.avg_pool2d(table[table_rows(patches)].permute(0, 3, 1, 2), cell_size)


def best_torch(patches, table, cell_size):
    """No map of terms at full size."""
    t, _, h, w = patches.shape
    rows, columns = h // cell_size, w // cell_size
    index = table_rows(patches[:, :, : rows * cell_size, : columns * cell_size])
    bags = index.view(t, rows, cell_size, columns, cell_size).transpose(2, 3).reshape(-1, cell_size**2)
    return F.embedding_bag(bags, table, mode="mean").view(t, rows, columns, -1).permute(0, 3, 1, 2).contiguous()


SIDES = {"plain": plain, "best_torch": best_torch, **{name: on_backend(ops.color_names, name) for name in OURS}}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ROWS)
def test_color_names(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"color_names {case.name}"
    truth, bound, cost = SPEC.truth(arguments), SPEC.tolerance_of(torch.float32), SPEC.cost(arguments)
    checked(benchmark, lambda: SIDES[side](**arguments), truth, bound, cost, side=side)

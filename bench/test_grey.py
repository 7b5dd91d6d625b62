"""Evened-out brightness of patches: as one writes it, in the fewest passes of torch, and the kernel."""

import pytest
import torch
from sides import OURS, make, on_backend

from fasttrack import ops
from fasttrack.spec.grey import SPECS

SPEC = SPECS[0]
ROWS = [pytest.param(case, id=case.name) for case in SPEC.cases if case.bench]


def plain(patches, cell_size):
    logs = torch.log1p(patches.mean(1, keepdim=True))
    deviation, mean = torch.std_mean(logs, dim=(1, 2, 3), correction=0, keepdim=True)
    return torch.where(deviation > 1e-5, (logs - mean) / deviation, 0.0)


def best_torch(patches, cell_size):
    """log(3 + r + g + b) differs from the logarithm wanted by a constant, which the mean takes away."""
    logs = patches.sum(1, keepdim=True).add_(3.0).log_()
    even, _, gains = torch.native_layer_norm(logs, logs.shape[1:], None, None, 1e-10)
    return even.mul_(gains < 7e4)


SIDES = {"plain": plain, "best_torch": best_torch, **{name: on_backend(ops.grey, name) for name in OURS}}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ROWS)
def test_grey(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"grey {case.name}"
    truth, bound, cost = SPEC.truth(arguments), SPEC.tolerance_of(torch.float32), SPEC.cost(arguments)
    checked(benchmark, lambda: SIDES[side](**arguments), truth, bound, cost, side=side)

"""relu → LRN → max-pool of VGG-M, and LRN alone: PyTorch's own ops, a channels-last formulation, the kernel."""

import pytest
import torch
from sides import OURS, make, on_backend
from torch.nn import functional as F

from fasttrack import ops
from fasttrack.spec.lrn import SPECS

ROWS = [pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in SPECS for case in spec.cases if case.bench]


def plain(x):
    return F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)


def plain_fused(x):
    return F.max_pool2d(plain(x.relu()), 3, 2)


def best_torch(x):
    """Channels last in memory, so that the window is five shifted sums; the power by square roots.

    A cat of five slices, avg_pool1d, avg_pool3d and a banded matrix product are slower.
    """
    q = F.pad(x.permute(0, 2, 3, 1).square(), (2, 2))
    channels = x.shape[1]
    s = q[..., :channels] + q[..., 1 : channels + 1]
    for i in range(2, 5):
        s += q[..., i : i + channels]
    root = s.mul_(1e-4).add_(2.0).rsqrt_()
    return x * root.mul_(root.sqrt()).permute(0, 3, 1, 2)


def best_torch_fused(x):
    return F.max_pool2d(best_torch(x.relu()), 3, 2)


RIVALS = {
    "lrn": {"plain": plain, "best_torch": best_torch},
    "relu_lrn_maxpool": {"plain": plain_fused, "best_torch": best_torch_fused},
}


@pytest.mark.parametrize("side", ["plain", "best_torch", *OURS])
@pytest.mark.parametrize(("spec", "case"), ROWS)
def test_lrn(benchmark, checked, spec, case, side):
    arguments = make(case)
    benchmark.group = f"{spec.name} {case.name}"
    function = on_backend(getattr(ops, spec.name), side) if side in OURS else RIVALS[spec.name][side]
    truth, bound, cost = spec.truth(arguments), spec.tolerance_of(torch.float32), spec.cost(arguments)
    checked(benchmark, lambda: function(**arguments), truth, bound, cost, side=side)

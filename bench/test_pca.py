"""Fitting and applying a PCA: an SVD, covariance (or the smaller Gram matrix) with eigh, the kernel."""

import pytest
import torch
from sides import OURS, make, on_backend

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.pca import SPECS

FIT, APPLY = SPECS


def rows(spec):
    return [pytest.param(case, id=case.name) for case in spec.cases if case.bench]


def plain(samples, k):
    mean = samples.mean(0)
    _, s, vt = torch.linalg.svd(samples - mean, full_matrices=False)
    return mean, vt[:k].T, s[:k].square() / (len(samples) - 1)


def best_torch(samples, k):
    """All in float32."""
    mean, n = samples.mean(0), len(samples)
    x = samples - mean
    if n < samples.shape[1]:
        values, vectors = torch.linalg.eigh(x @ x.T)
        return mean, torch.nn.functional.normalize(x.T @ vectors[:, -k:].flip(1), dim=0), values[-k:].flip(0) / (n - 1)
    values, vectors = torch.linalg.eigh(x.T @ x)
    return mean, vectors[:, -k:].flip(1), values[-k:].flip(0) / (n - 1)


SIDES = {"plain": plain, "best_torch": best_torch, **{name: on_backend(ops.pca_fit, name) for name in OURS}}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", rows(FIT))
def test_fit(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"pca_fit {case.name}"

    def comparable(fitted):
        """Signs, and directions of nearly equal variances, are free; the space they span is not: P = B Bᵀ v."""
        basis = fitted[1].double()
        probe = torch.cos(torch.arange(len(basis), dtype=torch.float64, device=basis.device))
        return fitted[0].double(), fitted[2].double(), basis @ (basis.T @ probe)

    truth = comparable(FIT.truth(arguments))
    for got, true in zip(comparable(SIDES[side](**arguments)), truth, strict=True):
        assert Tolerance(1e-3, 1e-3).admits(got, true), "the output to be timed is wrong"
    cost = FIT.cost(arguments)
    benchmark.extra_info.update(side=side, flops=cost.flops, bytes=cost.bytes)
    benchmark.pedantic(lambda: SIDES[side](**arguments), rounds=2 if side == "plain" else 7)


def plain_apply(x, model):
    return (torch.einsum("bdhw,dk->bkhw", x - model[0].view(-1, 1, 1), model[1])).contiguous()


APPLY_SIDES = {"plain": plain_apply, **{name: on_backend(ops.pca_apply, name) for name in OURS}}


@pytest.mark.parametrize("side", APPLY_SIDES)
@pytest.mark.parametrize("case", rows(APPLY))
def test_apply(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"pca_apply {case.name}"
    function, bound = APPLY_SIDES[side], APPLY.tolerance_of(torch.float32)
    truth, cost = APPLY.truth(arguments), APPLY.cost(arguments)
    checked(benchmark, lambda: function(**arguments), truth, bound, cost, side=side)

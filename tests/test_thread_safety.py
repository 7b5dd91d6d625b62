"""Eight Python threads call the ops at once: every result is the one a single thread gets."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from fasttrack import nn, ops
from fasttrack.spec import all_specs
from fasttrack.spec.base import outputs_of

THREADS = 8
ROUNDS = 3
SPECS = all_specs()


def same(spec, got, wanted):
    """Equal but for rounding: torch's own products depend on the number of threads, which is each thread's own."""
    bound = spec.tolerance_of(torch.float32, gradient=True)
    return all(bound.admits(g, w) for g, w in zip(got, wanted, strict=True))


def evaluate(spec, arguments):
    """Outputs and gradients on the CPU kernels, or the name of the error."""
    names = [n for n in spec.gradients if isinstance(arguments.get(n), Tensor)]
    leaves = {n: arguments[n].detach().clone().requires_grad_() for n in names}
    outputs = outputs_of(getattr(ops, spec.name)(**{**arguments, **leaves}, backend="cpu"))
    total = sum(o.square().sum() for o in outputs if o.requires_grad)
    gradients = torch.autograd.grad(total, list(leaves.values())) if isinstance(total, Tensor) else ()
    return [t.detach() for t in (*outputs, *gradients)]


@pytest.mark.parametrize("spec", [pytest.param(s, id=f"{s.name}-{k}") for k, s in enumerate(SPECS)])
def test_every_op(spec):
    cases = [case.make() for case in spec.cases if case.tests and not case.bench][:4]
    wanted = [evaluate(spec, arguments) for arguments in cases]
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [(k, pool.submit(evaluate, spec, cases[k])) for _ in range(ROUNDS * THREADS) for k in range(len(cases))]
        for k, job in jobs:
            assert same(spec, job.result(), wanted[k]), spec.cases[k].name


def test_all_ops_mixed():
    """Different ops at the same time: they share transforms' tables and thread pools."""
    work = [(s, c.make()) for s in SPECS for c in s.cases if c.tests and not c.bench][::7]
    wanted = [evaluate(*item) for item in work]
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = pool.map(lambda item: evaluate(*item), work * ROUNDS)
        for got, true, (spec, _) in zip(jobs, wanted * ROUNDS, work * ROUNDS, strict=True):
            assert same(spec, got, true), spec.name


def test_problems_of_their_own():
    """Each thread optimises its own problem."""

    def solve(seed):
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.randn(5, 17, 19, generator=generator), torch.rand(12, 13, generator=generator)
        return ops.ConvRegressionProblem([x], [y], nn.TruncatedLoss(), 0.1).run(None, None, 20, "adam", 1e-3).weight

    wanted = [solve(seed) for seed in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(torch.equal(g, w) for g, w in zip(pool.map(solve, range(THREADS)), wanted, strict=True))

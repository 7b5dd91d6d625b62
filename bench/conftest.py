"""How the benchmarks measure: one thread, outputs checked before anything is timed."""

import pytest
import torch

from fasttrack.spec.base import outputs_of


@pytest.fixture(autouse=True)
def one_thread():
    """Two-thread timings collapse whenever anything else runs; comparisons are made on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checked():
    """Time ``function`` only after its output agreed with the truth; ``cost`` gives the row its floor."""

    def run(benchmark, function, truth, tolerance, cost=None, **info):
        for got, true in zip(outputs_of(function()), outputs_of(truth), strict=True):
            assert tolerance.admits(got, true), "the output to be timed is wrong"
        if cost is not None:
            info |= {"flops": cost.flops, "bytes": cost.bytes}
        benchmark.extra_info.update(info)
        return benchmark(function)

    return run

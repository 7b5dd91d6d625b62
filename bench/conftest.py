"""How the benchmarks measure: one thread, outputs checked before anything is timed."""

import pytest
import torch
from sides import DEVICE

from fasttrack.errors import BackendUnavailable
from fasttrack.spec.base import outputs_of


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """On a GPU a side whose backend has no kernel for the call is left out, for the backend's own reason."""
    try:
        return (yield)
    except BackendUnavailable as refusal:
        if DEVICE == "cpu":  # there every row has its kernel
            raise
        backend = str(pyfuncitem.callspec.params["side"]).split("_")[0]
        lines = [line.strip() for line in str(refusal).splitlines()]
        pytest.skip(next((line for line in lines if line.startswith(f"{backend}: ")), lines[0]))


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

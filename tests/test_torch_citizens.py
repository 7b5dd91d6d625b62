"""Determinism, calls without waiting for a device, CUDA graphs, and the table of docs/torch.md."""

import re
from pathlib import Path

import pytest
import torch
from recorded_ops import recorded_ops
from test_ops_contract import differentiable, gradients_of
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fasttrack import gpu, nn, ops
from fasttrack.errors import BackendUnavailable
from fasttrack.onnx import translated
from fasttrack.spec import all_specs
from fasttrack.spec.base import outputs_of

SPECS = [pytest.param(s, id=s.label) for s in all_specs()]
# The eigenvalues of the library make the host wait, as their docstring says.
WAITING = {"pca_fit"}


def first_case(spec):
    """A case of some size, so that threads have something to share."""
    return max((c for c in spec.cases if c.tests and not c.bench), key=lambda c: size_of(c.make()))


def size_of(arguments):
    return sum(v.numel() for v in arguments.values() if isinstance(v, Tensor))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("spec", SPECS)
def test_equal_bits_in_every_run_and_on_every_number_of_threads(spec, deterministic):
    arguments, threads = first_case(spec).make(), torch.get_num_threads()
    names = differentiable(spec, arguments)
    function = getattr(ops, spec.name)
    runs = []
    try:
        for count in (1, 1, 2):
            torch.set_num_threads(count)
            values = [o.clone() for o in outputs_of(function(**arguments))]
            runs.append([*values, *(gradients_of(function, arguments, names) if names else ())])
    finally:
        torch.set_num_threads(threads)
    for again in runs[1:]:
        for a, b in zip(runs[0], again, strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


class NoLooking(TorchDispatchMode):
    """Refuses what makes the host wait for a device: values that Python looks at, and copies to the CPU."""

    LOOKS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "unique_dim")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().partition("::")[2].partition(".")[0]
        assert name not in self.LOOKS, f"{function.name()} makes the host wait"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_looks_at_values(spec):
    """Public function, checks, fake implementation and backward on tensors that have no values at all."""
    arguments = first_case(spec).make()
    names = differentiable(spec, arguments)
    with FakeTensorMode() as mode:
        fakes = {k: mode.from_tensor(v) if isinstance(v, Tensor) else v for k, v in arguments.items()}
        if "model" in fakes:
            fakes["model"] = tuple(mode.from_tensor(t) for t in fakes["model"])
        with NoLooking():
            outputs = outputs_of(getattr(ops, spec.name)(**fakes))
    real = outputs_of(getattr(ops, spec.name)(**arguments))
    assert [(o.shape, o.dtype) for o in outputs] == [(o.shape, o.dtype) for o in real]
    assert all(isinstance(fakes[n], Tensor) for n in names)


def test_looking_is_caught():
    """The canary of the mode."""
    with NoLooking():
        for look in (lambda: bool(torch.ones(1) > 0), lambda: torch.ones(3).nonzero(), lambda: torch.ones(()).item()):
            with pytest.raises(AssertionError, match="makes the host wait"):
                look()


def launchers():
    """The kernels' launchers of the CPU: the same Python around them as around those of a GPU."""
    for spec in all_specs():
        if spec.name not in WAITING:
            yield pytest.param(spec, id=spec.label)


@pytest.mark.parametrize("spec", [*launchers()])
def test_launchers_do_not_look_at_values(spec):
    """From the call to the kernel, forward and backward. (ridge_solve's CPU kernel reports its failures.)"""
    arguments = first_case(spec).make()
    names = differentiable(spec, arguments)
    leaves = {n: arguments[n].clone().requires_grad_() for n in names}
    if spec.stem == "ridge_solve":
        pytest.skip("on the CPU a system without a solution is an error, so its status is read")
    with NoLooking():
        outputs = outputs_of(getattr(ops, spec.name)(**{**arguments, **leaves}, backend="cpu"))
        if names:
            torch.autograd.grad(outputs[0].sum(), list(leaves.values()), allow_unused=True)


def placed(arguments):
    """On the GPU, the parts of a model too."""
    return {
        k: v.cuda() if isinstance(v, Tensor) else tuple(t.cuda() for t in v) if k == "model" else v
        for k, v in arguments.items()
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU: torch.cuda.is_available() is False")
@pytest.mark.parametrize("backend", ["triton", "cuda"])
@pytest.mark.parametrize("spec", [*launchers()])
def test_cuda_graphs(spec, backend):
    """A captured call, replayed on other values, gives what a call on those gives."""
    case = first_case(spec)
    arguments, others = (placed(case.make(seed=seed)) for seed in (0, 1))
    function = getattr(ops, spec.name)
    if backend == "cuda" and gpu.why_not() is not None:
        pytest.skip(str(gpu.why_not()))
    try:
        truth = [o.clone() for o in outputs_of(function(**others, backend=backend))]
    except BackendUnavailable as refusal:
        pytest.skip(str(refusal).splitlines()[0])
    still = {k: v.clone() if isinstance(v, Tensor) else v for k, v in arguments.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # kernels compile, workspaces come to be
        for _ in range(3):
            function(**still, backend=backend)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = outputs_of(function(**still, backend=backend))
    for name, value in still.items():
        if isinstance(value, Tensor):
            value.copy_(others[name])
    graph.replay()
    torch.cuda.synchronize()
    for got, wanted in zip(captured, truth, strict=True):
        assert torch.equal(got.nan_to_num(7.0), wanted.nan_to_num(7.0))


PAGE = Path(__file__).parent.parent / "docs" / "torch.md"
TRIED = (Path(__file__).parent / "test_vmap.py").read_text()


def table():
    """The page's table: op → column → cell."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    head, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    return {name.strip("`"): dict(zip(head[1:], cells, strict=True)) for row in rows for name, *cells in [row]}


def test_the_page_lists_every_op_once():
    names = re.findall(r"^\| `(\w+)` ", PAGE.read_text(), re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == {spec.name for spec in all_specs()}


@pytest.mark.parametrize("spec", SPECS)
def test_the_page_tells_the_truth(spec):
    """Against what the specs, the formulas and the tests of each column know."""
    row = table()[spec.name]
    assert (row["gradient"] == "yes") == any(s.gradients for s in all_specs() if s.name == spec.name)
    assert row["jvp"] == row["gradient"]
    assert (row["ONNX"] == "yes") == (registered_of(spec) <= set(translated()))
    assert (row["vmap"] == "yes") == bool(re.search(rf"ops\.{spec.name}\b", TRIED))
    assert row["compile, export"] == row["autocast"] == "yes"  # the contract tries every spec


@pytest.mark.parametrize("spec", SPECS)
def test_export(spec):
    """The program of an export gives what the call gives."""
    arguments = first_case(spec).make()
    names = [k for k, v in arguments.items() if isinstance(v, Tensor)]
    rest = {k: v for k, v in arguments.items() if k not in names}

    class Call(torch.nn.Module):
        def forward(self, *tensors):
            return outputs_of(getattr(ops, spec.name)(**dict(zip(names, tensors, strict=True)), **rest))

    tensors = tuple(arguments[n] for n in names)
    program = torch.export.export(Call(), tensors)
    for got, truth in zip(program.module()(*tensors), outputs_of(getattr(ops, spec.name)(**arguments)), strict=True):
        assert spec.tolerance_of(torch.float32).admits(got, truth.double())


def registered_of(spec):
    """Names of the registered ops behind a call."""
    with recorded_ops() as seen:
        getattr(ops, spec.name)(**first_case(spec).make())
    return seen


def test_modules_are_named_on_the_page():
    text = PAGE.read_text()
    assert not [name for name in nn.__all__ if f"`{name}`" not in text]

"""The contract: every op × case × dtype × backend against the float64 reference, and nothing less."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import fasttrack
from fasttrack import dispatch, gpu, native, ops
from fasttrack.errors import BackendUnavailable
from fasttrack.ops._op import Op
from fasttrack.spec import all_specs
from fasttrack.spec.base import error_of, outputs_of

SPECS = all_specs()
# The kernels of the GPU are tried where they can run: on a GPU, or in the processes of test_triton.py (interpreted)
# and test_cuda.py (emulated).
UNAVAILABLE = {"triton": native.triton_why_not(), "cuda": gpu.why_not()}
KERNELS = ("cpu", *(backend for backend, reason in UNAVAILABLE.items() if reason is None))
BACKENDS = ("reference", *KERNELS)


def grid(*, gradients=False, half=True):
    for spec in SPECS:
        if gradients and not spec.gradients:
            continue
        for case in spec.cases:
            if not case.tests:
                continue
            for dtype in spec.dtypes:
                for backend in BACKENDS:
                    # Kernels compute in float32; that they refuse float64 is tested below.
                    wanted = half or dtype in (torch.float32, torch.float64) or on_a_device(backend)
                    if backend == "reference" or (
                        dtype != torch.float64 and wanted and worth_trying(spec, case, backend)
                    ):
                        name = f"{spec.label}-{case.name}-{str(dtype)[6:]}-{backend}"
                        yield pytest.param(spec, case, dtype, backend, id=name)


def on_a_device(backend):
    """Whether a backend's kernels run as compiled, not interpreted or emulated (where half types read alike)."""
    return backend not in UNAVAILABLE or torch.cuda.is_available()


def worth_trying(spec, case, backend):
    return on_a_device(backend) or spec.interpretable(case)


def device_of(backend):
    return "cuda" if backend in UNAVAILABLE and torch.cuda.is_available() else "cpu"


def call(spec, arguments, backend):
    """Result on a backend's own device, or a skip with the backend's own reason."""
    device = device_of(backend)
    placed = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    try:
        return getattr(ops, spec.name)(**placed, backend=backend)
    except BackendUnavailable as refusal:
        if backend in dispatch.required() and "did not load" in str(refusal):
            raise
        lines = [line.strip() for line in str(refusal).splitlines() if f" {backend}:" in line]
        pytest.skip(lines[0] if lines else f"{spec.name} has no {backend} kernel")


def assert_admits(tolerance, got, truth, what):
    assert got.shape == truth.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(truth.shape)}"
    assert tolerance.admits(got, truth), f"{what}: errors {error_of(got, truth)} beyond {tolerance}"


@pytest.mark.parametrize(("spec", "case", "dtype", "backend"), [*grid()])
def test_forward(spec, case, dtype, backend, poisoned):
    arguments = case.make(dtype)
    before = {k: v.clone() for k, v in arguments.items() if isinstance(v, Tensor)}
    got = outputs_of(call(spec, arguments, backend))
    truth = outputs_of(spec.truth(arguments))
    assert len(got) == len(truth)
    for i, (g, t) in enumerate(zip(got, truth, strict=True)):
        assert_admits(spec.tolerance_of(dtype), g, t, f"output {i}")
    for name, value in before.items():
        assert torch.equal(arguments[name], value), f"{name} was changed by the call"


@pytest.mark.parametrize(("spec", "case", "dtype", "backend"), [*grid(half=False)])
def test_non_contiguous(spec, case, dtype, backend):
    arguments = case.make(dtype)
    strided = dict(arguments)
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.dim() > 0:
            # Every other element of a larger tensor, with the axes laid out backwards.
            axes = tuple(reversed(range(value.dim())))
            wide = torch.full((*value.permute(axes).shape, 2), -7, dtype=value.dtype)
            wide[..., 0] = value.permute(axes)
            strided[name] = wide[..., 0].permute(axes)
    for g, t in zip(outputs_of(call(spec, strided, backend)), outputs_of(call(spec, arguments, backend)), strict=True):
        assert_admits(spec.tolerance_of(dtype), g, t.double(), "strided against contiguous")


def gradients_of(function, arguments, names):
    """Gradients of Σ output·cos(index) in the named tensors."""
    leaves = {n: arguments[n].detach().clone().requires_grad_() for n in names}
    outputs = outputs_of(function(**{**arguments, **leaves}))
    total = sum(
        (o * torch.cos(torch.arange(o.numel(), dtype=torch.float64).reshape(o.shape)).to(o)).sum() for o in outputs
    )
    return torch.autograd.grad(total, list(leaves.values()), allow_unused=True)


def differentiable(spec, arguments):
    return [n for n in spec.gradients if isinstance(arguments.get(n), Tensor)]


@pytest.mark.parametrize(("spec", "case", "dtype", "backend"), [*grid(gradients=True, half=False)])
def test_gradients(spec, case, dtype, backend, poisoned):
    arguments = case.make(dtype)
    names = differentiable(spec, arguments)
    wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
    truth = gradients_of(spec.reference, wide, names)
    got = gradients_of(lambda **kw: call(spec, kw, backend), arguments, names)
    for name, g, t in zip(names, got, truth, strict=True):
        assert_admits(spec.tolerance_of(dtype, gradient=True), g, t, f"gradient in {name}")
    # One gradient alone takes the kernel's own path where asking for all takes another.
    for name, t in zip(names, truth, strict=True):
        (g,) = gradients_of(lambda **kw: call(spec, kw, backend), arguments, [name])
        assert_admits(spec.tolerance_of(dtype, gradient=True), g, t, f"gradient in {name} alone")


def small_cases(*, gradients=False):
    for spec in SPECS:
        if gradients and not spec.gradients:
            continue
        for case in spec.cases:
            tensors = [v for v in case.make().values() if isinstance(v, Tensor)]
            if case.tests and 0 < sum(v.numel() for v in tensors) <= 2500:
                yield pytest.param(spec, case, id=f"{spec.label}-{case.name}")


@pytest.mark.parametrize(("spec", "case"), [c for c in small_cases(gradients=True) if c.values[1].differences])
def test_gradcheck(spec, case):
    arguments = case.make(torch.float64)
    names = differentiable(spec, arguments)
    leaves = [arguments[n].clone().requires_grad_() for n in names]

    def function(*values):
        return getattr(ops, spec.name)(**{**arguments, **dict(zip(names, values, strict=True))}, backend="reference")

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize(("spec", "case"), [*small_cases(gradients=True)])
def test_double_backward_of_the_kernel(spec, case, backend):
    """grad·grad of the kernel's route against the same in float64."""
    arguments = case.make(torch.float32)
    names = differentiable(spec, arguments)[:1]
    wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}

    def second(function, args):
        leaf = args[names[0]].clone().requires_grad_()
        output = outputs_of(function(**{**args, names[0]: leaf}))[0]
        (first,) = torch.autograd.grad(output.square().sum(), leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    truth = second(spec.reference, wide)
    got = second(lambda **kw: call(spec, kw, backend), arguments)
    bound = spec.tolerance_of(torch.float32, gradient=True)
    loose = type(bound)(bound.l2 * 20, bound.peak * 20)
    assert_admits(loose, got, truth, "second derivative")
    assert not loose.admits(got * 1.01, truth)


def autocast_cases():
    for spec in SPECS:
        for backend in BACKENDS:
            sizes = {c.name: numbers_in(c.make()) for c in spec.cases if c.tests and not c.bench}
            case = min((c for c in spec.cases if sizes.get(c.name)), key=lambda c, sizes=sizes: sizes[c.name])
            if worth_trying(spec, case, backend):
                yield pytest.param(spec, case, backend, id=f"{spec.label}-{case.name}-{backend}")


def numbers_in(arguments):
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    return 0 if any(v.numel() == 0 for v in tensors) else sum(v.numel() for v in tensors)


def half_of_the_first(arguments):
    """The first float tensor in half, as a convolution under autocast hands it on; the others as they are."""
    first = next(n for n, v in arguments.items() if isinstance(v, Tensor) and v.is_floating_point())
    return {**arguments, first: arguments[first].bfloat16()}


@pytest.mark.parametrize(("spec", "case", "backend"), [*autocast_cases()])
def test_autocast(spec, case, backend):
    """Inside autocast the precision and the dtypes are those of outside, forward and backward; float types may mix."""
    kinds = [(torch.float32, case.make(torch.float32))]
    if torch.bfloat16 in spec.dtypes:
        mixed = (torch.bfloat16, half_of_the_first(kinds[0][1]))
        # Interpreted kernels are slow, and read half types alike.
        kinds = [*kinds, (torch.bfloat16, case.make(torch.bfloat16)), mixed] if on_a_device(backend) else [mixed]

    def inside(**arguments):
        with torch.autocast(device_of(backend), torch.bfloat16):
            return call(spec, arguments, backend)

    for dtype, arguments in kinds:
        bound, looser = (spec.tolerance_of(dtype, gradient=g) for g in (False, True))
        got, truth = outputs_of(inside(**arguments)), outputs_of(spec.truth(arguments))
        for g, t in zip(got, truth, strict=True):
            assert_admits(bound, g, t, f"under autocast, {dtype}")
        if len({v.dtype for v in arguments.values() if isinstance(v, Tensor) and v.is_floating_point()}) == 1:
            assert [g.dtype for g in got] == [o.dtype for o in outputs_of(call(spec, arguments, backend))]
        names = differentiable(spec, arguments)
        wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
        true = gradients_of(spec.reference, wide, names) if names else ()
        passes = [(looser, gradients_of(inside, arguments, names))] if names else []
        if names and backend == "cpu":  # where autocast lasts, torch rounds the backward of its own operations
            with torch.autocast(device_of(backend), torch.bfloat16):
                rounded = spec.tolerance_of(torch.bfloat16, gradient=True)
                passes.append((rounded, gradients_of(inside, arguments, names)))
        for allowed, gradients in passes:
            for name, g, t in zip(names, gradients, true, strict=True):
                assert g.dtype == arguments[name].dtype
                assert_admits(allowed, g, t, f"gradient in {name} under autocast, {dtype}")


@pytest.mark.parametrize("spec", [pytest.param(s, id=s.label) for s in SPECS])
def test_tolerances_refuse_what_autocast_rounds(spec):
    """The canary of test_autocast: a result rounded to half is no float32 result."""
    for case in spec.cases:
        if case.tests and not case.bench:
            truth = [t for t in outputs_of(spec.truth(case.make())) if t.numel() and t.bfloat16().double().ne(t).any()]
            assert not any(spec.tolerance_of(torch.float32).admits(t.bfloat16(), t) for t in truth)


def compiled_cases():
    for spec in SPECS:
        cases = [c for c in spec.cases if c.tests and not c.bench]
        yield pytest.param(spec, cases[0], id=spec.label)


@pytest.mark.parametrize(("spec", "case"), [*compiled_cases()])
def test_compile_fullgraph(spec, case):
    arguments = case.make(torch.float32)
    torch._dynamo.reset()
    function = torch.compile(getattr(ops, spec.name), fullgraph=True, backend="aot_eager")
    for g, t in zip(outputs_of(function(**arguments)), outputs_of(spec.truth(arguments)), strict=True):
        assert_admits(spec.tolerance_of(torch.float32), g, t, "compiled")
    names = differentiable(spec, arguments)
    if names:
        wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
        truth = gradients_of(spec.reference, wide, names)
        for g, t in zip(gradients_of(function, arguments, names), truth, strict=True):
            assert_admits(spec.tolerance_of(torch.float32, gradient=True), g, t, "compiled gradient")


@pytest.mark.parametrize(("spec", "case"), [*compiled_cases()])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_opcheck(spec, case, needs_grad, monkeypatch):
    """torch's own checks of every registered op that the public function calls: schema, fake, autograd, AOT."""
    calls = []
    original = Op.__call__

    def record(self, *args, backend=None):
        calls.append((self.overload, args))
        return original(self, *args, backend=backend)

    monkeypatch.setattr(Op, "__call__", record)
    getattr(ops, spec.name)(**case.make(torch.float32))
    assert calls
    for overload, args in tuple(calls):  # opcheck runs the backward, which may call ops of its own
        leaves = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
        if needs_grad:
            leaves = [
                a.requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() and spec.gradients else a
                for a in leaves
            ]
        torch.library.opcheck(overload, tuple(leaves))


ISA_SCRIPT = """
import torch
from fasttrack import native, ops
from fasttrack.spec import all_specs
from fasttrack.spec.base import outputs_of
for spec in all_specs():
    for case in spec.cases:
        if case.bench or not case.tests:
            continue
        arguments = case.make()
        got = outputs_of(getattr(ops, spec.name)(**arguments, backend="cpu"))
        for g, t in zip(got, outputs_of(spec.truth(arguments)), strict=True):
            assert spec.tolerance_of(torch.float32).admits(g, t), (spec.name, case.name)
        for name in spec.gradients:
            if not isinstance(arguments.get(name), torch.Tensor):
                continue
            grads = []
            wide = {
                k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
                for k, v in arguments.items()
            }
            for function, values in ((getattr(ops, spec.name), arguments), (spec.reference, wide)):
                leaf = values[name].detach().clone().requires_grad_()
                out = outputs_of(function(**{**values, name: leaf}))[0]
                grads.append(torch.autograd.grad(out.sum(), leaf)[0])
            assert spec.tolerance_of(torch.float32, gradient=True).admits(*grads), (spec.name, case.name, name)
print(native.lib().isa())
"""


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    """Each variant of the CPU kernels in a process of its own: forward and gradients of every small case."""
    if (isa, True) not in native.lib().isas():
        pytest.skip(f"this CPU or this build has no {isa}")
    environment = {**os.environ, "FASTTRACK_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", ISA_SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa


def canaries(truth, dtype):
    """Wrong outputs that look right: nothing, moved by one cell, of the wrong scale."""
    step = 1.01 if dtype in (torch.float32, torch.float64) else 1.05
    yield "zeros", torch.zeros_like(truth)
    yield "shifted", truth.roll(1, dims=-1) if truth.dim() else truth + truth.abs() * 0.5 + 0.5
    yield "scaled", truth * step
    wrong_cell = truth.clone(memory_format=torch.contiguous_format)
    if wrong_cell.numel():
        wrong_cell.view(-1)[0] += wrong_cell.abs().max() + 0.1
    yield "one cell", wrong_cell


@pytest.mark.parametrize("spec", [pytest.param(s, id=s.label) for s in SPECS])
def test_tolerances_catch_canaries(spec):
    """Each tolerance refuses every canary wherever the canary differs from the truth; each kind is tried."""
    for dtype in spec.dtypes:
        tried = set()
        for case in spec.cases:
            if not case.tests:
                continue
            arguments = case.make(dtype)
            for truth in outputs_of(spec.truth(arguments)):
                truth = truth.double()
                if not truth.isfinite().all() or truth.numel() == 0:
                    continue
                for kind, wrong in canaries(truth, dtype):
                    if torch.equal(wrong, truth):
                        continue
                    tried.add(kind)
                    assert not spec.tolerance_of(dtype).admits(wrong, truth), f"{case.name}: {kind} was admitted"
            for name in differentiable(spec, arguments) if case in spec.cases[:2] else ():
                wide = {
                    k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v
                    for k, v in arguments.items()
                }
                (truth,) = gradients_of(spec.reference, wide, [name])
                if truth is not None and truth.abs().max() > 0:
                    bound = spec.tolerance_of(dtype, gradient=True)
                    assert not bound.admits(torch.zeros_like(truth), truth), f"zero gradient in {name} was admitted"
        assert tried == {"zeros", "shifted", "scaled", "one cell"}


@pytest.mark.parametrize("name", sorted(dispatch.table()))
def test_every_op_has_rows(name):
    backends = [row.backend for row in dispatch.table()[name]]
    assert backends[-1] == "reference"
    assert "cpu" in backends
    assert backends == [b for b in dispatch.BACKENDS if b in backends], "rows stand best first"


def test_explicit_backend_never_falls_back():
    p = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(BackendUnavailable, match=r"(?s)regression_loss: no backend .*asked for cpu.*float64"):
        ops.square_loss(p, p, backend="cpu")
    with fasttrack.use_backend("cpu"), pytest.raises(BackendUnavailable, match="asked for cpu"):
        ops.square_loss(p, p)
    with pytest.raises(ValueError, match="'tpu'"):
        ops.square_loss(p, p, backend="tpu")


def test_automatic_fall_back_warns_once(caplog):
    dispatch._WARNED.clear()
    p = torch.zeros(3, dtype=torch.float64)
    for _ in range(2):
        ops.square_loss(p, p)
    warnings = [r.message for r in caplog.records if "reference" in r.message]
    assert len(warnings) == 1
    assert "got float64" in warnings[0]

"""Every module of ``fasttrack.nn`` as a part of other people's models: state, copies, precision, hooks, traces."""

import copy
import io
import pickle

import pytest
import torch
import torch._dynamo.testing
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.export import Dim

from fasttrack import nn
from fasttrack.spec.base import Tolerance

CLOSE = Tolerance(1e-6, 1e-6, witness="0, 0: the same kernels")
HALF = Tolerance(2e-3, 4e-3, witness="4e-4, 4e-4 of float16")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rois(count):
    rows = normal(count, 5).abs() * 3
    rows[:, 0] = torch.arange(count) % 2
    rows[:, 3:] += rows[:, 1:3] + 1
    return rows


def loss_inputs(n):
    return normal(n, 5), normal(n, 5, seed=1)


# Name → module, inputs for a size, which axes follow the size (per input).
MODULES = {
    "ConvRegression": (lambda: nn.ConvRegression(3, (4, 3)), lambda n: (normal(n, 3, 9, 8),), ({0},)),
    "ConvRegression, no bias": (
        lambda: nn.ConvRegression(3, (4, 3), bias=False),
        lambda n: (normal(2, 3, 9 + n, 8),),
        ({2},),
    ),
    "LRN": (lambda: nn.LRN(alpha=0.1), lambda n: (normal(n, 6, 5, 4),), ({0},)),
    "ReLULRNMaxPool": (lambda: nn.ReLULRNMaxPool(alpha=0.1), lambda n: (normal(n, 6, 7, 5),), ({0},)),
    "CorrelationFilter": (
        lambda: nn.CorrelationFilter(0.1),
        lambda n: (normal(n, 3, 8, 9), normal(8, 9, seed=1), normal(n, 3, 8, 9, seed=2)),
        ({0}, set(), {0}),
    ),
    "CorrelationFilter, Gaussian": (
        lambda: nn.CorrelationFilter(0.1, "gaussian"),
        lambda n: (normal(n, 3, 8, 9), normal(8, 9, seed=1), normal(n, 3, 8, 9, seed=2)),
        ({0}, set(), {0}),
    ),
    "PrRoIPool2D": (
        lambda: nn.PrRoIPool2D(3, 2, 0.5),
        lambda n: (normal(2, 3, 6, 5), rois(n)),
        (set(), {0}),
    ),
    "PrRoIPool2D, maps": (
        lambda: nn.PrRoIPool2D(3, 2, 0.5),
        lambda n: (normal(2, 3, 6 + n, 5), rois(4)),
        ({2}, set()),
    ),
    "TruncatedLoss": (lambda: nn.TruncatedLoss(), loss_inputs, ({0}, {0})),
    "ShrinkageLoss": (lambda: nn.ShrinkageLoss(), loss_inputs, ({0}, {0})),
    "FocalRegressionLoss": (lambda: nn.FocalRegressionLoss("sum"), loss_inputs, ({0}, {0})),
    "SquareLoss": (lambda: nn.SquareLoss("none"), loss_inputs, ({0}, {0})),
    "RidgeRegression": (
        lambda: nn.RidgeRegression(0.5),
        lambda n: (normal(n, 6, 4), normal(n, 6, 2, seed=1)),
        ({0}, {0}),
    ),
    "RidgeRegression, learnt": (
        lambda: nn.RidgeRegression(0.5, learn_lam=True),
        lambda n: (normal(n, 6, 4), normal(n, 6, 2, seed=1)),
        ({0}, {0}),
    ),
}
EMPTY_TOO = set(MODULES) - {"ConvRegression, no bias", "TruncatedLoss", "ShrinkageLoss"}


def made(name):
    module = MODULES[name][0]()
    for i, p in enumerate(module.parameters()):
        with torch.no_grad():
            p.add_(0.3 * normal(*p.shape, seed=10 + i))
    return module


def cases():
    return pytest.mark.parametrize("name", MODULES)


def test_every_module_is_here():
    assert {name.split(",")[0] for name in MODULES} == set(nn.__all__)


@cases()
def test_state_copies_and_modes(name):
    module, inputs = made(name), MODULES[name][1](3)
    truth = module(*inputs)
    assert truth.abs().max() > 0
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh = MODULES[name][0]()
    fresh.load_state_dict(torch.load(file), strict=True)
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), fresh, module.eval(), module.train()]
    assert all(torch.equal(one(*inputs), truth) for one in copies)
    assert all(repr(one) == repr(module) for one in copies)
    assert repr(module).startswith(name.split(",")[0] + "(")
    assert "=" in repr(module) or name.startswith("PrRoIPool2D")
    for p, q in zip(module.parameters(), copies[0].parameters(), strict=True):
        assert p is not q
    if module.state_dict():
        with torch.no_grad():
            for p in module.parameters():
                p.add_(1.0)
        assert not torch.equal(module(*inputs), truth)
        assert torch.equal(copies[0](*inputs), truth)
        with pytest.raises(RuntimeError, match="Missing key"):
            fresh.load_state_dict({}, strict=True)


@cases()
def test_state_fits_safetensors(name, tmp_path):
    module = made(name)
    save_file(module.state_dict(), tmp_path / "state.safetensors")
    fresh = MODULES[name][0]()
    fresh.load_state_dict(load_file(tmp_path / "state.safetensors"), strict=True)
    assert torch.equal(module(*MODULES[name][1](3)), fresh(*MODULES[name][1](3)))


@cases()
def test_dtypes_and_autocast(name):
    """``.double()``, ``.half()``, ``.to(bfloat16)`` and autocast: the dtype of the inputs, the values of float64."""
    module, inputs = made(name), MODULES[name][1](3)
    # Weights and inputs as half types hold them.
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.half())
    inputs = tuple(x.half().float() for x in inputs)
    truth = copy.deepcopy(module).double()(*(x.double() for x in inputs))
    assert truth.dtype == torch.float64
    kept = name.startswith("PrRoIPool2D")  # its coordinates are never half
    halved = copy.deepcopy(module).half()
    got = halved(*(x if kept and i == 1 else x.half() for i, x in enumerate(inputs)))
    assert got.dtype == torch.float16
    assert HALF.admits(got, truth)
    assert not HALF.admits(got * 1.02, truth)
    with torch.autocast("cpu", torch.bfloat16):
        inside = module(*inputs)
    outside = module(*inputs)
    assert inside.dtype == torch.float32
    assert CLOSE.admits(inside, outside.double())
    assert not CLOSE.admits(outside.bfloat16().float() + 1e-5, outside.double())
    on_meta = copy.deepcopy(module).to("meta")(*(x.to("meta") for x in inputs))
    assert on_meta.is_meta
    assert on_meta.shape == outside.shape


@cases()
def test_hooks_see_inputs_and_gradients(name):
    module, inputs = made(name), [x.requires_grad_() for x in MODULES[name][1](3)]
    seen = []
    module.register_forward_pre_hook(lambda m, args: seen.append(len(args)))
    module.register_forward_hook(lambda m, args, out: 2 * out)
    module.register_full_backward_hook(lambda m, given, incoming: seen.append([g is not None for g in given]))
    out = module(*inputs)
    assert torch.equal(out, 2 * module.forward(*inputs))
    out.sum().backward()
    assert seen == [len(inputs), [True] * len(inputs)]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def shapes_of(name):
    size = Dim.DYNAMIC
    return tuple(dict.fromkeys(axes, size) if axes else None for axes in MODULES[name][2])


@cases()
def test_export_of_any_size(name):
    """One exported program serves every size, 0 too, and comes back from a file."""
    module, make = made(name).eval(), MODULES[name][1]
    program = torch.export.export(module, make(4), dynamic_shapes=shapes_of(name))
    assert any(getattr(n.target, "namespace", "") == "fasttrack" for n in program.graph.nodes)
    if name in ("PrRoIPool2D", "RidgeRegression, learnt"):
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        program = torch.export.load(file)
    run = program.module()
    for size in (4, 5, 1, *([0] if name in EMPTY_TOO else [])):
        truth = module(*make(size))
        assert CLOSE.admits(run(*make(size)), truth.double()), size
        assert truth.numel() == 0 or truth.abs().max() == 0 or not CLOSE.admits(1.01 * truth, truth.double())


@cases()
def test_compiles_whole_and_once_for_all_sizes(name):
    """Forward and backward under fullgraph; after the second size no more compilation."""
    module, make = made(name), MODULES[name][1]
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)

    def gradients(function, size):
        leaves = [x.requires_grad_() for x in make(size)]
        out = function(*leaves)
        return out, torch.autograd.grad((out * out.detach()).sum(), [*leaves, *module.parameters()])

    counts = []
    for size in (4, 5, 6, 7):
        got, truth = gradients(compiled, size), gradients(module, size)
        assert CLOSE.admits(got[0], truth[0].double())
        assert all(Tolerance(1e-5, 1e-5).admits(g, t.double()) for g, t in zip(got[1], truth[1], strict=True))
        counts.append(counter.frame_count)
    assert counts[0] == 1
    assert counts[1] == counts[-1] <= 2
    if name in EMPTY_TOO:
        assert compiled(*make(0)).shape == module(*make(0)).shape


@pytest.mark.slow
def test_inductor():
    """Two modules and arithmetic around them through the default compiler, with its C++ code."""

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.loss = nn.PrRoIPool2D(3, 2, 0.5), nn.ShrinkageLoss()

        def forward(self, x: Tensor, rows: Tensor, target: Tensor) -> Tensor:
            return self.loss(self.pool(x.relu() * 2, rows).mean(1), target) + 1

    module, inputs = Both(), (normal(2, 3, 6, 5), rois(4), normal(4, 3, 2))
    torch._dynamo.reset()
    leaves = [x.clone().requires_grad_() for x in inputs]
    got = torch.compile(module, fullgraph=True)(*leaves)
    twins = [x.clone().requires_grad_() for x in inputs]
    truth = module(*twins)
    assert CLOSE.admits(got, truth.double())
    pairs = zip(torch.autograd.grad(got, leaves), torch.autograd.grad(truth, twins), strict=True)
    assert all(Tolerance(1e-5, 1e-5).admits(g, t.double()) for g, t in pairs)

"""An explicit choice of a backend holds in the backward pass too, in whatever thread that runs."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor

import fasttrack
from fasttrack import dispatch, ops
from fasttrack.ops import _op
from fasttrack.spec import all_specs
from fasttrack.spec.base import outputs_of

SPECS = [spec for spec in all_specs() if spec.gradients]


@pytest.fixture
def asked(monkeypatch):
    """(op, explicit choice in force) of every call that is dispatched."""
    seen = []
    original = dispatch.choose

    def listen(op, args, backend=None):
        seen.append((op, backend or dispatch.chosen()))
        return original(op, args, backend)

    monkeypatch.setattr(_op.dispatch, "choose", listen)
    return seen


def in_another_thread(work):
    """The result of ``work()`` in a thread of its own, which has no choice of a backend."""
    results = []

    def run():
        assert dispatch.chosen() is None
        results.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def graph(spec, **options):
    case = next(c for c in spec.cases if c.tests and not c.bench)
    arguments = case.make()
    leaves = {n: arguments[n].requires_grad_() for n in spec.gradients if isinstance(arguments.get(n), Tensor)}
    outputs = [o for o in outputs_of(getattr(ops, spec.name)(**arguments, **options)) if o.requires_grad]
    return sum(o.sum() for o in outputs), [*leaves.values()]


@pytest.mark.parametrize("spec", [pytest.param(s, id=f"{s.name}-{k}") for k, s in enumerate(SPECS)])
@pytest.mark.parametrize("by", ["argument", "block"])
def test_backward_in_another_thread_keeps_the_choice(spec, by, asked):
    if by == "argument":
        total, leaves = graph(spec, backend="cpu")
    else:
        with fasttrack.use_backend("cpu"):
            total, leaves = graph(spec)
    asked.clear()
    gradients = in_another_thread(lambda: torch.autograd.grad(total, leaves))
    assert len(gradients) == len(leaves)
    assert {choice for _, choice in asked} <= {"cpu"}


def test_some_backwards_call_ops(asked):
    """Without which the test above would show nothing; and no choice stays no choice."""
    for options, wanted in (({"backend": "cpu"}, {"cpu"}), ({}, {None})):
        spec = next(s for s in SPECS if s.name == "conv_regression")
        total, leaves = graph(spec, **options)
        asked.clear()
        in_another_thread(lambda total=total, leaves=leaves: torch.autograd.grad(total, leaves))
        assert {op for op, _ in asked} == {"conv_regression_features_gradient", "conv_regression_weight_gradient"}
        assert {choice for _, choice in asked} == wanted


def test_second_derivative_keeps_the_choice(asked):
    spec = next(s for s in SPECS if s.name == "conv_regression")
    total, leaves = graph(spec, backend="cpu")
    firsts = in_another_thread(lambda: torch.autograd.grad(total.square(), leaves, create_graph=True))
    asked.clear()
    in_another_thread(lambda: torch.autograd.grad(sum(f.square().sum() for f in firsts), leaves))
    assert asked
    assert {choice for _, choice in asked} == {"cpu"}


def test_the_choice_does_not_leak(asked):
    """A graph made with a choice leaves the thread that runs it without one."""
    total, leaves = graph(SPECS[0], backend="cpu")
    torch.autograd.grad(total, leaves)
    assert dispatch.chosen() is None


@pytest.mark.parametrize("backend", ["reference", "cuda"])
def test_the_environment_chooses_for_every_op(backend):
    """As it is when the package is imported; where the backend cannot run the call, nothing else does."""
    call = "import torch; from fasttrack import ops; print(ops.response_peak(torch.eye(3)[None]).score.item())"
    environment = {**os.environ, "FASTTRACK_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False)
    if backend == "reference":
        assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr
    else:
        assert done.returncode == 1 and "BackendUnavailable: response_peak" in done.stderr

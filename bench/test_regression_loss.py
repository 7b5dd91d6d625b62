"""Value and gradient of the losses: plain PyTorch with autograd against the one-pass kernel."""

import pytest
import torch
from sides import OURS, make, on_backend

from fasttrack import ops
from fasttrack.spec.regression_loss import SPECS

ROWS = [pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in SPECS for case in spec.cases if case.bench]


def value_and_gradient(function, arguments):
    """(loss, ∂ loss/∂ prediction), as a tracker's training step asks for them."""
    rest = {k: v for k, v in arguments.items() if k != "prediction"}

    def run():
        prediction = arguments["prediction"].detach().requires_grad_()
        loss = function(prediction=prediction, **rest)
        return loss.detach(), torch.autograd.grad(loss, prediction)[0]

    return run


@pytest.mark.parametrize("side", ["plain", *OURS])
@pytest.mark.parametrize(("spec", "case"), ROWS)
def test_value_and_gradient(benchmark, checked, spec, case, side):
    arguments = make(case)
    benchmark.group = f"{spec.name} {arguments.get('form', '')} {case.name}"
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    truth = value_and_gradient(spec.reference, wide)()
    function = spec.reference if side == "plain" else on_backend(getattr(ops, spec.name), side)
    checked(
        benchmark,
        value_and_gradient(function, arguments),
        truth,
        spec.tolerance_of(torch.float32),
        spec.cost(arguments),
        side=side,
    )

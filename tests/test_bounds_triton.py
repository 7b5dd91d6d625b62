"""No Triton kernel writes outside of its outputs or uses what lies outside of its inputs, whatever its launch sizes."""

import contextlib

import pytest
import torch
from guards import Guards
from torch import Tensor

from fasttrack import native, ops
from fasttrack.spec import all_specs
from fasttrack.spec.base import outputs_of

REASON = native.triton_why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEMS = ("regression_loss", "crop_resize", "response_peak", "grey", "hog", "lrn", "color_names", "pca")
# Numbers in the arguments of a case: each costs a second where kernels are interpreted.
LARGEST = 800


def cases():
    for spec in all_specs():
        if spec.stem in STEMS and spec.name != "pca_fit":
            fit = [c for c in spec.cases if c.tests and not c.bench and numbers(c) <= LARGEST]
            yield from (pytest.param(spec, case, id=f"{spec.name}-{case.name}") for case in fit)


def numbers(case):
    """Numbers in all arguments but a table of colours."""
    return sum(v.numel() for k, v in case.make().items() if isinstance(v, Tensor) and k != "table")


def launched(stem, pick):
    """The kernels of a stem with the least or the largest launch sizes of their spaces."""
    from fasttrack.kernels import _tuning

    stack = contextlib.ExitStack()
    for name, space in _tuning.SPACES.items():
        if name.split(".")[0] == stem:
            sizes = {key: pick(choices) for key, choices in space.choices.items()}
            stack.enter_context(_tuning.use_config(name, sizes))
    return stack


def run(spec, arguments):
    return outputs_of(getattr(ops, spec.name)(**arguments, backend="triton"))


@pytest.mark.parametrize("pick", [min, max], ids=["least", "largest"])
@pytest.mark.parametrize(("spec", "case"), [*cases()])
def test_margins_stay_as_they_are(spec, case, pick):
    arguments = {k: v.to(DEVICE) if isinstance(v, Tensor) else v for k, v in case.make(torch.float32).items()}
    guards = Guards()
    placed = {k: guards.place(v) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    truth = outputs_of(spec.truth(arguments))
    with launched(spec.stem, pick), guards.outputs():
        got = run(spec, placed)
    assert guards.intact()
    for g, t in zip(got, truth, strict=True):
        assert spec.tolerance_of(torch.float32).admits(g, t), "a number from outside the inputs was used"


def test_guards_see_a_stray_write_and_a_stray_read():
    """The canary: a kernel whose mask is one too generous."""
    import stray_kernel

    guards = Guards()
    values = guards.place(torch.ones(37, device=DEVICE))
    with guards.outputs():
        out = stray_kernel.double(values, beyond=0)
    assert guards.intact()
    assert torch.equal(out, torch.full_like(out, 2.0))
    with guards.outputs():
        out = stray_kernel.double(values, beyond=1)
    assert not guards.intact()
    assert stray_kernel.total(values, beyond=0).item() == 37.0
    assert stray_kernel.total(values, beyond=1).isnan()

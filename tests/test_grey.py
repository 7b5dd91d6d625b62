"""Hand-computed brightness, flat and broken patches, strides and messages of grey."""

import math

import pytest
import torch

from fasttrack import ops
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError
from fasttrack.vision.features import create

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


def patches_of(*shape, seed=0):
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@BOTH
@pytest.mark.parametrize("cell", [1, 3])
def test_by_hand(backend, cell):
    """Two cells of mean brightness e − 1 and e³ − 1: their logarithms are 1 and 3, so the result is −1 and 1."""
    levels = torch.tensor([math.e - 1, math.e**3 - 1]).repeat_interleave(cell).expand(cell, -1)
    patches = torch.stack([levels + 30, levels - 1, levels - 29])[None]
    got = ops.grey(patches, cell, backend=backend)
    assert got.shape == (1, 1, 1, 2)
    assert got.flatten().tolist() == pytest.approx([-1, 1], abs=1e-5)


@pytest.mark.parametrize("low", [1e-6, 1e-3, 1.0, 254.0])
def test_logarithms_over_the_whole_range(low):
    levels = torch.logspace(math.log10(low), math.log10(255), 4001, dtype=torch.float64)
    got = ops.grey(levels.float().view(1, 1, 1, -1), backend="cpu")
    truth = ops.grey(levels.float().double().view(1, 1, 1, -1), backend="reference")
    assert (got - truth).abs().max() < (2e-6 if low < 100 else 5e-4)  # the last spans 0.004 of 5.5
    assert (got.roll(1) - truth).abs().max() > 5e-4


@BOTH
def test_flat_patches_are_zero(backend):
    patches = torch.full((2, 3, 9, 11), 77.3)
    patches[1, :, 4, 4] += 1.0
    got = ops.grey(patches, backend=backend)
    assert torch.equal(got[0], torch.zeros(1, 9, 11))
    assert got[1].std(correction=0).item() == pytest.approx(1, abs=1e-5)


@BOTH
def test_what_has_no_logarithm_breaks_its_own_patch(backend):
    patches = patches_of(5, 1, 8, 9)
    for t, value in enumerate((float("nan"), -1.0, -7.0, float("inf"))):
        patches[t, 0, 3, 3] = value
    broken = ops.grey(patches, backend=backend).isnan()
    assert broken[:4].all() and not broken[4].any()


@pytest.mark.parametrize("layout", ["cut", "channels_last", "transposed", "expanded"])
@pytest.mark.parametrize("cell", [1, 2])
def test_strides(layout, cell):
    plain = patches_of(2, 3, 16, 24)
    patches = {
        "cut": patches_of(2, 4, 30, 40)[:, 1:, 3:19, 5:29],
        "channels_last": plain.contiguous(memory_format=torch.channels_last),
        "transposed": plain.transpose(2, 3).contiguous().transpose(2, 3),
        "expanded": plain[:, :1].expand(-1, 3, -1, -1),
    }[layout]
    wanted = ops.grey(patches.contiguous(), cell, backend="reference")
    got = ops.grey(patches, cell, backend="cpu")
    assert torch.allclose(got, wanted, atol=5e-6)
    assert not torch.allclose(got.roll(1, 3), wanted, atol=5e-6)


def test_same_result_on_any_number_of_threads():
    patches, before, results = patches_of(9, 3, 120, 160), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(ops.grey(patches, backend="cpu"))
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_the_feature_is_the_op():
    patches = patches_of(2, 3, 12, 16)
    assert torch.equal(create("grey")(patches), ops.grey(patches))
    assert torch.equal(create("grey", stride=4)(patches), ops.grey(patches, 4))


def test_messages():
    patches = patches_of(1, 3, 8, 8)
    for error, text, call in (
        (ShapeError, r"grey: patches must be \(T, 3 or 1, h, w\), got", lambda: ops.grey(patches[0])),
        (ShapeError, r"\(T, 3, h, w\) or \(T, 1, h, w\), got shape \(1, 2, 8, 8\)", lambda: ops.grey(patches[:, :2])),
        (ShapeError, "at least one cell of 9 × 9 px", lambda: ops.grey(patches, 9)),
        (DtypeError, "patches must be float32 or float64, got torch.uint8", lambda: ops.grey(patches.byte())),
        (RangeError, "cell_size must be an int ≥ 1, got 0", lambda: ops.grey(patches, 0)),
        (ArgumentError, "grey has no gradient", lambda: ops.grey(patches.clone().requires_grad_())),
    ):
        with pytest.raises(error, match=text):
            call()

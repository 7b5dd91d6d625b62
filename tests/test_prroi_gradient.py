"""Gradients of the RoI pooling beyond the contract: the gradient ops alone, second order, half types, scores."""

import pytest
import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.spec.base import Tolerance, error_of
from fasttrack.spec.prroi_pool import SPECS

OPS = torch.ops.fasttrack
BOUND = Tolerance(1e-6, 1e-6)
SCALE = 0.8


def tensors(dtype=torch.float32, channels=5, bins=(3, 2), seed=0):
    """Features of two images, RoIs across the border, one flipped, and a gradient of the pooled features."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, channels, 8, 9, generator=generator, dtype=torch.float64)
    corner = torch.rand(6, 2, generator=generator, dtype=torch.float64) * 9 - 1.3
    extent = torch.rand(6, 2, generator=generator, dtype=torch.float64) * 6 + 0.2
    extent[4] *= -1
    index = torch.tensor([0, 1, 1, 0, 0, 1], dtype=torch.float64)[:, None]
    rois = torch.cat([index, corner, corner + extent], 1)
    grad = torch.randn(6, channels, *bins, generator=generator, dtype=torch.float64)
    return features.to(dtype), rois.float().to(dtype), grad.to(dtype)


def gradient_calls(features, rois, grad):
    """Every gradient op with arguments to try it on."""
    maps = torch.einsum("ncij,kcpq->nijpq", features, grad).contiguous()
    scores = grad[:, 0, 0, 0].contiguous()
    images, _, height, width = features.shape
    return {
        "features": (OPS.prroi_pool_features_gradient, (grad, rois, images, height, width, SCALE, False)),
        "rois": (OPS.prroi_pool_rois_gradient, (features, grad, rois, SCALE)),
        "sum": (OPS.prroi_bin_sum, (maps, rois, SCALE, False)),
        "sum_maps": (OPS.prroi_bin_sum_maps_gradient, (scores, rois, *maps.shape, SCALE, False)),
        "sum_rois": (OPS.prroi_bin_sum_rois_gradient, (maps, scores, rois, SCALE)),
    }


NAMES = sorted(gradient_calls(*tensors()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 5, 33, 70])
def test_kernel_against_formula(name, channels, poisoned):
    arguments = tensors(channels=channels)
    op, values = gradient_calls(*arguments)[name]
    _, wide = gradient_calls(*(a.double() for a in arguments))[name]
    truth = op(*wide)  # float64 runs the formulas
    got = op(*values)
    assert BOUND.admits(got, truth), error_of(got, truth)
    assert not BOUND.admits(got * 1.00001, truth)


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name):
    op, values = gradient_calls(*tensors())[name]
    torch.library.opcheck(op.default, values)


def test_formulas_are_the_derivatives_of_the_reference():
    """First order in float64: what autograd says of the reference is what the formulas say."""
    features, rois, grad = tensors(torch.float64)
    leaves = features.requires_grad_(), rois.requires_grad_()
    out = ops.prroi_pool(*leaves, (3, 2), SCALE, backend="reference")
    by_features, by_rois = torch.autograd.grad(out, leaves, grad)
    calls = gradient_calls(features.detach(), rois.detach(), grad)
    for name, truth in (("features", by_features), ("rois", by_rois)):
        op, values = calls[name]
        assert torch.allclose(op(*values), truth, atol=1e-12)


@pytest.mark.parametrize("wanted", ["features", "rois", "grad"])
def test_second_order_on_the_kernels(wanted):
    """Gradients of first-order gradients, through the kernels' own backward, in every argument."""

    def second(dtype, backend):
        features, rois, grad = (t.requires_grad_() for t in tensors(dtype))
        out = ops.prroi_pool(features, rois, (3, 2), SCALE, backend=backend)
        first = torch.autograd.grad(out, (features, rois), grad, create_graph=True)
        total = sum((f * torch.cos(torch.arange(f.numel())).view(f.shape).to(f.dtype)).sum() for f in first)
        return torch.autograd.grad(total, {"features": features, "rois": rois, "grad": grad}[wanted])[0]

    got, truth = second(torch.float32, "cpu"), second(torch.float64, "reference")
    assert truth.abs().max() > 0.1
    assert BOUND.admits(got, truth), error_of(got, truth)


def test_second_order_of_scores_on_the_kernels():
    def second(dtype, backend):
        features, rois, grad = (t.requires_grad_() for t in tensors(dtype))
        score = ops.prroi_filter_score(features, rois, grad[0], SCALE, backend=backend)
        first = torch.autograd.grad(score.square().sum(), (features, rois), create_graph=True)
        return torch.autograd.grad(sum(f.square().sum() for f in first), (features, rois, grad))

    for got, truth in zip(second(torch.float32, "cpu"), second(torch.float64, "reference"), strict=True):
        assert Tolerance(4e-6, 4e-6).admits(got, truth), error_of(got, truth)


def test_gradgradcheck():
    features, rois, grad = (t.requires_grad_() for t in tensors(torch.float64, channels=2))

    def both(features, rois, weight):
        pooled = ops.prroi_pool(features, rois, (3, 2), SCALE)
        return pooled.square(), ops.prroi_filter_score(features, rois, weight, SCALE)

    inputs = features, rois, grad[1].detach().requires_grad_()
    # The image index is no variable: its numerical derivative is an error, its gradient 0.
    index, coordinates = rois.detach()[:, :1], rois.detach()[:, 1:].requires_grad_()

    def function(features, coordinates, weight):
        return both(features, torch.cat([index, coordinates], 1), weight)

    leaves = inputs[0], coordinates, inputs[2]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_have_whole_coordinates(dtype):
    """Half is a storage: the integrals are those of the rounded features in float32, rounded once."""
    features, rois, grad = tensors()
    half = features.to(dtype).requires_grad_()
    boxes = rois.clone().requires_grad_()
    out = ops.prroi_pool(half, boxes, (3, 2), SCALE)
    wide = half.detach().float().requires_grad_()
    truth = ops.prroi_pool(wide, boxes, (3, 2), SCALE)
    assert out.dtype == dtype
    assert torch.equal(out, truth.to(dtype))
    rounded = grad.to(dtype)
    got = torch.autograd.grad(out, (half, boxes), rounded)
    true = torch.autograd.grad(truth, (wide, boxes), rounded.float())
    assert got[0].dtype == dtype
    assert got[1].dtype == torch.float32
    assert torch.equal(got[0], true[0].to(dtype))
    assert torch.equal(got[1], true[1])


def test_double_coordinates_with_float_features():
    features, rois, grad = tensors()
    boxes = rois.double().requires_grad_()
    out = ops.prroi_pool(features, boxes, (3, 2), SCALE)
    assert out.dtype == torch.float32
    (got,) = torch.autograd.grad(out, boxes, grad)
    assert got.dtype == torch.float64


def test_autocast_keeps_the_integrals_whole():
    features, rois, grad = tensors()
    outside = ops.prroi_pool(features, rois, (3, 2), SCALE), ops.prroi_filter_score(features, rois, grad[0], SCALE)
    fc, ridge = grad.flatten(1), torch.arange(6.0)
    linear = ops.prroi_linear_score(features, rois, fc, ridge, (3, 2), SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ops.prroi_pool(features, rois, (3, 2), SCALE), ops.prroi_filter_score(features, rois, grad[0], SCALE)
        assert torch.equal(ops.prroi_linear_score(features, rois, fc, ridge, (3, 2), SCALE), linear)
        convolved = torch.nn.functional.conv2d(features, torch.ones(4, 5, 1, 1))
        assert ops.prroi_pool(convolved, rois, 2).dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


@pytest.mark.parametrize("gradients", [(True, False), (False, True), (True, True)])
def test_only_what_is_asked_for(gradients):
    features, rois, _ = tensors()
    features.requires_grad_(gradients[0])
    rois.requires_grad_(gradients[1])
    ops.prroi_pool(features, rois, 2, SCALE).sum().backward()
    assert (features.grad is not None, rois.grad is not None) == gradients


def test_linear_score_is_pool_then_layer_then_ridge():
    """The collapse against the three steps it replaces, values and all gradients; the layer's has rank 1."""
    features, rois, grad = tensors(torch.float64)
    layer, ridge = torch.randn(7, 30, dtype=torch.float64), torch.randn(7, dtype=torch.float64)

    def results(collapsed: bool) -> list[Tensor]:
        leaves = [t.detach().clone().requires_grad_() for t in (features, rois, layer, ridge)]
        f, r, a, w = leaves
        if collapsed:
            score = ops.prroi_linear_score(f, r, a, w, (3, 2), SCALE)
        else:
            score = ops.prroi_pool(f, r, (3, 2), SCALE).flatten(1) @ a.T @ w
        return [score, *torch.autograd.grad(score, leaves, grad[:, 0, 0, 0])]

    got, truth = results(True), results(False)
    for g, t in zip(got, truth, strict=True):
        assert torch.allclose(g, t, atol=1e-11)
    assert torch.linalg.matrix_rank(got[3]) == 1


def test_deterministic_follows_torch():
    """The flag reaches the gradient op, from the argument or from torch's setting."""
    features, rois, _ = tensors()
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for setting, asked, wanted in ((True, None, True), (False, None, False), (True, False, False)):
            torch.use_deterministic_algorithms(setting)
            node = ops.prroi_pool(features.requires_grad_(), rois, 2, deterministic=asked).grad_fn
            assert node.deterministic is wanted
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("bins", [8, 4])
def test_tiles_have_the_same_bits_on_any_number_of_threads(bins):
    """A grid of square tiles, whose channels are shared out among the threads; channels of two blocks and a half."""
    low = torch.arange(9.0) * 1.37 - 1
    rois = ops.prroi_grid_rois(*(torch.stack([low, low + extent], 1) for extent in (5.3, 6.1)))
    draw = torch.Generator().manual_seed(6)
    features = torch.randn(1, 72, 13, 11, generator=draw).requires_grad_()
    grad = torch.randn(len(rois), 72, bins, bins, generator=draw)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = ops.prroi_pool(features, rois, bins, backend="cpu")
            results.append((out.detach(), torch.autograd.grad(out, features, grad)[0]))
    finally:
        torch.set_num_threads(before)
    for out, by_features in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(by_features, results[0][1])


def test_specs_name_public_functions():
    assert {s.name for s in SPECS} <= set(ops.__all__)

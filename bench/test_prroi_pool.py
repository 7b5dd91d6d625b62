"""RoI pooling and DCFST's scores: dense einsum, two batched products, and the kernels."""

import pytest
import torch
from sides import OURS, make, on_backend, place, throughout, wide

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.prroi_pool import SPECS

CASES = {case.name: case for case in SPECS[0].cases if case.bench}
DCFST = [pytest.param(CASES[name], id=name) for name in ("dcfst_8x8", "dcfst_4x4")]
REFINE = [pytest.param(CASES[name], id=name) for name in ("refine_5x5", "refine_3x3")]
BOUND = Tolerance(2e-6, 4e-6)


def hat_primitive(u):
    u = u.clamp(-1, 1)
    return torch.where(u < 0, 0.5 * (u + 1) ** 2, 1 - 0.5 * (1 - u) ** 2)


def weights(low, high, bins, size):
    """Axis weights in the dtype of the RoIs, as PyTorch users write them."""
    places, cells = (torch.arange(n, dtype=low.dtype, device=low.device) for n in (bins + 1, size))
    edges = low[:, None] + (high - low)[:, None] * places / bins
    below = hat_primitive(edges[:, :, None] - cells)
    return (below[:, 1:] - below[:, :-1]) * (bins / (high - low))[:, None, None]


def plain(features, rois, output_size, spatial_scale):
    """Dense weights and one einsum over the map of each RoI."""
    index, x1, y1, x2, y2 = rois.unbind(1)
    wy = weights(y1 * spatial_scale, y2 * spatial_scale, output_size, features.shape[2])
    wx = weights(x1 * spatial_scale, x2 * spatial_scale, output_size, features.shape[3])
    return torch.einsum("kpi,kcij,kqj->kcpq", wy, features[index.long()], wx)


def products(features, rois, output_size, spatial_scale):
    """One large product in y over all RoIs of the one image, one batched product in x."""
    _, x1, y1, x2, y2 = rois.unbind(1)
    _, channels, height, width = features.shape
    wy = weights(y1 * spatial_scale, y2 * spatial_scale, output_size, height)
    wx = weights(x1 * spatial_scale, x2 * spatial_scale, output_size, width)
    rows = features[0].transpose(0, 1).reshape(height, channels * width)
    pooled = (wy.reshape(-1, height) @ rows).view(len(rois), output_size * channels, width)
    out = torch.bmm(pooled, wx.transpose(1, 2)).view(len(rois), output_size, channels, output_size)
    return out.transpose(1, 2).contiguous()


def grid_products(features, rois, output_size, spatial_scale):
    """Two plain products that know the grid: 31 columns, then 31 rows."""
    _, channels, height, width = features.shape
    side = round(len(rois) ** 0.5)
    x1, x2 = (rois[:side, i] * spatial_scale for i in (1, 3))
    y1, y2 = (rois[::side, i] * spatial_scale for i in (2, 4))
    wy = weights(y1, y2, output_size, height).reshape(-1, height)
    wx = weights(x1, x2, output_size, width).reshape(-1, width)
    columns = (features[0].reshape(-1, width) @ wx.T).view(channels, height, -1)
    out = torch.matmul(wy, columns).view(channels, side, output_size, side, output_size)
    return out.permute(1, 3, 0, 2, 4).reshape(len(rois), channels, output_size, output_size)


RIVALS = {"plain": plain, "torch": products, "torch_grid": grid_products}
SIDES = {**RIVALS, **{name: on_backend(ops.prroi_pool, name) for name in OURS}}


# Rivals round their edges to float32, the kernels do not.
def bound_of(side):
    return BOUND if side in OURS else Tolerance(2e-5, 5e-5)


@pytest.mark.parametrize("side", ["plain", "torch", "torch_grid", *OURS])
@pytest.mark.parametrize("case", DCFST)
def test_forward(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"prroi_pool forward {case.name}"
    truth, cost = products(**wide(arguments)), SPECS[0].cost(arguments)
    checked(benchmark, lambda: SIDES[side](**arguments), truth, bound_of(side), cost, side=side)


@pytest.mark.parametrize("side", ["plain", "torch", "torch_grid", *OURS])
@pytest.mark.parametrize("case", DCFST)
def test_features_gradient(benchmark, checked, case, side):
    arguments = make(case)
    benchmark.group = f"prroi_pool features gradient {case.name}"

    def backward_of(function, arguments):
        features = arguments["features"].requires_grad_()
        out = function(**arguments)
        grad = torch.cos(torch.arange(out.numel(), device=out.device)).view(out.shape).to(out.dtype)
        return lambda: torch.autograd.grad(out, features, grad, retain_graph=True)[0]

    truth = backward_of(products, wide(arguments))()
    run = backward_of(SIDES[side], arguments)
    checked(benchmark, throughout(run, side) if side in OURS else run, truth, bound_of(side), side=side)


@pytest.mark.parametrize("side", ["plain", "torch", *OURS])
@pytest.mark.parametrize("case", REFINE)
def test_refinement(benchmark, checked, case, side):
    """One ascent step of box refinement: the pooled maps and the gradient in the ten boxes."""
    arguments = make(case)
    benchmark.group = f"prroi_pool forward and rois gradient {case.name}"

    def step(function, arguments):
        rois = arguments["rois"].requires_grad_()
        shape = (len(rois), arguments["features"].shape[1], *(arguments["output_size"],) * 2)
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(rois)

        def run():
            out = function(**arguments)
            return out.detach(), torch.autograd.grad(out, rois, grad)[0]

        return run

    truth = step(products, wide(arguments))()
    run = step(SIDES[side], arguments)
    checked(benchmark, throughout(run, side) if side in OURS else run, truth, bound_of(side), side=side)


def detection():
    """Both levels of DCFST's locator: features, RoIs, linear layers, ridge solution (D = 2·512)."""
    generator = torch.Generator().manual_seed(2)
    levels = []
    for name in ("dcfst_8x8", "dcfst_4x4"):
        arguments = make(CASES[name])
        columns = arguments["features"].shape[1] * arguments["output_size"] ** 2
        layer = torch.randn(512, columns, generator=generator) / columns**0.5
        levels.append((arguments, *place((layer, torch.randn(512, generator=generator) / 32))))
    return levels


def collapsed(features, rois, weight, spatial_scale):
    """The same collapse by products of torch that know the grid."""
    height, width = features.shape[2:]
    bins, side = weight.shape[1], round(len(rois) ** 0.5)
    x1, x2 = (rois[:side, i] * spatial_scale for i in (1, 3))
    y1, y2 = (rois[::side, i] * spatial_scale for i in (2, 4))
    wy, wx = weights(y1, y2, bins, height), weights(x1, x2, bins, width)
    maps = (weight.flatten(1).T @ features[0].flatten(1)).view(bins, bins, height, width)
    columns = torch.matmul(maps, wx.permute(1, 2, 0)).sum(1)
    return torch.bmm(wy.transpose(0, 1), columns).sum(0).flatten()


@pytest.mark.parametrize("side", ["plain", "torch", "torch_collapsed", *OURS])
def test_detection(benchmark, checked, side):
    """Scores of 961 positions on both levels; the filters Aᵀw are kept from the last update of w."""
    levels = detection()
    benchmark.group = "DCFST detection"
    filters = [(w @ a).view(-1, *(k["output_size"],) * 2) for k, a, w in levels]

    def run(levels, filters, side):
        total = 0
        for (k, layer, ridge), weight in zip(levels, filters, strict=True):
            if side in ("plain", "torch"):
                pooled = grid_products(**k) if side == "torch" else plain(**k)
                total = total + (pooled.flatten(1) @ layer.T) @ ridge
            elif side == "torch_collapsed":
                total = total + collapsed(k["features"], k["rois"], weight, k["spatial_scale"])
            else:
                maps, rois, scale = k["features"], k["rois"], k["spatial_scale"]
                total = total + ops.prroi_filter_score(maps, rois, weight, scale, backend=side)
        return total

    doubles = [(wide(k), a.double(), w.double()) for k, a, w in levels]
    truth = run(doubles, [(w @ a).view(-1, *(k["output_size"],) * 2) for k, a, w in doubles], "torch")
    checked(benchmark, lambda: run(levels, filters, side), truth, Tolerance(2e-5, 5e-5), side=side)

"""ONNX files of ops, backbones and the response paths of DCFST and DSLT, run by onnxruntime."""

import sys

import pytest
import torch
from made_weights import INPUT, made, noise
from torch.export import Dim

from fasttrack import nn, ops
from fasttrack.errors import TransformError
from fasttrack.models import FusedConfig, FusedRegressor, FusedResponse, PooledHead, PooledSamples, RidgeResponse
from fasttrack.onnx import export, translated
from fasttrack.spec.base import Tolerance
from fasttrack.vision.architectures import ARCHITECTURES
from fasttrack.vision.features import Backbone, LayerStack
from fasttrack.vision.features.networks import NETWORKS, Tap
from fasttrack.vision.labels import gaussian_map

CLOSE = Tolerance(1e-5, 1e-4, witness="2e-6, 2e-6")
CROPPED = {
    "resnet18": ("layer2", "layer3"),
    "squeezenet": ("fire4",),
    "vgg-m": ("conv2", "conv3"),
    "vgg16": ("conv-4",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Writes a module, and gives a function that runs the file."""
    runtime = pytest.importorskip("onnxruntime", reason="fasttrack[onnx] is not installed")
    pytest.importorskip("onnxscript", reason="fasttrack[onnx] is not installed")
    import onnx

    folder = tmp_path_factory.mktemp("onnx")

    def write(module, args, **options):
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        export(module, args, path, **options)
        model = onnx.load(path)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}, "an operator of nobody's"
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]

        def call(*tensors):
            feed = {n: t.numpy() for n, t in zip(names, tensors, strict=True)}
            return tuple(torch.from_numpy(o) for o in session.run(None, feed))

        call.names, call.kinds = names, [node.op_type for node in model.graph.node]
        return call

    return write


def agree(got, truth):
    assert len(got) == len(truth)
    for g, t in zip(got, truth, strict=True):
        t = t.detach().double()
        assert CLOSE.admits(g, t)
        good = t[t.isfinite()]
        if good.numel() and good.abs().max() > 0:
            wrongs = [torch.zeros_like(g), g * 1.001, g.roll(1, -1)]
            assert not any(CLOSE.admits(w, t) for w in wrongs if not torch.equal(w, g))


def rois(count, images):
    rows = torch.rand(count, 5) * 20
    rows[:, 0] = torch.arange(count) % images
    rows[:, 3:] += rows[:, 1:3] + 1
    return rows


class TwoPools(torch.nn.Module):
    """Pooling in a batch of images, and in one."""

    def __init__(self):
        super().__init__()
        self.pool = nn.PrRoIPool2D(3, 2, 0.25)

    def forward(self, features, rois, alone):
        return self.pool(features, rois), self.pool(features[:1], alone)


def test_prroi_pool_is_two_matrix_products(run):
    module, features, k = TwoPools(), torch.randn(2, 5, 9, 7), Dim("k")
    shapes = {"features": None, "rois": {0: k}, "alone": {0: k}}
    names = ["features", "rois", "alone"]
    call = run(module, (features, rois(4, 2), rois(4, 1)), dynamic_shapes=shapes, input_names=names)
    assert call.names == names
    assert call.kinds.count("MatMul") == 4
    for count in (5, 1, 0):
        given = features, rois(count, 2), rois(count, 1)
        agree(call(*given), module(*given))
    odd, odd_alone = rois(5, 2), rois(5, 1)
    for rows in (odd, odd_alone):
        rows[0, 3] = rows[0, 1] - 1  # flipped: 0
        rows[1, 2] = float("nan")
        rows[2, 4] = float("inf")
    agree(call(features, odd, odd_alone), module(features, odd, odd_alone))
    odd[3, 0], odd_alone[3, 0] = 2, 1  # names no image: an error here, NaN in a file
    for pooled in call(features, odd, odd_alone):
        assert pooled[3].isnan().all()
        assert pooled[[0, 4]].isfinite().all()


class Kitchen(torch.nn.Module):
    """Every op with a formula, in one file."""

    def __init__(self):
        super().__init__()
        self.lrn, self.fused = nn.LRN(alpha=0.1), nn.ReLULRNMaxPool(alpha=0.1, ceil_mode=True)
        self.conv = nn.ConvRegression(5, (3, 2))
        torch.nn.init.normal_(self.conv.weight)
        torch.nn.init.normal_(self.conv.bias)
        self.model = ops.PCAModel(torch.randn(5), torch.randn(5, 2), torch.ones(2))

    def forward(self, x, rows, weight, fc, ridge, kernels):
        filtered = ops.prroi_filter_score(x, rows, weight, 0.25)
        linear = ops.prroi_linear_score(x, rows, fc, ridge, (3, 2), 0.25)
        each = ops.conv_regression(x, kernels)
        return self.lrn(x), self.fused(x), self.conv(x), ops.pca_apply(x, self.model), filtered, linear, each


def test_all_formulas(run):
    module = Kitchen().eval()
    x, kernels = torch.randn(2, 5, 9, 7), torch.randn(2, 5, 4, 3)

    def arguments(count):
        return x, rois(count, 2), torch.randn(5, 3, 2), torch.randn(4, 30), torch.randn(2, 4), kernels

    shapes = dict.fromkeys(("x", "weight", "fc", "ridge", "kernels")) | {"rows": {0: Dim("k")}}
    call = run(module, arguments(4), dynamic_shapes=shapes)
    for count in (6, 0):
        given = arguments(count)
        agree(call(*given), module(*given))
    seen = set()
    exported = torch.export.export(module, arguments(4))
    seen = {n.target.name()[11:] for n in exported.graph.nodes if getattr(n.target, "namespace", "") == "fasttrack"}
    assert seen | {"prroi_pool"} == set(translated())


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Made weights of every architecture, by the name of the network."""
    folder = tmp_path_factory.mktemp("weights")
    out = {}
    for name, net in NETWORKS.items():
        path = folder / f"{net.arch.name}.pth"
        if not path.exists():
            torch.save(made(ARCHITECTURES[net.arch.name]), path)
        out[name] = {"weights": path, "convention": INPUT}
    return out


class Several(torch.nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, patches):
        return [m for part in self.parts for m in part(patches)]


def test_backbones(run, options):
    """One file of all networks: what it gives is what ``Backbone`` gives, for another number of patches too."""
    backbones = [Backbone(name, outputs, **options[name]) for name, outputs in CROPPED.items()]
    call = run(Several([b.module() for b in backbones]), (noise(2, 3, 96, 104),), dynamic_shapes=[{0: Dim("t")}])
    patches = noise(3, 3, 96, 104, seed=1)
    agree(call(patches), [m for b in backbones for m in b(patches)])


def grid(count, targets):
    low = torch.linspace(-5, 30, count)
    return torch.stack([low, low + 24.0], 1).expand(targets, count, 2).clone()


def test_response_of_dcfst(run, options):
    """Features, learnt head, ridge weights and a grid of RoIs → the scores that the tracker computes."""
    backbone = Backbone("resnet18", ("layer2", "layer3"), **options["resnet18"])
    head = PooledHead(backbone.taps, bins=[(3, 2), (2, 2)], channels=(8, 6), width=5).eval().requires_grad_(False)
    plain = PooledSamples(backbone.taps, [(3, 2), (2, 2)])
    module = Several([])
    module.paths = torch.nn.ModuleList([RidgeResponse(backbone.module(), part) for part in (head, plain)])
    module.forward = lambda patches, learnt, raw, x, y: [
        path(patches, weight, x, y) for path, weight in zip(module.paths, (learnt, raw), strict=True)
    ]

    def arguments(columns, seed):
        torch.manual_seed(seed)
        weights = torch.randn(2, 10), torch.randn(2, sum(plain.columns)) * 0.01
        return noise(2, 3, 64, 64, seed=seed), *weights, grid(columns, 2), grid(4, 2)

    given, other = arguments(5, 1), arguments(7, 2)
    call = run(module, given, dynamic_shapes=(None, None, None, {1: Dim("columns")}, None))
    for patches, learnt, raw, x, y in (given, other):
        maps = backbone(patches)
        truth = [p.scores(p.maps(maps), [(x, y)], w)[:, 0] for p, w in ((head, learnt), (plain, raw))]
        agree(call(patches, learnt, raw, x, y), truth)


def test_response_of_dslt(run, options):
    """Features of two layers on one grid and a fitted regressor → the responses that the tracker computes."""
    stack = LayerStack("resnet18", ("layer2", "layer3"), **options["resnet18"])
    config = FusedConfig(
        ((0.8, 0.0), (0.2, 1.0)), 8, "shrinkage", 10.0, 0.2, 1e-4, (1e-3, 4e-3), 5, 0.0, (1e-3, 4e-3), 1, 2, 0.01, 0
    )
    regressor = FusedRegressor(stack.sizes, (3, 2), config)
    with pytest.raises(ValueError, match="fitted"):
        regressor.composed()
    first, patches = noise(1, 3, 72, 64), noise(3, 3, 72, 64, seed=1)
    maps = stack(first)
    label = gaussian_map((maps.shape[2] - 2, maps.shape[3] - 1), torch.tensor([[3.0, 3.0]]), (1.0, 1.0))[0]
    regressor.fit(maps, label)
    call = run(FusedResponse(stack.module(), regressor), (patches[:2],), dynamic_shapes=[{0: Dim("t")}])
    truth = torch.stack([regressor.respond(regressor.spectra(one)) for one in stack(patches)])
    agree(call(patches), (truth,))


def test_modules_of_networks_are_what_the_features_are(options):
    """Other strides, neighbourhoods and taps before the ReLU, without a file."""
    patches = noise(2, 3, 64, 64)
    for build in ({"side": 3}, {"stride": 4}, {"stride": 16}):
        stack = LayerStack("resnet18", ("layer2", "layer3"), **build, **options["resnet18"])
        module = stack.module()
        assert CLOSE.admits(module(patches), stack(patches).double())
        assert isinstance(stack.taps[0], Tap)
        assert "resnet18" in repr(module)
        assert len(module.state_dict()) == 2 + 2 * 15
    bare = Backbone("vgg-m", ("conv2",), relu=False, **options["vgg-m"])
    (got,), (truth,) = bare.module()(patches), bare(patches)
    assert CLOSE.admits(got, truth.double())
    assert (truth < 0).any()
    assert not [p for p in bare.module().parameters() if p.requires_grad]


def test_an_op_without_a_formula_is_named(run):
    message = r"regression_loss: no ONNX export: it has no formula .*leave it outside.*known: conv_regression, "
    with pytest.raises(TransformError, match=message):
        run(nn.SquareLoss(), (torch.randn(3), torch.randn(3)))


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    pytest.importorskip("onnx")
    with pytest.raises(TransformError, match=r"onnxscript is not installed; pip install 'fasttrack\[onnx\]'"):
        export(nn.LRN(), (torch.randn(1, 5, 4, 4),))

"""Backbones: each network against an independent forward pass, the place of its cells, and its weights."""

import pytest
import torch
from made_weights import INPUT, made, noise
from torch.nn import functional as F

from fasttrack import ops
from fasttrack.errors import DtypeError, ShapeError, UnknownName, WeightsError
from fasttrack.vision.architectures import ARCHITECTURES
from fasttrack.vision.converters import import_weights, inspect_weights
from fasttrack.vision.features.backbone import Backbone
from fasttrack.vision.features.networks import NETWORKS

LAST = {
    "vgg16": "conv-13",
    "vgg16-pools": "conv-13",
    "vgg-m": "conv3",
    "resnet18": "layer3",
    "resnet50": "layer3",
    "squeezenet": "fire9",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of made weights per architecture, and its state dict."""
    folder = tmp_path_factory.mktemp("weights")
    out = {}
    for arch in ARCHITECTURES.values():
        state = made(arch)
        torch.save(state, folder / f"{arch.name}.pth")
        out[arch.name] = folder / f"{arch.name}.pth", state
    return out


def normalised(patches):
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (INPUT.mean, INPUT.std))
    return (patches.double() / 255 - mean) / std


def conv(state, key, x, **options):
    weight, bias = state[f"{key}.weight"].double(), state.get(f"{key}.bias")
    return F.conv2d(x, weight, None if bias is None else bias.double(), **options)


def norm(state, key, x):
    mean, var, weight, bias = (state[f"{key}.{n}"].double() for n in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def resnet(state, x, blocks, bottleneck):
    """conv1, layer1 … layer3 as the ResNet paper draws them, batch norm unfolded."""
    x = norm(state, "bn1", conv(state, "conv1", x, stride=2, padding=3)).relu()
    out = [x]
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            if bottleneck:
                y = norm(state, f"{at}.bn1", conv(state, f"{at}.conv1", x)).relu()
                y = norm(state, f"{at}.bn2", conv(state, f"{at}.conv2", y, stride=stride, padding=1)).relu()
                y = norm(state, f"{at}.bn3", conv(state, f"{at}.conv3", y))
            else:
                y = norm(state, f"{at}.bn1", conv(state, f"{at}.conv1", x, stride=stride, padding=1)).relu()
                y = norm(state, f"{at}.bn2", conv(state, f"{at}.conv2", y, padding=1))
            if f"{at}.downsample.0.weight" in state:
                x = norm(state, f"{at}.downsample.1", conv(state, f"{at}.downsample.0", x, stride=stride))
            x = (x + y).relu()
        out.append(x)
    return dict(zip(("conv1", "layer1", "layer2", "layer3"), out, strict=True))


def squeezenet(state, x):
    out = {}
    x = out["conv1"] = conv(state, "features.0", x, stride=2).relu()
    for number, index in enumerate((3, 4, 6, 7, 9, 10, 11, 12), start=2):
        if index in (3, 6, 9):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = conv(state, f"features.{index}.squeeze", x).relu()
        parts = [conv(state, f"features.{index}.expand{s}x{s}", x, padding=s // 2) for s in (1, 3)]
        x = out[f"fire{number}"] = torch.cat(parts, 1).relu()
    return out


def vgg_m(state, x):
    out = {}
    for i in (1, 2, 3):
        if i > 1:
            x = F.max_pool2d(F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0), 3, 2)
        x = out[f"conv{i}"] = conv(state, f"conv{i}", x, stride=2 if i < 3 else 1).relu()
    return out


def vgg16(state, x):
    out = {}
    for i, layer in enumerate(ARCHITECTURES["vgg16"].layers, start=1):
        if layer.name in ("conv2_1", "conv3_1", "conv4_1", "conv5_1"):
            x = F.max_pool2d(x, 2)
        x = out[f"conv-{i}"] = conv(state, layer.key, x, padding=1).relu()
    return out


TRUTHS = {
    "vgg16-pools": vgg16,
    "vgg-m": vgg_m,
    "resnet18": lambda state, x: resnet(state, x, (2, 2, 2), False),
    "resnet50": lambda state, x: resnet(state, x, (3, 4, 6), True),
    "squeezenet": squeezenet,
}


@pytest.mark.parametrize("name", TRUTHS)
def test_every_output_against_an_independent_forward_pass(name, files):
    path, state = files[NETWORKS[name].arch.name]
    backbone = Backbone(name, tuple(NETWORKS[name].taps()), weights=path, convention=INPUT, max_batch_px=107 * 75)
    patches = noise(2 if name == "resnet18" else 1, 3, 107, 75)
    truth = TRUTHS[name](state, normalised(patches))
    for tap, got in zip(backbone.taps, backbone(patches), strict=True):
        wanted = truth[tap.name]
        assert got.shape == wanted.shape and got.shape[1] == tap.channels and not got.requires_grad
        error = float((got - wanted).norm() / wanted.norm())
        assert error < 2e-5, (tap.name, error)
        assert float((got.roll(1, 2) - wanted).norm() / wanted.norm()) > 0.1  # the canary: one cell off
    for side, axis in ((107, 2), (75, 3)):
        assert backbone.cells(side) == tuple(truth[t.name].shape[axis] for t in backbone.taps)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cell_sees_the_pixels_that_its_tap_says(name, monkeypatch):
    """Positive weights and averages for maxima: the gradient of one cell lies on exactly its receptive field."""
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    monkeypatch.setattr(ops, "relu_lrn_maxpool", lambda x: F.avg_pool2d(x, 3, 2))
    net = NETWORKS[name]
    layers = [(torch.full((1, 1, *layer.shape[2:]), 0.1), torch.zeros(1)) for layer in net.arch.layers]
    for tap in net.taps().values():
        side = 2 * tap.receptive_field_px + 3 * tap.stride
        x = torch.ones(1, 1, side, side, requires_grad=True)
        # A fire module joins two maps: one channel each way is enough for the geometry.
        kernels = layers if name != "squeezenet" else _squeeze_layers(net)
        out = net.run(x, kernels, (tap.name,))[tap.name]
        assert out.shape[2] == net.cells(tap.name, side)
        k = out.shape[2] // 2
        (seen,) = torch.autograd.grad(out[0, 0, k, k] + (out[0, -1, k, k] if out.shape[1] > 1 else 0), x)
        columns = seen[0, 0].abs().sum(0).nonzero().flatten()
        left, right = int(columns[0]), int(columns[-1]) + 1
        assert right - left == tap.receptive_field_px, tap
        assert (left + right) / 2 == tap.offset_px + (k + 0.5) * tap.stride, tap


def _squeeze_layers(net):
    """conv1 to one channel; then squeeze 2 → 1 and two expands 1 → 1 (the first squeeze sees one channel)."""
    layers = []
    for i, layer in enumerate(net.arch.layers):
        inputs = 2 if "squeeze" in layer.name and i > 1 else 1
        layers.append((torch.full((1, inputs, *layer.shape[2:]), 0.1), torch.zeros(1)))
    return layers


def test_an_impulse_moves_with_the_cells(files):
    """A bright square moved by a whole number of strides moves the response by as many cells."""
    path, _ = files["resnet18"]
    backbone = Backbone("resnet18", ("layer2",), weights=path, convention=INPUT)
    tap = backbone.taps[0]
    still = torch.full((1, 3, 192, 192), 100.0)
    rows = []
    for at in (80, 80 + tap.stride, 80 + 3 * tap.stride):
        moved = still.clone()
        moved[:, :, 90:98, at : at + 8] = 250
        change = (backbone(moved)[0] - backbone(still)[0]).square().sum(1)[0]
        rows.append(change)
    assert torch.allclose(rows[0].roll(1, 1), rows[1], rtol=1e-3, atol=1e-3 * float(rows[0].max()))
    assert torch.allclose(rows[0].roll(3, 1), rows[2], rtol=1e-3, atol=1e-3 * float(rows[0].max()))
    assert not torch.allclose(rows[0], rows[1], rtol=1e-3, atol=1e-3 * float(rows[0].max()))


def test_import_folds_the_batch_norm_and_tells_relatives_apart(files, tmp_path):
    path, _ = files["resnet18"]
    arch = ARCHITECTURES["resnet18"]
    out = import_weights(path, arch, tmp_path / "resnet18.safetensors", INPUT, note="made")
    patches = noise(1, 3, 64, 64)
    direct = Backbone("resnet18", ("layer3",), weights=path, convention=INPUT)(patches)
    imported = Backbone("resnet18", ("layer3",), weights=out)
    assert torch.equal(imported(patches)[0], direct[0])
    assert imported.weights_note == "layer3: made"
    assert "resnet18 conv1 … layer3.1.conv2" in inspect_weights(out).line
    with pytest.raises(WeightsError, match=r"another network|wanted floats of shape"):
        Backbone("resnet18", ("layer1",), weights=files["resnet50"][0], convention=INPUT)
    with pytest.raises(WeightsError, match="conv1"):
        Backbone("vgg-m", ("conv1",), weights=path, convention=INPUT)


def test_a_broken_batch_norm_is_named(files, tmp_path):
    state = dict(files["resnet18"][1])
    state["layer1.0.bn2.running_var"] = torch.ones(3)
    torch.save(state, tmp_path / "r.pth")
    with pytest.raises(WeightsError, match=r"batch norm layer1\.0\.bn2: wanted four rows of 64"):
        Backbone("resnet18", ("layer1",), weights=tmp_path / "r.pth", convention=INPUT)


def test_wrong_input_and_missing_weights(files, monkeypatch, tmp_path):
    path, _ = files["vgg-m"]
    backbone = Backbone("vgg-m", ("conv1", "conv3"), weights=path, convention=INPUT)
    with pytest.raises(ShapeError, match="large enough for one cell of conv1, conv3"):
        backbone(noise(1, 3, 60, 107))
    with pytest.raises(ShapeError, match=r"\(T, 3, h, w\)"):
        backbone(noise(1, 1, 107, 107))
    with pytest.raises(DtypeError, match="float32"):
        backbone(noise(1, 3, 107, 107).double())
    with pytest.raises(UnknownName, match="conv9"):
        Backbone("vgg-m", ("conv9",), weights=path, convention=INPUT)
    with pytest.raises(UnknownName, match="network"):
        Backbone("alexnet", ("conv1",))
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"vgg-m \(conv1\) needs weights.*imagenet-vgg-m\.mat.*weights import"):
        Backbone("vgg-m", ("conv1",))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet", "vgg16"])
def test_the_weights_at_hand(name, data, monkeypatch):
    """Real weights: activations of natural scale that answer to the image."""
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(data / "weights"))
    output = {"resnet18": "layer3", "squeezenet": "fire9", "vgg16": "conv-7"}[name]
    backbone = Backbone(name, (output,))
    assert output in backbone.weights_note
    plain, noisy = backbone(torch.full((1, 3, 96, 96), 120.0))[0], backbone(noise(1, 3, 96, 96))[0]
    assert bool(plain.isfinite().all()) and float((noisy - plain).norm()) > 0.1 * float(plain.norm()) > 0

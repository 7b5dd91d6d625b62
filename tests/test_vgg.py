"""VGG-16 features: an independent forward pass, exact cell ↔ pixel geometry, PCA, what they need and refuse."""

import numpy as np
import pytest
import torch
from made_weights import block_mean, forward, made_tensors, noise, relative

from fasttrack.errors import ArgumentError, RangeError, ShapeError, WeightsError
from fasttrack.vision.architectures import CONVENTIONS, VGG16
from fasttrack.vision.converters import import_weights
from fasttrack.vision.features import Feature, VGG16Feature, create

DEPTH = 7
TOLERANCE = 4e-6  # float32 against float64, relative L2; worst seen 1.2e-6, at seven layers


@pytest.fixture(scope="module")
def tensors():
    return made_tensors(DEPTH)


@pytest.fixture(scope="module")
def vgg_file(tensors, tmp_path_factory):
    source = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save(tensors, source)
    return import_weights(source, VGG16, source.with_name("vgg16.safetensors"), CONVENTIONS["torchvision"], note="made")


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("relu", [True, False])
def test_vgg_against_an_independent_forward(vgg_file, tensors, depth, relu):
    patches = noise(2, 3, 22, 29)
    feature = VGG16Feature(depth, weights=vgg_file, stride=None, channels=None, relu=relu)
    got, wanted = feature(patches), forward(tensors, CONVENTIONS["torchvision"], depth, patches, relu)
    assert got.shape == wanted.shape
    assert relative(got, wanted) < TOLERANCE
    bgr = forward(tensors, CONVENTIONS["torchvision"], depth, patches.flip(1), relu)
    other = forward(tensors, CONVENTIONS["vgg"], depth, patches, relu)
    for wrong in (bgr, other, np.roll(wanted, 1, 3), np.zeros_like(wanted), wanted * 1.00001):
        assert relative(wrong, wanted) > 2 * TOLERANCE
    assert feature.stride == {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 7: 4}[depth]


@pytest.mark.parametrize(("depth", "factor"), [(2, 4), (4, 2), (7, 1)])
def test_every_depth_serves_cells_of_four_px(vgg_file, tensors, depth, factor):
    patches = noise(1, 3, 21, 30)
    feature = create(f"conv-{depth}", weights=vgg_file, channels=None)
    wanted = block_mean(forward(tensors, CONVENTIONS["torchvision"], depth, patches), factor)
    assert feature.stride == 4 and feature(patches).shape == (1, feature.channels, 5, 7)
    assert relative(feature(patches), wanted) < TOLERANCE
    if factor > 1:
        largest = create(f"conv-{depth}", weights=vgg_file, channels=None, pool="max")(patches)
        assert bool((largest >= feature(patches) - 1e-5).all())
        assert relative(largest, wanted) > 0.01


@pytest.mark.parametrize("depth", [2, 4, 7])
def test_the_receptive_field_lies_around_its_cell(tmp_path, depth):
    """All-positive weights: a cell depends on exactly the pixels of its receptive field."""
    weights = {k: v.abs() + 1e-3 for k, v in made_tensors(depth).items()}
    torch.save(weights, tmp_path / "w.pth")
    feature = VGG16Feature(depth, weights=tmp_path / "w.pth", convention=CONVENTIONS["vgg"], channels=None, pool="avg")
    size, row, col = 96, 11, 13
    flat = torch.full((1, 3, size, size), 200.0)
    base = feature(flat)[0, :, row, col]
    radius = (feature.receptive_field_px - feature.stride) // 2
    for axis, cell in ((2, row), (3, col)):
        first, last = cell * 4 - radius, (cell + 1) * 4 - 1 + radius
        for position, inside in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
            patch = flat.clone()
            patch.select(axis, position).fill_(255.0)
            # max-pools of a flat map pass any pixel of their block that grows
            assert bool((feature(patch)[0, :, row, col] != base).any()) == inside, (axis, position)


@pytest.mark.parametrize("depth", [2, 4, 7])
def test_an_impulse_moved_by_a_cell_moves_the_map_by_a_cell(vgg_file, depth):
    feature = create(f"conv-{depth}", weights=vgg_file, channels=None)
    flat = torch.full((1, 3, 96, 96), 120.0)

    def answer(y, x):
        patch = flat.clone()
        patch[0, :, y : y + 4, x : x + 4] = torch.tensor([250.0, 10.0, 90.0]).view(3, 1, 1)
        return (feature(patch) - feature(flat))[0]

    here, there = answer(40, 44), answer(44, 52)  # one cell down, two to the right
    assert torch.allclose(here[:, 8:14, 8:14], there[:, 9:15, 10:16], atol=1e-4 * float(here.abs().max()))
    assert not torch.allclose(here[:, 8:14, 8:14], there[:, 9:15, 9:15], atol=0.1 * float(here.abs().max()))
    assert divmod(int(here.square().sum(0).argmax()), 24) == (10, 11)  # the cell that the impulse fills


@pytest.mark.parametrize("depth", [2, 4, 7])
def test_padding_is_felt_within_border_cells_only(vgg_file, depth):
    feature = create(f"conv-{depth}", weights=vgg_file, channels=None)
    large = noise(1, 3, 128, 128)
    part = feature(large[:, :, 32:96, 32:96].contiguous())
    inner, b = feature(large)[:, :, 8:24, 8:24], feature.border_cells
    assert 0 < b < 8
    assert relative(part[:, :, b:-b, b:-b], inner[:, :, b:-b, b:-b]) < TOLERANCE
    assert relative(part[:, :, 0], inner[:, :, 0]) > 0.01


def test_vgg_with_pca(vgg_file):
    feature = create("conv-7", weights=vgg_file)
    patches = noise(2, 3, 40, 48)
    assert isinstance(feature, Feature)
    assert (feature.name, feature.channels, feature.needs_fit) == ("conv-7", 64, True)
    assert feature.weights_note == "conv-7: made"
    with pytest.raises(RangeError, match="conv-7: features must be fitted"):
        feature(patches)
    feature.fit(patches[:1])
    maps = feature(patches)
    assert maps.shape == (2, 64, 10, 12) and maps.is_contiguous()
    assert float(maps[0].mean((1, 2)).abs().max()) < 1e-3 * float(maps.abs().max())  # centred where it was fitted
    assert relative(maps[:1].square().mean().sqrt(), feature.typical_rms) < 1e-5
    plain = create("conv-7", weights=vgg_file, channels=None)(patches)
    assert torch.equal(feature.project(feature.backbone(patches)), maps)
    assert relative(feature.backbone(patches), plain) < TOLERANCE
    scaled = create("conv-7", weights=vgg_file, unit_rms=True)
    scaled.fit(patches[:1])
    assert scaled.typical_rms == pytest.approx(1.0)
    assert float(scaled(patches[:1]).square().mean()) == pytest.approx(1.0, rel=1e-4)


def test_vgg_fork_shares_the_network_and_not_the_fit(vgg_file):
    feature, patches = create("conv-4", weights=vgg_file), noise(2, 3, 32, 32)
    feature.fit(patches[:1])
    before = feature(patches)
    twin = feature.fork()
    with pytest.raises(RangeError, match="fitted"):
        twin(patches)
    twin.fit(patches[1:])
    assert not torch.equal(twin(patches), before)
    assert torch.equal(feature(patches), before)
    assert twin.backbone(patches).equal(feature.backbone(patches))


def test_vgg_in_parts_and_alone_gives_the_same(vgg_file):
    patches = noise(5, 3, 32, 40)
    whole = create("conv-7", weights=vgg_file, channels=None)(patches)
    parts = create("conv-7", weights=vgg_file, channels=None, max_batch_px=2 * 32 * 40)(patches)
    alone = torch.cat([create("conv-7", weights=vgg_file, channels=None)(patches[i : i + 1]) for i in range(5)])
    assert relative(parts, whole) < TOLERANCE
    assert relative(alone, whole) < TOLERANCE
    assert relative(whole.roll(1, 0), whole) > 0.1


@pytest.mark.parametrize("options", [{"channels": None}, {"channels": 8}, {"channels": None, "unit_rms": True}])
def test_features_can_be_learned_upon(vgg_file, options):
    feature, patches = create("conv-4", weights=vgg_file, **options), noise(1, 3, 16, 16)
    feature.fit(patches)
    maps = feature(patches)
    assert not maps.is_inference() and not maps.requires_grad
    weight = torch.ones(maps.shape[1], requires_grad=True)
    (maps * weight.view(1, -1, 1, 1)).square().sum().backward()
    assert weight.grad is not None and bool(weight.grad.isfinite().all())


def test_vgg_refuses(vgg_file):
    for options, message in (
        ({"stride": 3}, "multiple of the native 2 px"), ({"stride": 1}, "multiple of the native 2 px"),
        ({"channels": 0}, "channels must be at least 1"), ({"pool": "sum"}, "avg, max"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=message):
            create("conv-4", weights=vgg_file, **options)
    with pytest.raises(RangeError, match=r"depth must be 1\.\.13, got 14"):
        VGG16Feature(14, weights=vgg_file)
    feature = create("conv-4", weights=vgg_file)
    with pytest.raises(RangeError, match="NaN"):
        feature.fit(torch.full((1, 3, 32, 32), float("nan")))
    with pytest.raises(ShapeError, match="at least 4 px"):
        feature(noise(1, 3, 3, 9))


def test_vgg_says_what_to_put_where(vgg_file, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"conv-10 needs weights.*put vgg16\.safetensors into .*weights import"):
        create("conv-10")
    with pytest.raises(WeightsError, match=r"conv-7 needs.*put vgg16\.safetensors or vgg16_ssd300voc"):
        create("conv-7")
    (tmp_path / "vgg16.safetensors").write_bytes(vgg_file.read_bytes())
    assert create("conv-7").weights.path == tmp_path / "vgg16.safetensors"
    with pytest.raises(WeightsError, match=r"vgg16\.safetensors: layer conv4_1 .*missing"):
        create("conv-10")


def test_deep_layers_run_on_a_whole_network(tmp_path):
    tensors = made_tensors(13)
    torch.save(tensors, tmp_path / "vgg16-made.pth")
    patches = noise(1, 3, 16, 20)
    for depth in (10, 13):
        feature = create(f"conv-{depth}", weights=tmp_path / "vgg16-made.pth", convention=CONVENTIONS["vgg"])
        assert (feature.stride, feature.channels) == (4, 64)
        wanted = forward(tensors, CONVENTIONS["vgg"], depth, patches)
        assert wanted.shape == (1, 512, 4, 5)
        assert relative(feature.backbone(patches), wanted) < TOLERANCE


def real_patch(data):
    import cv2

    image = cv2.imread(str(data / "sequences" / "Human7" / "img" / "0001.jpg"))
    return torch.from_numpy(image[60:124, 90:178, ::-1].copy()).permute(2, 0, 1)[None].float().contiguous()


@pytest.mark.data
@pytest.mark.parametrize(
    ("depth", "convention", "note"), [(2, "vgg", "original"), (4, "vgg", "original"), (7, "torchvision", "stand-in")]
)
def test_given_weights(data, monkeypatch, depth, convention, note):
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(data / "weights"))
    feature, patch = create(f"conv-{depth}", channels=None, stride=None), real_patch(data)
    assert note in feature.weights_note
    assert feature.weights.convention == CONVENTIONS[convention]
    wanted = forward(feature.weights.tensors, CONVENTIONS[convention], depth, patch)
    assert relative(feature(patch), wanted) < TOLERANCE
    assert relative(forward(feature.weights.tensors, CONVENTIONS[convention], depth, patch.flip(1)), wanted) > 0.01
    reduced = create(f"conv-{depth}")
    reduced.fit(patch)
    assert reduced(patch).shape == (1, 64, 16, 22)
    # A trained network on a real image: the first components hold nearly all, the map is alive everywhere.
    assert float(reduced._pca.model.variances[:32].sum() / reduced._pca.model.variances.sum()) > 0.8
    assert bool((reduced(patch).abs().sum(1) > 0).all())

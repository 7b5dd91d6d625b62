"""Features without weights: hand-computed values, exact cell ↔ pixel geometry, one call for many patches."""

import numpy as np
import pytest
import torch
from made_weights import INPUT, made, noise, relative
from safetensors.torch import save_file

from fasttrack import ops
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError, UnknownName, WeightsError
from fasttrack.vision.architectures import VGG_M
from fasttrack.vision.features import Feature, create, list_features
from fasttrack.vision.features.color_names import TERMS, ColorNames, built_in_table, load_table

# --- registry and protocol -----------------------------------------------------------------------------------


def test_registry():
    own, of_networks = list_features()[:10], list_features()[10:]
    assert own == (
        "hog", "cn", "hog+cn", "rgb", "grey", "conv-2", "conv-4", "conv-7", "conv-10", "conv-13",
    )  # fmt: skip
    assert of_networks[:4] == ("vgg-m/conv1", "vgg-m/conv2", "vgg-m/conv3", "resnet18/conv1")
    assert of_networks[-1] == "squeezenet/fire9"
    with pytest.raises(UnknownName, match=r"one of hog, cn, .*conv-13, vgg-m/conv1, .*, got 'sift'"):
        create("sift")
    with pytest.raises(ArgumentError, match="option must be one of stride, table, color_gain, got 'gain'"):
        create("hog+cn", gain=2)
    with pytest.raises(ArgumentError, match=r"option must be one of weights, .*, got 'depth'"):
        create("conv-2", depth=3)


@pytest.mark.parametrize("name", ["hog", "cn", "hog+cn", "rgb"])
def test_features_without_weights_follow_the_protocol(name):
    feature = create(name)
    assert isinstance(feature, Feature)
    assert (feature.name, feature.stride, feature.needs_fit, feature.weights_note) == (name, 4, False, "")
    maps = feature(noise(2, 3, 31, 42))
    assert maps.shape == (2, feature.channels, 7, 10)
    assert maps.is_contiguous() and maps.dtype == torch.float32 and not maps.requires_grad
    feature.fit(noise(1, 3, 8, 8))
    assert feature.fork() is feature
    for wrong in (noise(3, 8, 8), noise(1, 1, 8, 8), noise(1, 3, 3, 8)):
        with pytest.raises(ShapeError, match="patches must be"):
            feature(wrong)
    with pytest.raises(DtypeError, match=r"float32.*float64"):
        feature(noise(1, 3, 8, 8).double())
    with pytest.raises(RangeError, match="stride must be at least 1 px, got 0"):
        create(name, stride=0)


@pytest.mark.parametrize("name", ["hog", "cn", "hog+cn", "rgb"])
def test_one_call_for_many_patches_equals_many_calls(name):
    feature, patches = create(name), noise(3, 3, 24, 32)
    together = feature(patches)
    assert torch.equal(together, torch.cat([feature(patches[i : i + 1]) for i in range(3)]))
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("name", ["cn", "rgb"])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_an_impulse_changes_its_own_cell_alone(name, stride):
    feature = create(name, stride=stride)
    flat = torch.full((1, 3, 25, 26), 128.0)
    for row, col in ((0, 0), (stride, 2 * stride - 1), (13, 14)):
        patch = flat.clone()
        patch[0, :, row, col] = torch.tensor([255.0, 0.0, 0.0])
        changed = (feature(patch) != feature(flat)).any(1)[0].nonzero().tolist()
        assert changed == [[row // stride, col // stride]]


# --- networks ------------------------------------------------------------------------------------------------


def test_an_output_of_a_network_comes_at_the_scale_of_hog(tmp_path):
    torch.save(made(VGG_M), tmp_path / "vgg-m.pth")
    options = {"weights": tmp_path / "vgg-m.pth", "convention": INPUT}
    feature, patches = create("vgg-m/conv1", **options), noise(2, 3, 63, 80)
    assert isinstance(feature, Feature) and feature.needs_fit and "vgg-m.pth" in feature.weights_note
    assert (feature.name, feature.stride, feature.channels) == ("vgg-m/conv1", 2, 96)
    raw = feature(patches)
    assert raw.shape == (2, 96, 31, 40)
    feature.fit(patches[:1])
    assert float(feature(patches[:1]).square().mean().sqrt()) == pytest.approx(feature.typical_rms, rel=1e-4)
    assert relative(feature(patches) / feature(patches).max(), raw / raw.max()) < 1e-5
    assert torch.equal(feature.fork()(patches), raw)  # not fitted
    assert create("vgg-m/conv1", stride=4, **options)(patches).shape == (2, 96, 15, 20)
    with pytest.raises(RangeError, match="rms must be a number > 0"):
        create("vgg-m/conv1", rms=0.0, **options)
    with pytest.raises(ArgumentError, match=r"option must be one of stride, rms, weights, .*, got 'gain'"):
        create("vgg-m/conv1", gain=2)


# --- colour --------------------------------------------------------------------------------------------------


def test_rgb_by_hand():
    patch = torch.zeros(1, 3, 4, 8)
    patch[0, 0, :, :4], patch[0, 1, 0, 4] = 255.0, 255.0
    maps = create("rgb")(patch)
    assert maps[0, :, 0, 0].tolist() == pytest.approx([0.5, -0.5, -0.5])
    assert maps[0, :, 0, 1].tolist() == pytest.approx([-0.5, 1 / 16 - 0.5, -0.5])


@pytest.mark.parametrize(
    ("rgb", "term"),
    [
        ((0, 0, 0), "black"), ((255, 255, 255), "white"), ((128, 128, 128), "grey"), ((255, 0, 0), "red"),
        ((0, 128, 0), "green"), ((0, 255, 0), "green"), ((0, 0, 255), "blue"), ((135, 206, 235), "blue"),
        ((255, 255, 0), "yellow"), ((255, 140, 0), "orange"), ((139, 69, 19), "brown"), ((128, 0, 128), "purple"),
        ((255, 105, 180), "pink"), ((255, 192, 203), "pink"), ((0, 100, 0), "green"), ((0, 0, 128), "blue"),
    ],
)  # fmt: skip
def test_color_terms(rgb, term):
    maps = create("cn")(torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 4, 4))
    assert TERMS[int(maps[0, :, 0, 0].argmax())] == term


def test_the_table_is_a_soft_assignment():
    table = built_in_table()
    assert table.shape == (32768, 11) and table.dtype == torch.float32
    assert torch.allclose(table.sum(1), torch.ones(32768), atol=1e-5)
    assert float(table.min()) >= 0
    assert set(table.argmax(1).tolist()) == set(range(11))
    # Neighbouring bins are 8 levels apart: shares move gently, nothing jumps.
    grid = table.view(32, 32, 32, 11)
    assert max(float(grid.diff(dim=d).abs().sum(-1).max()) for d in range(3)) < 0.8


def test_color_names_against_a_loop():
    patch = noise(1, 3, 9, 8)
    patch[0, :, 0, 0] = torch.tensor([-3.0, 300.0, 255.9])  # outside 0..255 counts as the nearest
    maps, table = create("cn")(patch)[0], built_in_table()
    pixels = patch[0].clamp(0, 255)
    wanted, swapped = torch.zeros(11, 2, 2, dtype=torch.float64), torch.zeros(11, 2, 2, dtype=torch.float64)
    for y in range(8):
        for x in range(8):
            r, g, b = (int(v) // 8 for v in pixels[:, y, x])
            wanted[:, y // 4, x // 4] += table[r + 32 * g + 1024 * b].double() / 16
            swapped[:, y // 4, x // 4] += table[b + 32 * g + 1024 * r].double() / 16
    assert relative(maps, wanted) < 1e-6
    for wrong in (swapped, torch.zeros_like(wanted), wanted.flip(1), wanted * 1.001):
        assert relative(wrong, wanted) > 1e-4


def test_a_table_of_the_users(tmp_path):
    from scipy.io import savemat

    table = noise(32768, 11).div(255)
    np.save(tmp_path / "w2c.npy", table.numpy())
    savemat(tmp_path / "w2c.mat", {"w2c": table.double().numpy(), "other": np.ones((2, 2))})
    save_file({"w2c": table}, tmp_path / "w2c.safetensors")
    for suffix in ("npy", "mat", "safetensors"):
        assert torch.equal(load_table(tmp_path / f"w2c.{suffix}"), table)
    feature = ColorNames(table=tmp_path / "w2c.mat")
    assert feature.weights_note == "Color Names table w2c.mat"
    patch = torch.full((1, 3, 4, 4), 9.0)
    assert torch.allclose(feature(patch)[0, :, 0, 0], table[1 + 32 + 1024])


def test_a_broken_table_is_named(tmp_path):
    np.save(tmp_path / "small.npy", np.ones((32768, 10)))
    with pytest.raises(WeightsError, match=r"small\.npy.*\(32768, 11\).*\(32768, 10\)"):
        load_table(tmp_path / "small.npy")
    np.save(tmp_path / "nan.npy", np.full((32768, 11), np.nan))
    with pytest.raises(WeightsError, match=r"nan\.npy.*NaN"):
        load_table(tmp_path / "nan.npy")
    for name in ("cut.npy", "cut.mat", "cut.safetensors", "gone.npy"):
        if name != "gone.npy":
            (tmp_path / name).write_bytes(b"\x93NUMPY not")
        with pytest.raises(WeightsError, match=f"{name}: truncated or not"):
            load_table(tmp_path / name)
    with pytest.raises(WeightsError, match="unknown kind of table"):
        load_table(tmp_path / "w2c.txt")


# --- hog -----------------------------------------------------------------------------------------------------


def test_hog_is_the_op():
    patches = noise(2, 3, 16, 24)
    assert torch.equal(create("hog")(patches), ops.hog(patches, cell_size=4))


def test_hog_and_color_side_by_side():
    patches = noise(2, 3, 16, 24)
    maps = create("hog+cn", color_gain=2.0)(patches)
    assert torch.equal(maps[:, :31], create("hog")(patches))
    assert torch.allclose(maps[:, 31:], (create("cn")(patches) - 1 / 11) * 2)


# --- scale ----------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("name", ["hog", "cn", "hog+cn", "rgb"])
def test_typical_rms_is_typical(data, name):
    import cv2

    feature, squares = create(name), []
    for folder in sorted((data / "sequences").iterdir()):
        image = cv2.resize(cv2.imread(str(min((folder / "img").glob("*.jpg")))), (200, 144))[:, :, ::-1]
        patch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().contiguous()
        squares.append(float(feature(patch).square().mean()))
    rms = float(np.mean(squares)) ** 0.5
    assert feature.typical_rms == pytest.approx(rms, rel=0.15)

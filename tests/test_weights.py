"""Weights files: every format gives the same network; broken and foreign ones are refused by name; nothing runs."""

import os
import pickle

import numpy as np
import pytest
import torch
from made_weights import KINDS, made_tensors, write
from safetensors.torch import save_file

from fasttrack.errors import WeightsError
from fasttrack.vision.architectures import CONVENTIONS, VGG16
from fasttrack.vision.converters import inspect_weights
from fasttrack.vision.weights import (
    file_sha256,
    find_weights,
    list_files,
    load_weights,
    search_folders,
)

COUNT = 5  # convolutions of the made network: both pools lie before the last one
VGG = CONVENTIONS["vgg"]


@pytest.fixture(scope="module")
def tensors():
    return made_tensors(COUNT)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_network(tmp_path, tensors, kind):
    loaded = load_weights(write(tmp_path, kind, tensors), VGG16, COUNT, VGG)
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name], tensor), name
    assert loaded.checksum == "unproved"


def test_the_blue_of_caffe_is_our_last_channel(tmp_path, tensors):
    path = write(tmp_path, "caffe", tensors)
    weight, _ = load_weights(path, VGG16, 1, VGG).layer(0)
    bgr = tensors["features.0.weight"].flip(1)
    assert not torch.equal(weight, bgr)
    assert torch.equal(weight, bgr.flip(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_named(tmp_path, tensors, kind):
    whole = write(tmp_path, kind, tensors).read_bytes()
    cut = tmp_path / f"cut{KINDS[kind]}"
    for keep in (0, 1, 9, 130, 700, len(whole) // 3, len(whole) - 400_000, len(whole) - 100):
        cut.write_bytes(whole[:keep])
        with pytest.raises(WeightsError, match=r"cut\.\w+"):
            load_weights(cut, VGG16, COUNT, VGG)


@pytest.mark.parametrize("suffix", sorted(set(KINDS.values())))
def test_foreign_bytes_are_named(tmp_path, suffix):
    path = tmp_path / f"noise{suffix}"
    rng = np.random.default_rng(0)
    for size in (20, 3000):
        path.write_bytes(rng.integers(0, 256, size, dtype=np.uint8).tobytes())
        with pytest.raises(WeightsError, match="noise"):
            load_weights(path, VGG16, COUNT, VGG)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "npz", "mat", "caffe", "caffe v1"])
def test_wrong_shape_missing_layer_and_nan_name_the_layer(tmp_path, tensors, kind):
    wrong = tensors | {"features.2.weight": tensors["features.2.weight"][:, :60].contiguous()}
    with pytest.raises(WeightsError, match=r"made.*conv1_2.*wanted floats of shape \(64, 64, 3, 3\).*\(64, 60, 3, 3\)"):
        load_weights(write(tmp_path, kind, wrong), VGG16, COUNT, VGG)
    wrong = {k: v for k, v in tensors.items() if not k.startswith("features.5.")}
    with pytest.raises(WeightsError, match=r"made.*conv2_1.*missing"):
        load_weights(write(tmp_path, kind, wrong), VGG16, COUNT, VGG)
    nan = tensors["features.7.bias"].clone()
    nan[3] = float("nan")
    with pytest.raises(WeightsError, match=r"made.*conv2_2.*bias.*NaN"):
        load_weights(write(tmp_path, kind, tensors | {"features.7.bias": nan}), VGG16, COUNT, VGG)


def test_more_layers_than_there_are(tmp_path, tensors):
    with pytest.raises(WeightsError, match=r"conv3_2 \(features.12.weight\): missing"):
        load_weights(write(tmp_path, "pth", tensors), VGG16, 6, VGG)


@pytest.mark.parametrize(
    "name", ["features.3.squeeze.weight", "features.16.weight", "features.1.weight", "conv3_4.weight"]
)
def test_a_relative_of_the_network_is_refused(tmp_path, tensors, name):
    path = tmp_path / "relative.safetensors"
    save_file(tensors | {name: torch.ones(64)}, path)
    with pytest.raises(WeightsError, match="another network"):
        load_weights(path, VGG16, 1, VGG)


def test_layers_of_other_kinds_are_left_out(tmp_path, tensors):
    path = tmp_path / "more.safetensors"
    save_file(tensors | {"classifier.0.weight": torch.ones(3), "conv6_1.weight": torch.ones(3)}, path)
    assert load_weights(path, VGG16, COUNT, VGG).tensors.keys() == tensors.keys()


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_code_does_not_run(tmp_path, tensors):
    trap = tmp_path / "trap"
    evil = Evil(str(trap))
    torch.save({**tensors, "features.0.weight": evil}, tmp_path / "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(evil, protocol=2))
    np.savez(tmp_path / "evil.npz", features=np.array([evil], dtype=object))
    for name in ("evil.pth", "evil.pt", "evil.npz"):
        with pytest.raises(WeightsError, match=name):
            load_weights(tmp_path / name, VGG16, COUNT, VGG)
    assert not trap.exists()
    pickle.loads((tmp_path / "evil.pt").read_bytes())  # the trap works where code may run
    assert trap.exists()


def test_matlab_73_says_how_to_save_anew(tmp_path):
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(WeightsError, match=r"new\.mat.*HDF5.*-v7"):
        load_weights(path, VGG16, COUNT, VGG)


def test_unknown_suffix_missing_file_and_not_a_state_dict(tmp_path):
    for name, message in (("w.h5", "unknown kind.*safetensors"), ("w.pth", "cannot be read")):
        with pytest.raises(WeightsError, match=message):
            load_weights(tmp_path / name, VGG16) if name == "w.pth" else load_weights(touched(tmp_path / name), VGG16)
    torch.save([torch.ones(3)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"state dict.*got list"):
        load_weights(tmp_path / "list.pth", VGG16)


def touched(path):
    path.write_bytes(b"x")
    return path


def test_checksums_are_checked(tmp_path, tensors):
    path = write(tmp_path, "safetensors", tensors)
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{file_sha256(path)}  {path.name}\n")
    assert load_weights(path, VGG16, COUNT, VGG).checksum == "SHA256SUMS"
    sums.write_text(f"{'0' * 64} *{path.name}\n")
    with pytest.raises(WeightsError, match="damaged or replaced: SHA256SUMS wants 000"):
        load_weights(path, VGG16, COUNT, VGG)


def test_search_order(tmp_path, monkeypatch):
    named, cache = tmp_path / "named", tmp_path / "cache" / "fasttrack" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTTRACK_WEIGHTS", raising=False)
    assert search_folders() == (cache,)
    with pytest.raises(WeightsError, match=r"x needs weights.*put a\.pth or b\.pth into .*cache.*FASTTRACK_WEIGHTS"):
        find_weights(["a.pth", "b.pth"], "x")
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(named))
    assert search_folders() == (named, cache)
    for folder in (named, cache):
        folder.mkdir(parents=True)
        (folder / "b.pth").touch()
    (cache / "a.pth").touch()
    assert find_weights(["a.pth", "b.pth"], "x") == cache / "a.pth"
    assert find_weights(["b.pth"], "x") == named / "b.pth"
    (cache / "notes.txt").touch()
    assert [p.name for p in list_files(cache)] == ["a.pth", "b.pth"]
    assert list_files(tmp_path / "nowhere") == []


def test_the_given_files_are_what_they_say(data):
    reports = {p.name: inspect_weights(p) for p in list_files(data / "weights")}
    for name, count in (("vgg16_conv1_1-conv2_2", 4), ("vgg16_ssd300voc_conv1_1-conv3_3", 7)):
        weights = reports[f"{name}.safetensors"].weights
        assert weights is not None and len(weights.layers) == count
        assert weights.checksum == "known file, SHA256SUMS"
    assert "stand-in" in reports["vgg16_ssd300voc_conv1_1-conv3_3.safetensors"].weights.note
    assert len(reports["squeezenet1_1.safetensors"].weights.layers) == 25
    assert len(reports["resnet18_conv1-layer3.safetensors"].weights.layers) == 15
    with pytest.raises(WeightsError, match="wanted weights of vgg16, got squeezenet1_1"):
        load_weights(data / "weights" / "squeezenet1_1.safetensors", VGG16)

"""Weights files: every format gives the same network; broken and foreign ones are refused by name; nothing runs."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from made_weights import by_layer, caffemodel, made_tensors, save_mat
from safetensors import safe_open
from safetensors.torch import save_file

from fasttrack.errors import FasttrackError, OutputError, RangeError, UnknownName, WeightsError
from fasttrack.vision.architectures import CONVENTIONS, KNOWN_FILES, VGG16, InputConvention, architecture
from fasttrack.vision.converters import import_weights, inspect_weights
from fasttrack.vision.weights import (
    file_sha256,
    find_weights,
    list_files,
    load_weights,
    save_weights,
    search_folders,
)

COUNT = 5  # convolutions of the made network: both pools lie before the last one
VGG = CONVENTIONS["vgg"]


@pytest.fixture(scope="module")
def tensors():
    return made_tensors(COUNT)


def write(path, kind, tensors):
    """One made file; ``kind`` is a format and a flavour of it."""
    path = path / f"made-{kind.replace(' ', '-')}{KINDS[kind]}"
    if kind == "safetensors":
        save_file(tensors, path)
    elif kind == "pth":
        torch.save(tensors, path)
    elif kind == "pth old":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif kind == "pth wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, path)
    elif kind == "npz":
        np.savez(path, **{k: v.numpy() for k, v in tensors.items()})
    elif kind == "npz tensorflow":
        arrays = {}
        for name, weight, bias in by_layer(tensors):
            arrays |= {f"{name}_W": weight.transpose(2, 3, 1, 0), f"{name}_b": bias}
        np.savez_compressed(path, **arrays)
    elif kind.startswith("mat"):
        save_mat(path, tensors, old=kind == "mat old", compressed=kind == "mat compressed")
    else:
        options = {"v1": "v1" in kind, "packed": "unpacked" not in kind, "double": "double" in kind}
        path.write_bytes(caffemodel(tensors, **options))
    return path


KINDS = {
    "safetensors": ".safetensors", "pth": ".pth", "pth old": ".pth", "pth wrapped": ".pt", "npz": ".npz",
    "npz tensorflow": ".npz", "mat": ".mat", "mat old": ".mat", "mat compressed": ".mat", "caffe": ".caffemodel",
    "caffe v1": ".caffemodel", "caffe unpacked": ".caffemodel", "caffe double": ".caffemodel",
}  # fmt: skip


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


def test_an_imported_file_proves_itself(tmp_path, tensors):
    out = import_weights(write(tmp_path, "caffe", tensors), VGG16, tmp_path / "vgg16.safetensors", VGG, "CC BY 4.0")
    loaded = load_weights(out, VGG16, COUNT)
    assert (loaded.checksum, loaded.convention) == ("own digest", VGG)
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["fasttrack.licence"] == "CC BY 4.0"
    assert metadata["fasttrack.source_format"] == "caffemodel"
    assert metadata["fasttrack.source_sha256"] == file_sha256(tmp_path / "made-caffe.caffemodel")
    damaged = tensors | {"features.0.bias": tensors["features.0.bias"] * 1.0001}
    save_file(damaged, out, metadata=metadata)
    with pytest.raises(WeightsError, match="own digest"):
        load_weights(out, VGG16, COUNT)


def test_one_network_imported_from_three_formats_is_one_file(tmp_path, tensors):
    digests = set()
    for kind in ("pth", "mat", "caffe v1"):
        out = import_weights(write(tmp_path, kind, tensors), VGG16, tmp_path / f"{kind}.safetensors", VGG)
        with safe_open(out, "pt") as file:
            digests.add(file.metadata()["fasttrack.tensors_sha256"])
    assert len(digests) == 1


def test_the_input_convention_is_never_guessed(tmp_path, tensors):
    path = write(tmp_path, "caffe", tensors)
    with pytest.raises(WeightsError, match=r"made-caffe.*does not say what input.*--input"):
        load_weights(path, VGG16, COUNT)
    with pytest.raises(WeightsError, match="does not say what input"):
        import_weights(path, VGG16, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("kind", ["mat", "mat old"])
def test_matconvnet_says_its_mean(tmp_path, tensors, kind):
    convention = load_weights(write(tmp_path, kind, tensors), VGG16, COUNT).convention
    assert convention.mean == pytest.approx(VGG.mean, abs=1e-9)
    assert (convention.scale, convention.std) == (1.0, (1.0, 1.0, 1.0))


def test_import_refuses_to_overwrite_and_leaves_no_parts(tmp_path, tensors, monkeypatch):
    source, out = write(tmp_path, "pth", tensors), tmp_path / "deep" / "vgg16.safetensors"
    import_weights(source, VGG16, out, VGG)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        import_weights(source, VGG16, out, CONVENTIONS["torchvision"])
    assert out.read_bytes() == before
    import_weights(source, VGG16, out, CONVENTIONS["torchvision"], overwrite=True)
    assert load_weights(out, VGG16, COUNT).convention == CONVENTIONS["torchvision"]

    def full(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("fasttrack.vision.weights.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save_weights(out, tensors, {}, overwrite=True)
    assert [p.name for p in out.parent.iterdir()] == ["vgg16.safetensors"]
    with pytest.raises(OutputError, match=r"written as \.safetensors"):
        save_weights(tmp_path / "x.pth", tensors, {}, overwrite=True)


def test_import_of_a_chain_with_a_hole(tmp_path, tensors):
    holed = {k: v for k, v in tensors.items() if not k.startswith("features.2.")}
    with pytest.raises(WeightsError, match=r"conv1_2 \(features\.2\.weight\): missing"):
        import_weights(write(tmp_path, "pth", holed), VGG16, tmp_path / "o.safetensors", VGG)
    torch.save({"other": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no layer of vgg16"):
        import_weights(tmp_path / "other.pth", VGG16, tmp_path / "o.safetensors", VGG)


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


def test_conventions():
    gain, offset = CONVENTIONS["torchvision"].affine()
    assert [100 * g + o for g, o in zip(gain, offset, strict=True)] == pytest.approx(
        [(100 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (100 / 255 - 0.406) / 0.225]
    )
    for name, convention in CONVENTIONS.items():
        assert InputConvention.parse(name) == convention
        assert InputConvention.parse(convention.to_json()) == convention
    with pytest.raises(UnknownName, match="vgg, torchvision"):
        InputConvention.parse("bgr")
    good = json.loads(VGG.to_json())
    for change in ({"order": "BGR"}, {"mean": [1, 2]}, {"std": [0, 1, 1]}, {"scale": float("nan")}, {"mean": "x"}):
        with pytest.raises(RangeError, match="InputConvention"):
            InputConvention.parse(json.dumps(good | change))
    with pytest.raises(UnknownName, match="vgg16"):
        architecture("vgg19")
    assert all(known.convention in CONVENTIONS for known in KNOWN_FILES)


def test_vgg16_is_configuration_d():
    assert [layer.shape[:2] for layer in VGG16.layers] == [
        (64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256),
        (512, 256), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512),
    ]  # fmt: skip
    keys = [int(layer.key.split(".")[1]) for layer in VGG16.layers]
    assert keys == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [layer.name for layer in VGG16.layers][9:] == ["conv4_3", "conv5_1", "conv5_2", "conv5_3"]


def run(*words):
    """Exit code of ``fasttrack weights …`` through its own parser."""
    import argparse

    from fasttrack.cli.weights import add_parser

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="command"))
    args = parser.parse_args(["weights", *map(str, words)])
    return args.run(args)


def test_commands(tmp_path, tensors, monkeypatch, capsys):
    folder = tmp_path / "weights"
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = write(tmp_path, "mat", tensors)
    assert run("import", source, "--arch", "vgg16", "--licence", "made", "--note", "made net") == 0
    out = folder / "vgg16.safetensors"
    assert f"written: {out}" in capsys.readouterr().out
    (folder / "broken.pth").write_bytes(b"nothing")
    assert run("list") == 0
    text = capsys.readouterr().out
    assert "vgg16 conv-1 … conv-5" in text and "checksum: own digest; made net" in text
    assert "broken.pth: not usable: truncated" in text and "no such folder" in text
    assert run("verify", out) == 0
    assert "conv3_1  256×128×3×3" in capsys.readouterr().out
    assert run("verify", folder / "broken.pth") == 1
    with pytest.raises(FasttrackError, match="is there already"):
        run("import", source, "--arch", "vgg16")


def test_the_given_files_are_what_they_say(data):
    reports = {p.name: inspect_weights(p) for p in list_files(data / "weights")}
    for name, count in (("vgg16_conv1_1-conv2_2", 4), ("vgg16_ssd300voc_conv1_1-conv3_3", 7)):
        weights = reports[f"{name}.safetensors"].weights
        assert weights is not None and len(weights.layers) == count
        assert weights.checksum == "known file, SHA256SUMS"
    assert "stand-in" in reports["vgg16_ssd300voc_conv1_1-conv3_3.safetensors"].weights.note
    assert "got squeezenet1_1" in reports["squeezenet1_1.safetensors"].problem
    assert "got resnet18" in reports["resnet18_conv1-layer3.safetensors"].problem

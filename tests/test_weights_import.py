"""Import of weights: what is written, what is refused, input conventions, and the commands."""

import json

import pytest
import torch
from made_weights import made_tensors, write
from safetensors import safe_open
from safetensors.torch import save_file

from fasttrack.errors import FasttrackError, OutputError, RangeError, UnknownName, WeightsError
from fasttrack.vision.architectures import CONVENTIONS, KNOWN_FILES, VGG16, InputConvention, architecture
from fasttrack.vision.converters import import_weights
from fasttrack.vision.weights import file_sha256, load_weights, save_weights

COUNT = 5  # convolutions of the made network: both pools lie before the last one
VGG = CONVENTIONS["vgg"]


@pytest.fixture(scope="module")
def tensors():
    return made_tensors(COUNT)


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
    assert "vgg16 conv1_1 … conv3_1" in text and "checksum: own digest; made net" in text
    assert "broken.pth: not usable: truncated" in text and "no such folder" in text
    assert run("verify", out) == 0
    assert "conv3_1  256×128×3×3" in capsys.readouterr().out
    assert run("verify", folder / "broken.pth") == 1
    with pytest.raises(FasttrackError, match="is there already"):
        run("import", source, "--arch", "vgg16")

"""Files of DCFST's learnt parts: what is written and refused, the import of the authors' checkpoints, the commands."""

import types

import pytest
import torch
from made_weights import made
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_weights_import import run

from fasttrack.errors import OutputError, UnknownName, WeightsError
from fasttrack.models import IoUNet, PooledHead, load_head, open_head
from fasttrack.models.dcfst_checkpoint import import_checkpoint
from fasttrack.models.dcfst_weights import BINS, TAPS, parts_of, save_head
from fasttrack.vision.architectures import RESNET18, RESNET50
from fasttrack.vision.features import Backbone
from fasttrack.vision.features.networks import NETWORKS


def taps(backbone="resnet18"):
    return [NETWORKS[backbone].tap(name) for name in TAPS]


@pytest.fixture(scope="module")
def modules():
    torch.manual_seed(0)
    head, refine = PooledHead(taps()), IoUNet(taps())
    for module in (head, refine):
        for name, value in module.state_dict().items():
            if name.endswith(("running_mean", "norm.bias")):
                value.normal_(std=0.1)
    return head, refine


@pytest.fixture(scope="module")
def file(modules, tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "made.safetensors"
    save_head(path, "resnet18", parts_of(*modules), {"fasttrack.note": "made head"})
    return path


def test_a_file_gives_back_what_was_saved(file, modules, monkeypatch):
    opened = open_head(file)
    assert (opened.backbone, opened.note, opened.refines, opened.backbone_file) == ("resnet18", "made head", True, None)
    before = torch.get_rng_state()
    head, refine = load_head(opened, taps())
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
    for own, want in ((head, modules[0]), (refine, modules[1])):
        assert not own.training and not any(p.requires_grad for p in own.parameters())
        for (name, got), value in zip(own.state_dict().items(), want.state_dict().values(), strict=True):
            assert name.endswith("num_batches_tracked") or torch.equal(got, value), name
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(file.parent))
    assert open_head("made").path == file
    with pytest.raises(WeightsError, match=r"head of DCFST needs weights.*other\.safetensors.*weights import"):
        open_head("other")


def test_a_head_without_iou_net_and_the_deeper_one(tmp_path):
    save_head(tmp_path / "alone.safetensors", "resnet18", parts_of(PooledHead(taps()), None))
    assert load_head(open_head(tmp_path / "alone.safetensors"), taps())[1] is None
    deep = PooledHead(taps("resnet50"), blocks=4)
    save_head(tmp_path / "deep.safetensors", "resnet50", parts_of(deep, None))
    head, _ = load_head(open_head(tmp_path / "deep.safetensors"), taps("resnet50"))
    assert [len(convs) for convs in head.convs] == [4, 4]
    with pytest.raises(WeightsError, match=r"head of a DCFST on resnet50; the backbone here gives layer2 of 128"):
        load_head(open_head(tmp_path / "deep.safetensors"), taps())


def test_broken_files_are_refused_with_the_layer(file, modules, tmp_path):
    tensors = parts_of(*modules)
    bad = tmp_path / "bad.safetensors"

    def refused(changed, match):
        with pytest.raises(WeightsError, match=match):
            save_head(bad, "resnet18", changed)
        with safe_open(file, "pt") as whole:
            metadata = dict(whole.metadata())
        from fasttrack.vision.weights import tensors_sha256

        metadata["fasttrack.tensors_sha256"] = tensors_sha256(changed)
        save_file(changed, bad, metadata)
        with pytest.raises(WeightsError, match=match):
            load_head(open_head(bad), taps())

    name = "head.linear.1.weight"
    refused({k: v for k, v in tensors.items() if k != name}, r"layer head\.linear\.1\.weight: missing")
    refused(
        tensors | {name: tensors[name][:, :9].contiguous()}, r"head\.linear\.1\.weight: wanted floats.*\(512, 4096\)"
    )
    refused(tensors | {name: tensors[name] * float("nan")}, r"head\.linear\.1\.weight: holds NaN")
    refused(tensors | {name: tensors[name].int()}, r"head\.linear\.1\.weight: wanted floats")
    refused(tensors | {"refine.iou.weight2": torch.ones(1)}, r"refine\.iou\.weight2: not of this network")
    variance = "refine.linear.0.norm.running_var"
    refused(tensors | {variance: -tensors[variance]}, r"running_var: wanted variances")
    with pytest.raises(WeightsError, match=r"head\.linear\.0\.weight: wanted floats.*\(512, 2048\)"):
        load_head(open_head(file), taps(), [(4, 4), (4, 4)])
    assert BINS == ((8, 8), (4, 4))


def test_truncated_altered_and_foreign_files(file, modules, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"cut\.safetensors: truncated"):
        open_head(cut)
    with safe_open(file, "pt") as whole:
        metadata = dict(whole.metadata())
    tensors = load_file(file)
    save_file(tensors | {"refine.iou.bias": tensors["refine.iou.bias"] + 1}, cut, metadata)
    with pytest.raises(WeightsError, match="own digest"):
        open_head(cut)
    save_file(tensors, cut)
    with pytest.raises(WeightsError, match=r"wanted the head of a DCFST.*says nothing"):
        open_head(cut)
    with pytest.raises(WeightsError, match="no such file"):
        open_head(tmp_path / "none.safetensors")
    with pytest.raises(OutputError, match="is there already"):
        save_head(file, "resnet18", parts_of(*modules))


# --- the authors' checkpoints ---------------------------------------------------------------------

# Ours → theirs, written out by hand from their public code.
NAMES = {
    "head.convs.0.0.conv": "location_predictor.conv3_1.0", "head.convs.0.0.norm": "location_predictor.conv3_1.1",
    "head.convs.0.1.conv": "location_predictor.conv3_2.0", "head.convs.0.1.norm": "location_predictor.conv3_2.1",
    "head.convs.1.0.conv": "location_predictor.conv4_1.0", "head.convs.1.0.norm": "location_predictor.conv4_1.1",
    "head.convs.1.1.conv": "location_predictor.conv4_2.0", "head.convs.1.1.norm": "location_predictor.conv4_2.1",
    "head.linear.0": "location_predictor.fc3.linear", "head.linear.1": "location_predictor.fc4.linear",
    "refine.test.0.0.conv": "bb_regressor.conv3_1t.0", "refine.test.0.0.norm": "bb_regressor.conv3_1t.1",
    "refine.test.0.1.conv": "bb_regressor.conv3_2t.0", "refine.test.0.1.norm": "bb_regressor.conv3_2t.1",
    "refine.test.1.0.conv": "bb_regressor.conv4_1t.0", "refine.test.1.0.norm": "bb_regressor.conv4_1t.1",
    "refine.test.1.1.conv": "bb_regressor.conv4_2t.0", "refine.test.1.1.norm": "bb_regressor.conv4_2t.1",
    "refine.reference.0.conv": "bb_regressor.conv3_1r.0", "refine.reference.0.norm": "bb_regressor.conv3_1r.1",
    "refine.reference.1.conv": "bb_regressor.conv4_1r.0", "refine.reference.1.norm": "bb_regressor.conv4_1r.1",
    "refine.reference_shallow.conv": "bb_regressor.fc3_1r.0", "refine.reference_shallow.norm": "bb_regressor.fc3_1r.1",
    "refine.factors.0.conv": "bb_regressor.fc34_3r.0", "refine.factors.0.norm": "bb_regressor.fc34_3r.1",
    "refine.factors.1.conv": "bb_regressor.fc34_4r.0", "refine.factors.1.norm": "bb_regressor.fc34_4r.1",
    "refine.linear.0.linear": "bb_regressor.fc3_rt.linear", "refine.linear.0.norm": "bb_regressor.fc3_rt.bn",
    "refine.linear.1.linear": "bb_regressor.fc4_rt.linear", "refine.linear.1.norm": "bb_regressor.fc4_rt.bn",
    "refine.iou": "bb_regressor.iou_predictor",
}  # fmt: skip


def theirs(tensors):
    """The tensors of a head's file under the names of a checkpoint, with the counters of training."""
    out = {}
    for name, value in tensors.items():
        stem, _, part = name.rpartition(".")
        out[f"{NAMES[stem]}.{part}"] = value
        if part == "running_var":
            out[f"{NAMES[stem]}.num_batches_tracked"] = torch.tensor(7)
    return out


def checkpoint(path, net, **extra):
    """A file as the authors' trainer writes it, with the objects of its framework."""
    import sys

    package = {name: types.ModuleType(name) for name in ("ltr", "ltr.admin", "ltr.admin.settings", "ltr.admin.stats")}
    settings = type("Settings", (), {"__module__": "ltr.admin.settings"})
    meter = type("AverageMeter", (), {"__module__": "ltr.admin.stats"})
    package["ltr.admin.settings"].Settings, package["ltr.admin.stats"].AverageMeter = settings, meter
    one, other = settings(), meter()
    one.batch_size, other.history = 48, [1.0]
    content = {
        "epoch": 40,
        "net_type": "SBDTNet",
        "net": net,
        "constructor": None,
        "settings": one,
        "stats": {"x": other},
    }
    sys.modules.update(package)
    try:
        torch.save(content | extra, path, _use_new_zipfile_serialization=False)  # theirs is torch 0.4's format
    finally:
        for name in package:
            del sys.modules[name]
    return path


@pytest.fixture(scope="module")
def network():
    """A made ResNet-18 under the names of a checkpoint, with layers behind those that are used."""
    state = {f"feature_extractor.{k}": v for k, v in made(RESNET18).items()}
    return state | {
        "feature_extractor.fc.weight": torch.ones(2, 2),
        "feature_extractor.layer4.0.conv1.weight": torch.ones(1),
    }


def test_a_checkpoint_becomes_a_head_and_its_backbone(modules, network, tmp_path):
    tensors = parts_of(*modules)
    source = checkpoint(tmp_path / "DCFST-18.pth.tar", theirs(tensors) | network)
    head, backbone = import_checkpoint(source, "resnet18", tmp_path / "dcfst.safetensors", licence="made")
    opened = open_head(head)
    assert opened.tensors.keys() == tensors.keys()
    assert all(torch.equal(opened.tensors[name], value) for name, value in tensors.items())
    assert opened.backbone_file == backbone and "DCFST-18.pth.tar" in opened.note
    assert opened.metadata["fasttrack.licence"] == "made"
    torch.save(made(RESNET18), tmp_path / "plain.pth")
    patch = torch.rand(1, 3, 64, 64) * 255
    imported = Backbone("resnet18", TAPS, weights=backbone)
    plain = Backbone("resnet18", TAPS, weights=tmp_path / "plain.pth", convention=imported.weights.convention)
    for got, want in zip(imported(patch), plain(patch), strict=True):
        assert torch.equal(got, want)
    with pytest.raises(OutputError, match="is there already"):
        import_checkpoint(source, "resnet18", head)
    assert import_checkpoint(source, "resnet18", head, overwrite=True) == [head, backbone]


def test_wrong_checkpoints_are_refused(modules, network, tmp_path):
    tensors = theirs(parts_of(*modules))

    def refused(net, match, **extra):
        source = checkpoint(tmp_path / "bad.pth", net, **extra)
        with pytest.raises(WeightsError, match=match):
            import_checkpoint(source, "resnet18", tmp_path / "out.safetensors")
        assert not list(tmp_path.glob("out*"))

    fc = "location_predictor.fc3.linear.weight"
    refused({k: v for k, v in tensors.items() if k != fc}, r"layer head\.linear\.0\.weight: missing")
    refused(tensors | {fc: tensors[fc][:5]}, r"head\.linear\.0\.weight: wanted floats of shape \(512, 8192\)")
    refused(
        tensors | {"location_predictor.conv5_1.0.weight": torch.ones(1)}, r"location_predictor\.conv5_1.*not of this"
    )
    holed = {k: v for k, v in network.items() if "layer2.1.conv1" not in k}
    refused(tensors | holed, r"layer2\.1\.conv1")
    source = checkpoint(tmp_path / "bad.pth", tensors)
    source.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"bad\.pth: truncated"):
        import_checkpoint(source, "resnet18", tmp_path / "out.safetensors")
    torch.save({"state_dict": tensors}, source)
    with pytest.raises(WeightsError, match=r"entry 'net'.*state_dict"):
        import_checkpoint(source, "resnet18", tmp_path / "out.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        import_checkpoint(tmp_path / "none.pth", "resnet18", tmp_path / "out.safetensors")


class _Harm:
    """Would run a command when a pickle of it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_run(modules, tmp_path):
    source, mark = tmp_path / "evil.pth", tmp_path / "was-run"
    torch.save({"net": theirs(parts_of(*modules)), "constructor": _Harm(mark)}, source)
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        import_checkpoint(source, "resnet18", tmp_path / "out.safetensors")
    assert not mark.exists()
    torch.load(source, weights_only=False)
    assert mark.exists()  # canary: the file is harmful


def test_commands(modules, network, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "weights"
    monkeypatch.setenv("FASTTRACK_WEIGHTS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = checkpoint(tmp_path / "DCFST-18.pth", theirs(parts_of(*modules)) | network)
    assert run("import", source, "--arch", "dcfst-resnet18", "--note", "made head") == 0
    head = folder / "dcfst-resnet18.safetensors"
    text = capsys.readouterr().out
    assert f"written: {head}" in text and "locator head and IoU-net" in text
    assert "on the backbone of dcfst-resnet18-backbone.safetensors" in text
    assert run("verify", head) == 0 and "made head" in capsys.readouterr().out
    tensors = load_file(head)
    save_file(tensors, folder / "cut.safetensors", {"fasttrack.arch": "dcfst-resnet18"})
    assert run("list") == 0
    text = capsys.readouterr().out
    assert "resnet18 conv1 … layer3.1.conv2" in text and "cut.safetensors: not usable: damaged" in text
    with pytest.raises(UnknownName, match="dcfst-resnet50"):
        run("import", source, "--arch", "dcfst-vgg16")
    with pytest.raises(OutputError, match="is there already"):
        run("import", source, "--arch", "dcfst-resnet18")


def test_the_backbone_of_a_deeper_checkpoint(tmp_path):
    head = PooledHead(taps("resnet50"), blocks=4)
    tensors = {}
    for name, value in parts_of(head, None).items():
        _, kind, index, rest = name.split(".", 3)
        if kind == "linear":
            tensors[f"location_predictor.fc{int(index) + 3}.linear.{rest}"] = value
        else:
            block, layer, part = rest.split(".")
            where = f"location_predictor.conv{int(index) + 3}_{int(block) + 1}"
            tensors[f"{where}.{('conv', 'norm').index(layer)}.{part}"] = value
    network = {f"feature_extractor.{k}": v for k, v in made(RESNET50).items()}
    source = checkpoint(tmp_path / "DCFST-50.pth", tensors | network)
    written = import_checkpoint(source, "resnet50", tmp_path / "deep.safetensors")
    own, refine = load_head(open_head(written[0]), Backbone("resnet50", TAPS, weights=written[1]).taps)
    assert refine is None and len(own.convs[0]) == 4

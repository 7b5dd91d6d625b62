"""``fasttrack weights list | import | verify``: network weights, where they lie and whether they are whole."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the real imports load torch, which `fasttrack --help` need not wait for
    from argparse import ArgumentParser, Namespace, _SubParsersAction

__all__ = ["add_parser"]

_EPILOG = """examples:
  fasttrack weights list
  fasttrack weights import vgg16-397923af.pth --arch vgg16
  fasttrack weights import VGG_ILSVRC_16_layers.caffemodel --arch vgg16 --input vgg
  fasttrack weights import DCFST-18.pth --arch dcfst-resnet18
  fasttrack weights verify ~/.cache/fasttrack/weights/vgg16.safetensors

Nothing is ever fetched: files come from you. They are looked for in the folder FASTTRACK_WEIGHTS, then in
$XDG_CACHE_HOME/fasttrack/weights (by default ~/.cache/fasttrack/weights)."""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add ``weights`` and its three commands; each sets ``run``, a function of the parsed arguments → exit code."""
    parser = subparsers.add_parser(
        "weights", help="list, import and verify network weights", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="weights_command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="what lies in the search folders, and whether it is whole")
    listing.set_defaults(run=_list)
    importing = commands.add_parser("import", help="turn a .pth, .npz, .mat or .caffemodel into safetensors")
    importing.add_argument("source", type=Path, metavar="SRC", help="file to import")
    importing.add_argument(
        "--arch",
        required=True,
        help="network of the file: vgg16, vgg-m, resnet18, resnet50, squeezenet1_1; dcfst-resnet18, dcfst-resnet50 "
        "for the checkpoints of DCFST's authors",
    )
    importing.add_argument("--out", type=Path, help="file to write (default: <arch>.safetensors in the first folder)")
    importing.add_argument(
        "--input",
        metavar="NAME|JSON",
        help="what the network wants to see, where the file does not say: torchvision (RGB/255 with ImageNet "
        "mean and std), vgg (0-255 minus 123.68, 116.779, 103.939), or JSON with order, scale, mean, std",
    )
    importing.add_argument("--licence", default="", help="licence of the weights, kept in the file")
    importing.add_argument("--note", default="", help="what the weights are, printed beside results made with them")
    importing.add_argument("--force", action="store_true", help="replace the output where it is there")
    importing.set_defaults(run=_import)
    verifying = commands.add_parser("verify", help="check layers, shapes, values and checksum of one file")
    verifying.add_argument("file", type=Path, metavar="FILE")
    verifying.set_defaults(run=_verify)


def _list(_: Namespace) -> int:
    from fasttrack.vision.weights import list_files, search_folders

    for folder in search_folders():
        files = list_files(folder)
        print(f"{folder}: {'no such folder' if not folder.is_dir() else f'{len(files)} files'}")
        for file in files:
            print(f"  {_line(file)}")
    return 0


def _line(file: Path) -> str:
    """What a file is, or why it cannot be used."""
    from fasttrack.errors import WeightsError
    from fasttrack.models.dcfst_weights import describe
    from fasttrack.vision.converters import inspect_weights

    try:
        head = describe(file)
    except WeightsError as error:
        return f"{file.name}: not usable: {str(error).removeprefix(f'{file}: ')}"
    return inspect_weights(file).line if head is None else head


def _import(args: Namespace) -> int:
    from fasttrack.vision.architectures import InputConvention, architecture
    from fasttrack.vision.converters import import_weights

    if args.arch.startswith("dcfst-"):
        return _import_head(args)
    convention = None if args.input is None else InputConvention.parse(args.input)
    out = import_weights(
        args.source, architecture(args.arch), args.out, convention, args.licence, args.note, args.force
    )
    print(f"written: {out}")
    print(f"  {_line(out)}")
    return 0


def _import_head(args: Namespace) -> int:
    from fasttrack.errors import UnknownName
    from fasttrack.models.dcfst_checkpoint import import_checkpoint
    from fasttrack.models.dcfst_weights import BACKBONES
    from fasttrack.vision.weights import search_folders

    backbone = args.arch.removeprefix("dcfst-")
    if backbone not in BACKBONES:
        raise UnknownName("architecture", args.arch, tuple(f"dcfst-{name}" for name in BACKBONES))
    out = search_folders()[0] / f"{args.arch}.safetensors" if args.out is None else args.out
    for path in import_checkpoint(args.source, backbone, out, args.licence, args.note, args.force):
        print(f"written: {path}")
        print(f"  {_line(path)}")
    return 0


def _verify(args: Namespace) -> int:
    from fasttrack.models.dcfst_weights import describe
    from fasttrack.vision.converters import inspect_weights

    if (head := describe(args.file)) is not None:
        print(head)
        return 0
    report = inspect_weights(args.file)
    print(report.line)
    if report.weights is None:
        return 1
    print(f"  input: {report.weights.convention.to_json()}")
    for layer in report.weights.layers:
        print(f"  {layer.name:8} {'×'.join(str(n) for n in layer.shape)}")
    return 0

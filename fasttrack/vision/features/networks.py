"""The frozen networks as rows of blocks: how each runs, and where its cells lie in the patch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fasttrack import ops
from fasttrack.errors import UnknownName
from fasttrack.vision.architectures import RESNET18, RESNET50, SQUEEZENET, VGG16, VGG_M, Architecture

__all__ = ["NETWORKS", "Block", "Conv", "Network", "Tap", "network"]

Conv = tuple[Tensor, Tensor]  # weight (O, I, kh, kw) and bias (O,)


class Step(NamedTuple):
    """What a convolution or a pool does to the cells."""

    side: int
    stride: int = 1
    padding: int = 0
    ceil: bool = False  # whether a last window that reaches over the edge counts

    def cells(self, cells: int) -> int:
        """Cells of the output for so many of the input; 0 where no window fits."""
        room = cells + 2 * self.padding - self.side
        return 0 if room < 0 else (room + (self.stride - 1 if self.ceil else 0)) // self.stride + 1


_SAME = Step(3, 1, 1)
_POOL = Step(3, 2)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network whose output can be tapped.

    Attributes:
        name: of the output.
        channels: of the output.
        layers: convolutions that it takes from the row of the architecture.
        steps: what moves the cells on the longest way through, in order.
        run: input and those convolutions → output before its ReLU (every block ends in one).
    """

    name: str
    channels: int
    layers: int
    steps: tuple[Step, ...]
    run: Callable[[Tensor, Sequence[Conv]], Tensor]


@dataclass(frozen=True, slots=True)
class Tap:
    """An output of a network and the place of its cells.

    Attributes:
        stride: patch px per cell.
        offset_px: patch px (edge coordinates) where cell 0 begins: cell k has its centre at
            ``offset_px + (k + ½)·stride``. 0 where pools and convolutions are aligned (VGG-16); −3.5 at ResNet's
            layer2, whose cells look half a stride further up and left.
        receptive_field_px: side of the square of the patch that a cell sees.
        layers: convolutions up to here.
    """

    name: str
    channels: int
    stride: int
    offset_px: float
    receptive_field_px: int
    layers: int

    @property
    def first_centre_px(self) -> float:
        """Patch px of the centre of cell 0, where RoI pooling has its coordinate 0."""
        return self.offset_px + self.stride / 2


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture that can run: its blocks, in order."""

    arch: Architecture
    blocks: tuple[Block, ...]

    @functools.cache  # noqa: B019 - networks live as long as the program
    def taps(self) -> dict[str, Tap]:
        """Outputs by name."""
        out, layers = {}, 0
        stride, centre, field = 1, 0.5, 1
        for block in self.blocks:
            for step in block.steps:
                centre += ((step.side - 1) / 2 - step.padding) * stride
                field += (step.side - 1) * stride
                stride *= step.stride
            layers += block.layers
            out[block.name] = Tap(block.name, block.channels, stride, centre - stride / 2, field, layers)
        return out

    def tap(self, name: str) -> Tap:
        """The output of this name.

        Raises:
            UnknownName: the network has none; lists those it has.
        """
        if name not in self.taps():
            raise UnknownName(f"output of {self.arch.name}", name, tuple(self.taps()))
        return self.taps()[name]

    def cells(self, name: str, side_px: int) -> int:
        """Cells along one side of an output for a patch of so many px; 0 where the patch is too small."""
        cells = side_px
        for block in self.blocks:
            for step in block.steps:
                cells = step.cells(cells)
            if block.name == name:
                break
        return cells

    def run(self, x: Tensor, layers: Sequence[Conv], wanted: Sequence[str], *, relu: bool = True) -> dict[str, Tensor]:
        """The wanted outputs of normalised input; stops behind the last. ``relu=False`` takes them before the ReLU."""
        out: dict[str, Tensor] = {}
        rest = iter(layers)
        for block in self.blocks:
            before = block.run(x, list(itertools.islice(rest, block.layers)))
            x = F.relu(before, inplace=relu or block.name not in wanted)
            if block.name in wanted:
                out[block.name] = x if relu else before
                if len(out) == len(set(wanted)):
                    break
        return out


def network(name: str) -> Network:
    """The network of this name.

    Raises:
        UnknownName: with the list of those known.
    """
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS)
    return NETWORKS[name]


# --- VGG ------------------------------------------------------------------------------------------


def _vgg_block(x: Tensor, convs: Sequence[Conv], *, pool: bool) -> Tensor:
    weight, bias = convs[0]
    return F.conv2d(F.max_pool2d(x, 2) if pool else x, weight, bias, padding=1)


def _vgg16(pools: tuple[int, ...]) -> Network:
    """``pools``: convolutions in front of which a pool is kept."""
    blocks = []
    for i, layer in enumerate(VGG16.layers, start=1):
        pool = i in pools
        steps = (Step(2, 2), _SAME) if pool else (_SAME,)
        run = functools.partial(_vgg_block, pool=pool)
        blocks.append(Block(f"conv-{i}", layer.shape[0], 1, steps, run))
    return Network(VGG16, tuple(blocks))


def _vgg_m_block(x: Tensor, convs: Sequence[Conv], *, stride: int, pool: bool) -> Tensor:
    weight, bias = convs[0]
    return F.conv2d(ops.relu_lrn_maxpool(x) if pool else x, weight, bias, stride=stride)


def _vgg_m() -> Network:
    """Without padding, as the trackers use it (107 px → 51, 25, 11, 5, 3 cells)."""
    blocks = []
    for i, layer in enumerate(VGG_M.layers[:3], start=1):
        stride, side = (2 if i < 3 else 1), layer.shape[2]
        own = Step(side, stride)
        steps = (own,) if i == 1 else (_POOL, own)
        run = functools.partial(_vgg_m_block, stride=stride, pool=i > 1)
        blocks.append(Block(f"conv{i}", layer.shape[0], 1, steps, run))
    return Network(VGG_M, tuple(blocks))


# --- ResNet ---------------------------------------------------------------------------------------


def _resnet_stem(x: Tensor, convs: Sequence[Conv]) -> Tensor:
    weight, bias = convs[0]
    return F.conv2d(x, weight, bias, stride=2, padding=3)


def _resnet_stage(x: Tensor, convs: Sequence[Conv], *, blocks: int, depth: int, stage: int) -> Tensor:
    """``blocks`` residual blocks of ``depth`` convolutions; the widest kernel of the first one has the stride."""
    rest = iter(convs)
    y = F.max_pool2d(x, 3, 2, 1) if stage == 1 else x
    for block in range(blocks):
        x = y.relu_() if block else y
        chain = [next(rest) for _ in range(depth)]
        stride = 2 if stage > 1 and block == 0 else 1
        at = 0 if depth == 2 else 1  # torchvision: a bottleneck strides in its 3×3
        for i, (weight, bias) in enumerate(chain):
            y = F.conv2d(x if i == 0 else y.relu_(), weight, bias, stride if i == at else 1, weight.shape[2] // 2)
        if block == 0 and (stride > 1 or x.shape[1] != y.shape[1]):
            weight, bias = next(rest)
            x = F.conv2d(x, weight, bias, stride=stride)
        y = y.add_(x)
    return y


def _resnet(arch: Architecture, blocks: tuple[int, int, int], depth: int) -> Network:
    rows = [Block("conv1", 64, 1, (Step(7, 2, 3),), _resnet_stem)]
    for stage, count in enumerate(blocks, start=1):
        steps = [Step(3, 2, 1)] if stage == 1 else []
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            steps += [Step(3, stride, 1), _SAME] if depth == 2 else [Step(3, stride, 1)]
        run = functools.partial(_resnet_stage, blocks=count, depth=depth, stage=stage)
        own = [layer for layer in arch.layers if layer.key.startswith(f"layer{stage}.")]
        rows.append(Block(f"layer{stage}", own[depth - 1].shape[0], len(own), tuple(steps), run))
    return Network(arch, tuple(rows))


# --- SqueezeNet -----------------------------------------------------------------------------------


def _squeeze_stem(x: Tensor, convs: Sequence[Conv]) -> Tensor:
    weight, bias = convs[0]
    return F.conv2d(x, weight, bias, stride=2)


def _fire(x: Tensor, convs: Sequence[Conv], *, pool: bool) -> Tensor:
    squeeze, narrow, broad = convs
    if pool:
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    x = F.conv2d(x, *squeeze).relu()
    return torch.cat([F.conv2d(x, *narrow), F.conv2d(x, *broad, padding=1)], 1)


def _squeezenet() -> Network:
    blocks = [Block("conv1", 64, 1, (Step(3, 2),), _squeeze_stem)]
    for number in range(2, 10):
        pool = number in (2, 4, 6)
        steps = (Step(3, 2, ceil=True), _SAME) if pool else (_SAME,)
        channels = 2 * SQUEEZENET.layers[3 * (number - 2) + 2].shape[0]
        blocks.append(Block(f"fire{number}", channels, 3, steps, functools.partial(_fire, pool=pool)))
    return Network(SQUEEZENET, tuple(blocks))


#: "vgg16" keeps the first two pools only (stride 4 behind them: CRT §4.1, DSLT as released); "vgg16-pools" the
#: first four, as the network was trained.
NETWORKS = {
    "vgg16": _vgg16((3, 5)),
    "vgg16-pools": _vgg16((3, 5, 8, 11)),
    "vgg-m": _vgg_m(),
    "resnet18": _resnet(RESNET18, (2, 2, 2), 2),
    "resnet50": _resnet(RESNET50, (3, 4, 6), 3),
    "squeezenet": _squeezenet(),
}

"""Where in a search region the target is: a small dense network on shallow features, trained online."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasttrack.errors import ShapeError
from fasttrack.geometry import Window
from fasttrack.models.online_classifier import ClassifierConfig, OnlineClassifier
from fasttrack.vision.features.networks import Tap
from fasttrack.vision.fusion import cell_window
from fasttrack.vision.labels import hann_window
from fasttrack.vision.localise import Response

__all__ = ["LocationNetwork"]


class LocationNetwork(OnlineClassifier):
    """Two 1×1 convolutions that give every cell its probability of lying near the target's centre.

    Trained under softmax cross-entropy in which the cells near the centre and the others weigh the same.

    Args:
        config: optimiser; a batch has ``positives`` maps.
        tap: the features that will come.
        cells: (rows, columns) of their maps, which a cosine window fades out towards the edge.
        radius: cells this near to the target's centre count as target.
        hidden: channels between the convolutions.
        upsample: the map of probabilities is enlarged so much before its peak is taken.
        disc: average the map over the disc of the labels first. Within that disc all cells are labelled alike, so the
            highest of them may lie anywhere in it; the average is highest where the disc fits.

    Source: DLST §3.1, §4.1.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        tap: Tap,
        cells: tuple[int, int],
        radius: float = 8.0,
        hidden: int = 256,
        upsample: int = 2,
        disc: bool = True,
    ) -> None:
        def build() -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(tap.channels, hidden, 1), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(hidden, 2, 1)
            )

        super().__init__(config, build)
        self.tap, self.cells, self.radius, self.upsample = tap, cells, radius, upsample
        self._window, self._disc = hann_window(cells), _disc(radius) if disc else torch.ones(1, 1)
        self.gain = 1.0

    def normalise(self, maps: Tensor) -> None:
        """Take the gain that brings these maps, windowed, to a root mean square of 1."""
        rms = (maps * self._window.to(maps.device)).square().mean().sqrt()
        self.gain = float(1 / rms) if rms > 0 else 1.0

    def labels(self, centres: Tensor) -> Tensor:
        """(N, H, W) int64, 1 within ``radius`` cells of the (N, 2) centres (column, row) in cells."""
        rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in self.cells)
        down, right = rows - centres[:, 1, None], columns - centres[:, 0, None]
        return (torch.hypot(down[:, :, None], right[:, None, :]) <= self.radius).long()

    def learn(self, maps: Callable[[Tensor], Tensor], centres: Tensor, iterations: int, lr: float) -> list[float]:
        """Take ``iterations`` steps of SGD on search regions with known targets; returns the loss of each.

        Args:
            maps: from the (M,) indices of regions to their (M, C, H, W) features: only those drawn are made.
            centres: (N, 2) centres (column, row) of the target in the N regions, cells.
            iterations: steps.
            lr: learning rate of the first layer.
        """
        if len(centres) == 0 or iterations == 0:
            return []
        batches = self._draws(len(centres), self.config.positives, iterations)
        drawn, places = torch.cat(batches).unique(return_inverse=True)
        features, labels = self._prepared(maps(drawn)), self.labels(centres[drawn])
        steps = places.split([len(b) for b in batches])
        return [self._step(features[at], labels[at].to(features.device), lr) for at in steps]

    def heat(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) features → (N, u·H, u·W) probabilities, enlarged by bicubic interpolation."""
        scores, disc = self.scores(self._prepared(maps))[:, None], self._disc.to(maps.device)
        scores = F.conv2d(scores, disc[None, None], padding=len(disc) // 2)
        return F.interpolate(scores, scale_factor=self.upsample, mode="bicubic", align_corners=False)[:, 0]

    def place(self, heat: Tensor, window: Window) -> tuple[float, float, float]:
        """Frame position (x, y) of the highest cell of one map of :meth:`heat`, and its probability."""
        row, column = divmod(int(heat.argmax()), heat.shape[1])
        shift = self.tap.offset_px / self.tap.stride
        right, down = ((k + 0.5) / self.upsample + shift for k in (column, row))
        x, y = window.cell_to_frame(right, down, self.tap.stride)
        return x, y, float(heat[row, column])

    def response(self, heat: Tensor, window: Window) -> Response:
        """One map of :meth:`heat` with its place in the frame."""
        return Response(heat, cell_window(window, self.tap, 0, self.cells[1]), (1, 1), 1 / self.upsample)

    def cell(self, window: Window, x: float, y: float) -> tuple[float, float]:
        """(column, row) in cells of a frame position."""
        shift = self.tap.offset_px / self.tap.stride
        column, row = window.frame_to_cell(x, y, self.tap.stride)
        return column - shift, row - shift

    def _prepared(self, maps: Tensor) -> Tensor:
        if tuple(maps.shape[1:]) != (self.tap.channels, *self.cells):
            wanted = f"(N, {self.tap.channels}, {self.cells[0]}, {self.cells[1]})"
            raise ShapeError("LocationNetwork", "maps", wanted, str(tuple(maps.shape)))
        return maps * (self._window.to(maps.device) * self.gain)

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy averaged over the cells of each class, then over the classes there are."""
        each = F.cross_entropy(outputs, labels, reduction="none")
        near = labels == 1
        parts = [each[cells].mean() for cells in (near, ~near) if bool(cells.any())]
        return torch.stack(parts).mean()


def _disc(radius: float) -> Tensor:
    """Square kernel of sum 1: the cells whose centres lie within ``radius`` of the middle one's."""
    away = torch.arange(-int(radius), int(radius) + 1, dtype=torch.float32)
    kernel = (torch.hypot(away[:, None], away[None, :]) <= radius).float()
    return kernel / kernel.sum()

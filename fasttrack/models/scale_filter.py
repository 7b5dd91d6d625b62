"""How large a target is: a correlation filter over sizes instead of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fasttrack import ops
from fasttrack.errors import RangeError
from fasttrack.geometry import Box, Window
from fasttrack.models.filter_regressor import FilterConfig, FilterRegressor
from fasttrack.vision.crop import Scene
from fasttrack.vision.features import HOG
from fasttrack.vision.labels import gaussian_map, hann_window

__all__ = ["ScaleFilter", "ScaleFilterConfig"]


@dataclass(frozen=True)
class ScaleFilterConfig:
    """Numbers of the filter.

    Args:
        levels: sizes searched, odd; a number that transforms fast (``ops.fft_size``).
        step: ratio of neighbouring sizes, > 1.
        label_sigma: σ of the label, √levels.
        ridge: λ.
        rate: of the running average.
        side_px: side of the patch that every box is sampled to, whatever its aspect.

    Source: Danelljan et al. 2014 (DSST) §3.2, §5.1: 33 sizes, step 1.02, σ ¼·√33, rate .025. Ours: 27 sizes, which
    transform faster; one square patch for all targets, so that they share every call.
    """

    levels: int = 27
    step: float = 1.02
    label_sigma: float = 0.25
    ridge: float = 1e-4
    rate: float = 0.025
    side_px: int = 32


class ScaleFilter:
    """T linear correlation filters over the sizes of T boxes: every HOG value of a patch is a channel.

    Args:
        config: its numbers.

    Raises:
        RangeError: an even or slow number of levels, or a step that is not over 1.

    Source: Danelljan et al. 2014 (DSST) §3.2.
    """

    def __init__(self, config: ScaleFilterConfig) -> None:
        if config.levels % 2 == 0 or ops.fft_size(config.levels) != config.levels:
            raise RangeError("ScaleFilter", "levels", "an odd product of 3s and 5s", repr(config.levels))
        if not config.step > 1:
            raise RangeError("ScaleFilter", "step", "a number over 1", repr(config.step))
        self.config, self._hog = config, HOG()
        n = config.levels
        sigma = config.label_sigma * n**0.5
        self._label = gaussian_map((1, n), torch.tensor([[0.0, (n - 1) / 2]]), (sigma, sigma))[0]
        # A window of one row would be 0 everywhere: it fades along the sizes alone.
        self._window = hann_window((3, n))[1:2]
        self._model: FilterRegressor | None = None

    def fit(self, scene: Scene, boxes: Sequence[Box]) -> None:
        """Learn from the first frame, forgetting everything before."""
        c = self.config
        learning = FilterConfig("linear", ridge=c.ridge, rate=c.rate)
        label, window = (t.to(scene.device) for t in (self._label, self._window))
        self._model = FilterRegressor(learning, label, window)
        self._model.fit([self._samples(scene, boxes, range(len(boxes)))])

    def factors(self, scene: Scene, boxes: Sequence[Box]) -> list[float]:
        """Of every target, how many times the size of its box it has; the boxes lie where the targets were found."""
        samples = self._samples(scene, boxes, range(len(boxes)))
        responses = self._fitted.respond(samples[:, None])[:, 0]
        table = ops.response_table(responses).tolist()
        return [self.config.step ** (column - self.config.levels // 2) for _, column, *_ in table]

    def update(self, scene: Scene, boxes: Sequence[Box], rows: Sequence[int]) -> None:
        """One more frame of the targets ``rows``, in these boxes."""
        self._fitted.update(self._samples(scene, boxes, rows), rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these targets only."""
        self._fitted.keep(rows)

    @property
    def _fitted(self) -> FilterRegressor:
        if self._model is None:
            raise RangeError("ScaleFilter", "self", "fitted (call fit on the first frame)", "not fitted")
        return self._model

    def _samples(self, scene: Scene, boxes: Sequence[Box], targets: Sequence[int]) -> Tensor:
        """(T, channels, 1, levels): one column per size of the box."""
        c = self.config
        sizes = [c.step ** (k - c.levels // 2) for k in range(c.levels)]
        windows = [[Window.around(*b.center, b.w * s, b.h * s, c.side_px, c.side_px) for s in sizes] for b in boxes]
        values = self._hog(scene.sample(windows, targets)).flatten(1)
        return values.view(len(boxes), c.levels, -1).transpose(1, 2).unsqueeze(2).contiguous()

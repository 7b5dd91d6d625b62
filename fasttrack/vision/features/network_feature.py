"""One output of a network as a feature, at the scale of HOG."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor

from fasttrack.errors import RangeError
from fasttrack.vision.architectures import InputConvention
from fasttrack.vision.features.hog import HOG
from fasttrack.vision.features.layers import LayerStack

__all__ = ["BackboneFeature"]


class BackboneFeature:
    """Output of a frozen network on the grid of its stride, brought to one root mean square on the first frame.

    The values of the outputs of a network differ by orders of magnitude; at HOG's scale a tracker's λ, kernel width and
    rates, which are meant for HOG, fit all of them.

    Args:
        network: name of a backbone.
        output: name of its output.
        stride: patch px per cell; None for the output's own.
        rms: root mean square of a channel over the first frame.
        weights: file of the network; default: searched.
        convention: input convention, where the file does not say.
        relu: take the output after its ReLU (default) or before.

    Raises:
        UnknownName, WeightsError: as ``Backbone``.
        RangeError: a stride below 1 px, or an rms that is not positive.
    """

    needs_fit = True

    def __init__(
        self,
        network: str,
        output: str,
        *,
        stride: int | None = None,
        rms: float = HOG.typical_rms,
        weights: str | Path | None = None,
        convention: InputConvention | None = None,
        relu: bool = True,
    ) -> None:
        if not rms > 0:
            raise RangeError("BackboneFeature", "rms", "a number > 0", repr(rms))
        self.name = f"{network}/{output}"
        self._maps = LayerStack(network, (output,), stride=stride, weights=weights, convention=convention, relu=relu)
        self.stride, self.channels, self.weights_note = self._maps.stride, self._maps.channels, self._maps.weights_note
        self.typical_rms, self._gain = rms, 1.0

    def fit(self, patches: Tensor) -> None:
        """Take the gain from the patches of the first frame."""
        measured = float(self._maps(patches).square().mean().sqrt())
        self._gain = self.typical_rms / measured if measured > 0 else 1.0

    def fork(self) -> BackboneFeature:
        """The same network for another target."""
        other = copy.copy(self)
        other._gain = 1.0
        return other

    def __call__(self, patches: Tensor) -> Tensor:
        """(T, 3, h, w) → (T, channels, h // stride, w // stride)."""
        return self._maps(patches).mul_(self._gain)

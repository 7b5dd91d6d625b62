"""Features of image patches: what a tracker's regression sees.

``create(name, **options)`` makes one; ``list_features()`` names them. Every feature follows
:class:`Feature`: ``(T, 3, h, w)`` RGB patches → ``(T, channels, h//stride, w//stride)`` maps.

======================= ======== ====== =======================================================
name                    channels stride what
======================= ======== ====== =======================================================
hog                     31       4      histograms of oriented gradients (fHOG)
cn                      11       4      shares of the eleven basic colour terms
hog+cn                  42       4      both, on one scale
rgb                     3        4      mean colour
grey                    1        1      log brightness, mean 0 and deviation 1 per patch
conv-2, 4, 7, 10, 13    64       4      VGG-16 with two pools, PCA fitted on the first frame
======================= ======== ====== =======================================================
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fasttrack.errors import ArgumentError, UnknownName
from fasttrack.vision.features.backbone import Backbone
from fasttrack.vision.features.base import Feature, check_patches
from fasttrack.vision.features.color_names import ColorNames
from fasttrack.vision.features.combined import HOGColorNames
from fasttrack.vision.features.grey import Grey
from fasttrack.vision.features.hog import HOG
from fasttrack.vision.features.layers import LayerStack
from fasttrack.vision.features.network_feature import BackboneFeature
from fasttrack.vision.features.networks import NETWORKS
from fasttrack.vision.features.pca import PCA
from fasttrack.vision.features.rgb import RGB
from fasttrack.vision.features.vgg import VGG16Feature

__all__ = [
    "HOG",
    "PCA",
    "RGB",
    "Backbone",
    "BackboneFeature",
    "ColorNames",
    "Feature",
    "Grey",
    "HOGColorNames",
    "LayerStack",
    "VGG16Feature",
    "check_patches",
    "create",
    "list_features",
]

_FEATURES: dict[str, Callable[..., Feature]] = {
    "hog": HOG,
    "cn": ColorNames,
    "hog+cn": HOGColorNames,
    "rgb": RGB,
    "grey": Grey,
    **{f"conv-{depth}": functools.partial(VGG16Feature, depth) for depth in (2, 4, 7, 10, 13)},
    **{
        f"{network}/{output}": functools.partial(BackboneFeature, network, output)
        for network in ("vgg-m", "resnet18", "resnet50", "squeezenet")
        for output in NETWORKS[network].taps()
    },
}


def list_features() -> tuple[str, ...]:
    """Names that :func:`create` takes."""
    return tuple(_FEATURES)


def create(name: str, **options: Any) -> Feature:
    """The feature of this name; ``options`` are those of its class (``stride=``, ``weights=``, …).

    Raises:
        UnknownName: no such feature; the message lists those there are.
        ArgumentError: an option the feature does not have.
        WeightsError: the feature needs weights that are not at hand or not whole.
    """
    if name not in _FEATURES:
        raise UnknownName("feature", name, _FEATURES)
    factory = _FEATURES[name]
    known = _options_of(factory)
    for option in options:
        if option not in known:
            raise ArgumentError(f"feature {name}", "option", "one of " + ", ".join(known), repr(option))
    return factory(**options)


def _options_of(factory: Callable[..., Feature]) -> tuple[str, ...]:
    return tuple(p for p in inspect.signature(factory).parameters if p not in ("depth", "network", "output"))

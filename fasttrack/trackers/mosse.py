"""MOSSE: tracking by a correlation filter on brightness (Bolme et al. 2010)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fasttrack.trackers import _config, kcf
from fasttrack.vision.augment import turned
from fasttrack.vision.crop import Scene
from fasttrack.vision.features.grey import Grey

__all__ = ["MOSSE", "Config"]


@dataclass(frozen=True)
class Config(kcf.Config):
    """Every number of MOSSE; the meaning of each is that of KCF's."""

    features: str = "grey"  # §3.1
    feature_options: Mapping[str, Any] = field(default_factory=dict)
    region: float = 2.0  # side of the search region, object sides; ours: §3.1 leaves the window open
    region_cells: float = 4096.0  # 64 × 64; §5
    kernel: str = "linear"  # §3.2
    ridge: float = 1e-2  # λ of features of norm 1; ours: §3.5 names the regularisation without a value
    rate: float = 0.125  # §3.4
    label_sigma: float = 0.06  # 2 cells of a 32-cell object; §3.2
    scale_levels: int = 1  # the paper keeps the first size
    warps: int = 8  # turned and resized copies that the first filter is learnt from; §3.4
    warp_degrees: float = 6.0  # largest turn; ours
    warp_zoom: float = 0.05  # largest change of size; ours
    seed: int = 0  # of the warps

    def __post_init__(self) -> None:
        super().__post_init__()
        _config.whole(self, 0, "warps", "seed")
        _config.at_least(self, 0.0, "warp_degrees", "warp_zoom")


class MOSSE(kcf.KCF):
    """KCF's linear case on one channel: numerator and denominator are running averages."""

    name = "mosse"
    config_class = Config
    config: Config

    def _search(self, scene: Scene, group: kcf.Group, windows: kcf.Windows) -> tuple[Tensor, Tensor | None]:
        if not _brightness_of_one_frame(scene, group):
            return super()._search(scene, group, windows)
        return group.model.respond_in(*scene.boxes(windows), group.features.stride)

    def _teach(self, scene: Scene, group: kcf.Group, windows: kcf.Windows, seen: list[int]) -> None:
        if not _brightness_of_one_frame(scene, group):
            return super()._teach(scene, group, windows, seen)
        return group.model.update_in(*scene.boxes(windows), group.features.stride, seen)

    def _copies(self, patches: Tensor) -> list[Tensor]:
        """The patches, and ``warps`` copies turned and resized by the same random amounts in every run."""
        c = self.config
        random = torch.Generator().manual_seed(c.seed)
        copies = [patches]
        for _ in range(c.warps):
            turn, zoom = (2 * torch.rand(2, generator=random) - 1).tolist()
            copies.append(turned(patches, turn * c.warp_degrees, 1 + zoom * c.warp_zoom))
        return copies


def _brightness_of_one_frame(scene: Scene, group: kcf.Group) -> bool:
    """Whether a frame's windows need not become patches and features: one call goes from windows to responses."""
    return len(scene.images) == 1 and isinstance(group.features, Grey)

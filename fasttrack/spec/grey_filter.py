"""A correlation filter on the brightness of windows of a frame: what MOSSE does with every frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from fasttrack.spec.base import Case, Cost, Spec, Tolerance
from fasttrack.spec.correlation_filter import detect, train
from fasttrack.spec.crop_resize import crop_resize
from fasttrack.spec.grey import grey
from fasttrack.spec.response_peak import response_peak

__all__ = ["SPECS", "grey_filter"]


def grey_filter(
    frame: Tensor,
    boxes: Tensor,
    search: Tensor,
    label: Tensor,
    lam: float = 1e-2,
    kernel: str = "linear",
    sigma: float = 0.5,
    window: Tensor | None = None,
    cell_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Train on the windows ``boxes``, detect in the windows ``search``: responses and the table of their peaks."""
    size = label.shape[-2] * cell_size, label.shape[-1] * cell_size
    seen, sought = (grey(crop_resize(frame, rows, size, antialias=True), cell_size) for rows in (boxes, search))
    if window is not None:
        seen, sought = seen * window, sought * window
    model = train(seen, label if label.dim() == 3 else label[None], lam, kernel, sigma)
    maps = sought.view(len(boxes), len(search) // max(1, len(boxes)), *sought.shape[1:])
    responses = detect(*model, maps, kernel, sigma)
    position, score, psr = response_peak(responses.flatten(0, 1))
    return responses, torch.cat((position, score[:, None], psr[:, None]), dim=1)


def _windows(
    frame: tuple[int, ...],
    sides: Sequence[tuple[float, float]],
    size: tuple[int, int],
    scales: int = 1,
    *,
    labels: bool = False,
    window: bool = True,
    **options: Any,
) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
    """A frame of noise; one window per pair of sides, and where it is sought again: moved, at every size."""

    def build(generator: Generator, dtype: torch.dtype) -> dict[str, Any]:
        pixels = torch.randint(0, 256, frame, generator=generator, dtype=torch.uint8)
        rows, again = [], []
        for k, (w, h) in enumerate(sides):
            x, y = 3.25 + 7 * k, 5.5 - 4 * k
            rows.append((x, y, w, h))
            for scale in range(scales):
                zoom = 1 + 0.02 * (scale - scales // 2)
                again.append((x - 2 + w * (1 - zoom) / 2, y + 3 + h * (1 - zoom) / 2, w * zoom, h * zoom))
        down, across = (torch.arange(n, dtype=torch.float64) for n in size)
        spread = 1 + torch.rand(len(sides) if labels else 1, 1, 1, generator=generator, dtype=torch.float64)
        square = (down[:, None] - size[0] // 2) ** 2 + (across - size[1] // 2) ** 2
        label = torch.exp(-0.5 * square / spread**2)
        arguments = {"boxes": rows, "search": again}
        numbers = {k: torch.tensor(v, dtype=torch.float64).reshape(-1, 4).to(dtype) for k, v in arguments.items()}
        if window:
            taper = [torch.sin(torch.pi * (v + 0.5) / len(v)) ** 2 for v in (down, across)]
            options["window"] = (taper[0][:, None] * taper[1]).to(dtype)
        return {"frame": pixels, **numbers, "label": (label if labels else label[0]).to(dtype), **options}

    return build


def _cases(**options: Any) -> tuple[Case, ...]:
    def windows(
        frame: tuple[int, ...],
        sides: Sequence[tuple[float, float]],
        size: tuple[int, int],
        scales: int = 1,
        **more: Any,
    ) -> Callable[[Generator, torch.dtype], dict[str, Any]]:
        return _windows(frame, sides, size, scales, **more, **options)

    return (
        Case("one", windows((41, 53, 3), [(30.0, 24.0)], (24, 30))),
        Case("targets", windows((41, 53, 3), [(30.0, 24.0), (21.5, 19.0)], (16, 20), 2, labels=True)),
        Case("shrunk", windows((81, 97, 3), [(62.0, 50.0)], (24, 30), 3)),
        Case("grey_frame", windows((41, 53), [(30.0, 24.0)], (24, 30), window=False)),
        Case("cells", windows((61, 73, 3), [(50.0, 40.0)], (20, 25), cell_size=2)),
        Case("outside", windows((20, 18, 3), [(40.0, 30.0)], (30, 40))),
        Case("no_targets", windows((41, 53, 3), [], (16, 20))),
        Case("t1_64x64", windows((480, 640, 3), [(62.0, 65.0)], (64, 64)), bench=True, tests=False),
        Case("t1_64x64_of_140", windows((480, 640, 3), [(141.0, 138.0)], (64, 64)), bench=True, tests=False),
    )


def _cost(arguments: dict[str, Any]) -> Cost:
    """Of the transforms of every window (one to train on, and the label: three; one to detect in: two), and bytes."""
    cells = arguments["label"].shape[-1] * arguments["label"].shape[-2]
    depth = float(torch.log2(torch.tensor(float(max(2, cells)))))
    transforms = 2 * len(arguments["boxes"]) + 2 * len(arguments["search"])
    windows = len(arguments["boxes"]) + len(arguments["search"])
    return Cost(flops=cells * (transforms * 2.5 * depth + 40 * windows), bytes=4.0 * cells * (4 + windows))


SPECS = (
    Spec(
        "grey_filter",
        "grey_filter",
        grey_filter,
        _cases(kernel="linear"),
        {torch.float32: Tolerance(1e-4, 1e-4, witness="2.3e-6, 9.5e-7")},
        cost=_cost,
        dtypes=(torch.float32,),
    ),
    Spec(
        "grey_filter",
        "grey_filter",
        grey_filter,
        _cases(kernel="gaussian", sigma=0.5),
        {torch.float32: Tolerance(3e-4, 3e-4, witness="3.1e-6, 1.4e-6")},
        cost=_cost,
        dtypes=(torch.float32,),
    ),
)

"""What an optimiser remembers of its runs, and how it shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["extended", "show"]


def extended(record: Tensor, values: Iterable[Tensor]) -> Tensor:
    """A record on the CPU with numbers that may still lie on the device: one wait for all of them."""
    new = [value.detach().reshape(-1) for value in values]
    return torch.cat((record, torch.cat(new).to(record))) if new else record


def show(curves: Mapping[str, Tensor], visdom: Any, figures: Sequence[int]) -> None:
    """Draw one curve per title: by ``visdom.register``, or without it in the figures of Matplotlib of these numbers."""
    if visdom is not None:
        for title, values in curves.items():
            visdom.register(values, "lineplot", 3, title)
        return
    from matplotlib import pyplot

    for number, (title, values) in zip(figures, curves.items(), strict=False):
        figure = pyplot.figure(number)
        figure.clear()
        axes = figure.add_subplot(title=title)
        axes.plot(values.numpy())
        figure.canvas.draw_idle()

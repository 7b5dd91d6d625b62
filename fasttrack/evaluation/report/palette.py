"""One colour per tracker, the same in every plot, table and picture of a report."""

from __future__ import annotations

__all__ = ["COLOURS", "DASHES", "PAPER", "NIGHT", "TRUTH", "colour_of", "contrast", "dash_of", "rgb"]

# Each has a contrast of at least 3 with both grounds, and neighbours differ in lightness as well as in hue.
COLOURS = (
    "#2f7fe6",
    "#d9480f",
    "#1f9d55",
    "#b03ad1",
    "#b98500",
    "#0c8ba0",
    "#e0317a",
    "#6b6ff0",
    "#6a8f00",
    "#a8623a",
    "#d63939",
    "#7b8794",
)
# From the thirteenth tracker on the colours come again, in other strokes.
DASHES = ("", "7 4", "2 3", "9 3 2 3")
PAPER, NIGHT = "#ffffff", "#14171c"
TRUTH = (255, 255, 255)


def colour_of(number: int) -> str:
    """Colour of the tracker of that number, ``#rrggbb``."""
    return COLOURS[number % len(COLOURS)]


def dash_of(number: int) -> str:
    """Its stroke, as SVG's ``stroke-dasharray``; empty for a whole line."""
    return DASHES[number // len(COLOURS) % len(DASHES)]


def rgb(colour: str) -> tuple[int, int, int]:
    """``#rrggbb`` as three numbers 0 … 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 … 21 (WCAG 2.1: ratio of relative luminances, each plus 0.05)."""
    dark, light = sorted(_luminance(rgb(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

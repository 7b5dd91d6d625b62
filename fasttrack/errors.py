"""Every error the package raises on purpose, each naming what was wanted and what came.

``exit_code`` is what the command line returns for the error: 2 for misuse (a bad argument,
an unknown name), 1 for a failure (a file that cannot be read or written).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "BackendUnavailable",
    "BoxError",
    "DeviceError",
    "DtypeError",
    "FasttrackError",
    "FrameError",
    "OutputError",
    "RangeError",
    "RoiIndexError",
    "ShapeError",
    "SourceError",
    "TransformError",
    "UnknownName",
    "UnknownTracker",
    "WeightsError",
]


class FasttrackError(Exception):
    """Base of all errors raised by fasttrack."""

    exit_code = 1


class ArgumentError(FasttrackError, ValueError):
    """An argument of a public function is not what the function takes.

    Args:
        op: name of the function.
        argument: name of the argument.
        wanted: what the function takes.
        got: what came.
        hint: the way out, where there is one.
    """

    exit_code = 2

    def __init__(self, op: str, argument: str, wanted: str, got: str, hint: str = "") -> None:
        self.op, self.argument, self.wanted, self.got, self.hint = op, argument, wanted, got, hint
        super().__init__(f"{op}: {argument} must be {wanted}, got {got}" + (f"; {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str, str, str, str]]:
        # Exception.__reduce__ would replay the one joined message into five parameters.
        return type(self), (self.op, self.argument, self.wanted, self.got, self.hint)


class ShapeError(ArgumentError):
    """A tensor has the wrong number of dimensions or the wrong sizes."""


class DtypeError(ArgumentError, TypeError):
    """A tensor has an element type the function does not take."""


class DeviceError(ArgumentError):
    """Tensors lie on different devices, or on one the function cannot use."""


class RangeError(ArgumentError):
    """A value is outside its legal range (this includes NaN)."""


class RoiIndexError(RangeError, IndexError):
    """A region of interest names an image that is not in the batch."""


class BoxError(ArgumentError):
    """A target box is empty, not finite, or lies outside the frame."""


class FrameError(ArgumentError):
    """A frame is not an image the package can take."""


class UnknownName(ArgumentError):
    """A name that is looked up in a registry is not in it; the message lists those that are."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(kind, "name", "one of " + ", ".join(self.known), repr(name))

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:  # type: ignore[override]
        return type(self), (self.kind, self.name, self.known)


class UnknownTracker(UnknownName):
    """No tracker of this name is registered."""


class BackendUnavailable(FasttrackError, RuntimeError):
    """The backend that was asked for cannot run this call; the message gives the reason of every row."""


class TransformError(FasttrackError, RuntimeError):
    """A function transform of torch (``vmap``, ``grad``, ``jvp``, an export) cannot take a call; says what can be done.

    Args:
        op: name of the op.
        transform: what was asked of it.
        why: why it cannot.
        hint: the way out.
    """

    exit_code = 2

    def __init__(self, op: str, transform: str, why: str, hint: str) -> None:
        self.op, self.transform, self.why, self.hint = op, transform, why, hint
        super().__init__(f"{op}: no {transform}: {why}; {hint}")

    def __reduce__(self) -> tuple[type[TransformError], tuple[str, str, str, str]]:
        return type(self), (self.op, self.transform, self.why, self.hint)


class SourceError(FasttrackError, OSError):
    """A video source is missing, empty or cannot be decoded."""


class OutputError(FasttrackError, OSError):
    """A result cannot be written."""


class WeightsError(FasttrackError):
    """A weights file is missing, truncated, of the wrong checksum or of the wrong layer shapes."""

"""Where frames come from and where results go: sources, sinks, and the built-in clip."""

from __future__ import annotations

from fasttrack.video.clip import make_clip
from fasttrack.video.overlay import OverlaySink
from fasttrack.video.sheet import SheetSink
from fasttrack.video.sinks import CsvSink, JsonSink, MotSink, Sink, TrackResult, check_outputs
from fasttrack.video.source import Frame, Source, open_source

__all__ = [
    "CsvSink",
    "Frame",
    "JsonSink",
    "MotSink",
    "OverlaySink",
    "SheetSink",
    "Sink",
    "Source",
    "TrackResult",
    "check_outputs",
    "make_clip",
    "open_source",
]

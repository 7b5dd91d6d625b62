"""Where frames come from and where results go: sources, sinks, and the built-in clip."""

from __future__ import annotations

from fasttrack.video.clip import make_clip
from fasttrack.video.fiftyone_sink import FiftyOneSink
from fasttrack.video.overlay import OverlaySink
from fasttrack.video.rerun_sink import RerunSink
from fasttrack.video.sheet import SheetSink
from fasttrack.video.sinks import CsvSink, JsonSink, MotSink, Sink, TrackResult, check_outputs
from fasttrack.video.source import Frame, Source, open_source

__all__ = [
    "CsvSink",
    "FiftyOneSink",
    "Frame",
    "JsonSink",
    "MotSink",
    "OverlaySink",
    "RerunSink",
    "SheetSink",
    "Sink",
    "Source",
    "TrackResult",
    "check_outputs",
    "make_clip",
    "open_source",
]

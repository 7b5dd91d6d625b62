"""The trackers: wiring and a frozen Config each, over one frame loop."""

from fasttrack.trackers.base import Result, Tracker
from fasttrack.trackers.lockstep import run_lockstep
from fasttrack.trackers.registry import create_tracker, list_trackers

__all__ = ["Result", "Tracker", "create_tracker", "list_trackers", "run_lockstep"]

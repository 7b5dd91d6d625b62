"""How good trackers are: datasets, protocols, metrics, the runner that applies one to the other, and the report."""

from __future__ import annotations

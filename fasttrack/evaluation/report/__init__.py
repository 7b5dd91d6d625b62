"""The report of an evaluation: one HTML page, its figures as PNG and SVG, its tables as CSV, JSON and LaTeX."""

from __future__ import annotations

from fasttrack.evaluation.report.write import Written, write_report

__all__ = ["Written", "write_report"]

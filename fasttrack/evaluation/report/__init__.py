"""The report of an evaluation: one HTML page, its figures as PNG and SVG, its tables as CSV, JSON and LaTeX."""

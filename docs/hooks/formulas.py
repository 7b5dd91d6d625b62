"""Docstrings as they are written here, for Markdown: formulas keep their lines, closing notes get a bold head."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A paragraph of its own that begins as a formula does: `w = …`, `out[k, c] = …`, `linear:   …`, `Σ_frames …`.
_FORMULA = re.compile(r"(?:\w[\ŵ]*(?:\[[^\]]*\])?|\([^()]*\)) = |\w+: {2,}\S|Σ")
_NOTE = re.compile(r"^(Source|Memory): ", re.MULTILINE)


def rewritten(docstring: str) -> str:
    """A docstring with its formulas fenced and its notes emphasised; the rest is as it was."""
    paragraphs = docstring.split("\n\n")
    for k, paragraph in enumerate(paragraphs):
        if k > 0 and _FORMULA.match(paragraph):
            paragraphs[k] = f"```text\n{paragraph}\n```"
        else:
            paragraphs[k] = _outside_code(paragraph)
    return _NOTE.sub(r"**\1.** ", "\n\n".join(paragraphs))


def _outside_code(paragraph: str) -> str:
    """``m[i][r]`` outside of backticks would be read as a link."""
    pieces = re.split(r"(`+[^`]*`+)", paragraph)
    return "".join(piece if piece.startswith("`") else piece.replace("][", "]\\[") for piece in pieces)


class Formulas(griffe.Extension):
    """Rewrites every docstring of the package before mkdocstrings reads it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every module, class, function and attribute found."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)

"""Docstrings as they are written here, for Markdown and griffe: formulas keep their lines, notes get a bold head."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A paragraph of its own that begins as a formula does: `w = …`, `out[k, c] = …`, `linear:   …`, `Σ_frames …`.
_FORMULA = re.compile(r"(?:\w[\w\u0302]*(?:\[[^\]]*\])?|\([^()]*\)) = |\w+: {2,}\S|Σ")
_NOTE = re.compile(r"^(Source|Memory): ", re.MULTILINE)
_ENTRY = re.compile(r"\n {4}(?=\S)")
_SEVERAL = re.compile(r"(\w+(?:, \w+)+):\s+(.*)", re.DOTALL)


def rewritten(docstring: str, returns: str | None = None) -> str:
    """A docstring with its formulas fenced and its notes emphasised; ``returns`` is the annotation of a function."""
    paragraphs = [_paragraph(text, k == 0, returns) for k, text in enumerate(docstring.split("\n\n"))]
    return _NOTE.sub(r"**\1.** ", "\n\n".join(paragraphs))


def _paragraph(text: str, first: bool, returns: str | None) -> str:
    if text.startswith("Args:\n"):
        return _each_named(_outside_code(text))
    if text.startswith("Returns:\n") and returns is not None:
        return text.replace("\n    ", f"\n    {returns}: ", 1)  # else what stands before a colon is taken for the type
    if text.startswith("Raises:\n") and not re.search(r"^ {4}\w[\w, ]*: ", text, re.MULTILINE):
        return "**Raises.** " + " ".join(text.split()[1:])  # "As in …": no list of errors
    if not first and _FORMULA.match(text):
        return f"```text\n{text}\n```"
    return _outside_code(text)


def _outside_code(text: str) -> str:
    """``m[i][r]`` outside of backticks would be read as a link."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    return "".join(piece if piece.startswith("`") else piece.replace("][", "]\\[") for piece in pieces)


def _each_named(text: str) -> str:
    """``a, b: as in …`` as one entry for each: griffe looks every name up in the signature."""
    head, *entries = _ENTRY.split(text)
    split: list[str] = []
    for entry in entries:
        several = _SEVERAL.fullmatch(entry)
        split += [entry] if several is None else [f"{name}: {several[2]}" for name in several[1].split(", ")]
    return "\n    ".join([head, *split])


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package before mkdocstrings reads it."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every module, class, function and attribute found."""
        if obj.docstring is not None:
            returns = getattr(obj, "returns", None)
            obj.docstring.value = rewritten(obj.docstring.value, None if returns is None else str(returns))

"""Pages made of sections that stand elsewhere in the repository: each text has one source.

A line ``<!-- include FILE.md#Heading -->`` becomes the text under that heading, to the next heading of its level,
without the heading itself; ``<!-- include FILE.md -->`` the whole file without its title. Links are turned to where the
page is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
_INCLUDE = re.compile(r"^<!-- include (?P<file>[\w./-]+)(?:#(?P<heading>[^\n]+?))? -->$", re.MULTILINE)


class MissingSection(Exception):
    """A page includes a section that its file does not have."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with what it includes put in place (called by MkDocs)."""
    return included(markdown, page.file.src_uri)


def included(markdown: str, page: str) -> str:
    """The Markdown of a page, by its path below ``docs``, with what it includes put in place."""
    up = "../" * page.count("/")

    def put(found: re.Match[str]) -> str:
        text = section((ROOT / found["file"]).read_text(encoding="utf-8"), found["heading"], found["file"])
        return re.sub(r"\]\(docs/", f"]({up}", text)

    return _INCLUDE.sub(put, markdown)


def section(text: str, heading: str | None, name: str) -> str:
    """What stands under a heading of a Markdown text; all below the title for None.

    Raises:
        MissingSection: no such heading.
    """
    lines, kept, level = text.splitlines(), [], 0
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        depth = 0 if fenced else len(line) - len(line.lstrip("#"))
        title = line.lstrip("# ").strip()
        if not level:
            if depth and (title == heading or (heading is None and depth == 1)):
                level = depth
            continue
        if depth and depth <= level:
            break
        kept.append(line)
    if not level:
        raise MissingSection(f"{name} has no section {heading!r}")
    return "\n".join(kept).strip("\n")

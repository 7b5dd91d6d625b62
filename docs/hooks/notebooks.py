"""Notebooks as pages: run when the site is built, then written as Markdown in the theme's own style.

``FASTTRACK_DOCS=draft`` shows them without outputs, for a quick look at other pages.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# `mkdocs serve` builds after every change of any page: what has not changed is not run again.
_DONE: dict[tuple[str, bytes], tuple[str, dict[str, bytes]]] = {}


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Put a page beside every notebook, and its pictures (called by MkDocs)."""
    for file in [f for f in files if f.src_uri.endswith(".ipynb")]:
        source = Path(config.docs_dir) / file.src_uri
        key = (file.src_uri, source.read_bytes())
        if key not in _DONE:
            draft = os.environ.get("FASTTRACK_DOCS") == "draft"
            _DONE[key] = as_markdown(read(source) if draft else executed(source), source.stem)
        markdown, pictures = _DONE[key]
        page = file.src_uri.removesuffix("ipynb") + "md"
        files.append(File.generated(config, page, content=markdown))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{page.rpartition('/')[0]}/{name}", content=content))
    return files


def read(path: Path) -> Any:
    """The notebook as it is kept, without outputs."""
    import nbformat

    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]


def executed(path: Path, timeout_s: int = 120) -> Any:
    """The notebook with the outputs of a run in a kernel of its own; an error in a cell is raised."""
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = read(path)
    options = Config({"KernelManager": {"transport": "ipc"}})  # no ports
    NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", config=options).execute()
    return notebook


def as_markdown(notebook: Any, stem: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook that was run, and the pictures it shows by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed = ""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}-{number}-{len(pictures)}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Output of the cell above]({name})")
            else:
                printed += output["text"] if output.output_type == "stream" else data.get("text/plain", "") + "\n"
        if printed.strip():
            parts.append(f"```text\n{_ANSI.sub('', printed).rstrip()}\n```")
    link = f"[Download this notebook]({stem}.ipynb){{ .notebook-source }}"
    return "\n\n".join([*parts, link]), pictures

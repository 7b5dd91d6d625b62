"""What the pages and docstrings show is true: examples run, commands parse, links lead to files."""

import ast
import contextlib
import doctest
import importlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fasttrack import nn, ops
from fasttrack.cli import _join_negative_boxes, _parser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = [p for p in sorted((ROOT / "fasttrack").rglob("*.py")) if ">>> " in p.read_text(encoding="utf-8")]
BLOCK = re.compile(
    r"^(?P<mark><!-- runs -->\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def name_of(path):
    return str(path.relative_to(ROOT))


def pages_with(pattern):
    return [pytest.param(p, id=name_of(p)) for p in PAGES if re.search(pattern, p.read_text(encoding="utf-8"), re.M)]


def blocks(path):
    """(language, lines, whether it runs) of every fenced block."""
    for found in BLOCK.finditer(path.read_text(encoding="utf-8")):
        lines = [line.removeprefix(found["indent"]) for line in found["body"].splitlines()]
        yield found["language"], lines, found["mark"] is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_in_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        failed, tried = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=options)
    assert tried, f"{path}: holds >>> where doctest does not look"
    assert not failed, report.getvalue()


def test_a_wrong_example_fails():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda _: None).failed == 1


@pytest.mark.parametrize("path", pages_with(r"^ *```python$"))
def test_python_in_pages_compiles_and_what_is_marked_runs(path):
    shared = {"__name__": "page"}
    for language, lines, runs in blocks(path):
        if language != "python":
            continue
        code = compile("\n".join(lines), name_of(path), "exec")
        if runs:
            exec(code, shared)


def commands(path, *start):
    """What follows these words in the command lines of a page."""
    for language, lines, _ in blocks(path):
        for line in lines if language in ("", "console", "sh", "bash") else ():
            for command in line.partition(" # ")[0].split("&&"):
                words = shlex.split(command)
                if words[: len(start)] == list(start):
                    yield words[len(start) :]


@pytest.mark.parametrize("path", pages_with(r"^ *fasttrack "))
def test_commands_in_pages_parse(path):
    found = list(commands(path, "fasttrack"))
    assert found
    for words in found:
        _parser().parse_args(_join_negative_boxes(words))  # exits where an option is unknown


@pytest.mark.parametrize("path", pages_with(r"^ *python -m fasttrack\.compat "))
def test_commands_that_run_other_programs_parse(path):
    from fasttrack.compat.__main__ import _parser, _split

    found = list(commands(path, "python", "-m", "fasttrack.compat"))
    assert found
    for words in found:
        ours, program = _split(words)
        options = _parser().parse_args(ours)
        assert options.list or options.module or program


def test_a_wrong_command_does_not_parse(capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args(["track", "clip.mp4", "--boxes", "1,2,3,4"])
    assert "--boxes" in capsys.readouterr().err


LINK = re.compile(r"(?<!\\)\]\(([^()\s]+)\)")


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_to_files(path):
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "#")):
            continue
        file = (path.parent / target.partition("#")[0]).resolve()
        # The page of a notebook is made when the site is built.
        notebook = file.with_suffix(".ipynb")
        assert file.exists() or (file.parent.name == "notebooks" and notebook.exists()), f"{path}: {target}"
        assert file.is_relative_to(ROOT), f"{path}: {target} leaves the repository"


def test_navigation_names_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w./-]+\.md\b", text.partition("\nnav:")[2]))
    made = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")}
    made |= {str(p.relative_to(DOCS).with_suffix(".md")) for p in DOCS.rglob("*.ipynb")}
    assert listed == made


def entries():
    for page in sorted((DOCS / "ops").glob("*.md")):
        yield from re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def resolved(dotted):
    module, _, name = dotted.rpartition(".")
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(dotted) is not None:
            return importlib.import_module(dotted)
    return getattr(importlib.import_module(module), name)


def test_every_op_and_module_has_one_entry_in_the_reference():
    found = [resolved(entry) for entry in entries()]
    public = {name: getattr(room, name) for room in (ops, nn) for name in room.__all__}
    missing = [name for name, value in public.items() if sum(value is entry for entry in found) != 1]
    assert not missing


def hook(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_include_sections_with_their_links_turned():
    include = hook("include")
    for page in PAGES:
        if DOCS in page.parents:
            include.included(page.read_text(encoding="utf-8"), str(page.relative_to(DOCS)))
    text = "# T\n\n## A\n\n[k](docs/k.md)\n\n```\n# no heading\n```\n\n### B\n\nb\n\n## C\n"
    assert include.section(text, "A", "t") == "[k](docs/k.md)\n\n```\n# no heading\n```\n\n### B\n\nb"
    assert include.section(text, "B", "t") == "b"
    put = include.included("<!-- include README.md#Evaluate -->", "ops/index.md")
    assert "](../evaluation.md)" in put and "](docs/" not in put
    with pytest.raises(include.MissingSection, match=r"t has no section 'D'"):
        include.section(text, "D", "t")


def test_docstrings_are_rewritten_for_the_reference():
    pytest.importorskip("griffe", reason="the reference is read with fasttrack[docs]")
    rewritten = hook("docstrings").rewritten
    assert rewritten("Sum.\n\nout[k, c] = Σ x[k, c]\n\nSource: us.") == (
        "Sum.\n\n```text\nout[k, c] = Σ x[k, c]\n```\n\n**Source.** us."
    )
    assert rewritten("m[i][r] of ``m[i][r]``") == "m[i]\\[r] of ``m[i][r]``"
    assert rewritten("Args:\n    a, b: as\n        in it.\n    c: else") == (
        "Args:\n    a: as\n        in it.\n    b: as\n        in it.\n    c: else"
    )
    assert rewritten("Returns:\n    The loss: a number.", "Tensor") == "Returns:\n    Tensor: The loss: a number."
    assert rewritten("Raises:\n    As in ``f``.") == "**Raises.** As in ``f``."
    assert rewritten("Raises:\n    ValueError: always.") == "Raises:\n    ValueError: always."


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=name_of)
def test_notebooks_are_kept_without_outputs(path):
    import json

    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    for cell in code:
        ast.parse("".join(cell["source"]))


@pytest.mark.notebook
@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=name_of)
def test_notebooks_run(path):
    for package in ("mkdocs", "nbclient", "ipykernel"):
        pytest.importorskip(package, reason="notebooks run with fasttrack[docs]")
    notebook = hook("notebooks").executed(path)
    assert any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.notebook
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs", reason="the site is built with fasttrack[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    # The notebooks are run by the test above.
    draft = {**os.environ, "FASTTRACK_DOCS": "draft"}
    done = subprocess.run(command, cwd=ROOT, env=draft, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for page in (tmp_path / "site").rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?(https?://[^\"'\s>]+)", html)
        for link in re.findall(r"<link[^>]*>", html):
            if "canonical" not in link:
                fetched += re.findall(r"href=[\"']?(https?://[^\"'\s>]+)", link)
        assert not fetched, f"{page}: {fetched}"

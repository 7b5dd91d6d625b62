"""The house checks itself: who may import whom, one stem per op, sizes of files and functions."""

import ast
import sys
from pathlib import Path

import pytest

from fasttrack import spec

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fasttrack"

# Room → rooms of ours that it may import ("*": all). A room may always import itself.
BASE = {"errors", "geometry", "_version"}
ALLOWED = {
    "errors": set(),
    "_version": set(),
    "geometry": {"errors"},
    "spec": {"errors"},
    "dispatch": {"errors", "spec"},
    "native": {"errors", "spec"},
    "gpu": {"errors", "native"},
    "ops": BASE | {"dispatch", "gpu", "native", "spec", "kernels"},
    "nn": BASE | {"ops"},
    "kernels": set(),
    "vision": BASE | {"ops", "nn"},
    "models": BASE | {"ops", "nn", "vision"},
    "trackers": BASE | {"ops", "vision", "models"},
    "video": BASE,
    "evaluation": BASE | {"trackers", "video"},
    # Files that other programs run: the ops as plain operators, whatever module calls them.
    "onnx": BASE | {"ops", "spec"},
    "training": BASE | {"ops", "nn", "vision", "models"},
    "compat": BASE | {"ops", "nn", "trackers"},
    "cli": "*",
    "__init__": "*",
}
# Import is free: none of these may load with the package or its light modules.
HEAVY = {"triton", "cupy", "cv2", "onnx", "onnxscript", "onnxruntime"}


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imported(tree, top_only=False):
    """Dotted names a module imports; with ``top_only`` those outside functions and TYPE_CHECKING."""
    nodes = ast.walk(tree) if not top_only else walk_top(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def walk_top(tree):
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        todo.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_layers(path):
    room = room_of(path)
    assert room in ALLOWED, f"{path}: no room {room} in the plan of the house"
    if ALLOWED[room] == "*":
        return
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "fasttrack" and len(parts) > 1:
            target = parts[1]
            assert target == room or target in ALLOWED[room], f"{path}: {room} may not import {name}"
        assert parts[0] not in ("kernels", "pybind11"), f"{path}: imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_imports_stay_inside_functions(path):
    names = {name.split(".")[0] for name in imported(ast.parse(path.read_text()), top_only=True)}
    assert not names & HEAVY


def test_kernels_import_torch_and_triton_only():
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        for name in imported(ast.parse(path.read_text())):
            top = name.split(".")[0]
            assert top in {"torch", "triton", "fasttrack"} | sys.stdlib_module_names, f"{path}: {name}"
            assert not name.startswith("fasttrack.") or name.startswith("fasttrack.kernels"), f"{path}: {name}"


@pytest.mark.parametrize("stem", spec.stems())
def test_one_stem_per_op(stem):
    wanted = [
        PACKAGE / "ops" / f"{stem}.py",
        ROOT / "csrc" / f"{stem}.h",
        ROOT / "csrc" / "cpu" / f"{stem}.cpp",
        ROOT / "csrc" / "bindings" / f"{stem}.cpp",
        ROOT / "tests" / f"test_{stem}.py",
        ROOT / "bench" / f"test_{stem}.py",
    ]
    missing = [str(p.relative_to(ROOT)) for p in wanted if not p.exists()]
    assert not missing, f"op {stem}: missing {', '.join(missing)}"


def test_only_bindings_know_pybind11():
    users = {p.parent.name for p in (ROOT / "csrc").rglob("*") if p.is_file() and "pybind11" in p.read_text()}
    assert users == {"bindings"}


def source_files():
    return [*modules(), *sorted((ROOT / "kernels").rglob("*.py"))]


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path):
    text = path.read_text()
    limit = 150 if path.parent == PACKAGE / "trackers" and path.name not in {"base.py", "__init__.py"} else 300
    assert len(text.splitlines()) <= limit, f"{path}: more than {limit} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
            assert length <= 50, f"{path}: {node.name} has {length} lines without its docstring"


# Where anything that a tracker may raise becomes part of the result, with its traceback, and the run goes on.
RECORDERS = {PACKAGE / "evaluation" / "runner" / "workbench.py": 1}


def test_no_broad_except():
    for path in source_files():
        allowed = RECORDERS.get(path, 0)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                allowed -= caught == "Exception"
                assert caught not in {"BaseException", "everything"} and allowed >= 0, f"{path}:{node.lineno}"

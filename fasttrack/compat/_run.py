"""Running a program as ``__main__`` in this process, as python itself runs it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

__all__ = ["enter_folder", "hide_frames_of", "open_legacy_torch", "run_module", "run_script"]

# Held for the rest of the process.
_OPEN = contextlib.ExitStack()


def hide_frames_of(starter: str) -> None:
    """Leave what started the program out of its tracebacks, as python leaves itself out."""
    machinery = {__file__, starter, runpy.__file__, "<frozen runpy>"}

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        while traceback is not None and traceback.tb_frame.f_code.co_filename in machinery:
            traceback = traceback.tb_next
        sys.__excepthook__(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = show


def open_legacy_torch() -> None:
    """Open ``legacy_torch`` until the process ends."""
    from fasttrack.compat._legacy_torch import legacy_torch

    _OPEN.enter_context(legacy_torch())


def enter_folder(script: str) -> None:
    """Let imports look first where the script lies, not in the current folder."""
    full, safe = os.path.abspath(script), getattr(sys.flags, "safe_path", False)
    contained = pkgutil.get_importer(full) is not None  # a folder or an archive with a __main__.py
    folder = full if contained else os.path.dirname(os.path.realpath(full))
    if not safe:
        sys.path[0] = folder
    elif contained:
        sys.path.insert(0, folder)


def run_script(path: str, args: Sequence[str]) -> None:
    """Run a file, or a folder or archive with a ``__main__.py``; exit code 2 where it cannot be opened."""
    sys.argv[:] = [path, *args]
    full = os.path.abspath(path)
    if (finder := pkgutil.get_importer(full)) is not None:
        spec = finder.find_spec("__main__")
        if spec is None:
            _stop(1, f"can't find '__main__' module in {full!r}")
        _run_spec(spec)
        return
    try:
        with io.open_code(full) as stream:
            source = stream.read()
    except OSError as error:
        _stop(2, f"can't open file {full!r}: [Errno {error.errno}] {error.strerror}")
    loader = SourceFileLoader("__main__", full)
    _execute(compile(source, full, "exec", dont_inherit=True), {"__file__": full, "__loader__": loader})


def run_module(name: str, args: Sequence[str]) -> None:
    """Run a module, or the ``__main__`` of a package; exit code 1 where there is none."""
    sys.argv[:] = ["-m", *args]
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _find(name)
    if spec is None:
        _stop(1, f"No module named {name}")
    sys.argv[0] = spec.origin or name
    _run_spec(spec)


def _run_spec(spec: ModuleSpec) -> None:
    code = spec.loader.get_code(spec.name) if spec.loader is not None and hasattr(spec.loader, "get_code") else None
    if code is None:
        _stop(1, f"No code object available for {spec.name}")
    identity = {"__spec__": spec, "__package__": spec.parent, "__loader__": spec.loader}
    _execute(code, {**identity, "__file__": spec.origin, "__cached__": spec.cached})


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # A package above it is missing; one that is there and misses an import of its own is the program's error.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        raise


def _execute(code: CodeType, identity: dict[str, object]) -> None:
    main = ModuleType("__main__")
    vars(main).update({"__package__": None, "__spec__": None, "__cached__": None, **identity})
    sys.modules["__main__"] = main
    exec(code, vars(main))


def _stop(code: int, message: str) -> NoReturn:
    print(f"{sys.executable}: {message}", file=sys.stderr)
    raise SystemExit(code)

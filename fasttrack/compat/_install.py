"""Switching the foreign names on and off, and the list of what they replace."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType

from fasttrack.compat import names
from fasttrack.compat._finder import FINDER, find_elsewhere, put_back, resolve, value_at
from fasttrack.errors import ArgumentError

__all__ = ["Installed", "Replaced", "install", "uninstall"]


@dataclass(frozen=True)
class Replaced:
    """One foreign name.

    Attributes:
        name: the foreign module, e.g. ``prroi_pool.functional``.
        module: the module of ours that stands for it.
        before: file of the module that stood there (its name where it has no file), or "nothing".
    """

    name: str
    module: str
    before: str


@dataclass
class _Group:
    """What a group put aside when it was switched on."""

    rows: tuple[Replaced, ...] = ()
    modules: dict[str, ModuleType | None] = field(default_factory=dict)
    attributes: list[tuple[ModuleType, str, object]] = field(default_factory=list)


_LOCK = threading.RLock()
_ON: dict[str, _Group] = {}
_HOLDERS: list[Installed] = []


class Installed:
    """The names one ``install`` asked for: a list of ``Replaced`` rows, and a context manager that ends it.

    A group stays on until the last ``Installed`` that asked for it is ended, or ``uninstall()`` ends them all.
    ``str()`` of it is a table.
    """

    def __init__(self, groups: tuple[str, ...], rows: tuple[Replaced, ...]) -> None:
        self.groups, self.rows = groups, rows

    @property
    def names(self) -> tuple[str, ...]:
        """The foreign modules."""
        return tuple(row.name for row in self.rows)

    def uninstall(self) -> None:
        """End this install; a second call, or one after ``compat.uninstall()``, changes nothing."""
        with _LOCK:
            if self in _HOLDERS:
                _HOLDERS.remove(self)
                _drop_unheld()

    def __enter__(self) -> Installed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.uninstall()

    def __iter__(self) -> Iterator[Replaced]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        wide = max((len(row.name) for row in self.rows), default=0)
        ours = max((len(row.module) for row in self.rows), default=0)
        return "\n".join(f"{r.name:{wide}}  → {r.module:{ours}}  before: {r.before}" for r in self.rows)

    def __repr__(self) -> str:
        return f"<Installed {', '.join(self.groups)}: {len(self.rows)} names>"


def install(prroi: bool = True, pytracking: bool = True, pysot: bool = True, mmcv: bool = False) -> Installed:
    """Let ``import`` find our modules under the names of other packages.

    Only the modules of the list are replaced: packages above them that exist go on loading all else from where they
    are, packages that do not exist are made. Nothing is imported now (torch neither), except in place of modules that
    are loaded already. What a program took out of such a module before (``from prroi_pool import PrRoIPool2D``) it
    keeps.

    Args:
        prroi: ``prroi_pool``, ``_prroi_pooling``, and ``PreciseRoIPooling.pytorch.prroi_pool`` below any package.
        pytracking: ``pytracking.libs.*``, ``pytracking.features.preprocessing``, ``ltr.models.layers.filter``.
        pysot: ``pysot.core.xcorr``.
        mmcv: ``mmcv.ops.prroi_pool`` and the two names of it in ``mmcv.ops``; off by default, mmcv is alive.

    Returns:
        The list of what is replaced, to print or to end (``with install(): …``). A second install of a group changes
        nothing; the group is switched off with the last one that is ended.

    Raises:
        ArgumentError: an argument is not True or False.
    """
    asked = {"prroi": prroi, "pytracking": pytracking, "pysot": pysot, "mmcv": mmcv}
    for name, value in asked.items():
        if not isinstance(value, bool):
            raise ArgumentError("compat.install", name, "True or False", repr(value))
    groups = tuple(name for name, value in asked.items() if value)
    with _LOCK, contextlib.ExitStack() as undo:
        undo.callback(_drop_unheld)
        for group in groups:
            if group not in _ON:
                _switch_on(group)
        held = Installed(groups, tuple(row for group in groups for row in _ON[group].rows))
        _HOLDERS.append(held)
        undo.pop_all()
    return held


def uninstall() -> None:
    """End every install: ``sys.modules``, the packages' attributes and ``sys.meta_path`` are as they were before.

    Modules of the program that were loaded meanwhile keep what they took from ours. Without an install it does nothing.
    """
    with _LOCK:
        _HOLDERS.clear()
        _drop_unheld()


def _drop_unheld() -> None:
    for group in [g for g in _ON if not any(g in holder.groups for holder in _HOLDERS)]:
        _switch_off(group)


def _switch_on(group: str) -> None:
    state = _ON[group] = _Group(tuple(Replaced(n, ours, _before(n)) for n, ours in names.ROWS[group].items()))
    FINDER.groups = (*FINDER.groups, group)
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
    loaded = sorted(name for name in tuple(sys.modules) if names.target_of(name, group) is not None)
    for name in loaded:
        state.modules[name] = sys.modules.pop(name)
    for name in loaded:
        importlib.import_module(name)
    for package, exports in names.EXPORTS.items():
        module = sys.modules.get(package)
        if module is None or package in FINDER.made or not names.is_parent(package, group):
            continue
        # A package without a file is a bare folder: it offers none of them by itself.
        bare = getattr(module, "__file__", None) is None
        for attribute, target in exports.items():
            if bare or attribute in vars(module):
                state.attributes.append((module, attribute, value_at(module, attribute)))
                setattr(module, attribute, resolve(package, target))


def _switch_off(group: str) -> None:
    state = _ON.pop(group)
    FINDER.groups = tuple(g for g in FINDER.groups if g != group)
    if not FINDER.groups:
        sys.meta_path.remove(FINDER)
    for module, attribute, value in reversed(state.attributes):
        put_back(module, attribute, value)
    made = tuple(FINDER.made)  # another thread may import meanwhile
    FINDER.withdraw([name for name in made if FINDER.target(name) is None and not FINDER.is_parent(name)])
    sys.modules.update(state.modules)  # type: ignore[arg-type]  # None marks a name that must not be found


def _before(name: str) -> str:
    """What a program finds under a foreign name, without importing anything for the answer."""
    if (module := sys.modules.get(name)) is not None:
        return str(getattr(module, "__file__", None) or name)
    parts = name.split(".")
    spec = find_elsewhere(parts[0], None)
    for depth in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return "nothing"
        spec = _find_in(spec.submodule_search_locations, ".".join(parts[:depth]))
    return spec.origin if spec is not None and spec.origin is not None else "nothing"


def _find_in(folders: Sequence[str], name: str) -> ModuleSpec | None:
    """The spec of a submodule in the folders of its package, which need not be loaded for it."""
    locations: list[str] = []
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(name) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None and spec.submodule_search_locations:
            locations += spec.submodule_search_locations
    bare = ModuleSpec(name, None, is_package=True)
    bare.submodule_search_locations = locations
    return bare if locations else None

"""The import hook: a finder that serves the foreign names of the groups switched on, and nothing else.

A foreign module is a module object of its own, filled from ours: names, docstring and file are ours, the module's own
name is the foreign one. So what the importing program changes in it never reaches our modules.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NamedTuple

from fasttrack.compat import names

__all__ = ["FINDER", "Finder", "find_elsewhere", "put_back", "resolve", "value_at"]

# What belongs to a module as such: every foreign module has its own.
_IDENTITY = frozenset(
    ("__name__", "__spec__", "__loader__", "__package__", "__path__", "__file__", "__cached__", "__builtins__")
)
_MISSING = object()


class Made(NamedTuple):
    """A module that was put into ``sys.modules``, and what its parent's attribute of that name was before."""

    module: ModuleType
    parent: ModuleType | None
    before: object

    def withdraw(self, name: str) -> None:
        """Take the module out again, unless another has taken its place."""
        if sys.modules.get(name) is self.module:
            del sys.modules[name]
        child = name.rpartition(".")[2]
        if self.parent is not None and value_at(self.parent, child) is self.module:
            put_back(self.parent, child, self.before)


def value_at(module: ModuleType, attribute: str) -> object:
    """An attribute that a module holds itself; a mark of its own where it holds none."""
    return vars(module).get(attribute, _MISSING)


def put_back(module: ModuleType, attribute: str, value: object) -> None:
    """Undo an assignment: ``value`` is what ``value_at`` said before it."""
    if value is not _MISSING:
        setattr(module, attribute, value)
    elif attribute in vars(module):
        delattr(module, attribute)


def find_elsewhere(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """What the other finders of ``sys.meta_path`` have under a name."""
    for finder in sys.meta_path:
        if finder is FINDER or not hasattr(finder, "find_spec"):
            continue
        if (spec := finder.find_spec(name, path, None)) is not None:
            return spec
    return None


def resolve(package: str, target: str) -> object:
    """The object that ``names.EXPORTS`` writes as ``.module`` or ``.module:attribute``."""
    module, _, attribute = target.partition(":")
    found = importlib.import_module(package + module)
    return getattr(found, attribute) if attribute else found


class _ForeignLoader(Loader):
    """Makes a foreign module from ours, or (without one of ours) a package that only holds others."""

    def __init__(self, ours: str | None) -> None:
        self.ours = ours

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty module, noted so that it can be withdrawn."""
        module = ModuleType(spec.name)
        above, _, child = spec.name.rpartition(".")
        parent, last = sys.modules.get(above), FINDER.made.get(spec.name)
        before = value_at(parent, child) if parent is not None else _MISSING
        if last is not None and before is last.module:  # made once before, and deleted by the program
            before = last.before
        FINDER.made[spec.name] = Made(module, parent, before)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module; a package also gets what the foreign package offers."""
        if self.ours is not None:
            ours = importlib.import_module(self.ours)
            vars(module).update({k: v for k, v in vars(ours).items() if k not in _IDENTITY})
        for attribute, target in names.exports_of(module.__name__).items():
            setattr(module, attribute, resolve(module.__name__, target))


class Finder(MetaPathFinder):
    """Serves the rows of the groups that are on, and packages above them where no real ones are found.

    Attributes:
        groups: groups switched on; replaced as a whole, so that an import in another thread sees one state.
        made: foreign modules that stand in ``sys.modules`` because of this finder.
    """

    def __init__(self) -> None:
        self.groups: tuple[str, ...] = ()
        self.made: dict[str, Made] = {}

    def target(self, name: str) -> str | None:
        """The module of ours that stands for a foreign one, None where none does."""
        found = (names.target_of(name, group) for group in self.groups)
        return next((ours for ours in found if ours is not None), None)

    def is_parent(self, name: str) -> bool:
        """Whether a package lies above a name that is served."""
        return any(names.is_parent(name, group) for group in self.groups)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for a served name, or for a package above one that exists nowhere; else None."""
        parent, ours = self.is_parent(fullname), self.target(fullname)
        if ours is not None:
            return self._spec(fullname, ours, [] if parent else None)
        if not parent:
            return None
        real = find_elsewhere(fullname, path)
        if real is None:
            return self._spec(fullname, None, [])
        # An empty folder (a submodule that was not fetched) counts as a package of no content; one that has to offer
        # names is replaced, and goes on finding its modules on disk.
        if real.origin is None and real.submodule_search_locations is not None and names.exports_of(fullname):
            return self._spec(fullname, None, list(real.submodule_search_locations))
        return None

    @staticmethod
    def _spec(name: str, ours: str | None, locations: list[str] | None) -> ModuleSpec:
        source = importlib.util.find_spec(ours) if ours is not None else None
        spec = ModuleSpec(name, _ForeignLoader(ours), origin=source.origin if source else None)
        spec.submodule_search_locations = locations
        spec.has_location = source is not None and source.has_location
        return spec

    def withdraw(self, module_names: Iterable[str]) -> None:
        """Take modules out of ``sys.modules`` and off their parents, children first."""
        for name in sorted(module_names, reverse=True):
            self.made.pop(name).withdraw(name)


FINDER = Finder()

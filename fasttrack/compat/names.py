"""Which foreign names the package stands in for, and with which of its modules.

``ROWS`` is the table by group; ``EXPORTS`` says what the packages above the rows offer by themselves, which a package
of ours must offer too where no real one is there. Strings only: reading the table loads nothing.
"""

from __future__ import annotations

__all__ = ["EXPORTS", "GROUPS", "ROWS", "VENDORED", "exports_of", "is_parent", "target_of"]

# Where PreciseRoIPooling lies as a submodule of a repository: below any package, what follows is a row of "prroi".
VENDORED = "PreciseRoIPooling.pytorch."

_PRROI = {
    "prroi_pool": "fasttrack.compat.prroi",
    "prroi_pool.prroi_pool": "fasttrack.compat.prroi",
    "prroi_pool.functional": "fasttrack.compat.prroi",
    "prroi_pool._prroi_pooling": "fasttrack.compat.prroi_extension",
}
_LIBS = ("complex", "dcf", "fourier", "operation", "optimization", "tensordict", "tensorlist")
_CONTAINERS = {"tensorlist": "TensorList", "tensordict": "TensorDict"}

# Group → foreign module → module of ours.
ROWS: dict[str, dict[str, str]] = {
    "prroi": {
        **_PRROI,
        "_prroi_pooling": "fasttrack.compat.prroi_extension",
        **{f"ltr.external.{VENDORED}{name}": ours for name, ours in _PRROI.items()},
    },
    "pytracking": {
        **{f"pytracking.libs.{name}": f"fasttrack.compat.pytracking.{name}" for name in _LIBS},
        "pytracking.features.preprocessing": "fasttrack.compat.pytracking.preprocessing",
        "ltr.models.layers.filter": "fasttrack.compat.pytracking.filter",
    },
    "pysot": {"pysot.core.xcorr": "fasttrack.compat.pysot"},
    "mmcv": {"mmcv.ops.prroi_pool": "fasttrack.compat.mmcv"},
}
GROUPS = tuple(ROWS)

# Foreign package → its attribute → module (relative to the package) or module:attribute. In this order they are bound.
EXPORTS: dict[str, dict[str, str]] = {
    "prroi_pool": {"functional": ".functional", "prroi_pool": ".prroi_pool"},
    "pytracking": {
        **{kind: f".libs.{name}:{kind}" for name, kind in _CONTAINERS.items()},
        **{name: f".libs.{name}" for name in _LIBS if name not in _CONTAINERS},
    },
    "pytracking.libs": {
        **{kind: f".{name}:{kind}" for name, kind in _CONTAINERS.items()},
        **{name: f".{name}" for name in _LIBS},
    },
    "mmcv.ops": {"PrRoIPool": ".prroi_pool:PrRoIPool", "prroi_pool": ".prroi_pool:prroi_pool"},
}


def _row_name(name: str) -> str:
    """The name a row has in the table: of a vendored copy, the name below the folder it lies in."""
    head, found, tail = name.rpartition(VENDORED)
    return tail if found and (not head or head.endswith(".")) else name


def target_of(name: str, group: str) -> str | None:
    """The module of ours that stands for a foreign module, None where the group does not serve it."""
    row = _row_name(name) if group == "prroi" else name
    return ROWS[group].get(row)


def exports_of(name: str) -> dict[str, str]:
    """What a foreign package offers beside its modules; empty for most."""
    return EXPORTS.get(_row_name(name), {})


_PARENTS = {
    group: frozenset(name[:at] for name in rows for at, letter in enumerate(name) if letter == ".")
    for group, rows in ROWS.items()
}
_VENDORED_PARENTS = tuple(VENDORED[:at] for at, letter in enumerate(VENDORED) if letter == ".")


def is_parent(name: str, group: str) -> bool:
    """Whether a package lies above a row of the group."""
    if group != "prroi":
        return name in _PARENTS[group]
    folders = (name == folder or name.endswith(f".{folder}") for folder in _VENDORED_PARENTS)
    return name in _PARENTS[group] or _row_name(name) in _PARENTS[group] or any(folders)

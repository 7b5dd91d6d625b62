"""The import hook: what is served, what stays, and that everything is as before afterwards."""

import importlib
import importlib.util
import inspect
import pickle
import subprocess
import sys
import threading
import types

import pytest

import fasttrack
from fasttrack import compat
from fasttrack.compat import names, prroi
from fasttrack.errors import ArgumentError

VENDORED = "ltr.external.PreciseRoIPooling.pytorch.prroi_pool"
FOREIGN = ("prroi_pool", "_prroi_pooling", "ltr", "pytracking", "pysot", "mmcv", "vendor")


def foreign_modules():
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] in FOREIGN}


@pytest.fixture(autouse=True)
def clean():
    """No test starts with, or leaves, a foreign module or an install."""
    path, meta = list(sys.path), list(sys.meta_path)
    assert not foreign_modules()
    yield
    compat.uninstall()
    for name in foreign_modules():
        del sys.modules[name]
    sys.path[:] = path
    assert sys.meta_path == meta


@pytest.fixture
def tree(tmp_path):
    """Write packages on disk: ``tree({"ltr/__init__.py": "x = 1", "empty/": ""})``."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_text(text)
        sys.path.insert(0, str(tmp_path))
        importlib.invalidate_caches()
        return tmp_path

    return write


def test_every_row_names_a_module():
    for rows in names.ROWS.values():
        for ours in rows.values():
            assert importlib.util.find_spec(ours) is not None, ours


def test_import_forms():
    before = set(sys.modules)
    with compat.install():
        import ltr.external.PreciseRoIPooling.pytorch.prroi_pool as package
        import ltr.external.PreciseRoIPooling.pytorch.prroi_pool.functional as functional
        import prroi_pool
        from ltr.external.PreciseRoIPooling.pytorch.prroi_pool import PrRoIPool2D
        from ltr.external.PreciseRoIPooling.pytorch.prroi_pool.prroi_pool import PrRoIPool2D as Again
        from pysot.core.xcorr import xcorr_depthwise

        # As after the original's own __init__, submodules are there without an import of their own.
        assert prroi_pool.functional.prroi_pool2d is functional.prroi_pool2d is prroi.prroi_pool2d
        assert PrRoIPool2D is Again is package.PrRoIPool2D is prroi_pool.prroi_pool.PrRoIPool2D is prroi.PrRoIPool2D
        assert xcorr_depthwise is importlib.import_module("fasttrack.compat.pysot").xcorr_depthwise
        with pytest.raises(ModuleNotFoundError, match=r"ltr\.models\.bbreg"):
            importlib.import_module("ltr.models.bbreg")
        with pytest.raises(ModuleNotFoundError, match="mmcv"):
            importlib.import_module("mmcv.ops")
    left = {name for name in set(sys.modules) - before if name.split(".")[0] in FOREIGN}
    assert not left
    with pytest.raises(ModuleNotFoundError, match="prroi_pool"):
        importlib.import_module("prroi_pool")


def test_modules_know_who_they_are():
    with compat.install():
        module = importlib.import_module("prroi_pool.functional")
        assert module.__name__ == module.__spec__.name == "prroi_pool.functional"
        assert module.__package__ == "prroi_pool" and importlib.import_module("prroi_pool").__path__ == []
        assert inspect.getsource(module) == inspect.getsource(prroi)
        assert inspect.getsource(module.PrRoIPool2D).startswith("class PrRoIPool2D(")
        assert inspect.getsourcefile(module.PrRoIPool2D) == inspect.getsourcefile(module) == prroi.__file__
        assert importlib.util.find_spec("prroi_pool.functional").origin == prroi.__file__
        assert importlib.util.find_spec("ltr.external").loader is not None
        module.prroi_pool2d = None
        assert importlib.reload(module) is module and module.prroi_pool2d is prroi.prroi_pool2d


def test_pickles_by_foreign_name():
    old = b"cltr.external.PreciseRoIPooling.pytorch.prroi_pool.prroi_pool\nPrRoIPool2D\n."
    with compat.install():
        assert pickle.loads(old) is prroi.PrRoIPool2D
        layer = pickle.loads(pickle.dumps(importlib.import_module("prroi_pool").PrRoIPool2D(3, 4, 0.5)))
    assert (layer.pooled_height, layer.pooled_width, layer.spatial_scale) == (3, 4, 0.5)


def test_real_parents_keep_their_modules(tree):
    """A checkout whose submodule folder is empty: only the served names are ours."""
    root = tree(
        {
            "ltr/__init__.py": "real = True",
            "ltr/models/__init__.py": "from ltr.models.pooling import Pool",
            "ltr/models/pooling.py": f"from {VENDORED} import PrRoIPool2D as Pool",
            "ltr/models/layers/__init__.py": "",
            "ltr/models/layers/blocks.py": "block = 1",
            "ltr/external/PreciseRoIPooling/": "",
        }
    )
    with pytest.raises(ModuleNotFoundError, match="PreciseRoIPooling"):
        importlib.import_module("ltr.models")
    listed = compat.install()
    models = importlib.import_module("ltr.models")
    assert models.Pool is prroi.PrRoIPool2D and sys.modules["ltr"].real
    assert importlib.import_module("ltr.models.layers.blocks").block == 1
    assert str(root) in sys.modules["ltr.external"].__path__[0]
    assert {row.before for row in listed} == {"nothing"}
    listed.uninstall()
    # What came from disk stays; what was ours is gone, also from its parents.
    assert "ltr.models.layers.blocks" in sys.modules and "ltr.external.PreciseRoIPooling" in sys.modules
    assert "ltr.external.PreciseRoIPooling.pytorch" not in sys.modules
    assert not hasattr(sys.modules["ltr.external.PreciseRoIPooling"], "pytorch")


def test_any_vendored_place(tree):
    tree({"vendor/nets/__init__.py": "", "vendor/nets/head.py": "from .PreciseRoIPooling.pytorch.prroi_pool import *"})
    with compat.install():
        head = importlib.import_module("vendor.nets.head")
        assert head.PrRoIPool2D is prroi.PrRoIPool2D
        functional = importlib.import_module("vendor.nets.PreciseRoIPooling.pytorch.prroi_pool.functional")
        assert functional.prroi_pool2d is prroi.prroi_pool2d
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("vendor.notPreciseRoIPooling.pytorch.prroi_pool")
    assert not [name for name in sys.modules if "PreciseRoIPooling" in name]


def test_a_copy_that_does_not_build(tree):
    """The original is there, and fails on import as it does without nvcc: ours is found instead."""
    folder = VENDORED.replace(".", "/")
    failing = {f"{folder}/functional.py": "raise ImportError('no nvcc')", f"{folder}/prroi_pool.py": "from .functional"}
    root = tree({f"{folder}/__init__.py": "from .prroi_pool import *", **failing})
    with compat.install() as listed:
        assert importlib.import_module(VENDORED).PrRoIPool2D is prroi.PrRoIPool2D
        assert importlib.import_module(f"{VENDORED}.functional").prroi_pool2d is prroi.prroi_pool2d
        before = {row.name: row.before for row in listed}
        assert before[f"{VENDORED}.functional"] == str(root / folder / "functional.py")
        assert before["prroi_pool.functional"] == "nothing"
    with pytest.raises((ImportError, SyntaxError)):
        importlib.import_module(VENDORED)


REAL_MMCV = {
    "mmcv/__init__.py": "",
    "mmcv/ops/__init__.py": "from .prroi_pool import PrRoIPool, prroi_pool\nfrom .nms import nms",
    "mmcv/ops/prroi_pool.py": "class PrRoIPool: pass\ndef prroi_pool(): pass",
    "mmcv/ops/nms.py": "def nms(): return 'real'",
}


@pytest.mark.parametrize("loaded", [False, True])
def test_mmcv_where_it_is_real(tree, loaded):
    from fasttrack.compat import mmcv as ours

    root = tree(REAL_MMCV)
    before = {}
    if loaded:
        ops = importlib.import_module("mmcv.ops")
        before = {**vars(ops)}
    with compat.install(mmcv=True) as listed:
        ops = importlib.import_module("mmcv.ops")
        assert ops.PrRoIPool is ours.PrRoIPool and ops.prroi_pool is ours.prroi_pool and ops.nms() == "real"
        assert importlib.import_module("mmcv.ops.prroi_pool").PrRoIPool is ours.PrRoIPool
        assert {r.name: r.before for r in listed}["mmcv.ops.prroi_pool"] == str(root / "mmcv/ops/prroi_pool.py")
    if loaded:
        assert vars(ops) == before
        assert sys.modules["mmcv.ops.prroi_pool"].PrRoIPool is before["PrRoIPool"]


def test_mmcv_where_there_is_none():
    from fasttrack.compat import mmcv as ours

    with compat.install(mmcv=True):
        importlib.import_module("mmcv.ops.prroi_pool")
        from mmcv.ops import PrRoIPool, prroi_pool

        assert PrRoIPool is ours.PrRoIPool and prroi_pool is ours.prroi_pool


def test_already_imported_is_swapped_and_restored(tree):
    """Entries, attributes of parents and the names parents had taken out of them."""
    libs = {f"pytracking/libs/{name}.py": "here = 'disk'" for name in ("complex", "dcf", "fourier", "operation")}
    root = tree(
        {
            "pytracking/__init__.py": "from pytracking.libs import TensorList\nimport pytracking.libs.dcf as dcf",
            "pytracking/libs/__init__.py": "from .tensorlist import TensorList",
            "pytracking/libs/tensorlist.py": "class TensorList: pass",
            "pytracking/other.py": "",
            **libs,
        }
    )
    importlib.import_module("pytracking.other")
    before = {name: (module, {**vars(module)}) for name, module in foreign_modules().items()}
    package = sys.modules["pytracking"]
    listed = compat.install()
    assert package.dcf is package.libs.dcf is sys.modules["pytracking.libs.dcf"]
    assert package.dcf.__file__ == importlib.import_module("fasttrack.compat.pytracking.dcf").__file__
    assert package.TensorList is package.libs.TensorList is package.libs.tensorlist.TensorList
    assert package.TensorList.__module__.startswith("fasttrack.")
    assert sys.modules["pytracking"] is package and hasattr(package, "other")
    found = {row.name: row.before for row in listed}
    assert found["pytracking.libs.dcf"] == str(root / "pytracking/libs/dcf.py")
    assert found["pytracking.libs.fourier"] == str(root / "pytracking/libs/fourier.py")  # not loaded, but there
    assert found["pytracking.libs.optimization"] == "nothing"
    listed.uninstall()
    after = {name: (module, {**vars(module)}) for name, module in foreign_modules().items()}
    assert after == before


def test_empty_folder_still_offers_names(tree):
    """``pytracking/`` as a submodule that was never fetched, with one module of the user's beside it."""
    tree({"pytracking/mine.py": "value = 3", "pytracking/libs/": ""})
    with compat.install():
        from pytracking import TensorList, complex, dcf
        from pytracking.mine import value

        assert value == 3 and TensorList.__module__.startswith("fasttrack.")
        assert (complex.__name__, dcf.__name__) == ("pytracking.libs.complex", "pytracking.libs.dcf")


def test_bare_folder_imported_before(tree):
    tree({"pytracking/": ""})
    package = importlib.import_module("pytracking")
    before = {**vars(package)}
    with compat.install():
        from pytracking import TensorList

        assert TensorList is importlib.import_module("pytracking.libs.tensorlist").TensorList
    assert vars(package) == before


def test_idempotent_and_nested():
    finders = list(sys.meta_path)
    first = compat.install()
    module = importlib.import_module("prroi_pool")
    with compat.install() as second:
        assert second.names == first.names and len(sys.meta_path) == len(finders) + 1
        assert importlib.import_module("prroi_pool") is module
        with compat.install(mmcv=True) as third:
            assert importlib.import_module("mmcv.ops") and len(third) == len(first) + 1
        assert "mmcv.ops" not in sys.modules
    assert sys.modules["prroi_pool"] is module
    second.uninstall()
    assert sys.modules["prroi_pool"] is module
    first.uninstall()
    first.uninstall()
    assert "prroi_pool" not in sys.modules and sys.meta_path == finders


def test_uninstall_ends_them_all():
    finders = list(sys.meta_path)
    held = [compat.install(), compat.install(), compat.install(mmcv=True)]
    importlib.import_module("mmcv.ops")
    compat.uninstall()
    compat.uninstall()
    assert sys.meta_path == finders and not foreign_modules()
    again = compat.install()
    held[0].uninstall()  # of before: must not end the new one
    assert importlib.import_module("prroi_pool") and again.names == held[0].names


def test_groups_alone():
    with compat.install(prroi=False, pytracking=False):
        importlib.import_module("pysot.core.xcorr")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("prroi_pool")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("ltr")
    assert len(compat.install(False, False, False)) == 0


def test_after_an_error_all_is_back():
    with pytest.raises(ZeroDivisionError), compat.install():
        importlib.import_module("prroi_pool")
        raise ZeroDivisionError
    assert not foreign_modules()


def test_blocked_and_replaced_modules():
    """``None`` in sys.modules, and a module the program puts there itself, are put back and left alone."""
    sys.modules["prroi_pool.functional"] = None
    mine = types.ModuleType("pysot.core.xcorr")
    with compat.install():
        assert importlib.import_module("prroi_pool.functional").prroi_pool2d is prroi.prroi_pool2d
        importlib.import_module("pysot.core.xcorr")
        sys.modules["pysot.core.xcorr"] = mine
    assert sys.modules["prroi_pool.functional"] is None and sys.modules["pysot.core.xcorr"] is mine


def test_deleted_and_imported_again(tree):
    tree({"pysot/__init__.py": "", "pysot/core/__init__.py": "xcorr = 'theirs'"})
    core = importlib.import_module("pysot.core")
    with compat.install():
        importlib.import_module("pysot.core.xcorr")
        del sys.modules["pysot.core.xcorr"]
        assert importlib.import_module("pysot.core.xcorr") is core.xcorr
    assert core.xcorr == "theirs"


def test_failing_switch_on_leaves_nothing(tree, monkeypatch):
    tree(REAL_MMCV)
    ops = importlib.import_module("mmcv.ops")
    before, finders = {**vars(ops)}, list(sys.meta_path)
    monkeypatch.setitem(names.ROWS["mmcv"], "mmcv.ops.prroi_pool", "fasttrack.compat.missing")
    with pytest.raises(ModuleNotFoundError, match=r"fasttrack\.compat\.missing"):
        compat.install(mmcv=True)
    assert vars(ops) == before and sys.meta_path == finders
    assert sys.modules["mmcv.ops.prroi_pool"].__file__.endswith("mmcv/ops/prroi_pool.py")


def test_threads():
    """Many threads install, import and uninstall: names never vanish under one that holds them."""
    errors, start = [], threading.Barrier(8)

    def work():
        start.wait()
        try:
            for _ in range(20):
                with compat.install():
                    assert importlib.import_module("pysot.core.xcorr").xcorr_fast
        except (ImportError, AssertionError, KeyError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and not foreign_modules()


def test_listing():
    with compat.install() as listed:
        assert {row.name for row in listed} == set(listed.names) and len(listed) == len(listed.names)
        assert "prroi_pool.functional" in listed.names and "mmcv.ops.prroi_pool" not in listed.names
        line = next(line for line in str(listed).splitlines() if line.startswith("pysot.core.xcorr"))
        assert line.split() == ["pysot.core.xcorr", "→", "fasttrack.compat.pysot", "before:", "nothing"]
        assert repr(listed) == f"<Installed prroi, pytracking, pysot: {len(listed)} names>"


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_wrong_argument(value):
    with pytest.raises(ArgumentError, match=r"compat\.install: pysot must be True or False, got"):
        compat.install(pysot=value)
    assert not [f for f in sys.meta_path if type(f).__module__.startswith("fasttrack")]


def test_light():
    """Neither the import nor an install loads torch; the first use does."""
    code = (
        "import sys, fasttrack, fasttrack.compat as c; a = c.install(mmcv=True); str(a)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "import importlib.util; assert importlib.util.find_spec('prroi_pool') and 'torch' not in sys.modules\n"
        "import prroi_pool; assert 'torch' in sys.modules\n"
        "assert fasttrack.compat.install is c.install"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_public_names():
    assert fasttrack.compat is compat
    assert set(compat.__all__) <= set(dir(compat))
    assert callable(compat.legacy_torch)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        compat.nothing

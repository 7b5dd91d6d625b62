"""Launch sizes: the nearest entry of the device's table, the default elsewhere, and tables that are well formed."""

import json
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from fasttrack.kernels import _tuning
from fasttrack.kernels._tuning import Space, launch_config, use_config

DEFAULT = {"BLOCK": 32, "num_warps": 4}


@pytest.fixture
def space(monkeypatch, tmp_path):
    monkeypatch.setattr(_tuning, "SPACES", {})
    monkeypatch.setattr(_tuning, "TABLES", tmp_path)
    _tuning._entries.cache_clear()
    _tuning._nearest.cache_clear()
    yield Space("made.kernel", BLOCK=(32, 64), num_warps=(2, 4))
    _tuning._entries.cache_clear()
    _tuning._nearest.cache_clear()


def write(folder, *entries):
    keys = ("kernel", "device", "shape", "config")
    rows = [dict(zip(keys, entry, strict=True)) for entry in entries]
    (folder / "made.json").write_text(json.dumps({"entries": rows}))


def test_default_without_a_table(space):
    assert launch_config(space, {"n": 5}, DEFAULT) == DEFAULT


def test_nearest_entry_of_this_device(space, tmp_path, monkeypatch):
    monkeypatch.setattr(_tuning, "_device", lambda: "A")
    small, large, other = ({"BLOCK": b, "num_warps": 2} for b in (32, 64, 128))
    write(
        tmp_path,
        ("made.kernel", "A", {"n": 10}, small),
        ("made.kernel", "A", {"n": 1000}, large),
        ("made.kernel", "B", {"n": 99}, other),
    )
    assert launch_config(space, {"n": 90}, DEFAULT) == small
    assert launch_config(space, {"n": 120}, DEFAULT) == large
    monkeypatch.setattr(_tuning, "_device", lambda: "C")
    assert launch_config(space, {"n": 90}, DEFAULT) == DEFAULT


def test_result_can_be_changed_by_the_caller(space, tmp_path, monkeypatch):
    monkeypatch.setattr(_tuning, "_device", lambda: "A")
    write(tmp_path, ("made.kernel", "A", {"n": 10}, {"BLOCK": 32, "num_warps": 2}))
    launch_config(space, {"n": 10}, DEFAULT)["BLOCK"] = 7
    assert launch_config(space, {"n": 10}, DEFAULT)["BLOCK"] == 32


def test_trial(space):
    with use_config("made.kernel", {"BLOCK": 64, "num_warps": 2}):
        assert launch_config(space, {"n": 5}, DEFAULT) == {"BLOCK": 64, "num_warps": 2}
    assert launch_config(space, {"n": 5}, DEFAULT) == DEFAULT
    with pytest.raises(ValueError, match=r"no kernel 'x'; known: made\.kernel"), use_config("x", {}):
        pass
    names = r"wanted \['BLOCK', 'num_warps'\], got \['BLOCK'\]"
    with pytest.raises(ValueError, match=names), use_config("made.kernel", {"BLOCK": 64}):
        pass


def test_table_with_wrong_names_is_refused(space, tmp_path):
    write(tmp_path, ("made.kernel", "A", {"n": 10}, {"TILE": 1}))
    with pytest.raises(ValueError, match=r"made\.json: made\.kernel: wanted .*got \['TILE'\]"):
        launch_config(space, {"n": 5}, DEFAULT)


def test_what_spills_is_left_out(space):
    whole = Space("made.whole", BLOCK=(32, 64), num_warps=(2, 4))
    part = Space("made.part", BLOCK=(32, 64), num_warps=(2, 4), without=({"BLOCK": 64, "num_warps": 2},))
    assert [tuple(c.values()) for c in whole.configurations()] == [(32, 2), (32, 4), (64, 2), (64, 4)]
    assert [tuple(c.values()) for c in part.configurations()] == [(32, 2), (32, 4), (64, 4)]
    none = Space("made.none", BLOCK=(32, 64), num_warps=(2, 4), without=({"BLOCK": 64}, {"BLOCK": 32}))
    assert not [*none.configurations()]


def test_shipped_tables_are_well_formed():
    for path in sorted((Path(__file__).parent.parent / "kernels" / "tuned").glob("*.json")):
        for entry in json.loads(path.read_text())["entries"]:
            assert set(entry) == {"kernel", "device", "shape", "config"}, path
            assert entry["kernel"].split(".")[0] == path.stem

"""The folder of an evaluation: its record, its outcomes one at a time, and what a second run may ask of it."""

import itertools
import json

import numpy as np
import pytest
from runner_doubles import Ear, Entrant, Through, dataset, run

from fasttrack.errors import ArgumentError, SourceError
from fasttrack.evaluation.outcome import Unit
from fasttrack.evaluation.runner import Store, shortened
from fasttrack.evaluation.runner.store import DAMAGED, DONE, FAILED, MISSING

ALL = {"ope": Through(), "sre": Through(2)}


def test_the_record_says_what_was_asked(tmp_path):
    run(tmp_path, entrants=[Entrant("a", config={"rate": 0.5, "sizes": (1, 2)}), Entrant("b")], protocols=ALL, seed=3)
    record = Store(tmp_path).run
    assert record["format"] == 1 and record["seed"] == 3 and record["frames"] is None
    assert record["datasets"] == {
        "made": {"spec": "made=made", "protocol": "ope", "rules": "otb", "sequences": {"s0": 5, "s1": 3, "s2": 8}}
    }
    assert record["trackers"]["a-00000000"] == {
        "name": "a", "config": {"rate": 0.5, "sizes": [1, 2]}, "note": "made"
    }  # fmt: skip
    assert record["protocols"] == {"ope": 1, "sre": 2}
    (machine,) = record["machines"].values()
    assert machine["cores"] >= 1 and machine["cpu"] and machine["numpy"] == np.__version__


def test_outcomes_come_one_at_a_time_in_order(tmp_path):
    run(tmp_path, entrants=[Entrant("b"), Entrant("a", fails_at="s1")], protocols=ALL)
    store = Store(tmp_path)
    found = [outcome.unit for outcome in store.outcomes()]
    assert found == sorted(found, key=lambda unit: unit.path.parts) and len(found) == 2 * 3 * 3 - 3
    assert {outcome.unit.sequence for outcome in store.failures()} == {"s1"}
    assert set(found) | {outcome.unit for outcome in store.failures()} == set(store.units())
    assert next(store.outcomes()).machine["threads"] == 1
    # Nothing behind the first is opened before it is asked for.
    (tmp_path / "units" / found[-1].path).write_text("broken")
    assert len(list(itertools.islice(store.outcomes(), 5))) == 5
    with pytest.raises(SourceError, match=r"not a whole outcome.*--resume does the unit again"):
        list(store.outcomes())


def test_the_state_of_a_unit(tmp_path):
    run(tmp_path, entrants=[Entrant(fails_at="s1")])
    store = Store(tmp_path)
    unit = Unit("still-00000000", "made", "s0", "ope")
    other = Unit("still-00000000", "made", "s1", "ope")
    assert (store.state(unit), store.state(other)) == (DONE, FAILED)
    store.path(other).write_bytes(store.path(unit).read_bytes())
    assert store.state(other) == DAMAGED  # whole, but of another unit
    store.path(unit).write_bytes(store.path(unit).read_bytes()[:-20])
    assert store.state(unit) == DAMAGED
    store.path(unit).unlink()
    assert store.state(unit) == MISSING


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not the folder of an evaluation"),
        ("{", "cannot be read"),
        ('{"format": 2}', "layout 2, this version reads layout 1"),
        ("[]", "layout 'list'"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, text, said):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(SourceError, match=said):
        _ = Store(tmp_path).run


def test_more_may_be_asked_of_a_folder(tmp_path):
    run(tmp_path)
    second = run(tmp_path, counts=(5, 3, 8, 4), entrants=[Entrant("new")], protocols=ALL, resume=True)
    assert (second.planned, second.kept, second.done) == (12, 0, 12)
    record = Store(tmp_path).run
    assert set(record["trackers"]) == {"still-00000000", "new-00000000"}
    assert record["datasets"]["made"]["sequences"] == {"s0": 5, "s1": 3, "s2": 8, "s3": 4}
    assert record["protocols"] == {"ope": 1, "sre": 2}
    third = run(tmp_path, data=dataset([6], "more"), resume=True)
    assert third.done == 1 and set(Store(tmp_path).run["datasets"]) == {"made", "more"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, r"seed must be that of the folder, 0, got 1; use another folder"),
        ({"frames": 2}, "frames must be that of the folder, None, got 2"),
        ({"counts": (5, 4, 8)}, "frames of made/s1 must be that of the folder, 3, got 4"),
        ({"entrants": [Entrant(weights="others")]}, "note of still-00000000 must be that of the folder, 'made'"),
        ({"protocols": {"ope": Through(2)}}, "runs of ope"),
    ],
)
def test_what_contradicts_the_folder_is_refused(tmp_path, change, said):
    run(tmp_path)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(ArgumentError, match=said):
        run(tmp_path, resume=True, **change)
    assert (tmp_path / "run.json").read_text() == before


def test_another_version_is_said(tmp_path):
    run(tmp_path)
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "versions": ["0.0.9"]}))
    ear = Ear()
    run(tmp_path, resume=True, ear=ear)
    assert any("0.0.9" in message for message in ear.warnings)
    assert len(Store(tmp_path).run["versions"]) == 2


def test_the_first_frames_only(tmp_path):
    summary = run(tmp_path, counts=(5, 3, 8), frames=4)
    assert summary.done == 3
    assert [len(outcome.boxes) for outcome in Store(tmp_path).outcomes()] == [4, 3, 4]
    (short,) = shortened(dataset([8]), 4)
    assert len(short) == len(short.boxes) == len(short.annotations.visible) == 4
    with pytest.raises(IndexError):
        short.frames[4]

"""Runs in this process: resuming, failures, damage, full disks, shards, order."""

import errno
import os
import pickle

import numpy as np
import pytest
from runner_doubles import Ear, Entrant, Through, begun, dataset, run

from fasttrack.errors import ArgumentError, OutputError, SourceError
from fasttrack.evaluation.runner import Store, parse_shard
from fasttrack.evaluation.runner.plan import lengths, plan, shard
from fasttrack.evaluation.runner.presence import Presence
from fasttrack.evaluation.runner.queue import Queue

ALL = {"ope": Through(), "tre": Through(4)}


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
    """Runners of other tests on this machine are not seen."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("machine")))


def test_every_unit_has_its_outcome(tmp_path):
    ear = Ear()
    summary = run(tmp_path / "deep" / "out", protocols=ALL, ear=ear)
    assert (summary.planned, summary.kept, summary.done, summary.failed, summary.exit_code) == (15, 0, 15, [], 0)
    assert ear.total == len(ear.units) == 15 and summary.seconds > 0 and not ear.warnings
    first = next(Store(tmp_path / "deep" / "out").outcomes())
    assert first.boxes.shape == (5, 4) and not first.exclusive
    # Nothing of the runner stays behind.
    assert not list((tmp_path / "deep" / "out" / "claims").iterdir())
    assert not list((tmp_path / "deep" / "out" / "runners").iterdir())


def test_a_folder_with_an_evaluation_needs_resume(tmp_path):
    run(tmp_path)
    with pytest.raises(ArgumentError, match="holds an evaluation; go on in it with --resume"):
        run(tmp_path)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(ArgumentError, match="which holds other things"):
        run(tmp_path)
    with pytest.raises(OutputError, match=r"thesis\.tex: not a folder"):
        run(tmp_path / "thesis.tex")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_resume_redoes_nothing_that_is_whole(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    entrant = Entrant(log=str(log))
    run(tmp_path / "out", entrants=[entrant], protocols=ALL)
    store = Store(tmp_path / "out")
    cut, gone = [store.path(unit) for unit in list(store.units())[3:5]]
    cut.write_bytes(cut.read_bytes()[:100])
    gone.unlink()
    others = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json") if p not in (cut, gone)}
    for path in log.iterdir():
        path.unlink()
    ear = Ear()
    summary = run(tmp_path / "out", entrants=[entrant], protocols=ALL, resume=True, ear=ear)
    assert (summary.planned, summary.kept, summary.done) == (15, 13, 2)
    assert len(begun(log)) == 2 and set(begun(log).values()) == {1}
    assert [str(cut) in message and "done again" in message for message in ear.warnings] == [True]
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert len(list(store.outcomes())) == 15


def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path):
    ear = Ear()
    summary = run(tmp_path, entrants=[Entrant(fails_at="s2")], ear=ear)
    assert (summary.done, summary.exit_code) == (2, 1)
    ((unit, why),) = summary.failed
    assert unit.sequence == "s2" and why == "ZeroDivisionError: the target is nobody"
    (failure,) = Store(tmp_path).failures()
    assert "Traceback" in failure.error and "in execute" in failure.error and failure.boxes.shape == (0, 4)
    assert [error is None for _, error in ear.units].count(False) == 1
    # The cause removed, resuming does that one alone.
    summary = run(tmp_path, resume=True)
    assert (summary.kept, summary.done, summary.exit_code) == (2, 1, 0)
    assert not list(Store(tmp_path).failures())


def test_a_sequence_that_cannot_be_listed_fails_alone(tmp_path):
    summary = run(tmp_path, data=dataset([3, 4], gone=["lost"]))
    assert summary.done == 2
    ((unit, why),) = summary.failed
    assert unit.sequence == "lost" and "/data/gone: no such folder" in why
    assert run(tmp_path, counts=(3, 4), resume=True).kept == 2


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, monkeypatch):
    sync, writes = os.fsync, []

    def full(handle):
        writes.append(handle)
        if len(writes) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        run(tmp_path, counts=[4] * 10)
    monkeypatch.undo()
    assert len(list(Store(tmp_path).outcomes())) == 3  # run.json, then ground truth and outcome of each
    assert not list(tmp_path.rglob("*.part"))
    assert run(tmp_path, counts=[4] * 10, resume=True).kept == 3


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o500)
    if os.access(out, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OutputError, match=r"out.*cannot be written"):
        run(out)


def test_a_folder_that_is_read_only_is_an_error(monkeypatch, tmp_path):
    from pathlib import Path

    def refuse(self, *_args, **_options):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=r"cannot be written \(Read-only file system\)"):
        monkeypatch.setattr(Presence, "__enter__", lambda self: self)
        monkeypatch.setattr(Presence, "__exit__", lambda self, *_: None)
        run(tmp_path / "out")


def test_ctrl_c_keeps_what_is_done(tmp_path):
    class Impatient(Ear):
        def unit(self, unit, error, left_s):
            super().unit(unit, error, left_s)
            if len(self.units) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, counts=[4] * 5, ear=Impatient())
    assert not list((tmp_path / "claims").iterdir())
    assert run(tmp_path, counts=[4] * 5, resume=True).kept == 2


def test_names_must_differ_and_be_names_of_files(tmp_path):
    with pytest.raises(ArgumentError, match="trackers must be of different names"):
        run(tmp_path / "a", entrants=[Entrant(), Entrant(pause_s=1.0)])
    with pytest.raises(ArgumentError, match=r"datasets must be of names that a file can have, got '\.\./out'"):
        run(tmp_path / "b", data=dataset([3], "../out"))
    with pytest.raises(ArgumentError, match="at least one of each"):
        run(tmp_path / "c", entrants=[])


# --- the order and the shares -------------------------------------------------------------------


def jobs(counts=(5, 30, 8, 100), names=("a", "b", "c"), protocols=ALL):
    data = dataset(counts)
    return plan([data], lengths([data]), [Entrant(name) for name in names], protocols, 0)


def test_the_longest_goes_first_by_what_trackers_take():
    queue = Queue(jobs(names=("slow", "fast"), protocols={"ope": Through()}))
    first, second = queue.pop(), queue.pop()
    assert queue.seconds_left(1) is None
    assert {first.contestant.name, second.contestant.name} == {"slow", "fast"} and first.cost == second.cost == 100
    for job in (first, second):
        queue.finished(job, 500.0 if job.contestant.name == "slow" else 1.0)
    order = []
    while queue:
        job = queue.pop()
        order.append((job.contestant.name, job.cost))
    assert order == [("slow", 30), ("slow", 8), ("slow", 5), ("fast", 30), ("fast", 8), ("fast", 5)]
    assert queue.seconds_left(2) == pytest.approx((43 * 5.0 + 43 * 0.01) / 2)


def test_later_segments_are_shorter():
    costs = {job.unit.run: job.cost for job in jobs([100], ["a"]) if job.unit.protocol == "tre"}
    assert costs == {0: 100, 1: 75, 2: 50, 3: 25}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_shards_cover_each_unit_once_and_evenly(count):
    rng = np.random.default_rng(0)
    all_jobs = jobs(rng.integers(0, 900, 40).tolist())
    parts = [shard(all_jobs, k, count) for k in range(1, count + 1)]
    units = [job.unit for part in parts for job in part]
    assert len(units) == len(set(units)) == len(all_jobs) and set(units) == {job.unit for job in all_jobs}
    assert [job.unit for job in shard(all_jobs, 1, count)] == [job.unit for job in parts[0]]
    for tracker in ("a", "b", "c"):
        loads = [sum(job.cost for job in part if job.contestant.name == tracker) for part in parts]
        assert max(loads) - min(loads) <= max(job.cost for job in all_jobs)


def test_a_tracker_more_moves_no_other():
    few, many = shard(jobs(names=("a", "b")), 2, 3), shard(jobs(names=("a", "aa", "b")), 2, 3)
    assert [job.unit for job in many if job.contestant.name != "aa"] == [job.unit for job in few]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4", "1/0", "1.0/2"])
def test_shards_count_from_one(text):
    with pytest.raises(ArgumentError, match="1 ≤ i ≤ n"):
        parse_shard(text)


def test_shards_share_a_folder_without_resume(tmp_path):
    assert parse_shard("2/3") == (2, 3)
    summaries = [run(tmp_path, counts=[5, 6, 7, 8, 9], part=(k, 3)) for k in (1, 2, 3)]
    assert [s.elsewhere for s in summaries] == [0, 0, 0]
    assert sum(s.done for s in summaries) == 5 == len(list(Store(tmp_path).outcomes()))


def test_jobs_travel_without_what_was_read():
    (job,) = jobs([50], ["a"], {"ope": Through()})
    empty = len(pickle.dumps(job))
    assert len(job.sequence.boxes) == 50
    assert len(pickle.dumps(job)) == empty


# --- times that count as speed ------------------------------------------------------------------


def test_exclusive_times(tmp_path):
    run(tmp_path, exclusive=True)
    assert all(outcome.exclusive for outcome in Store(tmp_path).outcomes())


def test_exclusive_is_refused_beside_another_evaluation(tmp_path):
    with Presence(), pytest.raises(ArgumentError, match="the only evaluation on this machine"):
        run(tmp_path, exclusive=True)


def test_another_evaluation_that_begins_is_noticed(tmp_path):
    class Rival(Ear):
        def unit(self, unit, error, left_s):
            super().unit(unit, error, left_s)
            if len(self.units) == 1:
                self.rival = Presence().__enter__()

    ear = Rival()
    run(tmp_path, exclusive=True, ear=ear)
    ear.rival.__exit__(None, None, None)
    assert sorted(outcome.exclusive for outcome in Store(tmp_path).outcomes()) == [False, False, True]
    assert any("do not count as speed" in message for message in ear.warnings)


def test_one_that_came_and_went_is_noticed():
    with Presence() as mine:
        mark = mine.mark()
        assert mine.was_alone(mark)
        with Presence():
            pass
        assert not mine.was_alone(mark)
        assert mine.was_alone(mine.mark())


def test_errors_of_the_plan_name_the_sequence():
    with pytest.raises(SourceError, match="no such folder"):
        next(iter(dataset([], gone=["lost"]))).list_frames()

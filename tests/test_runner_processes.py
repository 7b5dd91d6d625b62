"""Runs in processes that are killed: the pool goes on, and a killed runner leaves nothing that is not whole."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from runner_doubles import Ear, Entrant, begun, dataset, run

import fasttrack
from fasttrack.errors import ArgumentError
from fasttrack.evaluation.outcome import Unit
from fasttrack.evaluation.runner import Processes, Store
from fasttrack.evaluation.runner.claims import Claims

TESTS = Path(__file__).parent


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def test_processes_give_what_this_process_gives(tmp_path):
    run(tmp_path / "one")
    summary = run(tmp_path / "two", slots=Processes(2, 1))
    assert summary.done == 3
    for one, two in zip(Store(tmp_path / "one").outcomes(), Store(tmp_path / "two").outcomes(), strict=True):
        assert one.unit == two.unit and (one.boxes == two.boxes).all() and two.error is None


def test_a_dead_worker_costs_one_try_and_the_pool_goes_on(tmp_path, log):
    dying = Entrant("once", dies_at="s1", mark=str(tmp_path / "mark"), log=str(log))
    doomed = Entrant("always", dies_at="s0", log=str(log))
    ear = Ear()
    summary = run(tmp_path / "out", counts=(5, 3, 8), entrants=[dying, doomed], slots=Processes(2, 1), ear=ear)
    assert summary.done == 5 and summary.exit_code == 1
    ((unit, why),) = summary.failed
    assert (unit.tracker, unit.sequence) == ("always-00000000", "s0")
    assert why == "the process was ended by SIGKILL (out of memory?), 2 times"
    assert sum("tried once more" in message for message in ear.warnings) == 2
    assert sorted(begun(log).values()) == [1, 1, 1, 1, 2, 2]


def test_exclusive_needs_this_process(tmp_path):
    with pytest.raises(ArgumentError, match="one worker in this process"):
        run(tmp_path, slots=Processes(2, 1), exclusive=True)


# --- runners that are processes of their own ----------------------------------------------------

_CHILD = """
import sys
sys.path.insert(0, {tests!r})
from runner_doubles import Entrant, run
from fasttrack.evaluation.runner import Here, Processes
if __name__ == "__main__":
    summary = run({out!r}, counts={counts!r}, entrants=[Entrant(pause_s={pause!r}, log={log!r})],
                  slots=Processes({workers}, 1) if {workers} > 1 else Here(1), {options})
    print(summary.done, summary.kept, summary.elsewhere)
"""


def child(out, log, counts, pause=0.02, workers=1, options="", script=None):
    root = str(Path(fasttrack.__file__).parent.parent)
    text = textwrap.dedent(_CHILD).format(
        tests=str(TESTS), out=str(out), counts=counts, pause=pause, log=str(log), workers=workers, options=options
    )
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children(pid):
    return [int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the children of a process from /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_loses_the_units_at_work_and_nothing_else(tmp_path, log, workers):
    out, counts = tmp_path / "out", [12] * 12
    process = child(out, log, counts, workers=workers, script=tmp_path / "child.py")
    until(lambda: len(list(out.rglob("units/**/*.json"))) >= 4)
    below = children(process.pid)
    process.kill()
    process.communicate(timeout=30)
    until(lambda: not any(alive(pid) for pid in below), 15)  # nobody works on for nobody
    whole = [outcome.unit for outcome in Store(out).outcomes()]  # each file that is there can be read
    assert 4 <= len(whole) < 12
    assert len(begun(log)) - len(whole) <= workers
    assert list((out / "claims").iterdir())  # of the dead
    for path in log.iterdir():
        path.unlink()
    ear = Ear()
    summary = run(out, counts=counts, entrants=[Entrant(log=str(log))], resume=True, ear=ear)
    assert (summary.kept, summary.done, summary.elsewhere) == (len(whole), 12 - len(whole), 0)
    assert set(begun(log).values()) == {1} and len(begun(log)) == 12 - len(whole)
    assert len(list(Store(out).outcomes())) == 12
    assert not list((out / "claims").iterdir()) and not list((out / "runners").iterdir())


def test_two_runners_in_one_folder_do_each_unit_once(tmp_path, log):
    out, counts = tmp_path / "out", [10] * 12
    options = "resume=True"
    both = [child(out, log, counts, options=options, script=tmp_path / f"child{k}.py") for k in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    done = [int(out.split()[0]) for out, _ in said]
    assert sum(done) == 12
    assert len(begun(log)) == 12 and set(begun(log).values()) == {1}
    assert len(list(Store(out).outcomes())) == 12


# --- claims -------------------------------------------------------------------------------------


def test_a_claim_is_had_once(tmp_path):
    with Claims(tmp_path) as mine, Claims(tmp_path) as yours:
        assert mine.take("a") and not mine.take("a") and not yours.take("a")
        mine.drop("a")
        assert yours.take("a") and yours.take("b")
    assert not list((tmp_path / "claims").iterdir())


def _foreign(tmp_path, silent_s):
    """A claim of a runner on another machine that gave its last sign of life so long ago."""
    with Claims(tmp_path) as mine:
        path = mine._path("a")
    runner = tmp_path / "runners" / "far-1-abc.json"
    runner.write_text('{"name": "far-1-abc", "where": "far", "pid": 1, "started": "0"}')
    path.unlink(missing_ok=True)
    os.link(runner, path)
    then = time.time() - silent_s
    os.utime(runner, (then, then))


def test_the_claim_of_another_machine_lapses_in_silence(tmp_path):
    _foreign(tmp_path, silent_s=30)
    with Claims(tmp_path, stale_s=60) as mine:
        assert not mine.take("a")
    _foreign(tmp_path, silent_s=90)
    with Claims(tmp_path, stale_s=60) as mine:
        assert mine.take("a")
        assert not (tmp_path / "runners" / "far-1-abc.json").exists()


def test_a_runner_that_dies_beside_us_loses_its_claims(tmp_path):
    with Claims(tmp_path) as mine:
        dead = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        from fasttrack.evaluation.runner import claims

        place = {**mine._place, "pid": dead.pid, "started": claims._started(dead.pid)}
        import json

        mine._path("a").write_text(json.dumps({"name": "dead", **place}))
        assert not mine.take("a")
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert mine.take("a")


def test_a_claim_lives_by_the_signs_of_its_runner(tmp_path):
    with Claims(tmp_path) as mine:
        assert mine.take("a")
        os.utime(mine._path("a"), (0, 0))
        os.utime(tmp_path / "runners" / f"{mine.name}.json")
        assert mine._path("a").stat().st_mtime > 0


def test_a_runner_killed_before_it_told_its_process_is_swept_in_time(tmp_path):
    with Claims(tmp_path):
        half = tmp_path / "runners" / "half.json"
        half.write_text("")
        with Claims(tmp_path, stale_s=60):
            assert half.exists()
        then = time.time() - 90
        os.utime(half, (then, then))
        with Claims(tmp_path, stale_s=60):
            assert not half.exists()


def test_a_runner_shows_that_it_lives(tmp_path):
    with Claims(tmp_path, renew_s=0.02) as mine:
        file = tmp_path / "runners" / f"{mine.name}.json"
        os.utime(file, (0, 0))
        until(lambda: file.stat().st_mtime > 0, 5)


def test_units_at_work_elsewhere_are_left_to_their_runner(tmp_path):
    with Claims(tmp_path) as other:
        assert other.take(str(Unit("still-00000000", "made", "s1", "ope").path))
        summary = run(tmp_path)
    assert (summary.done, summary.elsewhere, summary.exit_code) == (2, 1, 0)
    assert run(tmp_path, data=dataset((5, 3, 8)), resume=True).done == 1

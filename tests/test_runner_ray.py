"""Runs on a Ray cluster of two machines' worth of processes: what dies is replaced, wherever there is room."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from runner_doubles import Ear, Entrant, begun, run

import fasttrack
from fasttrack.errors import BackendUnavailable
from fasttrack.evaluation.runner import RayActors, Store

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'fasttrack[ray]'")


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    root = str(Path(fasttrack.__file__).parent.parent)
    before = os.environ.get("PYTHONPATH")
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=os.pathsep.join([root, str(Path(__file__).parent), before or ""])
    )
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.second = made.add_node(**node)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def test_an_actor_that_dies_costs_one_try(cluster, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    once = Entrant("once", dies_at="s1", mark=str(tmp_path / "mark"), log=str(log), pause_s=0.01)
    failing = Entrant("failing", fails_at="s3", log=str(log))
    ear = Ear()
    slots = RayActors(cluster.address, None, 1)
    summary = run(tmp_path / "out", counts=[6] * 4, entrants=[once, failing], slots=slots, ear=ear)
    assert slots.count == 2
    assert (summary.done, summary.exit_code) == (7, 1)
    assert [(unit.sequence, why) for unit, why in summary.failed] == [("s3", "ZeroDivisionError: the target is nobody")]
    (said,) = [message for message in ear.warnings if "tried once more" in message]
    assert "once-00000000/made/ope/s1" in said and "the actor died" in said
    assert sorted(begun(log).values()) == [1] * 7 + [2]
    assert len(list(Store(tmp_path / "out").outcomes())) == 7


def test_a_machine_that_goes_away_holds_nothing_up(cluster, tmp_path):
    log = tmp_path / "log"
    log.mkdir()

    def pull_the_plug():
        deadline = time.monotonic() + 60
        while not any(log.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        cluster.remove_node(cluster.second, allow_graceful=False)

    plug = threading.Thread(target=pull_the_plug)
    plug.start()
    slots = RayActors(cluster.address, 2, 1)
    summary = run(tmp_path / "out", counts=[20] * 10, entrants=[Entrant(pause_s=0.02, log=str(log))], slots=slots)
    plug.join()
    assert (summary.done, summary.failed) == (10, [])
    assert len(list(Store(tmp_path / "out").outcomes())) == 10


def test_no_room_is_said(cluster, tmp_path):
    with pytest.raises(BackendUnavailable, match="no room for 1 processors"):
        run(tmp_path, slots=RayActors(cluster.address, None, 1, gpus=0.5))


def test_a_missing_ray_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'fasttrack\[ray\]'"):
        RayActors("auto", None, 1)

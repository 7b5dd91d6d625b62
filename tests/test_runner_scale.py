"""Many short sequences: what the runner holds does not grow with what it has done."""

import gc
import tracemalloc
from typing import ClassVar

import pytest
from runner_doubles import Ear, Entrant, Through, dataset, run

from fasttrack.evaluation.runner import Store


class Gauge(Ear):
    """Memory held after each tenth of the run."""

    def __init__(self, total):
        super().__init__()
        self.every, self.held, self.seen = total // 10, [], 0

    def unit(self, unit, error, left_s):
        self.seen += 1
        if self.seen % self.every == 0:
            gc.collect()
            self.held.append(tracemalloc.get_traced_memory()[0])


def grown(out, count):
    """Bytes held more per unit, over the second half of a run; and per outcome read back."""
    data, gauge = dataset([20] * count), Gauge(count)
    tracemalloc.start()
    try:
        assert run(out, data=data, ear=gauge).done == count
        before = tracemalloc.get_traced_memory()[0]
        assert sum(1 for _ in Store(out).outcomes()) == count
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(gauge.held) == 10
    return (gauge.held[-1] - gauge.held[4]) / (count / 2), (after - before) / count


class Hoard(Through):
    """Keeps every outcome: what the test below must see."""

    kept: ClassVar = []

    def execute(self, tracker, sequence, unit):
        self.kept.append(super().execute(tracker, sequence, unit))
        return self.kept[-1]


def test_memory_is_flat(tmp_path):
    per_unit, per_outcome = grown(tmp_path, 300)
    assert per_unit < 100 and per_outcome < 100  # an outcome of 20 frames has 1160 bytes in its columns alone


def test_memory_that_grows_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("runner_doubles.Through", Hoard)
    per_unit, _ = grown(tmp_path, 300)
    Hoard.kept.clear()
    assert per_unit > 1000


@pytest.mark.slow
def test_ten_thousand_sequences(tmp_path):
    summary = run(tmp_path, counts=[5] * 10_000, entrants=[Entrant()])
    assert summary.done == 10_000
    assert sum(1 for _ in Store(tmp_path).outcomes()) == 10_000
    assert run(tmp_path, counts=[5] * 10_000, resume=True).kept == 10_000

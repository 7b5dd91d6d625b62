"""Frames per second: frames over seconds of the tracker alone, never the mean of the rates."""

import numpy as np
import pytest

from fasttrack.evaluation.metrics.speed import Speed, fps
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Outcome, Unit


def outcome(seconds, states=None, exclusive=True):
    n = len(seconds)
    return Outcome(
        unit=Unit("kcf-0a1b", "otb100", "Deer", "ope"),
        first=0,
        boxes=np.ones((n, 4)),
        states=np.array(states or [INIT] + [TRACKED] * (n - 1), np.int8),
        seconds=np.array(seconds, float),
        scores=np.full(n, np.nan),
        lost=np.zeros(n, bool),
        exclusive=exclusive,
    )


def test_frames_over_seconds_and_not_the_mean_of_rates():
    seconds = [9.0, 0.01, 0.01, 0.01, 0.97]
    rate = fps([outcome(seconds)]).exclusive
    assert rate == pytest.approx(4 / 1.0)
    assert np.mean(1 / np.array(seconds[1:])) > 18 * rate  # what mean(1/t) makes of the same frames


def test_all_units_are_one_sum():
    assert fps([outcome([0, 1, 1]), outcome([0, 0.25, 0.25, 0.25, 0.25])]).exclusive == pytest.approx(6 / 3)


def test_starts_failures_and_frames_without_a_time():
    states = [INIT, TRACKED, FAILURE, SKIPPED, SKIPPED, INIT, TRACKED]
    assert fps([outcome([5, 0.5, 0.5, np.nan, np.nan, 5, np.nan], states)]).exclusive == pytest.approx(2.0)


def test_exclusive_and_shared_units_stay_apart():
    alone, crowded = outcome([0, 0.1, 0.1]), outcome([0, 0.4, 0.4], exclusive=False)
    assert fps([alone, crowded]) == Speed(pytest.approx(10), pytest.approx(2.5))
    assert fps([crowded]).exclusive is None
    assert fps([]) == Speed(None, None)
    assert fps([outcome([np.nan] * 3)]) == Speed(None, None)

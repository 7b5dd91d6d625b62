"""Videos in lock-step: the boxes of separate runs, whatever their lengths and frame sizes."""

import numpy as np
import pytest
from clips import Clip, line

from fasttrack.errors import ArgumentError, BoxError, FrameError
from fasttrack.trackers import create_tracker, run_lockstep

CLIPS = [
    Clip(line((20, 20), (3, 2), 7)),
    Clip(line((60, 50), (-2, 1), 4), seed=3),
    Clip(line((30, 40), (2, -1), 9), size=(26, 40), frame=(160, 170), seed=5),
]
OPTIONS = {"crt": {"object_cells": 64.0}, "kcf": {}, "mosse": {}}


@pytest.mark.parametrize("name", OPTIONS)
def test_as_separate_runs(name):
    together = list(
        run_lockstep([(clip.frames(), clip.box(0)) for clip in CLIPS], create_tracker(name, **OPTIONS[name]))
    )
    assert [[r is not None for r in row] for row in together] == [[k < len(c) - 1 for c in CLIPS] for k in range(8)]
    for v, clip in enumerate(CLIPS):
        alone = list(create_tracker(name, **OPTIONS[name]).run(clip.frames(), clip.box(0)))
        for row, one in zip(together, alone, strict=False):
            assert row[v].box.as_tuple() == pytest.approx(one.box.as_tuple(), abs=1e-3)
            assert row[v].lost == one.lost


@pytest.mark.parametrize("name", OPTIONS)
def test_keep_goes_on_with_some_targets(name):
    clip = CLIPS[0]
    rows = np.array([clip.box(0), (110.0, 60.0, 40.0, 30.0), (100.0, 20.0, 26.0, 40.0)])
    all_three, two = (create_tracker(name, **OPTIONS[name]) for _ in range(2))
    for tracker in (all_three, two):
        tracker.init(clip.frame(0), rows)
        tracker.update(clip.frame(1))
    two.keep([2, 0])
    for k in (2, 3):
        wanted, got = all_three.update(clip.frame(k)), two.update(clip.frame(k))
        for a, b in zip((wanted[2], wanted[0]), got, strict=True):
            assert a.box.as_tuple() == pytest.approx(b.box.as_tuple(), abs=1e-3)
    for wrong in ([], [0, 0], [2]):
        with pytest.raises(ArgumentError, match=r"some of 0\.\.1, each once"):
            two.keep(wrong)


def test_wrong_input():
    clip, tracker = CLIPS[0], create_tracker("kcf")
    with pytest.raises(ArgumentError, match="at least one"):
        list(run_lockstep([], tracker))
    with pytest.raises(FrameError, match=r"sequences\[1\]"):
        list(run_lockstep([(clip.frames(), clip.box(0)), ([], clip.box(0))], tracker))
    with pytest.raises(BoxError, match="overlaps the frame"):
        list(run_lockstep([(clip.frames(), (500, 500, 9, 9))], tracker))
    with pytest.raises(ArgumentError, match="array of 2"):
        list(run_lockstep([(clip.frames(), np.ones((2, 4)) * 30)], tracker))
    tracker.init_each([clip.frame(0)], [clip.box(0)])
    with pytest.raises(ArgumentError, match="a frame for each of 1 targets"):
        tracker.update_each([clip.frame(1)] * 2)

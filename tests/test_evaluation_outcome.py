"""Files of outcomes and sequences: what is written is read back, and nothing half-written is taken for whole."""

import errno
import os
import pickle
from functools import partial

import numpy as np
import pytest

from fasttrack.errors import OutputError, SourceError, UnknownName
from fasttrack.evaluation.outcome import INIT, TRACKED, Outcome, Unit, read_outcome, write_outcome
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence
from fasttrack.evaluation.whole import write_whole

UNIT = Unit("kcf-0a1b", "otb100", "Jogging.1", "sre", run=3, seed=7)


def outcome(n=3):
    boxes = np.arange(4.0 * n).reshape(n, 4) + 0.1
    boxes[1] = np.nan
    return Outcome(
        unit=UNIT,
        first=5,
        boxes=boxes,
        states=np.array([INIT] + [TRACKED] * (n - 1), np.int8),
        seconds=np.full(n, 1 / 3),
        scores=np.full(n, np.nan),
        lost=np.arange(n) % 2 == 1,
        exclusive=True,
        machine={"cpu": "any"},
    )


def test_an_outcome_comes_back_to_the_bit(tmp_path):
    there = outcome()
    path = write_outcome(tmp_path, there)
    assert path == tmp_path / "kcf-0a1b/otb100/sre/Jogging.1.03.s7.json"
    back = read_outcome(path)
    assert (back.unit, back.first, back.exclusive, back.machine, back.error) == (UNIT, 5, True, {"cpu": "any"}, None)
    for name in ("boxes", "states", "seconds", "scores", "lost"):
        got, wanted = getattr(back, name), getattr(there, name)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("keep", [0, 1, 40, 200, -1])
def test_a_truncated_outcome_is_refused_by_name(tmp_path, keep):
    path = write_outcome(tmp_path, outcome())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"Jogging\.1\.03\.s7\.json: not a whole outcome"):
        read_outcome(path)


def test_columns_of_different_lengths_are_refused(tmp_path):
    path = write_outcome(tmp_path, outcome())
    path.write_text(path.read_text().replace('"lost":[false,true,false]', '"lost":[false,true]'))
    with pytest.raises(SourceError, match="different lengths"):
        read_outcome(path)


def test_a_missing_outcome_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no\.json: cannot be read"):
        read_outcome(tmp_path / "no.json")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # others read results too

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.json: cannot be written \(No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def boxes_of(count):
    return Annotations(np.ones((count, 4)))


def test_a_sequence_reads_when_asked_and_travels(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "1.png"), np.full((4, 6, 3), (10, 20, 30), np.uint8))
    sequence = Sequence("a", partial(ImageFrames, (tmp_path / "1.png",)), partial(boxes_of, 1), frozenset({"OCC"}))
    assert sequence.frames[0][0, 0].tolist() == [30, 20, 10]  # RGB
    there = pickle.loads(pickle.dumps(sequence))
    assert "frames" not in there.__dict__
    assert len(there) == 1
    assert there.boxes.shape == (1, 4)
    assert there.attributes == {"OCC"}


def test_wrong_sequences_are_refused(tmp_path):
    with pytest.raises(SourceError, match="sequence a: not one frame"):
        len(Sequence("a", partial(ImageFrames, ()), partial(boxes_of, 1)))
    for count in (0, 3):
        with pytest.raises(SourceError, match=f"sequence a: {count} boxes for 2 frames"):
            _ = Sequence("a", partial(ImageFrames, (tmp_path, tmp_path)), partial(boxes_of, count)).boxes
    with pytest.raises(SourceError, match=r"no\.jpg: "):
        ImageFrames((tmp_path / "no.jpg",))[0]
    with pytest.raises(UnknownName, match="'b'"):
        Dataset("d", [Sequence("a", partial(ImageFrames, ()), partial(boxes_of, 1))])["b"]

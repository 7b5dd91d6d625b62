"""UAV123, UAV20L, UAV123@10fps, DTB70 and TC-128: several targets of one folder, ranges, NaN rows."""

import dataset_trees as trees
import numpy as np
import pytest

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import dtb70, load_dataset, tc128
from fasttrack.evaluation.datasets.uav123 import TARGETS


def test_targets_have_their_known_numbers():
    assert {kind: len({t.name for t in targets}) for kind, targets in TARGETS.items()} == {
        "uav123": 123,
        "uav20l": 20,
        "uav123_10fps": 123,
    }
    assert len({t.folder for t in TARGETS["uav123"]}) == 91
    assert all(0 < t.first < t.last for targets in TARGETS.values() for t in targets)
    slow = {t.name: (t.folder, t.first, t.last) for t in TARGETS["uav123_10fps"]}
    assert slow["bird1_2"] == ("bird1", 259, 493)
    assert slow["car1_s"] == ("car1_s", 1, 492)
    assert slow["wakeboard7"] == ("wakeboard7", 1, 67)
    long = {t.name: (t.first, t.last) for t in TARGETS["uav20l"]}
    assert (long["bird1"], long["uav1"], long["person20"]) == ((1, 2437), (1, 3469), (1, 1783))


@pytest.fixture
def bird(tmp_path):
    """The folder bird1 with its three targets at 10 frames per second."""
    trees.images(tmp_path / "data_seq/UAV123_10fps/bird1", range(1, 814), "{:06d}.jpg")
    for number, count in enumerate((85, 235, 289), 1):
        trees.write(tmp_path / f"anno/UAV123_10fps/bird1_{number}.txt", trees.rows(count, start=number))
    return tmp_path


def test_targets_share_a_folder(bird):
    dataset = load_dataset(f"uav123_10fps={bird}")
    assert [s.name for s in dataset] == ["bird1_1", "bird1_2", "bird1_3"]
    assert len(dataset.missing) == 120
    second = dataset["bird1_2"]
    assert trees.numbers_of(second) == [f"{number:06d}" for number in range(259, 494)]
    np.testing.assert_array_equal(second.boxes, trees.minus(trees.rows(235, start=2), 1))
    assert second.annotations.visible is None
    assert second.attributes == frozenset()


def test_nan_rows_and_attributes(bird):
    folder = bird / "anno/UAV123_10fps"
    lines = (folder / "bird1_1.txt").read_text().splitlines()
    lines[1] = "NaN,NaN,NaN,NaN"
    (folder / "bird1_1.txt").write_text("\n".join(lines))
    trees.write(folder / "att/bird1_1.txt", [[1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]])
    first = load_dataset(f"uav123_10fps={bird}")["bird1_1"]
    assert first.attributes == {"SV", "ARC", "LR", "FM", "FOC", "POC", "OV"}
    assert first.annotations.visible.tolist() == [True, False] + [True] * 83
    assert np.isnan(first.boxes[1]).all()
    assert not np.isnan(first.boxes[2:]).any()
    trees.write(folder / "att/bird1_1.txt", [[1] * 12] * 2)
    with pytest.raises(SourceError, match=r"att/bird1_1\.txt: 2 rows"):
        load_dataset(f"uav123_10fps={bird}")


def test_what_is_missing_is_named(bird):
    dataset = load_dataset(f"uav123_10fps={bird}")
    (bird / "data_seq/UAV123_10fps/bird1/000300.jpg").unlink()
    with pytest.raises(SourceError, match=r"bird1: no image of number 300 \(the sequence is 259 … 493"):
        dataset["bird1_2"].frames
    assert len(dataset["bird1_1"]) == 85
    trees.write(bird / "anno/UAV123_10fps/bird1_3.txt", trees.rows(5))
    with pytest.raises(SourceError, match=r"bird1_3\.txt: 5 rows for 289 frames"):
        dataset["bird1_3"].annotations
    with pytest.raises(SourceError, match=r"data_seq/UAV123: no such folder \(images of uav20l\)"):
        load_dataset(f"uav20l={bird}")
    (bird / "data_seq/UAV123").mkdir()
    with pytest.raises(SourceError, match=r"anno/UAV20L: no such folder \(annotations of uav20l\)"):
        load_dataset(f"uav20l={bird}")


def test_uav123_and_uav20l_take_the_same_images(tmp_path):
    trees.images(tmp_path / "data_seq/UAV123/car3", range(1, 1718), "{:06d}.jpg")
    for kind, folder in (("uav123", "UAV123"), ("uav20l", "UAV20L")):
        trees.write(tmp_path / f"anno/{folder}/car3.txt", trees.rows(1717))
        dataset = load_dataset(f"{kind}={tmp_path}")
        assert (dataset.name, [s.name for s in dataset], len(dataset["car3"])) == (kind, ["car3"], 1717)
        assert len(dataset["car3"].boxes) == 1717


def test_dtb70(tmp_path):
    assert len(set(dtb70.NAMES)) == 70
    table = trees.otb(tmp_path, "SUP4", form="{:05d}.jpg")
    dataset = load_dataset(f"dtb70={tmp_path}")
    np.testing.assert_array_equal(dataset["SUP4"].boxes, trees.minus(table, 1))
    assert len(dataset.missing) == 69


def make_tc(root, name, first, last, lower=False):
    trees.images(root / name / "img", range(1, last + 5))
    stem = name.lower() if lower else name
    table = trees.rows(last - first + 1)
    trees.write(root / name / f"{stem}_gt.txt", table)
    (root / name / f"{stem}_frames.txt").write_text(f"{first},{last}\n")
    return table


@pytest.mark.parametrize("lower", [False, True])
def test_tc128_takes_the_frames_that_its_file_tells(tmp_path, lower):
    assert len(set(tc128.NAMES)) == 129
    table = make_tc(tmp_path, "Bike_ce1", 3, 6, lower)
    dataset = load_dataset(f"tc128={tmp_path}")
    bike = dataset["Bike_ce1"]
    assert trees.numbers_of(bike) == ["0003", "0004", "0005", "0006"]
    np.testing.assert_array_equal(bike.boxes, trees.minus(table, 1))
    assert len(dataset.missing) == 128


def test_broken_tc128_is_named(tmp_path):
    make_tc(tmp_path, "Ball_ce1", 3, 6)
    dataset = load_dataset(f"tc128={tmp_path}")
    frames = tmp_path / "Ball_ce1/Ball_ce1_frames.txt"
    for text in ("6,3", "3,6\n7,9", "3.5,6"):
        frames.write_text(text)
        with pytest.raises(SourceError, match=r"Ball_ce1_frames\.txt: wanted one row with the numbers of the first"):
            dataset["Ball_ce1"].frames
    frames.write_text("8,99")
    with pytest.raises(SourceError, match="no image of number 11 and 88 more"):
        dataset["Ball_ce1"].frames
    frames.unlink()
    with pytest.raises(SourceError, match=r"Ball_ce1_frames\.txt: cannot be read"):
        dataset["Ball_ce1"].frames

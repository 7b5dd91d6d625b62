"""OTB and folders in its style: targets, ranges, separators, bases, and what is wrong named by file and line."""

import dataset_trees as trees
import numpy as np
import pytest

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import load_dataset
from fasttrack.evaluation.datasets.otb_facts import ATTRIBUTES, OTB50, OTB2013, RANGES


def test_lists_have_their_known_sizes():
    assert (len(ATTRIBUTES), len(set(OTB50)), len(set(OTB2013))) == (100, 50, 51)
    assert set(OTB50) | set(OTB2013) <= set(ATTRIBUTES)
    assert len({name.split(".")[0] for name in ATTRIBUTES}) == 98
    names = {code for codes in ATTRIBUTES.values() for code in codes}
    assert names == {"IV", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OPR", "OV", "BC", "LR"}
    counts = {code: sum(code in codes for codes in ATTRIBUTES.values()) for code in names}
    assert (counts["OV"], counts["LR"]) == (14, 10)
    assert set(RANGES) <= set(ATTRIBUTES)


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_separators_and_one_based_coordinates(tmp_path, separator):
    table = trees.otb(tmp_path, "Deer", separator=separator)
    deer = load_dataset(f"otb2013={tmp_path}")["Deer"]
    np.testing.assert_array_equal(deer.boxes, trees.minus(table, 1))
    assert deer.annotations.visible is None
    assert deer.attributes == {"MB", "FM", "IPR", "BC", "LR"}
    assert trees.numbers_of(deer) == ["0001", "0002", "0003"]


def test_two_targets_of_one_video(tmp_path):
    for name in ("Jogging", "Skating2"):
        first = trees.otb(tmp_path, name, truth="groundtruth_rect.1.txt")
        trees.write(tmp_path / name / "groundtruth_rect.2.txt", first + 7)
    trees.otb(tmp_path, "Human4", truth="groundtruth_rect.2.txt")
    (tmp_path / "Human4/groundtruth_rect.1.txt").touch()  # empty in the dataset
    whole = load_dataset(f"otb100={tmp_path}")
    assert [s.name for s in whole] == ["Human4.2", "Jogging.1", "Jogging.2", "Skating2.1", "Skating2.2"]
    np.testing.assert_array_equal(whole["Skating2.2"].boxes, whole["Skating2.1"].boxes + 7)
    assert all(len(s.boxes) == len(s) == 3 for s in whole)
    assert [s.name for s in load_dataset(f"otb2013={tmp_path}")] == ["Jogging.1", "Jogging.2"]
    assert [s.name for s in load_dataset(f"otb50={tmp_path}")] == ["Human4.2", "Skating2.1", "Skating2.2"]
    assert "Human4.1" not in load_dataset(f"otb50={tmp_path}").missing


@pytest.mark.parametrize("name", RANGES)
def test_frames_of_a_range_are_found_in_whole_and_in_cut_folders(tmp_path, name):
    first, last = RANGES[name]
    count = last - first + 1
    for folder, numbers in (
        ("whole", range(1, last + 9)),
        ("own", range(first, last + 1)),
        ("cut", range(1, count + 1)),
    ):
        table = trees.otb(tmp_path / folder, name, numbers, count)
        sequence = load_dataset(f"otb={tmp_path / folder}")[name]
        start = 1 if folder == "cut" else first
        assert trees.numbers_of(sequence) == [f"{number:04d}" for number in range(start, start + count)]
        np.testing.assert_array_equal(sequence.boxes, trees.minus(table, 1))


def test_a_hole_in_a_range_is_named(tmp_path):
    trees.otb(tmp_path, "David", [*range(1, 500), *range(502, 771)], 471)
    with pytest.raises(SourceError, match=r"David/img: no image of number 500 and 1 more \(the sequence is 300 … 770"):
        load_dataset(f"otb={tmp_path}")["David"].frames


def test_five_digits_and_other_suffixes(tmp_path):
    trees.otb(tmp_path, "Board", range(8, 12), form="{:05d}.jpg")
    trees.otb(tmp_path, "KiteSurf", range(1, 3), form="{:04d}.png")
    (tmp_path / "Board/img/Thumbs.db").touch()
    (tmp_path / "Board/img/._00008.jpg").touch()
    whole = load_dataset(f"otb={tmp_path}")
    assert trees.numbers_of(whole["Board"]) == ["00008", "00009", "00010", "00011"]
    assert len(whole["KiteSurf"].boxes) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3,4\n", r"Deer/groundtruth_rect\.txt: 2 rows for 3 frames"),
        ("1,2,3,4\n" * 4, r"Deer/groundtruth_rect\.txt: 4 rows for 3 frames"),
        ("1,2,3,4\n1,2,x,4\n1,2,3,4\n", r"Deer/groundtruth_rect\.txt:2: not a row of numbers: '1,2,x,4'"),
        ("1,2,3,4\n1,2,3,4\n1,2,3\n", r"Deer/groundtruth_rect\.txt:3: 3 columns, wanted 4"),
        ("1,2,0,0\n1,2,3,4\n1,2,3,4\n", r"Deer/groundtruth_rect\.txt:1: no box in the first frame"),
        ("", r"Deer/groundtruth_rect\.txt: holds no numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["otb", "folder"])
def test_broken_ground_truth_is_named(tmp_path, kind, text, message):
    trees.otb(tmp_path, "Deer")
    (tmp_path / "Deer/groundtruth_rect.txt").write_text(text)
    with pytest.raises(SourceError, match=message):
        load_dataset(f"{kind}={tmp_path}")["Deer"].annotations


def test_absent_targets_have_no_box(tmp_path):
    trees.otb(tmp_path, "Deer", range(1, 6))
    (tmp_path / "Deer/groundtruth_rect.txt").write_text("5,6,7,8\nNaN,NaN,NaN,NaN\n0,0,0,0\n9,9,0,4\n1,1,2,2\n")
    for kind, base in (("otb", 1), ("folder", 1), ("folder[base=0]", 0)):
        found = load_dataset(f"{kind}={tmp_path}")["Deer"].annotations
        assert found.visible.tolist() == [True, False, False, False, True]
        np.testing.assert_array_equal(found.boxes[[0, 4]], trees.minus(np.array([[5, 6, 7, 8], [1, 1, 2, 2]]), base))
        assert np.isnan(found.boxes[1:4]).all()


def test_any_folder_with_both_bases(tmp_path):
    table = trees.otb(tmp_path / "mine", "b10", form="frame{}.png", numbers=range(9, 12))
    trees.otb(tmp_path / "mine", "b9", truth="groundtruth_rect.1.txt")
    trees.otb(tmp_path / "mine", "b9", truth="groundtruth_rect.2.txt")
    (tmp_path / "mine/notes").mkdir()
    mine = load_dataset(f"folder={tmp_path / 'mine'}")
    assert (mine.name, [s.name for s in mine]) == ("mine", ["b9.1", "b9.2", "b10"])
    np.testing.assert_array_equal(mine["b10"].boxes, trees.minus(table, 1))
    assert trees.numbers_of(mine["b10"]) == ["frame9", "frame10", "frame11"]
    zero = load_dataset(f"folder[base=0]={tmp_path / 'mine'}")
    np.testing.assert_array_equal(zero["b10"].boxes, table)


def test_a_folder_may_be_one_sequence_and_have_only_its_first_box(tmp_path):
    table = trees.otb(tmp_path, "one", range(1, 8), count=1)
    one = load_dataset(f"folder={tmp_path / 'one'}")
    assert (one.name, len(one), len(one["one"])) == ("one", 1, 7)
    np.testing.assert_array_equal(one["one"].boxes, trees.minus(table, 1))


def test_a_folder_of_images_without_ground_truth_is_an_error_of_its_own(tmp_path):
    trees.otb(tmp_path, "good")
    trees.images(tmp_path / "bad/img", [1])
    both = load_dataset(f"folder={tmp_path}")
    assert len(both["good"].boxes) == 3
    with pytest.raises(SourceError, match=r"bad/groundtruth_rect\.txt: cannot be read"):
        both["bad"].boxes

"""GOT-10k, LaSOT, TrackingNet and NFS: splits, labels, first boxes only, rows at another frame rate."""

import dataset_trees as trees
import numpy as np
import pytest

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import lasot, load_dataset, nfs

VAL = "GOT-10k_Val_000001"


@pytest.fixture
def got(tmp_path):
    """The splits val and test of GOT-10k with one sequence each."""
    for split, name, count in (("val", VAL, 3), ("test", "GOT-10k_Test_000001", 1)):
        folder = tmp_path / split / name
        trees.images(folder, range(1, 4), "{:08d}.jpg")
        trees.write(folder / "groundtruth.txt", trees.rows(count))
        (tmp_path / split / "list.txt").write_text(f"{name}\n")
    folder = tmp_path / "val" / VAL
    (folder / "absence.label").write_text("0\n1\n0\n")
    (folder / "cover.label").write_text("8\n0\n5\n")
    (folder / "cut_by_image.label").write_text("0\n0\n1\n")
    (folder / "meta_info.ini").write_text("[METAINFO]\nurl: https://a/b?c=%d\nobject_class: fox\nmotion_class: run\n")
    return tmp_path


def test_got10k_val(got):
    for spec in (f"got10k={got / 'val'}", f"got10k[split=val]={got}"):
        dataset = load_dataset(spec)
        assert (dataset.name, dataset.rules, dataset.missing) == ("got10k-val", "got10k", ())
        sequence = dataset[VAL]
        np.testing.assert_array_equal(sequence.boxes, trees.minus(trees.rows(3), 1))
        assert sequence.annotations.visible.tolist() == [True, False, True]
        assert {name: flags.tolist() for name, flags in sequence.annotations.tags.items()} == {
            "absence": [False, True, False],
            "cover": [False, True, True],
            "cut_by_image": [False, False, True],
            "hidden": [False, True, False],
        }
        assert sequence.attributes == {"fox", "run"}
        assert trees.numbers_of(sequence) == ["00000001", "00000002", "00000003"]


def test_a_frame_that_shows_nothing_of_the_target_is_not_visible(got):
    (got / "val" / VAL / "absence.label").write_text("0\n0\n0\n")
    assert load_dataset(f"got10k={got / 'val'}")[VAL].annotations.visible.tolist() == [True, False, True]


def test_got10k_test_has_only_the_first_box(got):
    sequence = load_dataset(f"got10k={got / 'test'}")["GOT-10k_Test_000001"]
    assert (len(sequence), sequence.boxes.tolist()) == (3, [[9, 9, 20, 30]])
    assert sequence.annotations.visible is None
    assert sequence.annotations.tags == {}
    # … and only the test set may.
    trees.write(got / "val" / VAL / "groundtruth.txt", trees.rows(1))
    with pytest.raises(SourceError, match=r"groundtruth\.txt: 1 rows for 3 frames"):
        load_dataset(f"got10k={got / 'val'}")[VAL].annotations


def test_broken_got10k_is_named(got):
    with pytest.raises(
        SourceError, match=r"list\.txt: no such file .*; it has the splits val, test: write got10k\[spl"
    ):
        load_dataset(f"got10k={got}")
    with pytest.raises(SourceError, match=r"train/list\.txt: no such file"):
        load_dataset(f"got10k[split=train]={got}")
    (got / "val/list.txt").write_text(f"{VAL}\nGOT-10k_Val_000002\n")
    dataset = load_dataset(f"got10k={got / 'val'}")
    assert dataset.missing == ("GOT-10k_Val_000002",)
    folder = got / "val" / VAL
    for name, text, message in (
        ("cover.label", "8\n9\n5\n", r"cover\.label: 9 for frame 2, wanted 0 … 8"),
        ("absence.label", "0\n1\n", r"absence\.label: 2 rows for 3 frames"),
        ("absence.label", "0 1\n1 0\n0 0\n", r"absence\.label: 2 columns, wanted one number per frame"),
        ("absence.label", "0\nyes\n0\n", r"absence\.label:2: not a row of numbers: 'yes'"),
    ):
        good = (folder / name).read_text()
        (folder / name).write_text(text)
        with pytest.raises(SourceError, match=message):
            load_dataset(f"got10k={got / 'val'}")[VAL].annotations
        (folder / name).write_text(good)


def make_lasot(folder, count=4):
    trees.images(folder / "img", range(1, count + 1), "{:08d}.jpg")
    table = trees.rows(count)
    table[2] = 0
    trees.write(folder / "groundtruth.txt", table)
    trees.write(folder / "full_occlusion.txt", [[0] * count])
    trees.write(folder / "out_of_view.txt", [[0, 1] + [0] * (count - 2)])
    return table


def test_lasot(tmp_path):
    assert (len(set(lasot.TEST)), len(set(lasot.TRAIN)), set(lasot.TEST) & set(lasot.TRAIN)) == (280, 1120, set())
    table = make_lasot(tmp_path / "airplane/airplane-1")
    make_lasot(tmp_path / "airplane/airplane-2")
    make_lasot(tmp_path / "zebra-10")  # the test set alone has no folders of classes
    test = load_dataset(f"lasot={tmp_path}")
    assert (test.name, test.rules, len(test.missing)) == ("lasot", "lasot", 278)
    assert [s.name for s in test] == ["airplane-1", "zebra-10"]
    train = load_dataset(f"lasot[split=train]={tmp_path}")
    assert (train.name, [s.name for s in train]) == ("lasot-train", ["airplane-2"])
    found = test["airplane-1"].annotations
    np.testing.assert_array_equal(found.boxes[[0, 1, 3]], trees.minus(table[[0, 1, 3]], 1))
    assert np.isnan(found.boxes[2]).all()
    assert found.visible.tolist() == [True, False, False, True]
    assert found.tags["out_of_view"].tolist() == [False, True, False, False]


def test_challenges_of_lasot_lie_beside_it(tmp_path):
    make_lasot(tmp_path / "airplane/airplane-1")
    make_lasot(tmp_path / "zebra-10")
    trees.write(tmp_path / "att/airplane-1.txt", [[0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0]])
    dataset = load_dataset(f"lasot={tmp_path}")
    assert dataset["airplane-1"].attributes == {"POC", "ROT", "SV", "LR"}
    assert dataset["zebra-10"].attributes == frozenset()
    trees.write(tmp_path / "att/airplane-1.txt", [[0] * 14] * 2)
    with pytest.raises(SourceError, match=r"airplane-1\.txt: 2 rows, wanted one of 14 flags"):
        load_dataset(f"lasot={tmp_path}")
    trees.write(tmp_path / "att/airplane-1.txt", [[0] * 12])
    with pytest.raises(SourceError, match=r"airplane-1\.txt:1: 12 columns, wanted 14"):
        load_dataset(f"lasot={tmp_path}")


def test_broken_lasot_is_named(tmp_path):
    folder = tmp_path / "airplane/airplane-1"
    make_lasot(folder)
    sequence = load_dataset(f"lasot={tmp_path}")["airplane-1"]
    trees.write(folder / "full_occlusion.txt", [[0, 0, 0]])
    with pytest.raises(SourceError, match=r"full_occlusion\.txt: 3 rows for 4 frames"):
        sequence.annotations
    (folder / "full_occlusion.txt").unlink()
    with pytest.raises(SourceError, match=r"full_occlusion\.txt: cannot be read"):
        sequence.annotations
    (folder / "groundtruth.txt").unlink()
    with pytest.raises(SourceError, match=r"airplane-1/groundtruth\.txt: cannot be read"):
        sequence.annotations


def make_trackingnet(part, name, frames, count):
    trees.images(part / "frames" / name, range(frames), "{}.jpg")
    trees.write(part / "anno" / f"{name}.txt", trees.rows(count))


def test_trackingnet_sorts_by_number_and_has_first_boxes(tmp_path):
    make_trackingnet(tmp_path / "TEST", "abc_0", 12, 1)
    make_trackingnet(tmp_path / "TRAIN_0", "def_0", 3, 3)
    make_trackingnet(tmp_path / "TRAIN_1", "ghi_0", 4, 4)
    for spec in (f"trackingnet={tmp_path}", f"trackingnet[split=test]={tmp_path}", f"trackingnet={tmp_path / 'TEST'}"):
        dataset = load_dataset(spec)
        assert (dataset.name, dataset.rules, [s.name for s in dataset]) == ("trackingnet", "trackingnet", ["abc_0"])
        assert trees.numbers_of(dataset["abc_0"]) == [str(number) for number in range(12)]
        np.testing.assert_array_equal(dataset["abc_0"].boxes, trees.rows(1))
    train = load_dataset(f"trackingnet[split=train]={tmp_path}")
    assert (train.name, [len(s.boxes) for s in train]) == ("trackingnet-train", [3, 4])


def test_broken_trackingnet_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"anno: no such folder \(annotations of TrackingNet\)"):
        load_dataset(f"trackingnet={tmp_path}")
    with pytest.raises(SourceError, match="no folder TRAIN_0 … in it"):
        load_dataset(f"trackingnet[split=train]={tmp_path}")
    make_trackingnet(tmp_path, "abc_0", 3, 2)
    trees.write(tmp_path / "anno/xyz_0.txt", trees.rows(1))
    dataset = load_dataset(f"trackingnet={tmp_path}")
    assert dataset.missing == ("xyz_0",)
    with pytest.raises(SourceError, match=r"anno/abc_0\.txt: 2 rows for 3 frames"):
        dataset["abc_0"].annotations


def make_nfs(root, name, frames, count, lost=()):
    trees.images(root / name / "30" / name, range(1, frames + 1), "{:05d}.jpg")
    lines = [f'0 {i} {2 * i} {i + 20} {2 * i + 30} {i} {int(i in lost)} 0 1 "ball"\n' for i in range(count)]
    (root / name / "30" / f"{name}.txt").write_text("".join(lines))


@pytest.mark.parametrize(
    ("frames", "count", "step", "wanted"),
    [
        (5, 5, 1, 5),
        (5, 40, 8, 5),
        (5, 37, 8, 5),
        (5, 33, 8, 5),
        (5, 41, 8, 5),
        (5, 6, 1, 5),
        (5, 4, 1, 4),
        (6, 42, 8, 6),
    ],
)
def test_nfs_takes_every_eighth_row(tmp_path, frames, count, step, wanted):
    make_nfs(tmp_path, "bee", frames, count)
    dataset = load_dataset(f"nfs={tmp_path}")
    assert (dataset.name, len(dataset.missing)) == ("nfs", len(set(nfs.NAMES)) - 1)
    bee = dataset["bee"]
    assert (len(bee), len(bee.boxes)) == (wanted, wanted)
    np.testing.assert_array_equal(bee.boxes, [[step * i, 2 * step * i, 20, 30] for i in range(wanted)])
    assert bee.annotations.visible is None


def test_nfs_says_where_the_target_is_outside(tmp_path):
    make_nfs(tmp_path, "bee", 5, 40, lost=(16,))
    make_nfs(tmp_path, "own_video", 3, 3)
    dataset = load_dataset(f"nfs={tmp_path}")
    assert [s.name for s in dataset] == ["bee", "own_video"]
    assert dataset["bee"].annotations.visible.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(("frames", "count"), [(5, 5), (5, 6), (6, 5)])
def test_the_copy_of_nfs_that_pytracking_made(tmp_path, frames, count):
    trees.images(tmp_path / "sequences/bee", range(1, frames + 1), "{:05d}.jpg")
    table = trees.rows(count)
    table[2] = 0
    trees.write(tmp_path / "anno/nfs_bee.txt", table, separator="\t")
    dataset = load_dataset(f"nfs={tmp_path}")
    assert (len(dataset), len(dataset.missing), len(dataset["bee"])) == (1, len(set(nfs.NAMES)) - 1, 5)
    np.testing.assert_array_equal(dataset["bee"].boxes[[0, 1, 3, 4]], table[[0, 1, 3, 4]])
    assert dataset["bee"].annotations.visible.tolist() == [True, True, False, True, True]
    trees.write(tmp_path / "anno/nfs_bee.txt", trees.rows(3), separator="\t")
    with pytest.raises(SourceError, match=rf"nfs_bee\.txt: 3 rows for {frames} frames"):
        load_dataset(f"nfs={tmp_path}")["bee"].frames
    with pytest.raises(SourceError, match=r"anno/nfs_bee\.txt: cannot be read"):
        (tmp_path / "anno/nfs_bee.txt").unlink()
        load_dataset(f"nfs={tmp_path}")["bee"].annotations


def test_broken_nfs_is_named(tmp_path):
    make_nfs(tmp_path, "bee", 5, 20)
    bee = load_dataset(f"nfs={tmp_path}")["bee"]
    truth = tmp_path / "bee/30/bee.txt"
    with pytest.raises(SourceError, match=r"bee\.txt: 20 rows for 5 images, wanted one or eight for each"):
        bee.frames
    truth.write_text('0 1 2 30 40 0 0 0 1 "ball"\n0 1 2 30\n')
    with pytest.raises(SourceError, match=r"bee\.txt:2: wanted track xmin ymin xmax ymax frame lost …: '0 1 2 30'"):
        bee.annotations
    truth.write_text('0 1 2 30 40 0 0 0 1 "ball"\n0 1 x 30 40 0 0 0 1 "ball"\n')
    with pytest.raises(SourceError, match=r"bee\.txt:2: not a row of numbers"):
        bee.annotations
    truth.unlink()
    with pytest.raises(SourceError, match=r"bee\.txt: cannot be read"):
        bee.annotations

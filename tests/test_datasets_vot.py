"""VOT: list, polygons, places of the images, tags."""

import dataset_trees as trees
import numpy as np
import pytest

from fasttrack.errors import SourceError
from fasttrack.evaluation.datasets import load_dataset

POLYGONS = np.array([[4, 0, 8, 4, 4, 8, 0, 4], [5, 1, 9, 5.5, 5, 9, 1, 5], [0, 0, 2, 0, 2, 3, 0, 3]], float)


@pytest.fixture
def bag(tmp_path):
    """A dataset of the sequence bag, in the layout of the toolkit's downloads."""
    (tmp_path / "list.txt").write_text("bag\n")
    trees.images(tmp_path / "bag/color", range(1, 4), "{:08d}.jpg")
    trees.write(tmp_path / "bag/groundtruth.txt", POLYGONS)
    (tmp_path / "bag/sequence").write_text("channels.color=color/%08d.jpg\nfps=30\nname=bag\n")
    return tmp_path


@pytest.mark.parametrize("year", range(2015, 2020))
def test_polygons_and_the_boxes_around_them(bag, year):
    dataset = load_dataset(f"vot{year}={bag}")
    assert (dataset.name, dataset.protocol, dataset.missing) == (f"vot{year}", "vot-supervised", ())
    sequence = dataset["bag"]
    np.testing.assert_array_equal(sequence.annotations.polygons, POLYGONS)
    np.testing.assert_array_equal(sequence.boxes, [[0, 0, 8, 8], [1, 1, 8, 8], [0, 0, 2, 3]])
    assert sequence.annotations.visible is None
    assert trees.numbers_of(sequence) == ["00000001", "00000002", "00000003"]


def test_rows_of_boxes(bag):
    trees.write(bag / "bag/groundtruth.txt", trees.rows(3))
    found = load_dataset(f"vot2015={bag}")["bag"].annotations
    assert found.polygons is None
    np.testing.assert_array_equal(found.boxes, trees.rows(3))


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        (None, "color"),
        (None, "."),
        ("fps=30\n", "color"),
        ("# made\nchannels.color = rgb\\%08d.jpg\n", "rgb"),
        ("channels.color=rgb\n", "rgb"),
    ],
)
def test_where_the_images_lie(bag, text, folder):
    (bag / "bag/sequence").unlink()
    if text is not None:
        (bag / "bag/sequence").write_text(text)
    for image in list((bag / "bag/color").iterdir()):
        image.unlink()
    (bag / "bag/color").rmdir()
    trees.images(bag / "bag" / folder, range(1, 4), "{:08d}.jpg")
    trees.images(bag / "bag/depth", range(1, 4), "{:08d}.png")
    sequence = load_dataset(f"vot2019={bag}")["bag"]
    assert {path.parent for path in sequence.frames.paths} == {bag / "bag" / folder}
    assert len(sequence.boxes) == 3


def test_other_files_beside_the_pattern_are_left_out(bag):
    (bag / "bag/color/preview.jpg").touch()
    (bag / "bag/color/00000001.png").touch()
    assert len(load_dataset(f"vot2018={bag}")["bag"]) == 3


def test_tags_are_filled_with_zeros(bag):
    (bag / "bag/occlusion.tag").write_text("0\n1\n")
    (bag / "bag/camera_motion.label").write_text("1\n1\n0\n")
    (bag / "bag/illum_change.label").write_text("")
    tags = load_dataset(f"vot2016={bag}")["bag"].annotations.tags
    assert {name: flags.tolist() for name, flags in tags.items()} == {
        "occlusion": [False, True, False],
        "camera_motion": [True, True, False],
        "illum_change": [False, False, False],
    }
    (bag / "bag/occlusion.tag").write_text("0\n1\n1\n1\n")
    with pytest.raises(SourceError, match=r"occlusion\.tag: 4 rows for 3 frames"):
        load_dataset(f"vot2016={bag}")["bag"].annotations
    (bag / "bag/occlusion.tag").write_text("0\n2\n")
    with pytest.raises(SourceError, match=r"occlusion\.tag: 2 for frame 2, wanted 0 … 1"):
        load_dataset(f"vot2016={bag}")["bag"].annotations


def test_what_is_missing_or_wrong_is_named(bag):
    (bag / "list.txt").write_text("bag\nball1\n")
    assert load_dataset(f"vot2018={bag}").missing == ("ball1",)
    with pytest.raises(SourceError, match="1 of 2 sequences of vot2018 are missing: ball1"):
        load_dataset(f"vot2018[complete]={bag}")
    sequence = load_dataset(f"vot2018={bag}")["bag"]
    (bag / "bag/sequence").write_text("channels.color=color/%s.jpg\n")
    with pytest.raises(SourceError, match="is not a pattern such as"):
        sequence.frames
    (bag / "bag/sequence").write_text("channels.color=color/%08d.png\n")
    with pytest.raises(SourceError, match=r"color: no image %08d\.png, of which .*sequence tells"):
        sequence.frames
    (bag / "bag/sequence").unlink()
    trees.write(bag / "bag/groundtruth.txt", POLYGONS[:2])
    with pytest.raises(SourceError, match=r"bag/groundtruth\.txt: 2 rows for 3 frames"):
        sequence.annotations
    trees.write(bag / "bag/groundtruth.txt", POLYGONS[:, :6])
    with pytest.raises(SourceError, match=r"bag/groundtruth\.txt:1: 6 columns, wanted 4 or 8"):
        sequence.annotations
    (bag / "list.txt").write_text("bag\nbag\n")
    with pytest.raises(SourceError, match=r"list\.txt: bag more than once"):
        load_dataset(f"vot2018={bag}")
    (bag / "list.txt").write_text("\n")
    with pytest.raises(SourceError, match=r"list\.txt: holds no name"):
        load_dataset(f"vot2018={bag}")
    (bag / "list.txt").unlink()
    with pytest.raises(SourceError, match=r"list\.txt: no such file \(names of the sequences of vot2018\)"):
        load_dataset(f"vot2018={bag}")

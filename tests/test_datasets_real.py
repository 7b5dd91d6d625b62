"""The loaders on real sequences, held against the published annotations."""

import pickle

import numpy as np
import pytest

from fasttrack.evaluation.datasets import load_dataset
from fasttrack.evaluation.datasets.files import boxes_of
from fasttrack.evaluation.datasets.otb_facts import ATTRIBUTES
from fasttrack.evaluation.datasets.uav123 import TARGETS
from fasttrack.evaluation.tables import read_table

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def published(data):
    """Target → file of its published annotation, names as this package has them."""
    folder = data / "annotations/TB100"
    by_name = {path.stem.replace("-", ".").casefold(): path for path in folder.glob("*.txt")}
    return {name: by_name[name.casefold()] for name in ATTRIBUTES}


def test_the_otb_sequences_are_the_published_ones(data, published):
    dataset = load_dataset(f"otb={data / 'sequences'}")
    assert len(dataset) == 13
    assert len(load_dataset(f"otb100={data / 'sequences'}").missing) == 87
    for sequence in dataset:
        np.testing.assert_array_equal(sequence.boxes + np.array([1, 1, 0, 0]), read_table(published[sequence.name], 4))
        assert len(sequence) == len(sequence.boxes)


def test_frames_decode_and_hold_their_boxes(data):
    for sequence in load_dataset(f"folder={data / 'sequences'}"):
        back = pickle.loads(pickle.dumps(sequence))
        for index in (0, len(back) - 1):
            height, width, channels = back.frames[index].shape
            x, y, w, h = back.boxes[index]
            assert channels == 3
            assert -1 <= x < x + w <= width + 1
            assert -1 <= y < y + h <= height + 1


def test_the_folder_reads_all_of_them(data):
    dataset = load_dataset(f"folder={data / 'sequences'}")
    assert len(dataset) == 16
    assert sum(len(sequence) for sequence in dataset) == 5314
    raw = load_dataset(f"folder[base=0]={data / 'sequences'}")["vot15_bag"].boxes
    np.testing.assert_array_equal(raw, read_table(data / "sequences/vot15_bag/groundtruth_rect.txt", 4))
    np.testing.assert_allclose(raw[0], [312.5065, 143.9094, 108.9870, 101.1812])


def test_attributes_are_those_of_the_published_list(data):
    lines = (data / "annotations/TB100_attr_list.txt").read_text().splitlines()
    listed = {
        name: {code.strip() for code in codes.split(",")} - {""}
        for name, _, codes in (x.partition("\t") for x in lines)
    }
    for target, codes in ATTRIBUTES.items():
        assert set(codes) == listed[target.replace(".", "-")], target


def test_every_published_otb_annotation_reads(published):
    for name, path in published.items():
        boxes = boxes_of(read_table(path, 4), path, base=1)
        absent = np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist()
        assert absent == {"Board": [697], "Twinnings": [471]}.get(name, []), name  # their last rows are 0 0 0 0


def test_uav123_ranges_fit_the_published_rows_and_the_shared_sequence(data):
    folder = data / "annotations/UAV123"
    for target in [*TARGETS["uav123"], *TARGETS["uav20l"]]:
        assert len(read_table(folder / f"{target.name}.txt", 4)) == target.last - target.first + 1, target
    third = read_table(folder / "wakeboard7.txt", 4)[::3]
    shared = load_dataset(f"folder={data / 'sequences'}")["uav_wakeboard7"].boxes
    np.testing.assert_array_equal(shared, third - [1, 1, 0, 0])

"""Specs of datasets, parts of datasets, and that nothing is read before it is asked for."""

import pickle

import dataset_trees as trees
import numpy as np
import pytest

from fasttrack.errors import ArgumentError, SourceError, UnknownName
from fasttrack.evaluation.datasets import KINDS, load_dataset
from fasttrack.evaluation.datasets.otb_facts import ATTRIBUTES


@pytest.mark.parametrize("spec", ["", "otb", "=x", "otb100=", "otb100= ", "otb[base=1=x", "/data/OTB"])
def test_what_is_not_a_spec_is_refused(spec):
    with pytest.raises(ArgumentError, match="spec must be KIND=PATH"):
        load_dataset(spec)


def test_unknown_kinds_and_options_are_refused(tmp_path):
    with pytest.raises(UnknownName, match=r"one of otb, .*dtb70, got 'otb99'"):
        load_dataset(f"otb99={tmp_path}")
    with pytest.raises(ArgumentError, match="option of otb100 must be one of complete, got 'base'"):
        load_dataset(f"otb100[base=0]={tmp_path}")
    with pytest.raises(ArgumentError, match="option base of folder must be one of 0, 1, got '2'"):
        load_dataset(f"folder[base=2]={tmp_path}")
    with pytest.raises(ArgumentError, match="option split of got10k must be one of train, val, test, got ''"):
        load_dataset(f"got10k[split]={tmp_path}")
    for kind in ("lasot", "trackingnet"):
        with pytest.raises(ArgumentError, match=f"option split of {kind} must be one of train, test, got 'val'"):
            load_dataset(f"{kind}[split=val]={tmp_path}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_and_an_empty_folder_are_named(tmp_path, kind):
    with pytest.raises(SourceError, match=rf"nowhere: no such folder \(of the dataset {kind}\)"):
        load_dataset(f"{kind}={tmp_path / 'nowhere'}")
    with pytest.raises(SourceError, match=str(tmp_path)):
        load_dataset(f"{kind}={tmp_path}")


def test_a_path_may_hold_an_equals_sign_and_spaces(tmp_path):
    trees.otb(tmp_path / "a = b", "Deer")
    assert [s.name for s in load_dataset(f" OTB100 [ ] = {tmp_path / 'a = b'}")] == ["Deer"]


def test_a_part_is_given_and_what_is_missing_told(tmp_path):
    trees.otb(tmp_path, "Deer")
    trees.otb(tmp_path, "Woman")
    trees.otb(tmp_path, "NotOfOtb")
    part = load_dataset(f"otb100={tmp_path}")
    assert [s.name for s in part] == ["Deer", "Woman"]
    assert set(part.missing) == set(ATTRIBUTES) - {"Deer", "Woman"}
    assert len(part.missing) == 98
    with pytest.raises(SourceError, match=r"98 of 100 sequences of otb100 are missing: Basketball, .* and 90 more"):
        load_dataset(f"otb100[complete]={tmp_path}")
    assert len(load_dataset(f"otb100[complete=no]={tmp_path}")) == 2
    there = load_dataset(f"otb[complete]={tmp_path}")
    assert ([s.name for s in there], there.missing, there.name) == (["Deer", "Woman"], (), "otb")


def test_the_whole_is_complete(tmp_path):
    for target in ATTRIBUTES:
        (tmp_path / target.split(".")[0]).mkdir(exist_ok=True)
    assert len(load_dataset(f"otb2015[complete]={tmp_path}")) == 100


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    (tmp_path / "Deer").mkdir()  # neither images nor ground truth
    deer = load_dataset(f"otb={tmp_path}")["Deer"]
    with pytest.raises(SourceError, match=r"Deer/img: no images \(No such file"):
        deer.frames
    trees.images(tmp_path / "Deer/img", range(1, 3))
    with pytest.raises(SourceError, match=r"Deer/groundtruth_rect\.txt: cannot be read \(No such file"):
        deer.annotations
    trees.otb(tmp_path, "Deer", range(1, 3))
    assert deer.boxes.shape == (2, 4)


def test_a_dataset_travels_to_other_processes(tmp_path):
    table = trees.otb(tmp_path, "Deer")
    there = pickle.loads(pickle.dumps(load_dataset(f"otb100={tmp_path}")))
    np.testing.assert_array_equal(there["Deer"].boxes, trees.minus(table, 1))
    assert len(there.missing) == 99

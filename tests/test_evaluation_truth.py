"""Ground truth kept with an evaluation: the same scores where the dataset is not at hand."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from doubles import write_images

from fasttrack.cli import main
from fasttrack.errors import SourceError
from fasttrack.evaluation.report import write_report
from fasttrack.evaluation.sequence import Annotations, ImageFrames, Sequence
from fasttrack.evaluation.truth import GoneFrames, keep_truth, kept_dataset


def all_of_it():
    boxes = np.array([[1.0, 2, 3, 4], [np.nan] * 4])
    polygons = np.arange(16.0).reshape(2, 8)
    return Annotations(boxes, polygons, np.array([True, False]), {"occlusion": np.array([False, True])})


def no_more():
    return Annotations(np.ones((2, 4)) / 3)


def kept(folder, read):
    write_images(folder / "img", 2, ".png", name="{:04d}")
    frames = partial(ImageFrames, tuple(sorted((folder / "img").iterdir())))
    sequence = Sequence("a.1", frames, read, frozenset({"OCC"}))
    keep_truth(folder / "out", "set", sequence)
    assert "annotations" not in sequence.__dict__  # ten thousand of them are not held
    facts = {"protocol": "vot-supervised", "rules": "pysot", "sequences": {"a.1": 2, "not done": 3}}
    return sequence, kept_dataset(folder / "out", "set", facts)


@pytest.mark.parametrize("read", [all_of_it, no_more])
def test_what_is_kept_comes_back_to_the_bit(tmp_path, read):
    sequence, dataset = kept(tmp_path, read)
    assert (dataset.name, dataset.protocol, dataset.rules, len(dataset)) == ("set", "vot-supervised", "pysot", 1)
    back, wanted = dataset["a.1"], read()
    assert back.attributes == {"OCC"}
    height, width = sequence.frames[0].shape[:2]
    assert back.frames == GoneFrames(2, (width, height))
    with pytest.raises(SourceError, match="frame 1 is not at hand"):
        back.frames[1]
    for name in ("boxes", "polygons", "visible"):
        got, there = getattr(back.annotations, name), getattr(wanted, name)
        assert (got is None) == (there is None)
        if there is not None:
            assert got.dtype == there.dtype
            np.testing.assert_array_equal(got, there)
    assert {k: v.tolist() for k, v in back.annotations.tags.items()} == {k: v.tolist() for k, v in wanted.tags.items()}


def test_damaged_truth_is_named(tmp_path):
    _, dataset = kept(tmp_path, no_more)
    path = tmp_path / "out" / "truth" / "set" / "a.1.json"
    for text in (path.read_text()[:40], '{"frames": 2}', "[]"):
        path.write_text(text)
        with pytest.raises(SourceError, match=r"a\.1\.json: not a whole file of ground truth"):
            _ = dataset["a.1"].annotations
    with pytest.raises(SourceError, match="no ground truth of dataset other was kept"):
        kept_dataset(tmp_path / "out", "other", {"protocol": "ope", "rules": "otb", "sequences": {"a.1": 2}})


@pytest.mark.parametrize("rules", ["otb", "got10k"])
def test_an_evaluation_is_scored_without_its_dataset(tmp_path, rules, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    for name, count in (("Long", 14), ("Short", 5)):
        (data / name).mkdir(parents=True)
        write_images(data / name / "img", count, ".jpg", name="{:04d}")
        rows = "".join(f"{21 + 2 * k},11,30,24\n" for k in range(count))
        (data / name / "groundtruth_rect.txt").write_text(rows)
    words = ["eval", "--data", f"folder={data}", "--trackers", "identity", "--out", str(out), "--workers", "1"]
    assert main([*words, "--quiet"]) == 0
    pytest.importorskip("jinja2")
    there = write_report(out, rules=rules, figures=False).report
    shutil.rmtree(data)
    here = write_report(out, rules=rules, figures=False).report

    def values(report):
        return [line.values for line in report.boards[0].standings]

    assert json.dumps(values(here)) == json.dumps(values(there))
    assert 0 < values(here)[0]["auc"] < 1
    assert any("not at hand" in notice for notice in here.notices)
    assert not any("not at hand" in notice for notice in there.notices)

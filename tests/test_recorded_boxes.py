"""Boxes on disk as contestants: coordinates, counts of rows, restarts, and what they cannot stand for."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from evaluation_doubles import make_sequence
from result_files import put

from fasttrack.errors import ArgumentError, RangeError, SourceError, UnknownName
from fasttrack.evaluation.contestants import parse_contestant
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Unit
from fasttrack.evaluation.protocols import PROTOCOLS

NAN = [np.nan] * 4
TRUTH = [(10, 20, 30, 40), (11, 20, 30, 40), (12, 20, 30, 40)]
ROWS = "11,21,30,40\n12.5,21,30,40\n13,22,30,41\n"
BOXES = [[10, 20, 30, 40], [11.5, 20, 30, 40], [12, 21, 30, 41]]


def run(text, sequence, protocol="ope"):
    contestant = pickle.loads(pickle.dumps(parse_contestant(text)))
    unit = Unit(contestant.ident, "made", sequence.name, protocol)
    return PROTOCOLS[protocol].execute(contestant.make(), sequence, unit)


@pytest.mark.parametrize("protocol", ["ope", "vot-unsupervised"])
def test_boxes_become_one_pass(tmp_path, protocol):
    folder = put(tmp_path, {"made.txt": ROWS, "times/made_time.txt": "1\n1\n1\n"})
    got = run(f"boxes:Their tracker={folder}", make_sequence(TRUTH, broken=(0, 1, 2)), protocol)
    assert got.boxes.tolist() == BOXES
    assert got.first == 0 and got.states.tolist() == [INIT, TRACKED, TRACKED] and not got.lost.any()
    assert np.isnan(got.seconds).all()  # those of another machine
    contestant = parse_contestant(f"boxes:Their tracker={folder}")
    assert contestant.name == "Their tracker" and contestant.ident.startswith("Their-tracker-")
    assert contestant.note() == "boxes on disk (otb, corners from 1)"
    assert set(contestant.config) == {"kind", "format", "base", "boxes"}


def test_where_corners_count_from(tmp_path):
    folder = put(tmp_path, {"made.txt": ROWS})
    moved = np.add(BOXES, [1, 1, 0, 0]).tolist()
    sequence = make_sequence(TRUTH)
    assert run(f"boxes:a[base=0]={folder}", sequence).boxes.tolist() == moved
    assert run(f"boxes:a[base=1]={folder}", sequence).boxes.tolist() == BOXES
    assert run(f"boxes:a[format=trackingnet]={folder}", sequence).boxes.tolist() == moved
    assert run(f"boxes:a[format=trackingnet,base=1]={folder}", sequence).boxes.tolist() == BOXES
    idents = {parse_contestant(f"boxes:a{options}={folder}").ident for options in ("", "[base=0]", "[base=1]")}
    assert len(idents) == 2


def test_changed_boxes_are_another_contestant(tmp_path):
    first = parse_contestant(f"boxes:a={put(tmp_path / 'x', {'made.txt': ROWS})}")
    assert parse_contestant(f"boxes:a={put(tmp_path / 'y', {'made.txt': ROWS})}").ident == first.ident
    assert (
        parse_contestant(f"boxes:a={put(tmp_path / 'z', {'made.txt': ROWS.replace('41', '42')})}").ident != first.ident
    )
    assert parse_contestant(f"boxes:a={put(tmp_path / 'w', {'other.txt': ROWS})}").ident != first.ident


def test_the_first_of_several_repetitions(tmp_path):
    files = {f"made/made_{k:03d}.txt": ROWS.replace("13,22", f"{12 + k},22") for k in (1, 2, 3)}
    assert run(f"boxes:a={put(tmp_path, files)}", make_sequence(TRUTH)).boxes.tolist() == BOXES


def test_lost_targets_and_absent_starts(tmp_path):
    folder = put(tmp_path, {"made.txt": "NaN,NaN,NaN,NaN\n" + ROWS + "NaN,NaN,NaN,NaN\n"})
    got = run(f"boxes:a={folder}", make_sequence([NAN, *TRUTH, NAN]))
    assert got.first == 1
    assert got.boxes[:3].tolist() == BOXES and np.isnan(got.boxes[3]).all()
    assert got.states.tolist() == [INIT, TRACKED, TRACKED, TRACKED]
    assert got.lost.tolist() == [False, False, False, True]


VOT_ROWS = "1\n11,20,30,40\n2\n0\n0\n0\n0\n1\n17,20,30,40\n"


def test_restarts_are_taken_from_vots_files(tmp_path):
    folder = put(
        tmp_path, {"baseline/made/made_001.txt": VOT_ROWS, "unsupervised/made/made_001.txt": "1\n" + ROWS[12:] * 4}
    )
    truth = [(10 + k, 20, 30, 40) for k in range(9)]
    got = run(f"boxes:a[format=vot,experiment=baseline]={folder}", make_sequence(truth), "vot-supervised")
    s = SKIPPED
    assert got.states.tolist() == [INIT, TRACKED, FAILURE, s, s, s, s, INIT, TRACKED]
    assert got.boxes[[0, 1, 7, 8]].tolist() == [[10, 20, 30, 40], [11, 20, 30, 40], [17, 20, 30, 40], [17, 20, 30, 40]]
    assert np.isnan(got.boxes[2:7]).all() and got.lost.tolist() == [False, False, True, *[False] * 6]
    free = run(f"boxes:a[format=vot,experiment=unsupervised]={folder}", make_sequence(truth), "vot-unsupervised")
    assert free.states.tolist() == [INIT] + [TRACKED] * 8
    with pytest.raises(SourceError, match=r"several experiments \(baseline, unsupervised\); name the one"):
        parse_contestant(f"boxes:a={folder}")
    with pytest.raises(SourceError, match="sequence made: the result file holds restarts, which vot-unsupervised does"):
        run(f"boxes:a[format=vot,experiment=baseline]={folder}", make_sequence(truth), "vot-unsupervised")


@pytest.mark.parametrize("protocol", ["sre", "tre", "vot-supervised"])
def test_protocols_that_must_run_the_tracker(tmp_path, protocol):
    folder = put(tmp_path, {"made.txt": ROWS})
    with pytest.raises(ArgumentError, match=f"{protocol}: contestant must be .*, got boxes on disk"):
        run(f"boxes:a={folder}", make_sequence(TRUTH), protocol)


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_rows_names_the_file_and_both_counts(tmp_path, count):
    folder = put(tmp_path, {"made.txt": ROWS})
    with pytest.raises(SourceError, match=rf"made\.txt: 3 rows for the {count} frames of sequence made"):
        run(f"boxes:a={folder}", make_sequence([(10, 20, 30, 40)] * count))


def test_a_missing_sequence_names_the_file_that_is_wanted(tmp_path):
    folder = put(tmp_path, {"other.txt": ROWS})
    with pytest.raises(SourceError, match=r"no made\.txt \(format otb\) for sequence made"):
        run(f"boxes:a={folder}", make_sequence(TRUTH))


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("boxes:a", ArgumentError, "boxes:NAME=DIR"),
        ("boxes:={folder}", ArgumentError, "boxes:NAME=DIR"),
        ("boxes:a={folder}/nowhere", SourceError, "nowhere: no such file or folder"),
        ("boxes:a={folder}/empty", SourceError, "no result files"),
        ("boxes:a[format=got10k]={folder}", SourceError, "no file of the format got10k"),
        ("boxes:a[format=cvpr]={folder}", UnknownName, "one of otb, pytracking"),
        ("boxes:a[base=2]={folder}", ArgumentError, "base must be 1 or 0: where corners count px from, got 2"),
        ("boxes:a[base=true]={folder}", ArgumentError, "got True"),
        ("boxes:a[one_based=1]={folder}", UnknownName, "one of format, base, got 'one_based'"),
    ],
)
def test_wrong_texts(tmp_path, text, error, part):
    put(tmp_path, {"made.txt": ROWS})
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=part):
        parse_contestant(text.format(folder=tmp_path))


def test_a_damaged_file_is_refused_by_file_and_line(tmp_path):
    folder = put(tmp_path, {"made.txt": ROWS[:-8]})
    with pytest.raises(SourceError, match=r"made\.txt:3"):
        run(f"boxes:a={folder}", make_sequence(TRUTH))


def test_runs_beyond_the_protocol_are_refused(tmp_path):
    contestant = parse_contestant(f"boxes:a={put(tmp_path, {'made.txt': ROWS})}")
    with pytest.raises(RangeError, match=r"unit\.run"):
        unit = Unit(contestant.ident, "made", "made", "ope", run=1)
        PROTOCOLS["ope"].execute(contestant.make(), make_sequence(TRUTH), unit)


@pytest.mark.data
def test_reference_results_are_near_the_truth(data):
    from fasttrack.evaluation.datasets import load_dataset

    sequence = load_dataset(f"otb={data / 'sequences'}")["Crossing"]
    folder = Path(data) / "reference_results" / "MDNet"
    got = run(f"boxes:MDNet={folder}", sequence)
    distance = np.abs(got.boxes - sequence.boxes)
    assert distance[0].max() == 0  # both from 1 in their files
    assert np.median(distance) <= 2.0

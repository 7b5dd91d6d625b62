"""Result files: written by hand as other toolkits have them, read; and written, byte by byte as they want them."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from result_files import files_under, put

from fasttrack.errors import ArgumentError, OutputError, SourceError, UnknownName
from fasttrack.evaluation.formats import FORMATS, detect, fill_starts, format_of, make_track, track_of
from fasttrack.evaluation.formats.base import number_text
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Outcome, Unit

NAN = [np.nan] * 4
BOXES = np.array([[0, 0, 10, 20.5], [1.25, -3.1, 3, 4]])  # the first covers the corner px of the image


def track(name="Jogging.1", **more):
    return make_track(name, BOXES, seconds=np.array([0.5, 0.025]), scores=np.array([np.nan, 0.75]), **more)


# What each format makes of it: golden, by hand.
GOLDEN = {
    "otb": {"Jogging.1.txt": "1,1,10,20.5\n2.25,-2.1,3,4\n", "times/Jogging.1_time.txt": "0.50000000\n0.02500000\n"},
    "pytracking": {
        "Jogging.1.txt": "1\t1\t10\t20.5\n2.25\t-2.1\t3\t4\n",
        "Jogging.1_time.txt": "0.50000000\n0.02500000\n",
        "Jogging.1_object_presence_scores.txt": "NaN\n0.75\n",
    },
    "got10k": {
        "Jogging.1/Jogging.1_001.txt": "1.0000,1.0000,10.0000,20.5000\n2.2500,-2.1000,3.0000,4.0000\n",
        "Jogging.1/Jogging.1_time.txt": "0.50000000\n0.02500000\n",
    },
    "lasot": {"Jogging.1.txt": "1,1,10,20.5\n2.25,-2.1,3,4\n"},
    "trackingnet": {"Jogging.1.txt": "0,0,10,20.5\n1.25,-3.1,3,4\n"},
    "vot": {
        "unsupervised/Jogging.1/Jogging.1_001.txt": "1\n1.25,-3.1,3,4\n",
        "unsupervised/Jogging.1/Jogging.1_001_time.value": "0.5\n0.025\n",
        "unsupervised/Jogging.1/Jogging.1_001_confidence.value": "\n0.75\n",
    },
    "mot": {"Jogging.1.txt": "1,1,1,1,10,20.5,-1,-1,-1,-1\n2,1,2.25,-2.1,3,4,0.75,-1,-1,-1\n"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_written_as_wanted_and_read_again(tmp_path, name):
    assert FORMATS[name].write(tmp_path / "a", [track()]) == len(GOLDEN[name])
    assert files_under(tmp_path / "a") == GOLDEN[name]
    (back,) = FORMATS[name].read(put(tmp_path / "b", GOLDEN[name]))
    assert (back.sequence, back.run, back.target, back.anchor) == ("Jogging.1", 0, 1, None)
    assert back.states.tolist() == [INIT, TRACKED]
    np.testing.assert_array_equal(back.boxes, [NAN, BOXES[1]] if name == "vot" else BOXES)
    times = [np.nan, np.nan] if FORMATS[name].times == "none" else [0.5, 0.025]
    np.testing.assert_array_equal(back.seconds, times)
    np.testing.assert_array_equal(back.scores, [np.nan, 0.75 if FORMATS[name].holds_scores else np.nan])


def test_every_format_has_its_golden_files():
    assert set(GOLDEN) == set(FORMATS)
    with pytest.raises(UnknownName, match="otb, pytracking, got10k, lasot, trackingnet, vot, mot"):
        format_of("oxuva")


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_otb_files_of_any_separator(tmp_path, separator):
    text = "\n".join(separator.join(row.split(",")) for row in ("198,214,34,81", "197,214,34.5,81"))
    (back,) = FORMATS["otb"].read(put(tmp_path, {"Basketball.txt": text}))
    assert back.boxes.tolist() == [[197, 213, 34, 81], [196, 213, 34.5, 81]]


@given(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.just(4)), elements=st.integers(-(10**8), 10**8)),
    st.sampled_from(["otb", "pytracking", "lasot", "got10k", "trackingnet"]),
)
def test_four_decimals_come_back_to_the_bit(tmp_path_factory, cells, name):
    boxes = cells / 1e4
    folder = tmp_path_factory.mktemp("files")
    FORMATS[name].write(folder, [make_track("a", boxes)])
    np.testing.assert_array_equal(FORMATS[name].read(folder)[0].boxes, boxes)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e5, 1e5)), st.sampled_from(["otb", "trackingnet", "vot", "mot"]))
def test_any_box_comes_back(tmp_path_factory, boxes, name):
    folder = tmp_path_factory.mktemp("files")
    FORMATS[name].write(folder, [make_track("a", boxes)])
    back, wanted = FORMATS[name].read(folder)[0].boxes, boxes.copy()
    if name == "vot":
        wanted[0] = np.nan
    if FORMATS[name].base == 0:
        np.testing.assert_array_equal(back, wanted)
    np.testing.assert_allclose(back, wanted, rtol=0, atol=1e-10)


def test_numbers_have_no_exponent_and_no_negative_zero():
    assert [number_text(v) for v in (1e-7, -0.0, 12.0, 0.1, 1e21, np.nan)] == [
        "0.0000001", "0", "12", "0.1", "1000000000000000000000", "NaN",
    ]  # fmt: skip
    assert [number_text(v, 2) for v in (1.005, -0.0, np.nan)] == ["1.00", "0.00", "NaN"]


def test_runs_and_their_times_lie_beside_each_other_in_got10k(tmp_path):
    tracks = [make_track("a", BOXES + run, seconds=np.array([1.0, 2.0]) + run, run=run) for run in (0, 2)]
    FORMATS["got10k"].write(tmp_path, tracks)
    assert (tmp_path / "a/a_time.txt").read_text() == "1.00000000,NaN,3.00000000\n2.00000000,NaN,4.00000000\n"
    first, third = FORMATS["got10k"].read(tmp_path)
    assert (first.run, third.run) == (0, 2)
    assert third.boxes.tolist() == (BOXES + 2).tolist()
    assert third.seconds.tolist() == [3.0, 4.0]


SUPERVISED = "1\n10,20,5,6\n2\n0\n1\n1,2,4,3,2,5,0,4\nNaN,NaN,NaN,NaN\n"


def test_vot_codes_polygons_and_gaps(tmp_path):
    put(tmp_path, {"baseline/bag/bag_001.txt": SUPERVISED, "baseline/bag/bag_001_time.value": "1\n2\n3\n\n5\n6\n\n"})
    (back,) = FORMATS["vot"].read(tmp_path)
    assert back.states.tolist() == [INIT, TRACKED, FAILURE, SKIPPED, INIT, TRACKED, SKIPPED]
    np.testing.assert_array_equal(back.boxes, [NAN, [10, 20, 5, 6], NAN, NAN, NAN, [0, 2, 4, 3], NAN])
    assert back.polygons[5].tolist() == [[1, 2], [4, 3], [2, 5], [0, 4]]
    np.testing.assert_array_equal(back.seconds, [1, 2, 3, np.nan, 5, 6, np.nan])
    FORMATS["vot"].write(tmp_path / "again", [back])
    written = files_under(tmp_path / "again")
    assert written["baseline/bag/bag_001.txt"] == SUPERVISED.replace("NaN,NaN,NaN,NaN", "0")
    assert written["baseline/bag/bag_001_time.value"] == "1\n2\n3\n\n5\n6\n\n"
    truth = np.arange(28.0).reshape(7, 4)
    assert fill_starts(back, truth).boxes[[0, 4]].tolist() == truth[[0, 4]].tolist()


def test_vot_multi_start_and_the_times_of_the_older_toolkit(tmp_path):
    put(tmp_path, {"bag/bag_00000050.txt": "1\n1,2,3,4\n"})
    (back,) = FORMATS["vot"].read(tmp_path)
    assert (back.anchor, back.run) == (50, 0)
    with pytest.raises(ArgumentError, match="a run from an anchor"):
        FORMATS["otb"].write(tmp_path / "otb", [back])
    truth = np.arange(400.0).reshape(100, 4)
    assert fill_starts(back, truth).boxes[0].tolist() == truth[50].tolist()
    old = put(tmp_path / "old", {"baseline/a/a_002.txt": "1\n1,2,3,4\n", "baseline/a/a_time.txt": "1,2\n3,4\n"})
    (back,) = FORMATS["vot"].read(old)
    assert (back.run, back.seconds.tolist()) == (1, [2.0, 4.0])


def test_vot_experiments_are_not_mixed(tmp_path):
    put(tmp_path, {"baseline/a/a_001.txt": "1\n", "unsupervised/a/a_001.txt": "1\n1,2,3,4\n"})
    with pytest.raises(SourceError, match=r"several experiments \(baseline, unsupervised\)"):
        FORMATS["vot"].read(tmp_path)
    assert detect(tmp_path).name == "vot"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("m1,2,3,4,13", "a mask with runs of 13 px for 3 × 4"),
        ("m1,2,3,4.5,1", "a mask that is not x, y, w, h and"),
        ("m1,2,3", "a mask that is not x, y, w, h and"),
        ("3", "a code that is not 0, 1 or 2"),
        ("1,2,3", "3 numbers, wanted 1"),
        ("1,2,3,inf", "not finite"),
        ("a,b,c,d", "not a region"),
        ("", "0 numbers"),
    ],
)
def test_wrong_regions_are_named_by_line(tmp_path, row, message):
    put(tmp_path, {"a/a_001.txt": f"1\n{row}\n1,2,3,4\n"})
    with pytest.raises(SourceError, match=rf"a_001\.txt:2: {message}"):
        FORMATS["vot"].read(tmp_path)


def test_mot_targets_and_missing_frames(tmp_path):
    text = "4,1,11,21,5,6,0.5,-1,-1,-1\n1,1,1,1,5,6,-1,-1,-1,-1\n3,7,2,2,2,2,1,-1,-1,-1\n"
    one, seven = FORMATS["mot"].read(put(tmp_path, {"V.txt": text}))
    assert (one.target, seven.target) == (1, 7)
    np.testing.assert_array_equal(one.boxes, [[0, 0, 5, 6], NAN, NAN, [10, 20, 5, 6]])
    np.testing.assert_array_equal(one.scores, [np.nan, np.nan, np.nan, 0.5])
    assert seven.states.tolist() == [SKIPPED, SKIPPED, INIT, SKIPPED]
    FORMATS["mot"].write(tmp_path / "again", [one, seven])
    rows = text.splitlines()
    assert (tmp_path / "again/V.txt").read_text().splitlines() == [rows[1], rows[2], rows[0]]
    FORMATS["otb"].write(tmp_path / "otb", [one, seven])
    assert sorted(files_under(tmp_path / "otb")) == ["V.1.txt", "V.7.txt"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,1,1,1,5,6,1,-1,-1,-1", "V.txt:2: frame and id"),
        ("1.5,1,1,1,5,6,1,-1,-1,-1", "V.txt:2: frame and id"),
        ("NaN,1,1,1,5,6,1,-1,-1,-1", "V.txt:2: frame and id"),
        ("1,1,1,1,5,6,1,-1,-1,-1", "V.txt:2: frame 1 of target 1 twice"),
        ("1,1,1,1", "V.txt:2: 4 columns"),
    ],
)
def test_wrong_mot_rows_are_named_by_line(tmp_path, row, message):
    with pytest.raises(SourceError, match=message):
        FORMATS["mot"].read(put(tmp_path, {"V.txt": f"1,1,1,1,5,6,1,-1,-1,-1\n{row}\n"}))


def test_archives_hold_the_files_in_their_root(tmp_path):
    for name in ("trackingnet", "got10k"):
        path = tmp_path / f"{name}.zip"
        FORMATS[name].write(path, [track("a_1"), track("b_1")])
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            wanted = {n.replace("Jogging.1", x): text for x in ("a_1", "b_1") for n, text in GOLDEN[name].items()}
            assert {n: archive.read(n).decode() for n in archive.namelist()} == wanted
        assert [t.sequence for t in FORMATS[name].read(path)] == ["a_1", "b_1"]
        (tmp_path / "any").write_text("")
        assert path.stat().st_mode == (tmp_path / "any").stat().st_mode
        first = path.read_bytes()
        FORMATS[name].write(path, [track("a_1"), track("b_1")])
        assert path.read_bytes() == first
    (tmp_path / "broken.zip").write_bytes(first[:100])
    with pytest.raises(SourceError, match=r"broken\.zip: not a whole zip archive"):
        FORMATS["got10k"].read(tmp_path / "broken.zip")


def test_a_stop_while_an_archive_is_written_leaves_nothing(tmp_path):
    def tracks():
        yield track()
        raise SourceError("b.txt:1: wrong")

    with pytest.raises(SourceError, match=r"^b\.txt:1: wrong$"):
        FORMATS["trackingnet"].write(tmp_path / "a.zip", tracks())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.zip: cannot be written"):
        FORMATS["trackingnet"].write(tmp_path / "file/a.zip", [track()])


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="one run per sequence, got 2 of one sequence"):
        FORMATS["otb"].write(tmp_path, [track(), track(run=1)])
    with pytest.raises(ArgumentError, match="a run from an anchor"):
        FORMATS["got10k"].write(tmp_path, [track(anchor=3)])


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone: no such file or folder"):
        FORMATS["otb"].read(tmp_path / "gone")
    with pytest.raises(SourceError, match="no file of the format otb"):
        FORMATS["otb"].read(tmp_path)
    put(tmp_path, {"a.txt": "1,2,3,4\n1,2,3\n"})
    with pytest.raises(SourceError, match=r"a\.txt:2: 3 columns, wanted 4"):
        FORMATS["otb"].read(tmp_path)
    put(tmp_path, {"a.txt": "1,2,3,4\n", "times/a_time.txt": "1\n2\n"})
    with pytest.raises(SourceError, match=r"a_time\.txt: 2 rows for 1 boxes"):
        FORMATS["otb"].read(tmp_path)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        *[(GOLDEN[name], name) for name in ("otb", "pytracking", "got10k", "vot", "mot")],
        ({"airplane-1.txt": "1,1,2,2\n", "bear-20.txt": "1,1,2,2\n"}, "lasot"),
        ({"0-6LB4FqxoE_0.txt": "1,1,2,2\n"}, "trackingnet"),
        ({"a/a_001.txt": "1\n1,2,3,4\n"}, "vot"),
        ({"baseline/a/a_001.txt": "1\n"}, "vot"),
        ({"a/a_00000000.txt": "1\n"}, "vot"),
        ({"a/a_001.txt": "1,2,3,4\n"}, "got10k"),
        ({"car_001.txt": "1,2,3,4\n"}, "otb"),
        ({"Board.txt": "1 2 3 4\n"}, "otb"),
    ],
)
def test_formats_are_told_by_layout(tmp_path, files, wanted):
    assert detect(put(tmp_path, files)).name == wanted


def test_a_single_file_and_what_is_no_result(tmp_path):
    put(tmp_path, {"a_001.txt": "1\n2,3,4,5\n", "b.txt": "1,2,3,4\n", "empty/note.md": ""})
    assert detect(tmp_path / "a_001.txt").name == "vot"
    assert FORMATS["vot"].read(tmp_path / "a_001.txt")[0].sequence == "a"
    assert FORMATS["otb"].read(tmp_path / "b.txt")[0].boxes.tolist() == [[0, 1, 3, 4]]
    with pytest.raises(SourceError, match="no result files of any known format"):
        detect(tmp_path / "empty")


def test_outcomes_become_tracks_with_a_row_for_every_frame():
    outcome = Outcome(
        unit=Unit("kcf-1", "otb", "a", "sre", run=4),
        first=2,
        boxes=BOXES,
        states=np.array([INIT, TRACKED], np.int8),
        seconds=np.array([0.1, 0.2]),
        scores=np.array([1.0, 2.0]),
        lost=np.zeros(2, bool),
    )
    made = track_of(outcome, run=1)
    assert (made.sequence, made.run) == ("a", 1)
    assert made.states.tolist() == [SKIPPED, SKIPPED, INIT, TRACKED]
    np.testing.assert_array_equal(made.boxes, [NAN, NAN, *BOXES])
    np.testing.assert_array_equal(made.seconds, [np.nan, np.nan, 0.1, 0.2])

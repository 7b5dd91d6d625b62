"""Every fault of a submission is found and named by file and line; what is right is not accused."""

import numpy as np
import pytest
from result_files import dataset, put

from fasttrack.cli import main
from fasttrack.errors import SourceError
from fasttrack.evaluation.formats import FORMATS, make_track
from fasttrack.evaluation.formats.validate import CHECKS, Expected, expected_of, read_names, validate

TRUTH = np.array([0.0, 1, 10, 20])
ROWS = "1,2,10,20\n2,3,10.5,20\n3,4,11,20\n"  # as OTB and GOT-10k have it


def expected(*names, first=TRUTH):
    return [Expected(name, 3, first) for name in names or ("a",)]


def found(folder, name, files, *, wanted=None):
    report = validate(put(folder, files), FORMATS[name], wanted or expected())
    return [str(finding).replace(f"{folder}/", "") for finding in report.findings]


@pytest.mark.parametrize("name", FORMATS)
def test_what_we_write_is_fine(tmp_path, name):
    boxes = np.array([TRUTH, TRUTH + 1, TRUTH + 2])
    tracks = [make_track(x, boxes, seconds=np.ones(3), scores=np.ones(3)) for x in ("a", "b")]
    for path in (tmp_path / "folder", tmp_path / "a.zip"):
        FORMATS[name].write(path, tracks)
        report = validate(path, FORMATS[name], expected("a", "b"))
        assert report.findings == ()
        left_out = set(CHECKS.values()) - set(report.fine)
        assert left_out - set(report.unchecked) == (set() if FORMATS[name].holds_runs else {CHECKS["runs"]})
        assert set(report.unchecked) == ({CHECKS["times"]} if FORMATS[name].times == "none" else set())


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (ROWS.replace(",", "\t"), "a.txt:1: separated by tabs, wanted commas (also in 2-3)"),
        (ROWS.replace("3,4,", "3, 4;"), None),
        (ROWS.replace("3,4,11,20", "3 4 11 20"), "a.txt:3: separated by spaces, wanted commas"),
        (ROWS + "1,1,1,1\n", "a.txt: 4 rows, wanted 3"),
        (ROWS[:10], "a.txt: 1 rows, wanted 3"),
        ("", "a.txt: empty"),
        (ROWS.replace("10.5,20", "10.5"), "a.txt:2: 3 columns, wanted 4"),
        (ROWS.replace("2,3,10.5,20\n", "\n"), "a.txt:2: blank line"),
        (ROWS.replace("10.5", "nan"), "a.txt:2: NaN"),
        (ROWS.replace("10.5", "-inf"), "a.txt:2: not finite"),
        (ROWS.replace("10.5", "x"), "a.txt:2: not a number: 'x'"),
        (ROWS.replace("10.5", "1_0"), "a.txt:2: not a number"),
        (ROWS.replace("10.5", "0").replace("11,20", "-1,20"), "a.txt:2: width or height not above 0 (also in 3)"),
        (ROWS.replace("1,2,10,20", "1,2,10,21"), "a.txt:1: 1,2,10,21, the ground truth's first box is 1,2,10,20"),
        (
            ROWS.replace("1,2,10,20", "0,1,10,20"),
            "a.txt:1: 0,1,10,20, the ground truth's first box is 1,2,10,20; corners of this format are counted from 1",
        ),
        (ROWS.replace("1,2,10,20", "1.009,2,10,20"), None),
        (ROWS.replace("\n", "\r\n") + "\n\n", None),
    ],
)
def test_faults_of_rows(tmp_path, rows, finding):
    assert found(tmp_path, "lasot", {"a.txt": rows}) == ([] if finding is None else [finding])


def test_otb_takes_any_separator_but_one(tmp_path):
    for rows in (ROWS, ROWS.replace(",", "\t"), ROWS.replace(",", " ")):
        assert found(tmp_path, "otb", {"a.txt": rows}) == []
    mixed = ROWS.replace("3,4,11,20", "3\t4\t11\t20")
    assert found(tmp_path, "otb", {"a.txt": mixed}) == ["a.txt:3: separated by tabs, rows before by commas"]


def test_missing_sequences_and_strangers(tmp_path):
    files = {"a.txt": ROWS, "c.txt": ROWS, "readme.md": "", "times/a_time.txt": "1\n"}
    assert found(tmp_path, "lasot", files, wanted=expected("a", "b")) == [
        "b.txt: missing: no result for the sequence b",
        "c.txt: no sequence is called c",
        "readme.md: not a file of the format",
        "times/a_time.txt: not a file of the format",
    ]


def test_an_archive_with_a_folder_around(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("results/a.txt", "0,1,10,20\n" * 3)
    report = validate(tmp_path / "a.zip", FORMATS["trackingnet"], expected())
    assert [str(f).replace(f"{tmp_path}/", "") for f in report.findings] == [
        "a.zip/a.txt: missing: no result for the sequence a",
        "a.zip/results/a.txt: not a file of the format; the files belong in the root of the archive",
    ]


def test_times_and_runs_of_got10k(tmp_path):
    good = {"a/a_001.txt": ROWS, "a/a_002.txt": ROWS, "a/a_time.txt": "1,2\n1,2\n1,2\n"}
    wanted = expected("a", "b")
    lone = {**good, "b/b_001.txt": ROWS, "b/b_002.txt": ROWS}
    assert found(tmp_path / "1", "got10k", lone, wanted=wanted) == [
        "b/b_001.txt: no file of times goes with it", "b/b_002.txt: no file of times goes with it",
    ]  # fmt: skip
    bad = {**lone, "b/b_time.txt": "1,2\n-1,NaN\n"}
    assert found(tmp_path / "2", "got10k", bad, wanted=wanted) == [
        "b/b_time.txt: 2 rows, wanted 3",
        "b/b_time.txt:2: NaN",
    ]
    uneven = {
        **good,
        "b/b_001.txt": ROWS,
        "b/b_time.txt": "1\n2\n-3\n",
        "c/c_001.txt": ROWS,
        "c/c_time.txt": "1\n2\n3\n",
    }
    assert found(tmp_path / "3", "got10k", uneven, wanted=expected("a", "b", "c")) == [
        "a/a_001.txt: 2 runs of a, 1 of the others", "b/b_time.txt:3: a time below 0",
    ]  # fmt: skip


def test_times_that_only_some_sequences_have(tmp_path):
    files = {"a.txt": ROWS, "b.txt": ROWS, "times/a_time.txt": "1\n2\n3\n"}
    assert found(tmp_path, "otb", files, wanted=expected("a", "b")) == ["b.txt: no file of times goes with it"]


def test_vot_regions(tmp_path):
    good = {"baseline/a/a_001.txt": "1\n2\n0\n", "baseline/a/a_001_time.value": "1\n\n\n"}
    assert found(tmp_path / "1", "vot", good) == []
    bad = {"baseline/a/a_001.txt": "1,2,3,4\n2\n5,6,7,8\n7\n"}
    assert found(tmp_path / "2", "vot", bad) == [
        "baseline/a/a_001.txt: 4 rows, wanted 3",
        "baseline/a/a_001.txt:1: not 1, the code of the frame in which the tracker was started",
        "baseline/a/a_001.txt:3: neither 0 nor 1 after the tracker failed or was not running",
        "baseline/a/a_001.txt:4: a code that is not 0, 1 or 2",
    ]
    assert found(tmp_path / "3", "vot", {"unsupervised/a/a_001.txt": "1\n1,1,1,1,1,1\n1,2,3,4,5\n"}) == [
        "unsupervised/a/a_001.txt:2: width or height not above 0",
        "unsupervised/a/a_001.txt:3: 5 columns, wanted 1 (a code), 4 (a rectangle) or the corners of a polygon",
    ]
    starts = {"baseline/a/a_00000000.txt": "1\n1,2,3,4\n1,2,3,4\n", "baseline/a/a_00000002.txt": "1\n1,2,3,4\n"}
    assert found(tmp_path / "4", "vot", starts) == ["baseline/a/a_00000002.txt: 2 rows, wanted 1 or 3"]


def test_mot_rows(tmp_path):
    end = ",1,-1,-1,-1\n"
    good = f"1,1,1,2,10,20{end}3,1,3,4,5,6{end}"
    assert found(tmp_path, "mot", {"a.txt": good}) == []
    bad = f"1,1,1,2,10,21{end}4,1,3,4,5,6{end}1,1,1,1,1,1{end}2,0,1,1,1,1{end}2.5,1,1,1,1,0{end}1,2,3,4,5,6,1\n"
    assert found(tmp_path, "mot", {"a.txt": bad}) == [
        "a.txt:2: a frame that is not one of 1 … 3",
        "a.txt:3: this frame of this target has a row already",
        "a.txt:4: frame and id are not whole numbers from 1 on (also in 5)",
        "a.txt:5: width or height not above 0",
        "a.txt:6: 7 columns, wanted 10",
    ]
    assert found(tmp_path, "mot", {"a.txt": good.replace("10,20", "10,21")}) == [
        "a.txt:1: 1,2,10,21, the ground truth's first box is 1,2,10,20"
    ]
    assert found(tmp_path, "mot", {"a.txt": f"2,1,3,4,5,6{end}"}) == ["a.txt: no row for the first frame"]


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    (told,) = found(tmp_path, "lasot", {})
    assert told.startswith("a.txt: not a text file")


def test_pytracking_may_cut_to_whole_pixels(tmp_path):
    rows = "1\t2\t10\t20\n" * 3
    wanted = expected(first=TRUTH + 0.9)
    assert found(tmp_path, "pytracking", {"a.txt": rows}, wanted=wanted) == []
    assert len(found(tmp_path, "lasot", {"a.txt": rows.replace("\t", ",")}, wanted=wanted)) == 1


def test_the_command_says_what_is_wrong_and_what_is_fine(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(put(tmp_path, {"names.txt": "a 3\nb\t3\n\nc, 3\n", "r/a.txt": ROWS, "r/b.txt": ROWS}))
    assert main(["validate", "r", "--format", "lasot", "--names", "names.txt"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "r as lasot, 3 sequences: 1 fault"
    assert told[1] == "r/c.txt: missing: no result for the sequence c"
    assert "  fine         every box has a width and a height" in told
    assert f"  fine         {CHECKS['files']}" not in told
    assert "  not checked  first rows are the ground truth's: the ground truth is not known" in told
    put(tmp_path, {"r/c.txt": ROWS})
    assert main(["validate", "r", "--format", "lasot", "--names", "names.txt"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "r as lasot, 3 sequences: fine"


def test_the_command_with_a_dataset(tmp_path, capsys, monkeypatch):
    made = {"otb=/x": dataset(a=[TRUTH.tolist()] * 3)}
    monkeypatch.setattr("fasttrack.evaluation.datasets.load_dataset", made.__getitem__)
    folder = put(tmp_path / "r", {"a.txt": ROWS})
    assert main(["validate", str(folder), "--format", "lasot", "--data", "otb=/x"]) == 0
    assert main(["validate", str(folder), "--format", "lasot", "--data", "otb=/x", "--base", "0"]) == 1
    assert "counted from 0" in capsys.readouterr().out
    assert [(e.name, e.length, e.first.tolist()) for e in expected_of(made["otb=/x"])] == [("a", 3, TRUTH.tolist())]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["r", "--format", "lasot"], 2, "one of the arguments --data --names is required"),
        (["r", "--format", "x", "--names", "n"], 2, "one of otb"),
        (["gone", "--format", "otb", "--names", "n"], 1, "gone: no such file or folder"),
        (["r", "--format", "otb", "--names", "gone"], 1, "gone: cannot be read"),
        (["n", "--format", "trackingnet", "--names", "bad"], 1, "bad:2: wanted a name and how many frames"),
    ],
)
def test_wrong_calls_end_in_one_line(tmp_path, capsys, monkeypatch, words, code, message):
    monkeypatch.chdir(put(tmp_path, {"n": "a 3\n", "bad": "a 3\nb\n", "r/a.txt": ROWS}))
    try:
        got = main(["validate", *words])
    except SystemExit as end:
        got = end.code
    assert got == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a 0\n", "a x\n", "3\n", "a 3\na 4\n", "\n"])
def test_wrong_lists_of_names(tmp_path, text):
    with pytest.raises(SourceError, match="names"):
        read_names(put(tmp_path, {"names": text}) / "names")

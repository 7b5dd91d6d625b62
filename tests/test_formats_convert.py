"""From one format to another, by the function and by the command; what gets lost is told."""

import zipfile

import numpy as np
import pytest
from result_files import dataset, files_under, put

from fasttrack.cli import main
from fasttrack.cli.convert import FORMAT_TABLE
from fasttrack.errors import ArgumentError, OutputError, SourceError
from fasttrack.evaluation.formats import FORMATS
from fasttrack.evaluation.formats.convert import convert
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, TRACKED, Outcome, Unit, write_outcome


def outcome(sequence="a", protocol="ope", run=0, seed=0, error=None, first=0, states=(INIT, TRACKED), tracker="kcf-1"):
    n = len(states)
    boxes = np.arange(4.0 * n).reshape(n, 4) + 1 + 10 * run
    boxes[np.array(states) == SKIPPED] = np.nan
    return Outcome(
        unit=Unit(tracker, "otb", sequence, protocol, run, seed),
        first=first,
        boxes=boxes,
        states=np.array(states, np.int8),
        seconds=np.full(n, 0.5),
        scores=np.full(n, np.nan),
        lost=np.zeros(n, bool),
        error=error,
    )


def test_corners_are_shifted_between_bases_and_nothing_else(tmp_path, capsys):
    put(tmp_path / "in", {"a.txt": "1,2,3,4\n1.1,2.123456789,3.0001,4\n", "b.txt": "5\t6\t7\t8\n"})
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--from", "otb", "--to", "trackingnet"]) == 0
    assert files_under(tmp_path / "out") == {"a.txt": "0,1,3,4\n0.1,1.123456789,3.0001,4\n", "b.txt": "4,5,7,8\n"}
    assert "(otb)" in (told := capsys.readouterr().out)
    assert "2 runs, 2 files" in told
    assert "not in" not in told
    assert (
        main(["convert", str(tmp_path / "out"), str(tmp_path / "back"), "--from", "trackingnet", "--to", "lasot"]) == 0
    )
    assert files_under(tmp_path / "back")["a.txt"] == "1,2,3,4\n1.1,2.123456789,3.0001,4\n"


def test_bases_and_decimals_of_the_command_line(tmp_path):
    put(tmp_path / "in", {"a.txt": "0.06,1.449,3.5,4\n"})
    words = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--from", "otb", "--to", "pytracking"]
    assert main([*words, "--from-base", "0", "--to-base", "1", "--decimals", "1"]) == 0
    assert files_under(tmp_path / "out") == {"a.txt": "1.1\t2.4\t3.5\t4.0\n"}


def test_the_format_is_told_by_layout(tmp_path, capsys):
    put(tmp_path / "in", {"a/a_001.txt": "1,2,3,4\n", "a/a_time.txt": "0.5\n"})
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out.zip"), "--to", "trackingnet"]) == 0
    told = capsys.readouterr().out
    assert "(got10k)" in told
    assert "not in trackingnet: 1 times" in told
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a.txt": b"0,1,3,4\n"}


def test_runs_get_a_folder_each_where_the_format_holds_one(tmp_path):
    put(tmp_path / "in", {"a/a_001.txt": "1,2,3,4\n", "a/a_002.txt": "2,2,3,4\n", "b/b_001.txt": "3,2,3,4\n"})
    convert(tmp_path / "in", tmp_path / "out", FORMATS["otb"], FORMATS["got10k"])
    wanted = {"run-001/a.txt": "1,2,3,4\n", "run-001/b.txt": "3,2,3,4\n", "run-002/a.txt": "2,2,3,4\n"}
    assert files_under(tmp_path / "out") == wanted
    convert(tmp_path / "in", tmp_path / "out.zip", FORMATS["otb"], FORMATS["got10k"])
    assert sorted(p.name for p in tmp_path.glob("*.zip")) == ["out-run-001.zip", "out-run-002.zip"]


def test_the_dataset_fills_in_what_vot_does_not_tell(tmp_path, capsys, monkeypatch):
    put(tmp_path / "in", {"baseline/a/a_001.txt": "1\n4,5,6,7\n2\n0\n0,0,2,0,2,2,0,2\n"})
    words = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--from", "vot", "--to", "otb"]
    assert main(words) == 0
    told = capsys.readouterr().out
    for text in ("1 polygons", "2 failures and gaps", "1 boxes that the source does not tell"):
        assert f"not in otb: {text}" in told
    rows = ["NaN,NaN,NaN,NaN", "5,6,6,7", "NaN,NaN,NaN,NaN", "NaN,NaN,NaN,NaN", "1,1,2,2"]
    assert files_under(tmp_path / "out")["a.txt"].splitlines() == rows
    made = {"vot2018=/x": dataset(a=[[9, 8, 7, 6]] * 5)}
    monkeypatch.setattr("fasttrack.evaluation.datasets.load_dataset", made.__getitem__)
    assert main([*words, "--data", "vot2018=/x"]) == 0
    assert files_under(tmp_path / "out")["a.txt"].splitlines() == ["10,9,7,6", *rows[1:]]
    assert "does not tell" not in capsys.readouterr().out


def test_an_evaluation_becomes_a_folder_of_each_tracker_and_protocol(tmp_path, capsys):
    write_outcome(tmp_path / "run/units", outcome("a"))
    write_outcome(tmp_path / "run/units", outcome("b", first=1))
    for run, seed in ((0, 0), (0, 7), (3, 0)):
        write_outcome(tmp_path / "run/units", outcome("a", "sre", run, seed, tracker="crt-2"))
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "out"), "--to", "otb"]) == 0
    written = files_under(tmp_path / "out")
    assert written["kcf-1/otb/ope/a.txt"] == "2,3,3,4\n6,7,7,8\n"
    assert written["kcf-1/otb/ope/times/a_time.txt"] == "0.50000000\n0.50000000\n"
    assert written["kcf-1/otb/ope/b.txt"] == "NaN,NaN,NaN,NaN\n2,3,3,4\n6,7,7,8\n"
    assert written["crt-2/otb/sre/run-003/a.txt"] == "32,33,33,34\n36,37,37,38\n"
    assert sorted({name.split("/")[3] for name in written if "sre" in name}) == ["run-001", "run-002", "run-003"]
    assert "(evaluation)" in capsys.readouterr().out
    convert(tmp_path / "run/units", tmp_path / "got", FORMATS["got10k"])
    assert sorted(p.name for p in (tmp_path / "got/crt-2/otb/sre/a").iterdir()) == [
        "a_001.txt", "a_002.txt", "a_003.txt", "a_time.txt",
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match="a folder for more than one tracker"):
        convert(tmp_path / "run", tmp_path / "out.zip", FORMATS["got10k"])


def test_restarted_runs_of_an_evaluation_become_codes(tmp_path):
    states = (INIT, TRACKED, FAILURE, SKIPPED, INIT, TRACKED)
    write_outcome(tmp_path / "run/units", outcome("a", "vot-supervised", states=states))
    write_outcome(tmp_path / "run/units", outcome("b", "vot-supervised"))
    convert(tmp_path / "run", tmp_path / "out", FORMATS["vot"])
    folder = tmp_path / "out/kcf-1/otb/vot-supervised/baseline"
    assert (folder / "a/a_001.txt").read_text() == "1\n5,6,7,8\n2\n0\n1\n21,22,23,24\n"
    assert (folder / "b/b_001.txt").read_text() == "1\n5,6,7,8\n"  # not a failure in it, and yet in the baseline


def test_units_that_ended_in_an_error_are_left_out_and_told(tmp_path, capsys):
    write_outcome(tmp_path / "run/units", outcome("a"))
    write_outcome(tmp_path / "run/units", outcome("b", error="Traceback …\n  File …\nValueError: no\n"))
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "out"), "--to", "lasot"]) == 1
    assert sorted(files_under(tmp_path / "out")) == ["kcf-1/otb/ope/a.txt"]
    assert "left out, ended in an error" in (told := capsys.readouterr().out)
    assert "ValueError: no" in told


def test_a_single_file_becomes_one(tmp_path, capsys):
    put(tmp_path, {"a.txt": "1 2 3 4\n", "V.txt": "1,1,1,2,3,4,0.5,-1,-1,-1\n"})
    put(tmp_path, {"W.txt": "1,1,1,2,3,4,1,-1,-1,-1\n1,2,5,6,7,8,1,-1,-1,-1\n"})
    assert main(["convert", str(tmp_path / "a.txt"), str(tmp_path / "new/b.txt"), "--to", "got10k"]) == 0
    assert (tmp_path / "new/b.txt").read_text() == "1.0000,2.0000,3.0000,4.0000\n"
    assert main(["convert", str(tmp_path / "V.txt"), str(tmp_path / "new/V.txt"), "--to", "pytracking"]) == 0
    assert (tmp_path / "new/V.txt").read_text() == "1\t2\t3\t4\n"
    assert "files of times and scores" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "W.txt"), str(tmp_path / "new/W.txt"), "--to", "otb"]) == 2
    assert "a folder for 2 targets" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "W.txt"), str(tmp_path / "new/W"), "--to", "otb"]) == 0
    assert files_under(tmp_path / "new/W") == {"W.1.txt": "1,2,3,4\n", "W.2.txt": "5,6,7,8\n"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["in", "out", "--to", "oxuva"], 2, "one of otb, pytracking"),
        (["in", "out", "--from", "oxuva", "--to", "otb"], 2, "one of otb, pytracking"),
        (["in", "out", "--to", "otb", "--decimals", "99"], 2, "--decimals must be 0 … 17"),
        (["in", "in", "--to", "otb"], 1, "in: is what is read"),
        (["gone", "out", "--to", "otb"], 1, "gone: no such file or folder"),
        (["empty", "out", "--to", "otb"], 1, "no result files of any known format"),
        (["in", "out", "--from", "got10k", "--to", "otb"], 1, "no file of the format got10k"),
        (["broken", "out", "--to", "got10k"], 1, "a.txt:2: 3 columns, wanted 4"),
        (["run", "out", "--to", "otb"], 1, "an evaluation without one outcome"),
        (["cut", "out", "--to", "otb"], 1, "a.00.s0.json: not a whole outcome"),
        (["in", "in/a.txt/x", "--to", "otb"], 1, "cannot be written"),
    ],
)
def test_wrong_calls_end_in_one_line(tmp_path, monkeypatch, capsys, words, code, message):
    put(tmp_path, {"in/a.txt": "1,2,3,4\n", "broken/a.txt": "1,2,3,4\n1,2,3\n"})
    put(tmp_path, {"cut/units/t/d/ope/a.00.s0.json": '{"unit":'})
    (tmp_path / "empty").mkdir()
    (tmp_path / "run/units").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == code
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1


def test_the_function_refuses_what_the_command_does(tmp_path):
    put(tmp_path, {"a.txt": "1,2,3,4\n"})
    with pytest.raises(OutputError, match="is what is read"):
        convert(tmp_path, tmp_path, FORMATS["otb"], FORMATS["otb"])
    with pytest.raises(ArgumentError, match="the format of the source"):
        convert(tmp_path, tmp_path / "out", FORMATS["otb"])
    with pytest.raises(SourceError):
        convert(tmp_path / "gone", tmp_path / "out", FORMATS["otb"], FORMATS["otb"])


def test_the_help_names_every_format():
    lines = FORMAT_TABLE.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(FORMATS)
    for line, format in zip(lines, FORMATS.values(), strict=True):
        assert line.endswith(f"corners from {format.base}")

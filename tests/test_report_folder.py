"""From the folder of an evaluation to a report: the numbers, and what is said of what is missing or broken."""

import csv
import itertools
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_evaluation import make_dataset, make_evaluation, outcome, truth_of

from fasttrack.cli import main
from fasttrack.errors import ArgumentError, RangeError, SourceError, UnknownName
from fasttrack.evaluation.metrics import lasot, score_boxes, trackingnet_frames, trackingnet_scores
from fasttrack.evaluation.outcome import FAILURE, INIT, SKIPPED, Unit
from fasttrack.evaluation.report import folder as folder_module
from fasttrack.evaluation.report import write_report
from fasttrack.evaluation.sequence import Annotations, Dataset, ImageFrames, Sequence

pytest.importorskip("matplotlib")
LENGTHS = {"Car": 12, "Dog": 20, "Woman": 16}
SHARES = {"exact": 0.0, "half": 0.5, "away": 3.0}


@pytest.fixture
def spec(tmp_path):
    return make_dataset(tmp_path / "data", LENGTHS)


@pytest.fixture
def store(tmp_path, spec):
    return make_evaluation(tmp_path / "run", spec, LENGTHS, SHARES)


def unit(tracker, sequence, protocol="ope", run=0):
    return Unit(f"{tracker}-00000000", "data", sequence, protocol, run)


def board_of(store, **options):
    written = write_report(store.folder, figures=False, **options)
    return written.report.boards[0], written


def line_of(board, name):
    return next(line for line in board.standings if line.entry.name == name)


def test_numbers_worked_out_by_hand(store):
    board, _ = board_of(store)
    assert [(line.rank, line.entry.name) for line in board.standings] == [(1, "exact"), (2, "half"), (3, "away")]
    exact, half, away = (line_of(board, name).values for name in SHARES)
    # Overlap 1 is above all thresholds but 1.
    assert exact["auc"] == pytest.approx(20 / 21)
    assert exact["dp20"] == exact["os50"] == exact["ndp20"] == 1
    # A box off by half its width overlaps by 1/3: above 0, 0.05 … 0.3. The first frame is exact.
    wanted = np.mean([(20 + (n - 1) * 7) / 21 / n for n in LENGTHS.values()])
    assert half["auc"] == pytest.approx(wanted)
    assert half["dp20"] == 1  # 20 px off
    assert half["ndp20"] == pytest.approx(np.mean([1 / n for n in LENGTHS.values()]))  # half a target off
    assert away["auc"] == pytest.approx(np.mean([20 / 21 / n for n in LENGTHS.values()]))
    assert exact["fps"] == pytest.approx(100) and exact["fps_shared"] is None
    assert (board.common, board.expected, board.frames, board.rules) == (3, 3, 48, "otb")
    assert not board.notices


def test_every_file_is_there_and_agrees(store, tmp_path):
    out = tmp_path / "out"
    written = write_report(store.folder, out=out, title="My title")
    board = written.report.boards[0]
    assert written.files[0] == out / "index.html"
    assert all(file.stat().st_size > 0 for file in written.files)
    names = {file.name for file in written.files}
    assert {
        "table.csv",
        "table.json",
        "table.tex",
        "sequences.csv",
        "data-ope-success.svg",
        "data-ope-speed.png",
    } <= names
    assert "<title>My title</title>" in written.files[0].read_text()
    with (out / "table.csv").open() as file:
        assert float(next(csv.DictReader(file))["auc"]) == line_of(board, "exact").values["auc"]
    record = json.loads((out / "table.json").read_text())
    assert record["boards"][0]["ranking"][1]["tracker"] == "half"
    assert not (store.folder / "report").exists()


def test_worst_sequences_have_pictures(store):
    board, written = board_of(store, worst=2)
    assert [sheet.name for sheet in board.sheets] == ["Dog", "Woman"]  # the first frame, exact for all, counts least
    assert [p.frame for p in board.sheets[0].pictures] == [0, 3, 5, 8, 11, 14, 16, 19]
    assert written.files[0].read_text().count("data:image/jpeg;base64,") == 16
    assert not board_of(store, worst=0)[0].sheets


def test_a_tracker_with_fewer_sequences_is_compared_on_the_same_ones(store):
    store.path(unit("away", "Dog")).unlink()
    board, written = board_of(store)
    assert (board.common, board.expected) == (2, 3)
    line = line_of(board, "away")
    assert (line.done, line.missing, line.failed) == (2, 1, 0)
    assert line.values["auc"] == pytest.approx(np.mean([20 / 21 / n for n in (12, 16)]))
    half = line_of(board, "half").values["auc"]
    assert half == pytest.approx(np.mean([(20 + (n - 1) * 7) / 21 / n for n in (12, 16)]))
    html = written.files[0].read_text()
    assert html.index("Ranked on 2 of 3 sequences") < html.index("<table")
    assert "away: 2 of 3 sequences scored (1 missing)." in html


def test_a_tracker_with_nothing_is_listed_and_takes_nothing_from_the_others(store):
    for name in LENGTHS:
        store.path(unit("away", name)).unlink()
    board, _ = board_of(store)
    assert board.common == 3
    assert [line.rank for line in board.standings] == [1, 2, None]
    assert line_of(board, "away").missing == 3
    assert any("away: 0 of 3" in line and "not ranked" in line for line in board.notices)


def test_trackers_without_a_common_sequence_are_not_ranked(store):
    store.path(unit("away", "Dog")).unlink()
    store.path(unit("half", "Car")).unlink()
    store.path(unit("exact", "Woman")).unlink()
    board, written = board_of(store)
    assert board.common == 0 and all(line.rank is None for line in board.standings)
    assert not board.curves and not board.attributes
    assert "there is no ranking" in written.files[0].read_text()


def test_an_empty_folder_gives_a_page(store):
    shutil.rmtree(store.folder / "units")
    board, _ = board_of(store)
    assert board.common == 0 and len(board.standings) == 3


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_truncated_outcome_is_listed_and_left_out(store, keep):
    path = store.path(unit("half", "Car"))
    path.write_bytes(path.read_bytes()[:keep])
    board, written = board_of(store)
    assert board.common == 2
    assert len(written.report.broken) == 1
    assert written.report.broken[0].startswith("half-00000000/data/ope/Car.00.s0.json: not a whole outcome")
    assert "half-00000000/data/ope/Car.00.s0.json" in written.files[0].read_text()


def test_an_outcome_of_other_length_is_left_out(store):
    store.write(outcome(unit("half", "Car"), 11, 0.5))
    board, written = board_of(store)
    assert board.common == 2
    assert written.report.broken == ["half-00000000/data/ope/Car.00.s0.json: ends at frame 11 of a sequence of 12"]


def test_an_outcome_in_the_place_of_another_is_left_out(store):
    shutil.copy(store.path(unit("exact", "Car")), store.path(unit("half", "Car")))
    board, written = board_of(store)
    assert board.common == 2
    assert "the outcome of another unit" in written.report.broken[0]


def test_failures_of_one_kind_stand_together(store):
    for number, name in enumerate(LENGTHS):
        error = f"Traceback (most recent call last):\n  …\nValueError: frame {number} is <b>bad</b>\n"
        store.write(outcome(unit("half", name), LENGTHS[name], 0.5, error=error))
    board, written = board_of(store)
    (failure,) = written.report.failures
    assert (failure.tracker, failure.count, failure.message) == ("half", 3, "ValueError: frame 0 is <b>bad</b>")
    assert line_of(board, "half").failed == 3 and line_of(board, "half").rank is None
    html = written.files[0].read_text()
    assert "<b>bad</b>" not in html and "frame 0 is &lt;b&gt;bad" in html


def test_very_many_ways_to_fail_stay_few_on_the_page(tmp_path):
    lengths = {f"s{chr(97 + k // 26)}{chr(97 + k % 26)}": 3 for k in range(100)}
    spec = make_dataset(tmp_path / "data", lengths, pictures=False)
    store = make_evaluation(tmp_path / "run", spec, lengths, {"bad": 0.0})
    for name in lengths:
        store.write(outcome(unit("bad", name), 3, 0.0, error=f"Traceback\nValueError: {name}" + "x" * 50_000))
    _, written = board_of(store)
    assert sum(failure.count for failure in written.report.failures) == 100
    assert len(written.report.failures) <= 61
    assert written.files[0].stat().st_size < 5_000_000


def test_frames_may_be_gone(store, tmp_path):
    for image in (tmp_path / "data").rglob("*.jpg"):
        image.write_bytes(b"")
    board, written = board_of(store)
    assert board.common == 3
    assert not board.sheets[0].pictures
    assert "cannot be read" in board.sheets[0].note
    assert board.sheets[0].note.split(":")[0] in written.files[0].read_text()


def test_a_dataset_that_moved_is_found_by_data(store, tmp_path):
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"say where dataset data lies now by --data NAME=PATH"):
        write_report(store.folder)
    assert board_of(store, data=[f"data={tmp_path / 'elsewhere'}"])[0].common == 3
    for wrong in ("vot=x", "data", "data="):
        with pytest.raises(ArgumentError, match="--data must be NAME=PATH"):
            write_report(store.folder, data=[wrong])


def test_rules_change_the_numbers_and_got10k_has_its_own(store):
    board, _ = board_of(store, rules="got10k")
    assert [column.key for column in board.columns[:3]] == ["ao", "sr50", "sr75"]
    half = line_of(board, "half").values
    assert half["ao"] == pytest.approx(1 / 3) and half["sr50"] == 0
    assert line_of(board, "exact").values["sr75"] == 1


def scored(name, rules):
    """The sequences of ``store`` by the metric functions."""
    truths = [truth_of(count) for count in LENGTHS.values()]
    boxes = [outcome(None, count, SHARES[name]).boxes for count in LENGTHS.values()]
    if rules == "trackingnet":
        return trackingnet_scores([trackingnet_frames(*pair) for pair in zip(boxes, truths, strict=True)])
    return lasot([score_boxes(*pair, "lasot") for pair in zip(boxes, truths, strict=True)])


@pytest.mark.parametrize(
    ("rules", "keys"),
    [("lasot", ("auc", "dp20", "ndp20")), ("trackingnet", ("success", "precision", "normalised"))],
)
def test_success_and_precisions_are_those_of_lasot_and_trackingnet(store, rules, keys):
    board, written = board_of(store, rules=rules)
    assert f"scored by the rules “{rules}”" in written.files[0].read_text()
    assert [column.label for column in board.columns[:3]] == ["Success", "Precision", "Norm. precision"]
    assert tuple(column.key for column in board.columns[:3]) == keys
    for name in SHARES:
        wanted = scored(name, rules)
        got = [line_of(board, name).values[key] for key in keys]
        assert got == pytest.approx([wanted.success, wanted.precision, wanted.normalised], abs=1e-12)
    # Canary: the others see something else.
    other = board_of(store, rules="otb" if rules == "trackingnet" else "trackingnet")[0]
    half = [line_of(one, "half").values[key] for one, key in ((board, keys[0]), (other, other.columns[0].key))]
    assert abs(half[0] - half[1]) > 1e-3


def test_attributes_are_those_of_the_dataset(tmp_path):
    lengths = {"Crossing": 6, "Jumping": 8}  # names that OTB lists with attributes
    spec = make_dataset(tmp_path / "data", lengths, pictures=False).replace("folder=", "otb=")
    board, _ = board_of(make_evaluation(tmp_path / "run", spec, lengths, SHARES))
    counts = {attribute.name: attribute.sequences for attribute in board.attributes}
    assert counts["FM"] >= 1 and max(counts.values()) <= 2
    assert all(set(a.values) == {f"{name}-00000000" for name in SHARES} for a in board.attributes)


def test_a_part_of_a_dataset_is_not_taken_for_the_whole(tmp_path):
    lengths = {"Crossing": 6, "Jumping": 8}
    spec = make_dataset(tmp_path / "data", lengths, pictures=False).replace("folder=", "otb100=")
    store = make_evaluation(tmp_path / "run", spec, {"Crossing": 6}, SHARES)
    notices = board_of(store)[1].report.notices
    assert "data: 98 of its 100 sequences are not in its folder." in notices
    assert "data: only 1 of 2 sequences were asked for." in notices


def test_runs_of_sre_and_tre_are_pooled(tmp_path, spec):
    store = make_evaluation(tmp_path / "run", spec, LENGTHS, SHARES, {"ope": 1, "tre": 4})
    written = write_report(store.folder, figures=False)
    ope, tre = written.report.boards
    assert (ope.protocol, tre.protocol) == ("ope", "tre")
    # Each segment begins with an exact frame: more of them than in one pass.
    assert line_of(tre, "half").values["auc"] > line_of(ope, "half").values["auc"]
    assert not tre.sheets and tre.standings[0].done == 3
    store.path(unit("half", "Car", "tre", 2)).unlink()
    tre = write_report(store.folder, figures=False).report.boards[1]
    assert tre.common == 2 and line_of(tre, "half").missing == 1


def restarted(store, name, fails):
    """``away`` fails in the frame after each start; it starts again five frames later."""
    there = outcome(unit("away", name, "vot-supervised"), LENGTHS[name], 3.0)
    states = there.states.copy()
    for at in fails:
        states[at], states[at + 1 : at + 5], states[at + 5] = FAILURE, SKIPPED, INIT
    store.write(outcome(there.unit, LENGTHS[name], 3.0, states=states))


def test_vot_ranks_by_eao_where_the_dataset_has_an_interval(tmp_path, spec):
    protocols = {"vot-supervised": 1, "vot-unsupervised": 1}
    store = make_evaluation(tmp_path / "run", spec, LENGTHS, SHARES, protocols)
    restarted(store, "Dog", [1])
    written = write_report(store.folder, figures=False)
    supervised, unsupervised = written.report.boards
    assert supervised.columns[0].key == "accuracy"
    assert any("No EAO" in line for line in supervised.notices)
    assert line_of(supervised, "away").values["failures"] == 1
    assert line_of(supervised, "exact").values["accuracy"] == pytest.approx(1)
    assert supervised.curves[0].lines["exact-00000000"] == pytest.approx(1)
    assert [column.key for column in unsupervised.columns][:1] == ["overlap"]
    assert line_of(unsupervised, "exact").values["overlap"] == pytest.approx(1)
    row = next(row for row in supervised.rows if row.name == "Dog")
    assert row.cells["away-00000000"][1] == 1


def test_vot_without_frames_says_so(tmp_path, spec):
    store = make_evaluation(tmp_path / "run", spec, LENGTHS, SHARES, {"vot-supervised": 1})
    for image in (tmp_path / "data").rglob("*.jpg"):
        image.write_bytes(b"")
    board, _ = board_of(store)
    assert line_of(board, "half").values["accuracy"] == pytest.approx(1 / 3)
    assert any("Frames are gone" in line for line in board.notices)


def test_not_an_evaluation(tmp_path, capsys):
    with pytest.raises(SourceError, match=r"no run\.json"):
        write_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 1
    assert "no run.json" in capsys.readouterr().err


def test_wrong_options(store):
    with pytest.raises(UnknownName, match="otb, pytracking, pysot, got10k, lasot, trackingnet"):
        write_report(store.folder, rules="mine")
    with pytest.raises(RangeError, match="worst"):
        write_report(store.folder, worst=-1)


def test_the_command(store, tmp_path, capsys):
    out = tmp_path / "page"
    assert (
        main(
            [
                "report",
                str(store.folder),
                "--out",
                str(out),
                "--rules",
                "pysot",
                "--title",
                "T",
                "--worst",
                "1",
                "--no-figures",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "data, ope: 3 of 3 sequences" in said and "1  exact" in said
    assert f"written: {out / 'index.html'}" in said
    assert "rules “pysot”" in (out / "index.html").read_text()


def one_box(count):
    return Annotations(np.tile([10.0, 10, 30, 30], (count, 1)))


def no_frames(count):
    return ImageFrames((Path("gone.jpg"),) * count)


@pytest.mark.slow
def test_ten_thousand_sequences_leave_the_page_usable(tmp_path, monkeypatch):
    count, frames = 10_000, 30
    videos = [
        Sequence(f"s{k:05d}", partial(no_frames, frames), partial(one_box, frames), frozenset({kind}))
        for k, kind in zip(range(count), itertools.cycle(("OCC", "FM", "SV")))
    ]
    monkeypatch.setattr(folder_module, "load_dataset", lambda spec: Dataset("data", videos))
    store = make_evaluation(tmp_path / "run", "folder=x", {"s00000": frames}, {"identity": 0.0})
    run = store.run
    run["datasets"]["data"]["sequences"] = {video.name: frames for video in videos}
    store.write_run(run)
    text = store.path(unit("identity", "s00000")).read_text()
    for video in videos[1:]:
        store.path(unit("identity", video.name)).write_text(text.replace("s00000", video.name))
    written = write_report(store.folder)
    assert written.report.boards[0].common == count
    assert written.files[0].stat().st_size < 5_000_000
    assert (store.folder / "report" / "sequences.csv").read_text().count("\n") == 1 + count

"""``fasttrack eval``: what it takes, what it says, and how it is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ctrl_c
import pytest
from doubles import write_images

import fasttrack
from fasttrack.cli import main
from fasttrack.evaluation.datasets import load_dataset
from fasttrack.evaluation.runner import Store

_CHILD = "import sys; from fasttrack.cli import main; sys.exit(main())"
ROOT = str(Path(fasttrack.__file__).parent.parent)


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("machine")))


@pytest.fixture
def data(tmp_path):
    """Three sequences in the style of OTB."""
    for name, count in (("Long", 14), ("Short", 5), ("Middle", 9)):
        (tmp_path / "data" / name).mkdir(parents=True)
        write_images(tmp_path / "data" / name / "img", count, ".jpg", name="{:04d}")
        (tmp_path / "data" / name / "groundtruth_rect.txt").write_text("21,11,30,24\n" * count)
    return tmp_path / "data"


def command(data, out, *words):
    return ["eval", "--data", f"folder={data}", "--trackers", "identity", "--out", str(out), *words]


def test_from_the_folder_to_the_store(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["eval", "--data", "folder=data", "--trackers", "identity,mosse", "--protocol", "ope,tre", "--out", "out"]
    assert main([*words, "--workers", "1", "--sequences", "Long,Short"]) == 0
    said = capsys.readouterr()
    assert "out: evaluated, 84 of 84 units done in 0:" in said.out and said.err == ""
    store = Store(tmp_path / "out")
    assert len(list(store.outcomes())) == len(set(store.units())) == 2 * 2 * 21
    (dataset,) = store.run["datasets"].values()
    assert dataset["spec"] == f"folder={data}" and dataset["sequences"] == {"Long": 14, "Short": 5}
    assert len(load_dataset(dataset["spec"])) == 3
    # Again: nothing to do; more: that alone.
    assert main([*words, "--workers", "1", "--sequences", "Long,Short", "--resume"]) == 0
    assert "0 of 84 units done" in capsys.readouterr().out
    assert main([*words, "--workers", "1", "--resume"]) == 0
    said = capsys.readouterr().out
    assert "42 of 126 units done" in said and "kept       84 that were there" in said


def test_the_default_protocol_is_that_of_the_data(data, tmp_path, capsys):
    assert main(command(data, tmp_path / "out", "--workers", "1", "--frames", "3", "--exclusive", "--quiet")) == 0
    assert capsys.readouterr().out == ""
    outcomes = list(Store(tmp_path / "out").outcomes())
    assert {outcome.unit.protocol for outcome in outcomes} == {"ope"}
    assert {len(outcome.boxes) for outcome in outcomes} == {3} and all(outcome.exclusive for outcome in outcomes)


def test_a_missing_picture_fails_its_sequence_alone(data, tmp_path, capsys):
    (data / "Long" / "img" / "0007.jpg").write_bytes(b"not a picture")
    assert main(command(data, tmp_path / "out", "--workers", "1")) == 1
    said = capsys.readouterr()
    assert "2 of 3 units done" in said.out and "failed     1; --resume tries them again" in said.out
    assert "ope/Long.00.s0: fasttrack.errors.SourceError" in said.out and "0007.jpg" in said.out
    assert "fasttrack: warning: identity-" in said.err
    (failure,) = Store(tmp_path / "out").failures()
    assert "Traceback" in failure.error and failure.unit.sequence == "Long"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--frames", "0"], "--frames must be at least 1"),
        (["--shard", "0/4"], "--shard must be i/n with 1 ≤ i ≤ n, got '0/4'"),
        (["--seed", "-1"], "--seed must be in 0"),
        (["--exclusive", "--workers", "2"], "--exclusive must be used with one worker"),
        (["--gpus-per-worker", "0.5"], "--gpus-per-worker must be used with --ray"),
        (["--sequences", "Nobody"], "names of sequences (Long, Middle, Short), got 'Nobody'"),
        (["--protocol", "opus"], "protocol: name must be one of ope, sre, tre"),
        (["--trackers", "nobody"], "'nobody'"),
    ],
)
def test_misuse_is_one_line_and_touches_nothing(data, tmp_path, capsys, words, said):
    assert main(command(data, tmp_path / "out", *words)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there(data, tmp_path, capsys):
    words = command(data, tmp_path / "out", "--workers", "1")
    assert main(words) == 0 and main(words) == 2
    assert "holds an evaluation; go on in it with --resume" in capsys.readouterr().err
    assert main([*words, "--resume", "--seed", "5"]) == 2
    assert "seed must be that of the folder, 0, got 5; use another folder" in capsys.readouterr().err


def test_shards_into_one_folder(data, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        assert main(command(data, tmp_path / "out", "--workers", "1", "--shard", part, "--protocol", "sre")) == 0
    assert len(list(Store(tmp_path / "out").outcomes())) == 3 * 12


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_ends_it_cleanly(data, tmp_path, number, code, workers):
    out = tmp_path / "out"
    # The trackers of a child cannot be doubled: twenty runs of a slow one last long enough to be stopped.
    words = ["eval", "--data", f"folder={data}", "--trackers", "crt[features=hog]", "--protocol", "tre"]
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, *words, "--out", str(out), "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        preexec_fn=ctrl_c.heeded,
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None and not list(out.rglob("units/**/*.json")):
        time.sleep(0.02)
    os.killpg(process.pid, number)  # as a terminal does: to the workers too
    said, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert "Traceback" not in error, error
    assert "interrupted" in said and "go on      with the same command and --resume" in said
    done = len(list(Store(out).outcomes()))
    assert 0 < done < 60 and f"interrupted, {done} of 60 units" in said
    assert not list((out / "claims").iterdir()) and not list((out / "runners").iterdir())

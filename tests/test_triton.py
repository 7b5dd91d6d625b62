"""The Triton kernels without a GPU: the contract in triton's interpreter, and what they compile to."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

ROOT = Path(__file__).parent.parent
SHARED_LIMIT = 227 * 1024  # bytes a program may use on Hopper and Blackwell
SHARED_LIMIT_AMPERE = 163 * 1024


def run(*command, **environment):
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_contract_in_the_interpreter():
    """Every case that fits, forward and gradients, in a process whose kernels are interpreted."""
    pytest_command = Path(sys.executable).with_name("pytest")
    chosen = ("-k", "triton", "-p", "no:cacheprovider", "tests/test_ops_contract.py", *TRITON_TESTS)
    done = run(str(pytest_command), "-q", *chosen, TRITON_INTERPRET="1", FASTTRACK_REQUIRE="cpu,triton")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


TRITON_TESTS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_*_triton.py"))


@pytest.fixture(scope="module")
def compiled():
    """Resources of every build on every architecture, from a process that compiles (it must not interpret)."""
    done = run(sys.executable, "-c", "from fasttrack.kernels import _aot; _aot.main()", TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr[-8000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # with the compilation, which the first that asks for it waits for
def test_no_kernel_spills(compiled):
    spilled = [row for row in compiled if row["spills"] or row["local_bytes"]]
    assert not spilled


@pytest.mark.slow
def test_shared_memory_fits(compiled):
    limit = {80: SHARED_LIMIT_AMPERE, 90: SHARED_LIMIT, 100: SHARED_LIMIT}
    assert not [row for row in compiled if row["shared_bytes"] > limit[row["architecture"]]]


@pytest.mark.slow
def test_tensor_cores_are_used_where_they_are_meant_to_be(compiled):
    assert not [row for row in compiled if row["tensor_cores"] and not row["matrix"]]


def test_every_launched_kernel_is_compiled_ahead_of_time():
    """What a launcher starts (``name[…](…)``) must stand in the BUILDS of some file."""
    texts = {path.name: path.read_text() for path in sorted((ROOT / "kernels").glob("*.py"))}
    built = "".join(text.partition("\nBUILDS")[2] + "".join(HELPERS.findall(text)) for text in texts.values())
    launched = {(file, name) for file, text in texts.items() for name in LAUNCH.findall(text)}
    assert launched
    missing = sorted((file, name) for file, name in launched if not re.search(rf"\b{name}\b", built))
    assert not missing


LAUNCH = re.compile(r"^ +(\w+)\[[^=\n]*\]\(", re.M)
HELPERS = re.compile(r"^def _\w*build\w*\(.*?(?=^\S)", re.M | re.S)  # functions that make the builds


def test_the_gate_sees_a_spill():
    """The canary of the gate: a kernel that needs more registers than there are is reported."""
    source = Path(__file__).with_name("spilling_kernel.py")
    done = run(sys.executable, str(source), TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["spills"] or row["local_bytes"]

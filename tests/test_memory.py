"""What a call holds at its peak: at most twice its inputs and outputs, and the caches its docstring names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fasttrack.spec import all_specs

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident pages need Linux")


def measured(script, *arguments):
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def figures():
    return measured(ROOT / "bench" / "memory.py")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [spec.label for spec in all_specs()])
def test_no_call_holds_more_than_its_share(name, figures):
    rows = [row for row in figures if row["function"] == name]
    assert not [row for row in rows if row["held"] > row["limit"]]
    if not rows:
        pytest.skip("no case of a megabyte")


def test_a_hungry_op_is_caught():
    rows = measured(Path(__file__).with_name("hungry_op.py"))
    found = {(row["function"], row["backward"]): row["held"] > row["limit"] for row in rows}
    assert found == {
        ("hungry", False): True,
        ("hungry", True): True,
        ("modest", False): False,
        ("modest", True): False,
    }


def test_measured_is_what_is_there():
    """Two million numbers and their exponentials, to the megabyte; backward also both gradients and their product."""
    forward, backward = (
        row for row in measured(Path(__file__).with_name("hungry_op.py")) if row["function"] == "modest"
    )
    assert forward["shared"] == 16_000_000
    assert backward["shared"] == 32_000_000
    for row in (forward, backward):
        assert abs(row["held"] - row["shared"]) < 1_000_000

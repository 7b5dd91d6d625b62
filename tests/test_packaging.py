"""What the wheel and the sdist hold, and that importing is free."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging import requirements

import fasttrack

ROOT = Path(__file__).parent.parent


def build(kind, folder):
    """Build through the backend itself, in a process of its own, without build isolation."""
    source = f"from setuptools import build_meta as b; print(b.build_{kind}({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, env=environment("none"), check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.strip().splitlines()[-1]


def environment(mode):
    import os

    return {**os.environ, "FASTTRACK_BUILD": mode}


@pytest.mark.slow
def test_wheel_holds_every_package_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools ≥ 77")
    wheel = build("wheel", tmp_path)
    # Built without the extension, it serves every Python and every system.
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "fasttrack").rglob("*.py")}
    wanted |= {"fasttrack/" + str(p.relative_to(ROOT)) for p in (ROOT / "kernels").rglob("*.py")}
    wanted |= {"fasttrack/py.typed"}
    wanted |= {"fasttrack/" + str(p.relative_to(ROOT)) for p in (ROOT / "kernels" / "tuned").glob("*.json")}
    wanted |= {str(p.relative_to(ROOT)) for p in (ROOT / "fasttrack/evaluation/report/template").iterdir()}
    # What NVRTC compiles where there is no nvcc.
    for pattern in ("*.h", "cuda/*.h", "cuda/*.cu"):
        wanted |= {"fasttrack/" + str(p.relative_to(ROOT)) for p in (ROOT / "csrc").glob(pattern)}
    assert wanted <= names, sorted(wanted - names)
    strangers = {n for n in names - wanted if not n.startswith("fasttrack-")}
    assert not strangers
    check_metadata(zipfile.ZipFile(wheel))


def check_metadata(wheel):
    """What an index shows and what pip resolves."""
    [folder] = {n.split("/")[0] for n in wheel.namelist() if ".dist-info/" in n}
    assert "Root-Is-Purelib: true" in wheel.read(f"{folder}/WHEEL").decode()
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    told = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert told["Name"] == "fasttrack" and told["Version"] == fasttrack.__version__
    assert told["Requires-Python"] == ">=3.10" and told["License-Expression"] == "Apache-2.0"
    assert told["Description-Content-Type"] == "text/markdown" and "# fasttrack" in told.get_payload()
    extras = set(told.get_all("Provides-Extra"))
    assert {"cuda", "eval", "test", "dev"} <= extras
    needs = [requirements.Requirement(line) for line in told.get_all("Requires-Dist")]
    assert {"torch", "numpy", "opencv-python-headless"} <= {n.name for n in needs if n.marker is None}
    for need in needs:
        # A lower bound or a pin everywhere, no address, and of our own extras only those that exist.
        assert need.url is None and (need.specifier or need.name == "fasttrack"), str(need)
        assert need.name != "fasttrack" or need.extras <= extras, str(need)


@pytest.mark.slow
def test_sdist_holds_every_source(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools ≥ 77")
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
    for folder in ("csrc", "kernels", "fasttrack", "tests", "bench"):
        kinds = (".py", ".cpp", ".h", ".cu", ".sh", ".typed", ".html", ".css", ".js")
        wanted = {str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*") if p.suffix in kinds}
        assert wanted <= names, sorted(wanted - names)
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"} <= names


def test_import_is_free():
    """`import fasttrack` loads no torch, no compiled extension and nothing else heavy."""
    source = (
        "import sys, fasttrack\n"
        "heavy = {'torch', 'numpy', 'cv2', 'triton', 'cupy', 'scipy', 'fasttrack._C'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


def test_ops_load_no_optional_package():
    source = (
        "import sys, fasttrack.ops, fasttrack.nn\n"
        "heavy = {'cv2', 'cupy', 'fasttrack._C'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


def test_oldest_versions_are_pinned_where_they_are_tested():
    """The job "oldest" of the CI installs the lower bounds of pyproject.toml."""
    project = (ROOT / "pyproject.toml").read_text()
    bounds = dict(re.findall(r'^    "([a-z-]+)>=([0-9.]+)",$', project, re.MULTILINE))
    job = (ROOT / ".github/workflows/ci.yml").read_text().split("  oldest:")[1].split("  macos:")[0]
    pins = dict(re.findall(r"([a-z-]+)==([0-9.]+)", job))
    assert set(bounds) == {"torch", "numpy", "opencv-python-headless", "rich", "safetensors"}
    for name, bound in bounds.items():
        assert f"{pins[name]}.".startswith(f"{bound}."), f"{name}: {pins[name]} tested, {bound} promised"


def test_wrong_build_mode_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment("fast"),
        check=False,
    )
    assert done.returncode != 0
    assert "FASTTRACK_BUILD must be one of auto, cpu, cuda, none, got 'fast'" in done.stderr

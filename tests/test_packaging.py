"""What the wheel and the sdist hold, and that importing is free."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

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
    names = set(zipfile.ZipFile(build("wheel", tmp_path)).namelist())
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

"""``fasttrack doctor`` names, for each missing backend, the reason and what to install or set, in one line."""

import json
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from fasttrack import dispatch, gpu, native
from fasttrack.cli import main
from fasttrack.cli.backends import Facts, explain, gather

PACKAGE = Path(native.__file__).parent
OWN = (f"_C{EXTENSION_SUFFIXES[0]}",)
FOREIGN = ("_C.cpython-37m-x86_64-linux-gnu.so",)
GPU = {"nvidia": True, "driver": "13.0", "torch_cuda": "13.0"}
AWAY = {"cuda_missing": "no CUDA device", "triton_missing": "no CUDA device"}
HERE = {**GPU, "device": True}
UNBUILT = {"cuda_missing": "the compiled extension was built without nvcc"}
REBUILD = "FASTTRACK_BUILD=cpu pip install --force-reinstall --no-deps ."

# backend, facts, part of the reason, part of the cure (None: there is none)
SITUATIONS = {
    "not built": ("cpu", {"extension": "no module"}, "not built", REBUILD),
    "pure wheel": ("cpu", {"extension": "no module", "pure": True}, "FASTTRACK_BUILD=none", REBUILD),
    "other Python": ("cpu", {"extension": "no module", "extension_files": FOREIGN}, FOREIGN[0], REBUILD),
    "no libgomp": (
        "cpu",
        {"extension": "did not load: libgomp.so.1: cannot open shared object file", "extension_files": OWN},
        "libgomp.so.1: cannot open",
        "apt-get install libgomp1",
    ),
    "old libc": (
        "cpu",
        {"extension": "version `GLIBC_2.38' not found", "extension_files": OWN},
        "GLIBC_2.38",
        REBUILD,
    ),
    "wrong ISA": (
        "cpu",
        {"extension": "FASTTRACK_ISA=avx512: this CPU lacks it", "extension_files": OWN},
        "this CPU lacks it",
        "unset FASTTRACK_ISA",
    ),
    "Windows": ("cpu", {"extension": "no module", "system": "Windows"}, "not MSVC", "WSL"),
    "no triton": ("triton", AWAY, "triton is not installed", "pip install 'triton>=3.6'"),
    "no triton for macOS": ("triton", {**AWAY, "system": "Darwin"}, "no release for Darwin", None),
    "triton, no GPU": ("triton", {**AWAY, "triton": "3.7.1"}, "no NVIDIA GPU", "TRITON_INTERPRET=1"),
    "triton, CPU torch": (
        "triton",
        {**AWAY, **GPU, "torch_cuda": None, "triton": "3.7.1"},
        "torch is a CPU build",
        "pip install -U torch --index-url",
    ),
    "no GPU": ("cuda", AWAY, "no libcuda here (CUDA error 35)", "needs an NVIDIA GPU"),
    "no driver": ("cuda", {**AWAY, **GPU, "driver": None, "driver_error": 35}, "CUDA error 35", "NVIDIA driver"),
    "CPU torch": ("cuda", {**AWAY, **GPU, "torch_cuda": None}, "torch is a CPU build", "download.pytorch.org/whl/cu"),
    "hidden": ("cuda", {**AWAY, **GPU, "visible": ""}, "CUDA_VISIBLE_DEVICES='' hides", "unset CUDA_VISIBLE_DEVICES"),
    "old driver": ("cuda", {**AWAY, **GPU, "driver": "12.8"}, "serves CUDA 12.8, torch was built for 13.0", "update"),
    "driver fails": ("cuda", {**AWAY, **GPU, "driver_error": 999}, "error 999", "nvidia-smi"),
    "no nvcc, no cupy": ("cuda", {**HERE, **UNBUILT}, "CuPy", "pip install 'fasttrack[cuda]'"),
    "CUDA 12": ("cuda", {**HERE, **UNBUILT, "torch_cuda": "12.6"}, "CuPy", "pip install cupy-cuda12x"),
    "asked for nvcc's": ("cuda", {**HERE, **UNBUILT, "launcher": "extension"}, "without nvcc", "unset FASTTRACK_CUDA"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_one_line_for_each_missing_backend(situation):
    backend, facts, reason, cure = SITUATIONS[situation]
    found = explain(Facts(**facts))[backend]
    assert not found.available and reason in found.reason
    assert found.cure is None if cure is None else cure in found.cure
    assert "\n" not in f"{found.reason}{found.cure}"


@pytest.mark.parametrize(
    ("backend", "facts", "reason"),
    [
        ("cpu", {"isa": "avx2"}, "avx2"),
        ("triton", {**HERE, "triton": "3.7.1"}, "triton 3.7.1"),
        ("triton", {"triton": "3.7.1", "interpreting": True}, "TRITON_INTERPRET=1"),
        ("cuda", {**HERE, "extension_cuda": True}, "built by nvcc"),
        ("cuda", {**HERE, "extension_cuda": True, "launcher": "nvrtc", "cupy": True}, "NVRTC"),
        ("cuda", {**HERE, "cupy": True}, "NVRTC"),
        ("reference", {}, "PyTorch"),
    ],
)
def test_what_runs_is_said(backend, facts, reason):
    found = explain(Facts(**facts))[backend]
    assert found.available and found.cure is None and reason in found.reason


def test_this_machine_agrees_with_the_dispatcher(capsys, monkeypatch):
    monkeypatch.delenv("FASTTRACK_REQUIRE", raising=False)
    missing = {"cpu": native.why_not(), "triton": native.triton_why_not(), "cuda": gpu.why_not(), "reference": None}
    found = explain(gather())
    assert set(found) == set(dispatch.BACKENDS)
    assert {name: backend.available for name, backend in found.items()} == {n: w is None for n, w in missing.items()}
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["backends"]
    assert told["reference"] == {"available": True, "reason": "PyTorch", "cure": None}
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    section = lines[lines.index("backends") + 1 : lines.index("ops by backend")]
    assert [line.split()[:2] for line in section] == [[n, "yes" if b["available"] else "no"] for n, b in told.items()]
    for line, backend in zip(section, told.values(), strict=True):
        assert line.endswith(f"{backend['reason']}" + (f" → {backend['cure']}" if backend["cure"] else ""))


@pytest.fixture
def copy(tmp_path):
    """A package like ours, without the extension, for another process: (its folder, run doctor there)."""
    package = tmp_path / "fasttrack"
    package.mkdir()
    for entry in PACKAGE.iterdir():
        if not entry.name.startswith("_C.") and entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    if not (package / "kernels").exists():
        (package / "kernels").symlink_to(PACKAGE.parent / "kernels")

    def doctor(before="", **variables):
        unset = ("FASTTRACK_REQUIRE", "FASTTRACK_CUDA", "FASTTRACK_ISA", "FASTTRACK_DEBUG")
        environment = {k: v for k, v in os.environ.items() if k not in unset}
        environment.update(variables, PYTHONPATH=str(tmp_path))
        # The finder of an editable installation has the extension that the copy lacks.
        own = "sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in getattr(f, '__module__', '')]"
        code = f"import sys\n{own}\n{before}\nfrom fasttrack.cli import main\nsys.exit(main(['doctor', '--json']))"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return package, doctor


def test_doctor_where_the_extension_is_not_there_or_broken(copy):
    package, doctor = copy
    for files, reason in ((FOREIGN, f"built for another Python: {FOREIGN[0]}"), (OWN, "file too short")):
        (package / files[0]).touch()
        done = doctor()
        cpu = json.loads(done.stdout)["backends"]["cpu"]
        assert not cpu["available"] and reason in cpu["reason"] and REBUILD in cpu["cure"]
        assert json.loads(done.stdout)["ops"]["hog"]["reference"] is None


def test_doctor_without_torch_says_so_in_one_line(copy):
    hide = (
        "import importlib.util as u\n"
        "found, sys.modules['torch'] = u.find_spec, None\n"
        "u.find_spec = lambda name, package=None: None if name == 'torch' else found(name, package)"
    )
    done = copy[1](hide)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "fasttrack: error: no backend can run: torch is not installed: pip install 'torch>=2.6'\n"

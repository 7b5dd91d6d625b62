"""The CPU kernels built with AddressSanitizer and UndefinedBehaviorSanitizer run the contract once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fasttrack"


def library_of(compiler, name):
    path = Path(subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip())
    return path if path.is_absolute() else None


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """(environment, folder of a package whose extension is instrumented)."""
    compiler = shutil.which("g++")
    runtime = library_of(compiler, "libasan.so") if compiler and sys.platform == "linux" else None
    if runtime is None:
        pytest.skip("no g++ with libasan here")
    folder = tmp_path_factory.mktemp("sanitized")
    environment = {**os.environ, "FASTTRACK_BUILD": "cpu", "FASTTRACK_SANITIZE": "1"}
    command = [sys.executable, "setup.py", "-q", "build_ext"]
    command += ["--build-lib", str(folder), "--build-temp", str(folder / "objects")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    # The package as it is, but for the extension.
    for entry in PACKAGE.iterdir():
        if not entry.name.startswith("_C.") and entry.name != "kernels":
            (folder / "fasttrack" / entry.name).symlink_to(entry)
    (folder / "fasttrack" / "kernels").symlink_to(ROOT / "kernels")
    return {
        **os.environ,
        "LD_PRELOAD": str(runtime),
        # Python and torch keep memory to their end; what torch links is not ours to check.
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": str(folder),
    }, folder


def run_sanitized(sanitized, source):
    """Code run from the folder of the instrumented extension: ``python -c`` looks there first; the root has its own."""
    environment, folder = sanitized
    check = "import sys, fasttrack.native as n; print(n.lib().__file__, flush=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", check + source], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(str(folder)), done.stdout[:500] + done.stderr[-3000:]
    return done


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_contract_under_the_sanitizers(sanitized):
    chosen = "cpu and float32 and (forward or gradients or non_contiguous)"
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    arguments += ["-k", chosen, str(ROOT / "tests" / "test_ops_contract.py")]
    done = run_sanitized(sanitized, f"import pytest; sys.exit(pytest.main({arguments!r}))")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_the_sanitizer_sees_a_fault(sanitized):
    """The canary: a kernel told of more values than there are is stopped."""
    call = (
        "import numpy as np\n"
        "a = np.zeros(64, np.float32); p = a.ctypes.data\n"
        "n.lib().regression_loss(p, p, 0, p, p, {}, 4, 0.0, 0.0, 1.0, False)"
    )
    right, wrong = (run_sanitized(sanitized, call.format(count)) for count in (64, 80))
    assert right.returncode == 0, right.stderr[-3000:]
    assert wrong.returncode != 0
    assert "heap-buffer-overflow" in wrong.stderr

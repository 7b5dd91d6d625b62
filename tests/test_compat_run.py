"""``python -m fasttrack.compat`` runs a program exactly as ``python`` does, but with the foreign names."""

import os
import signal
import subprocess
import sys

import ctrl_c
import pytest

COMPAT = ["-m", "fasttrack.compat"]


def run(words, folder):
    process = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ},
        preexec_fn=ctrl_c.heeded,
    )
    return process.returncode, process.stdout, process.stderr


IDENTITY = """
import sys
print(__name__, __file__, __spec__, __package__, type(__loader__).__name__, __doc__, sys.argv, sys.path[0])
print(sys.modules["__main__"].__dict__ is globals(), sorted(k for k in globals() if not k.startswith("__")))
import beside; print(beside.here)
"""
PROGRAMS = {
    "identity": IDENTITY,
    "exit code": "import sys\nprint('out', flush=True)\nsys.exit(7)",
    "exit message": "raise SystemExit('the reason')",
    "exit nothing": "raise SystemExit",
    "error": "def f(x):\n    1 / x\ntry:\n    f(0)\nexcept ArithmeticError as e:\n    raise OSError('late') from e",
    "no import": "import not_there_at_all",
    "error in an import": "import broken",
    "syntax": "x = 1\ny = = 2\n",
    "other encoding": b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n",
    "interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(9)",
    "own hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__, a[1])\n1 / 0",
    "after the end": (
        "import atexit, threading, sys, pickle\n"
        "class Local: pass\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    print(type(pickle.loads(pickle.dumps(Local()))) is Local)\n"
        "threading.Thread(target=late).start()\n"
        "atexit.register(lambda: print('bye', Local, sys.modules['__main__'].Local is Local))\n"
    ),
    "stdin": "print(input())",
    "no future of ours": "def f(x: int): pass\nprint(f.__annotations__)",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "beside.py").write_text("here = 'beside'")
    (tmp_path / "programs" / "broken.py").write_text("def g():\n    raise OSError('broken')\ng()")
    return tmp_path


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_python_does(name, folder):
    """Output, exit code and traceback are those of python itself, letter by letter."""
    text = PROGRAMS[name]
    script = folder / "programs" / "program.py"
    script.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = ["programs/program.py", "one", "--list", "-m", "two"]
    plain = run(words, folder)
    assert run([*COMPAT, *words], folder) == plain
    if name == "interrupt":
        assert plain[0] == -signal.SIGINT and "KeyboardInterrupt" in plain[2]


@pytest.mark.parametrize(
    "words",
    [
        ["programs/missing.py"],
        ["programs"],
        ["package"],
        ["-m", "single", "a", "--b"],
        ["-m", "package", "a"],
        ["-m", "package.failing"],
        ["-m", "missing"],
        ["-m", "missing.below"],
        ["-m", "package.missing"],
        ["-m", "package.bare"],
    ],
    ids=" ".join,
)
def test_ways_to_name_a_program(words, folder):
    show = "import sys\nprint(__name__, __file__, __package__, __spec__.name, sys.argv, sys.path[0], sys.path[1:3])\n"
    (folder / "package" / "bare").mkdir(parents=True)
    (folder / "package" / "bare" / "__init__.py").write_text("")
    (folder / "package" / "__init__.py").write_text("print('package', __name__)")
    (folder / "package" / "__main__.py").write_text(show)
    (folder / "package" / "failing.py").write_text("import nothing_of_this_name")
    (folder / "single.py").write_text(show)
    code, out, err = run(words, folder)
    ours = run([*COMPAT, *words], folder)
    assert ours[:2] == (code, out)
    if words[-1] == "package.failing":  # python shows frames of runpy there
        assert ours[2].splitlines()[-3:] == err.splitlines()[-3:] and "runpy" not in ours[2]
    elif words[-1] in ("missing.below", "package.bare"):
        assert ours[2].startswith(f"{sys.executable}: No module named ") and err.startswith(f"{sys.executable}: ")
    else:
        assert ours[2] == err


def test_names_are_there_and_options_choose(folder):
    script = folder / "program.py"
    script.write_text(
        "import importlib.util as u, sys\n"
        "names = 'prroi_pool', 'pysot.core.xcorr', 'pytracking', 'mmcv'\n"
        "print([n.split('.')[0] for n in names if u.find_spec(n.split('.')[0]) is not None], 'torch' in sys.modules)"
    )
    assert run(["program.py"], folder)[1] == "[] False\n"
    assert run([*COMPAT, "program.py"], folder)[1] == "['prroi_pool', 'pysot', 'pytracking'] False\n"
    chosen = [*COMPAT, "--no-pytracking", "--mmcv", "--no-prroi", "program.py"]
    assert run(chosen, folder)[1] == "['pysot', 'mmcv'] False\n"
    code, out, err = run([*COMPAT, "--no-pytracking", "--no-prroi", "--list", "program.py"], folder)
    assert (code, out) == (0, "['pysot'] False\n")
    assert err.split() == ["pysot.core.xcorr", "→", "fasttrack.compat.pysot", "before:", "nothing"]


def test_list_alone_sees_what_is_there(folder):
    (folder / "prroi_pool").mkdir()
    (folder / "prroi_pool" / "__init__.py").write_text("")
    code, out, err = run([*COMPAT, "--list", "--mmcv"], folder)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and not err and "mmcv.ops.prroi_pool" in lines and "pytracking.libs.dcf" in lines
    assert lines["prroi_pool"].endswith(f"before: {folder / 'prroi_pool' / '__init__.py'}")


def test_legacy_torch_for_the_run(folder):
    (folder / "old.py").write_text(
        "import torch\nprint(torch.rfft(torch.ones(2), 1).tolist(), torch.fft.ifft(torch.ones(1)).real.item())"
    )
    assert run([*COMPAT, "--legacy-torch", "old.py"], folder) == (0, "[[2.0, 0.0], [0.0, 0.0]] 1.0\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a SCRIPT or -m MODULE is missing"),
        (["--mmcv"], "a SCRIPT or -m MODULE is missing"),
        (["--no-such", "x.py"], "unrecognized arguments: --no-such"),
        (["-m"], "argument -m: expected one argument"),
    ],
)
def test_misuse(words, message, folder):
    code, out, err = run([*COMPAT, *words], folder)
    assert (code, out) == (2, "")
    assert err == f"fasttrack.compat: error: {message} (see python -m fasttrack.compat --help)\n"


def test_help(folder):
    code, out, _ = run([*COMPAT, "--help"], folder)
    assert code == 0 and "--legacy-torch" in out and "--no-prroi" in out and "spawn" in out

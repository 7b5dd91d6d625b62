"""How setup.py names and keeps object files: shared where nothing differs, made anew where anything does."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def build(tmp_path, monkeypatch):
    """The definitions of setup.py, over a small source tree of its own."""
    setuptools = pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools ≥ 77")
    pytest.importorskip("pybind11")
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.setenv("FASTTRACK_BUILD_CACHE", str(tmp_path / "objects"))
    names = {"__file__": str(tmp_path / "setup.py"), "__name__": "setup"}
    exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), names)
    source = tmp_path / "csrc" / "cpu"
    source.mkdir(parents=True)
    (source / "a.cpp").write_text('#include "near.h"\nint a() { return near(); }\n')
    (source / "near.h").write_text('#pragma once\n  #  include "far.h"\ninline int near() { return far(); }\n')
    (tmp_path / "csrc" / "far.h").write_text("inline int far() { return 1; }\n")
    (tmp_path / "csrc" / "other.h").write_text("inline int other() { return 1; }\n")
    return names


def job(build, *flags, source="a", include=(), made_of="g++ 12"):
    root = build["ROOT"]
    compiler = shutil.which("c++") or "c++"
    folders = [str(root / "csrc"), *include]
    return build["Job"](root / "csrc" / "cpu" / f"{source}.cpp", [compiler, *flags], folders, made_of, "way out")


def rewrite(build, path, text):
    build["includes"].cache_clear()
    (build["ROOT"] / "csrc" / path).write_text(text)
    return build["object_name"](job(build))


def test_the_name_says_all_that_an_object_is_made_of(build, monkeypatch):
    name = build["object_name"]
    first = name(job(build))
    assert first.startswith("a-") and first.endswith(".o")
    # Where the headers of others lie, and when a file was written, changes nothing.
    assert name(job(build, include=("/elsewhere",))) == first
    os.utime(build["ROOT"] / "csrc" / "far.h", (1, 1))
    assert name(job(build)) == first
    assert rewrite(build, "other.h", "inline int other() { return 2; }\n") == first
    different = {first, name(job(build, "-O3")), name(job(build, made_of="g++ 13"))}
    different.add(rewrite(build, "far.h", "inline int far() { return 2; }\n"))  # included by an included file
    different.add(rewrite(build, "cpu/near.h", '#include "far.h"\ninline int near() { return 3; }\n'))
    different.add(rewrite(build, "cpu/a.cpp", '#include "near.h"\nint a() { return 4; }\n'))
    monkeypatch.setenv("CPATH", "/elsewhere")
    different.add(name(job(build)))
    assert len(different) == 7


def test_objects_are_made_once_and_only_whole(build, capfd):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    folder = Path(os.environ["FASTTRACK_BUILD_CACHE"])
    [made] = build["make_all"]([job(build)], 2)
    before = Path(made).stat().st_ino
    stale = folder / "gone-0.o"
    stale.touch()
    os.utime(stale, (1, 1))
    os.utime(made, (1, 1))
    objects = build["make_all"]([job(build), job(build, "-O3")], 2)
    # In order; the first is the one that was there, and as it was used it is kept, the unused one is dropped.
    assert objects[0] == made and Path(made).stat().st_ino == before and Path(made).stat().st_mtime > 1
    assert Path(objects[1]).exists() and objects[1] != made and not stale.exists()
    (build["ROOT"] / "csrc" / "cpu" / "bad.cpp").write_text("int bad() { return nothing; }\n")
    with pytest.raises(SystemExit, match=r"compiling .*bad\.cpp failed; way out"):
        build["make_all"]([job(build, source="bad")], 2)
    assert "nothing" in capfd.readouterr().err
    assert {p.name for p in folder.iterdir()} == {Path(p).name for p in objects}


def test_every_include_of_ours_is_found(build):
    """An include that the names do not follow would leave a change of that file unseen."""
    build["includes"].cache_clear()
    build["ROOT"] = ROOT
    files = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".h", ".cpp", ".cu"}]
    assert len(files) > 50
    for path in files:
        lines = [line.split("include", 1)[1].strip() for line in path.read_text().splitlines() if "#include" in line]
        assert all(line[0] in '<"' for line in lines), path
        assert len(build["includes"](path)) == sum(line[0] == '"' for line in lines), path


@pytest.mark.skipif(sys.platform == "win32", reason="built with g++ or clang++")
def test_a_missing_compiler_names_the_way_out(build, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    from setuptools import Distribution

    command = build["BuildKernels"](Distribution())
    command.compiler = type("Compiler", (), {"compiler_cxx": ["no-such-c++"]})()
    with pytest.raises(SystemExit, match=r"no compiler no-such-c\+\+; FASTTRACK_BUILD=none"):
        command.command()
    # On Linux the flags of the environment count, those of Python do not.
    if sys.platform == "linux":
        monkeypatch.setenv("CXXFLAGS", "-O2 -DTHIS")
        command.compiler.compiler_cxx = [sys.executable, "-fwrapv"]
        assert command.command() == [sys.executable, "-O2", "-DTHIS"]


@pytest.mark.skipif(sys.platform == "win32", reason="built with g++ or clang++")
def test_where_no_nvcc_is_found(build, monkeypatch):
    """The automatic build leaves the CUDA kernels out; one that was asked for them stops."""
    from setuptools import Distribution

    build["find_nvcc"] = lambda: None
    monkeypatch.delenv("FASTTRACK_BUILD", raising=False)
    assert build["BuildKernels"](Distribution()).cuda_jobs() == ([], [])
    monkeypatch.setenv("FASTTRACK_BUILD", "cuda")
    with pytest.raises(SystemExit, match="nvcc was not found"):
        build["BuildKernels"](Distribution()).cuda_jobs()

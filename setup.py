"""Build of the compiled extension ``fasttrack._C``; everything else is in pyproject.toml.

One shared object holds the CPU kernels once per instruction set (picked at run time) and, where nvcc
is found, the CUDA kernels. It is not linked to torch: pointers and sizes cross the border, so one
build serves every torch. ``FASTTRACK_BUILD`` decides what is built:

  auto  CPU kernels, and CUDA kernels when nvcc is found (default)
  cpu   CPU kernels only
  cuda  both; a missing nvcc is an error
  none  no extension: reference and Triton kernels only

``FASTTRACK_SANITIZE=1`` instruments the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer.

Object files are named by what they are made of and kept in ``build/objects``, so that builds of one tree (wheel,
editable, other Pythons) share them; ``FASTTRACK_BUILD_CACHE`` names another folder, which several trees may share.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
MODES = ("auto", "cpu", "cuda", "none")
CUDA_ARCHITECTURES = (80, 90, 100)
# What changes an object without being seen in its command.
COMPILER_VARIABLES = (
    *("CPATH", "CPLUS_INCLUDE_PATH", "MACOSX_DEPLOYMENT_TARGET", "SDKROOT"),
    *("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"),
)
UNUSED_DAYS = 30  # after which an object is dropped


def build_mode() -> str:
    mode = os.environ.get("FASTTRACK_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"FASTTRACK_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    return mode


def sources_in(folder: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc" / folder).glob("*.cpp"))


def isa_flags() -> dict[str, list[str]]:
    """Compiler flags of each instruction set the CPU kernels are compiled for."""
    sets: dict[str, list[str]] = {"baseline": []}
    if platform.machine().lower() in ("x86_64", "amd64"):
        sets["avx2"] = ["-mavx2", "-mfma", "-mf16c"]
        sets["avx512"] = [*sets["avx2"], "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]
    return sets


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home and (Path(home) / "bin" / "nvcc").exists():
        return str(Path(home) / "bin" / "nvcc")
    if found := shutil.which("nvcc"):
        return found
    default = Path("/usr/local/cuda/bin/nvcc")
    return str(default) if default.exists() else None


def find_cudart(nvcc: str) -> Path | None:
    """The static CUDA runtime that belongs to this nvcc."""
    asked = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True, check=False).stderr
    top = next((line.split("TOP=")[1].strip() for line in asked.splitlines() if "TOP=" in line), None)
    roots = [Path(top)] if top else []
    roots.append(Path(nvcc).resolve().parent.parent)
    folders = [root / sub for root in roots for sub in ("lib64", "lib", "targets/x86_64-linux/lib")]
    return next((f / "libcudart_static.a" for f in folders if (f / "libcudart_static.a").exists()), None)


class Job(NamedTuple):
    """One object to be made.

    Args:
        source: the file that is compiled.
        command: compiler and flags.
        include: folders of headers; where they lie does not change the object, what is in them does.
        made_of: what else the object depends on (versions of headers that are not ours).
        instead: the way out where compiling fails.
    """

    source: Path
    command: list[str]
    include: list[str]
    made_of: str
    instead: str


@cache
def version_of(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


@cache
def includes(path: Path) -> tuple[Path, ...]:
    """The files of ours that a file names in quotes."""
    named = re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.MULTILINE)
    found = [next((p for p in (path.parent / n, ROOT / "csrc" / n) if p.is_file()), None) for n in named]
    return tuple(p.resolve() for p in found if p is not None)


def read_by(source: Path) -> list[Path]:
    """The source and every file of ours that it includes, directly or not."""
    seen: set[Path] = set()
    todo = [source.resolve()]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += includes(path)
    return sorted(seen)


def object_name(job: Job) -> str:
    """Name of the object by the contents of all that it is made of."""
    key = hashlib.sha256()
    variables = [f"{name}={os.environ.get(name)}" for name in COMPILER_VARIABLES]
    parts = [*job.command, job.made_of, platform.machine(), *platform.libc_ver(), *variables]
    for part in parts:
        key.update(part.encode() + b"\0")
    for path in read_by(job.source):
        key.update(os.path.relpath(path, ROOT).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"{job.source.stem}-{key.hexdigest()[:32]}.o"


def make(job: Job, folder: Path) -> str:
    """Path of the object: the one that is there, or a new one, which appears only once it is whole."""
    target = folder / object_name(job)
    if target.exists():
        os.utime(target)
        return str(target)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        part = Path(made) / "part.o"
        command = [*job.command, *(f"-I{d}" for d in job.include), "-c", str(job.source), "-o", str(part)]
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit(f"compiling {job.source} failed; {job.instead}")
        part.replace(target)
    return str(target)


def make_all(jobs: list[Job], workers: int) -> list[str]:
    """Paths of the objects, in the order of the jobs."""
    folder = Path(os.environ.get("FASTTRACK_BUILD_CACHE") or ROOT / "build" / "objects")
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(make, job, folder) for job in jobs]
        try:
            objects = [future.result() for future in running]
        finally:
            pool.shutdown(cancel_futures=True)
    for old in folder.glob("*.o"):
        if old.stat().st_mtime < time.time() - UNUSED_DAYS * 86400:
            old.unlink(missing_ok=True)
    return objects


class BuildKernels(build_ext):
    """Compiles every ``csrc/cpu/*.cpp`` once per instruction set and links the objects into one module."""

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type != "unix":
            raise SystemExit(
                "the CPU kernels need g++ or clang++ (GCC vector extensions); "
                "set FASTTRACK_BUILD=none to install without compiled kernels"
            )
        # Vector types in signatures stay inside one object file: their ABI note does not concern us.
        common = ["-std=c++17", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast"]
        common += ["-DNDEBUG", "-fwrapv", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-Wno-psabi"]
        # The last of two -O flags counts.
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-O1"]
        extra = sanitize if os.environ.get("FASTTRACK_SANITIZE") == "1" else []
        common += extra
        openmp = self.openmp_flags()
        sets = isa_flags()
        jobs, cuda_link = self.cuda_jobs()
        # Each definition goes to the files that read it: the others are the same with and without CUDA.
        defines = {"FT_ISA_LIST": f"={' '.join(f'FT_ISA_ROW({name})' for name in sets)}"}
        if jobs:
            defines["FT_WITH_CUDA"] = ""
        for source in ext.sources:
            text = (ROOT / source).read_text()
            define = [f"-D{name}{value}" for name, value in defines.items() if name in text]
            jobs += self.jobs([source], [*common, *openmp, *define], *self.binding_headers())
        # Baseline comes first: of an inline function that several sets share (std containers), the linker keeps
        # the first copy, which must run on every CPU.
        for name, flags in sets.items():
            level = {"baseline": 0, "avx2": 1, "avx512": 2}[name]
            define = [f"-DFT_ISA={name}", f"-DFT_ISA_LEVEL={level}"]
            jobs += self.jobs(sources_in("cpu"), [*common, *openmp, *flags, *define])
        if self.parallel is None:
            self.parallel = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))
        objects = make_all(jobs, self.parallel)
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            extra_postargs=[*openmp, *cuda_link, *extra, "-s"],
            target_lang="c++",
        )

    def command(self) -> list[str]:
        """The compiler, with the flags of the environment.

        Those Python was compiled with are left out where nothing needs them (macOS names architectures there): the
        kernels would differ from one Python to the next.
        """
        command = [*(self.compiler.compiler_cxx or ["c++"])]
        if sys.platform == "linux":
            words = [os.environ.get(name, "") for name in ("CFLAGS", "CXXFLAGS", "CPPFLAGS")]
            command = shlex.split(" ".join([os.environ.get("CXX") or command[0], *words]))
        if shutil.which(command[0]) is None:
            raise SystemExit(f"no compiler {command[0]}; FASTTRACK_BUILD=none installs without compiled kernels")
        return command

    def jobs(self, sources: list[str], flags: list[str], include: tuple[str, ...] = (), made_of: str = "") -> list[Job]:
        compiler = self.command()
        folders = [str(ROOT / "csrc"), *include]
        instead = "FASTTRACK_BUILD=none installs without compiled kernels"
        versions = version_of(compiler[0]) + made_of
        return [Job(ROOT / source, [*compiler, *flags], folders, versions, instead) for source in sources]

    def binding_headers(self) -> tuple[tuple[str, ...], str]:
        """Folders of the headers of pybind11 and Python, and which versions these are."""
        import pybind11

        folders = (pybind11.get_include(), sysconfig.get_paths()["include"], *self.compiler.include_dirs)
        return folders, f"pybind11 {pybind11.__version__}, Python {sys.version} {sysconfig.get_config_var('SOABI')}"

    def openmp_flags(self) -> list[str]:
        """``-fopenmp`` where the compiler has it: without it the kernels run on one thread."""
        compiler = self.command()[0]
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.cpp"
            probe.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
            command = [compiler, "-fopenmp", str(probe), "-o", str(probe.with_suffix(""))]
            found = subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not found:
            self.announce("fasttrack: this compiler has no OpenMP; the CPU kernels will use one thread", level=3)
        return ["-fopenmp"] if found else []

    def cuda_jobs(self) -> tuple[list[Job], list[str]]:
        """Objects of ``csrc/cuda/*.cu`` and how to link them; empty where no CUDA kernels are built."""
        mode, nvcc = build_mode(), find_nvcc()
        if mode == "cuda" and nvcc is None:
            raise SystemExit("FASTTRACK_BUILD=cuda: nvcc was not found (set CUDA_HOME); use FASTTRACK_BUILD=cpu")
        if mode == "cpu" or nvcc is None:
            return [], []
        runtime = find_cudart(nvcc)
        if runtime is None:
            if mode == "cuda":
                raise SystemExit(f"FASTTRACK_BUILD=cuda: {nvcc} has no libcudart_static.a beside it")
            self.announce(f"fasttrack: {nvcc} has no libcudart_static.a beside it; no CUDA kernels", level=3)
            return [], []
        archs = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in CUDA_ARCHITECTURES]
        archs.append(f"-gencode=arch=compute_{CUDA_ARCHITECTURES[-1]},code=compute_{CUDA_ARCHITECTURES[-1]}")
        flags = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
        # A kernel that spills registers is a defect: the build stops.
        gate = ["-Xptxas", "--warn-on-spills,--warn-on-local-memory-usage,-Werror"]
        # The launcher's table takes addresses of kernels, so nvcc compiles it too.
        sources = [*sorted((ROOT / "csrc" / "cuda").glob("*.cu")), ROOT / "csrc" / "cuda" / "launch.cpp"]
        command = [nvcc, *flags, *gate, *archs, "-x", "cu"]
        versions = version_of(nvcc) + version_of(self.command()[0])
        instead = "FASTTRACK_BUILD=cpu installs without CUDA kernels"
        jobs = [Job(source, command, [str(ROOT / "csrc")], versions, instead) for source in sources]
        return jobs, [str(runtime), "-ldl", "-lrt", "-lpthread"]


def extensions() -> list[Extension]:
    return [] if build_mode() == "none" else [Extension("fasttrack._C", sources=sources_in("bindings"))]


setup(
    packages=[
        *find_packages(include=["fasttrack", "fasttrack.*"]),
        "fasttrack.kernels",
        "fasttrack.csrc",
        "fasttrack.csrc.cuda",
    ],
    package_dir={
        "fasttrack": "fasttrack",
        "fasttrack.kernels": "kernels",
        "fasttrack.csrc": "csrc",
        "fasttrack.csrc.cuda": "csrc/cuda",
    },
    package_data={
        "fasttrack": ["py.typed"],
        "fasttrack.evaluation.report": ["template/*"],
        "fasttrack.kernels": ["tuned/*.json"],
        # What NVRTC compiles where no nvcc was found.
        "fasttrack.csrc": ["*.h"],
        "fasttrack.csrc.cuda": ["*.cu", "*.h"],
    },
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildKernels},
)

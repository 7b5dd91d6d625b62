"""Build of the compiled extension ``fasttrack._C``; everything else is in pyproject.toml.

One shared object holds the CPU kernels once per instruction set (picked at run time) and, where nvcc
is found, the CUDA kernels. It is not linked to torch: pointers and sizes cross the border, so one
build serves every torch. ``FASTTRACK_BUILD`` decides what is built:

  auto  CPU kernels, and CUDA kernels when nvcc is found (default)
  cpu   CPU kernels only
  cuda  both; a missing nvcc is an error
  none  no extension: reference and Triton kernels only

``FASTTRACK_SANITIZE=1`` instruments the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
MODES = ("auto", "cpu", "cuda", "none")
CUDA_ARCHITECTURES = (80, 90, 100)


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


def up_to_date(target: Path, command: list[str]) -> bool:
    """Whether an object is newer than all it was made of and was made by the same command.

    The compiler lists what it read beside the object (``-MMD``); the command is kept there too. Dropped first, the
    old object cannot pass for the new one when the compiler is interrupted.
    """
    made_by, read = target.with_suffix(".cmd"), target.with_suffix(".d")
    line = " ".join(command)
    if target.exists() and read.exists() and made_by.exists() and made_by.read_text() == line:
        sources = [Path(name) for name in read.read_text().replace("\\\n", " ").split()[1:]]
        if all(s.exists() and s.stat().st_mtime < target.stat().st_mtime for s in sources):
            return True
    target.unlink(missing_ok=True)
    made_by.write_text(line)
    return False


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
        common += ["-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-Wno-psabi"]
        # The last of two -O flags counts.
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-O1"]
        extra = sanitize if os.environ.get("FASTTRACK_SANITIZE") == "1" else []
        common += extra
        openmp = self.openmp_flags()
        include = [str(ROOT / "csrc"), *self.pybind11_include(), *self.compiler.include_dirs]
        sets, temp = isa_flags(), Path(self.build_temp)
        names = " ".join(f"FT_ISA_ROW({name})" for name in sets)
        cuda, cuda_link = self.cuda_objects(temp / "cuda")
        defines = [f"-DFT_ISA_LIST={names}", *(["-DFT_WITH_CUDA"] if cuda else [])]
        objects = [*cuda, *self.compile_to(ext.sources, temp, include, [*common, *openmp, *defines])]
        kernels = sources_in("cpu")
        # Baseline comes first: of an inline function that several sets share (std containers), the linker keeps
        # the first copy, which must run on every CPU.
        for name, flags in sets.items():
            level = {"baseline": 0, "avx2": 1, "avx512": 2}[name]
            define = [f"-DFT_ISA={name}", f"-DFT_ISA_LEVEL={level}"]
            objects += self.compile_to(kernels, temp / name, include, [*common, *openmp, *flags, *define])
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            extra_postargs=[*openmp, *cuda_link, *extra, "-s"],
            target_lang="c++",
        )

    def compile_to(self, sources: list[str], out: Path, include: list[str], flags: list[str]) -> list[str]:
        if self.parallel is None:
            self.parallel = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))
        out.mkdir(parents=True, exist_ok=True)
        objects, running = [], []
        compiler = [*self.compiler.compiler_cxx] if self.compiler.compiler_cxx else ["c++"]
        for source in sources:
            target = out / (Path(source).stem + ".o")
            objects.append(str(target))
            command = [*compiler, *flags, *(f"-I{d}" for d in include), "-c", str(ROOT / source), "-o", str(target)]
            if up_to_date(target, command):
                continue
            running.append((source, subprocess.Popen([*command, "-MMD"])))
            if len(running) >= self.parallel:
                self.finish(*running.pop(0))
        for item in running:
            self.finish(*item)
        return objects

    @staticmethod
    def finish(source: str, process: subprocess.Popen[bytes]) -> None:
        if process.wait() != 0:
            raise SystemExit(f"compiling {source} failed; FASTTRACK_BUILD=none installs without compiled kernels")

    @staticmethod
    def pybind11_include() -> list[str]:
        import sysconfig

        import pybind11

        return [pybind11.get_include(), sysconfig.get_paths()["include"]]

    def openmp_flags(self) -> list[str]:
        """``-fopenmp`` where the compiler has it: without it the kernels run on one thread."""
        compiler = (self.compiler.compiler_cxx or ["c++"])[0]
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.cpp"
            probe.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
            command = [compiler, "-fopenmp", str(probe), "-o", str(probe.with_suffix(""))]
            found = subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not found:
            self.announce("fasttrack: this compiler has no OpenMP; the CPU kernels will use one thread", level=3)
        return ["-fopenmp"] if found else []

    def cuda_objects(self, out: Path) -> tuple[list[str], list[str]]:
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
        out.mkdir(parents=True, exist_ok=True)
        archs = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in CUDA_ARCHITECTURES]
        archs.append(f"-gencode=arch=compute_{CUDA_ARCHITECTURES[-1]},code=compute_{CUDA_ARCHITECTURES[-1]}")
        flags = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", f"-I{ROOT / 'csrc'}"]
        # A kernel that spills registers is a defect: the build stops.
        gate = ["-Xptxas", "--warn-on-spills,--warn-on-local-memory-usage,-Werror"]
        objects = []
        # The launcher's table takes addresses of kernels, so nvcc compiles it too.
        for source in [*sorted((ROOT / "csrc" / "cuda").glob("*.cu")), ROOT / "csrc" / "cuda" / "launch.cpp"]:
            objects.append(str(out / (source.stem + ".o")))
            command = [nvcc, *flags, *gate, *archs, "-x", "cu", "-c", str(source), "-o", objects[-1]]
            if up_to_date(Path(objects[-1]), command):
                continue
            if subprocess.run([*command, "-MMD"], check=False).returncode != 0:
                raise SystemExit(f"compiling {source} failed; FASTTRACK_BUILD=cpu installs without CUDA kernels")
        return objects, [str(runtime), "-ldl", "-lrt", "-lpthread"]


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

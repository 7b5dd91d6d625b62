"""The CUDA kernels without a GPU: the contract under emulation, what ptxas and NVRTC make of them, the launcher."""

import ctypes
import importlib.util
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cuda_emulation import Emulator, build, compiler

import fasttrack.ops
from fasttrack import gpu
from fasttrack.errors import BackendUnavailable, UnknownName

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
ARCHITECTURES = (80, 90, 100)
REGISTERS, STATIC_SHARED = 65_536, 48 * 1024  # of a multiprocessor; per block

emulated = pytest.mark.skipif(compiler() is None, reason="emulation needs Linux and g++ or clang++")


@pytest.fixture
def emulator():
    installed = [Emulator(), *gpu._INSTALLED][0]
    before = list(gpu._INSTALLED)
    gpu.install(installed)
    yield installed
    gpu.install(before[0] if before else None)


@emulated
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_contract_under_emulation(order):
    """Every case that fits, forward and gradients, with the threads of a block in either order."""
    build()
    tests = ["tests/test_ops_contract.py"]
    if order == "forwards":
        tests += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_*_cuda.py"))
    environment = {**os.environ, "FASTTRACK_CUDA_EMULATION": order, "FASTTRACK_REQUIRE": "cuda"}
    command = [Path(sys.executable).with_name("pytest"), "-q", "-k", "cuda", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@emulated
def test_arguments_have_the_size_the_kernels_expect():
    library = Emulator().library
    named = {name for name, _ in re.findall(r"^  X\((\w+), ([\w:]+)\)", api(), re.M)}
    assert set(gpu.KERNELS) == named, "every kernel of csrc/cuda/api.h has its layout in Python, and no other"
    for name, kernel in gpu.KERNELS.items():
        assert kernel.packer.size == library.ft_argument_bytes(name.encode()), name
        assert f"ft_{name}(" in (ROOT / "csrc" / "cuda" / f"{kernel.source}.cu").read_text()


def api():
    return (ROOT / "csrc" / "cuda" / "api.h").read_text()


def test_layout_pads_as_c_does():
    kernel = gpu.Kernel("layout_of_a_test", "none", "?P?")
    try:
        assert kernel.packer.size == 3 * struct.calcsize("P")
    finally:
        del gpu.KERNELS[kernel.name]


@emulated
def test_emulator_finds_what_it_promises(tmp_path):
    """Canaries: barriers not all threads reach, a write behind shared memory, shared memory nobody wrote."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "api.h").write_text(
        "#pragma once\nstruct Args { float* out; };\n"
        "#define FT_CUDA_KERNELS(X) X(apart, Args) X(behind, Args) X(unwritten, Args) X(sum, Args) X(fine, Args)\n"
        '#define FT_DECLARE(name, A) extern "C" void ft_##name(const A);\nFT_CUDA_KERNELS(FT_DECLARE)\n'
    )
    (tmp_path / "canaries.cu").write_text(
        '#include "cuda/api.h"\n#include "cuda/device.h"\n'
        'extern "C" __global__ void ft_apart(const Args) { if (threadIdx.x > 0) __syncthreads(); else __syncwarp(); }\n'
        'extern "C" __global__ void ft_behind(const Args) { FT_DYNAMIC_SHARED(s); s[16 + threadIdx.x] = 0; }\n'
        'extern "C" __global__ void ft_unwritten(const Args a) { __shared__ float s[4]; a.out[threadIdx.x] = s[1]; }\n'
        'extern "C" __global__ void ft_sum(const Args a) {\n'
        "  float v = threadIdx.x; for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(~0u, v, d);\n"
        "  a.out[threadIdx.x] = v; }\n"
        'extern "C" __global__ void ft_fine(const Args a) {\n'
        "  __shared__ float s[64]; s[threadIdx.x] = blockIdx.x;\n"
        "  ft_grid_sync(reinterpret_cast<unsigned int*>(a.out));\n"
        "  a.out[1 + blockIdx.x] = s[threadIdx.x ^ 1]; }\n"
    )
    library = tmp_path / "canaries.so"
    here = Path(__file__).parent / "emulation"
    flags = ["-x", "c++", "-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-DFT_CUDA_EMULATION", f"-I{tmp_path}"]
    flags += [f"-I{ROOT / 'csrc'}", f"-I{here}", "-include", "cuda_emulation.h"]
    subprocess.run(
        [compiler(), *flags, tmp_path / "canaries.cu", here / "cuda_emulation.cpp", "-o", library], check=True
    )
    emulate = ctypes.CDLL(str(library)).ft_emulate
    emulate.restype = ctypes.c_char_p
    out = torch.zeros(64)
    blob = struct.pack("P", out.data_ptr())

    def launch(name, blocks=1, threads=32, cooperative=0):
        grid = (ctypes.c_uint * 3)(blocks, 1, 1)
        return emulate(name, grid, threads, ctypes.c_size_t(16), cooperative, 0, blob, ctypes.c_size_t(len(blob)))

    assert b"wait for each other" in launch(b"apart")
    assert b"outside dynamic shared memory" in launch(b"behind")
    assert launch(b"unwritten", threads=4) is None
    assert out[:4].isnan().all()
    assert launch(b"sum") is None
    assert out[:32].tolist() == [496.0] * 32
    out.zero_()
    assert launch(b"fine", blocks=3, threads=64, cooperative=1) is None
    assert out[1:4].tolist() == [0.0, 1.0, 2.0], "each block has shared memory of its own"
    assert b"wait for each other" in launch(b"fine", blocks=3, threads=64), "a grid barrier needs a cooperative launch"
    assert launch(b"missing") == b"no such kernel"


def test_reasons(monkeypatch):
    if gpu._INSTALLED or torch.cuda.is_available():
        pytest.skip("kernels can run here")
    assert gpu.why_not() == "no CUDA device: torch.cuda.is_available() is False"
    with pytest.raises(BackendUnavailable, match="cuda: no CUDA device"):
        fasttrack.ops.square_loss(torch.zeros(3), torch.zeros(3), backend="cuda")
    monkeypatch.setenv("FASTTRACK_CUDA", "opencl")
    with pytest.raises(UnknownName, match="'opencl'"):
        gpu._usual.__wrapped__()


@pytest.mark.parametrize(("asked", "built", "reason"), [
    ("extension", False, "the compiled extension was built without nvcc"),
    ("", False, "the compiled extension was built without nvcc; CuPy is not installed: pip install 'fasttrack[cuda]'"),
    ("", True, None),
])  # fmt: skip
def test_choice_of_launcher(monkeypatch, asked, built, reason):
    monkeypatch.setenv("FASTTRACK_CUDA", asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu.native, "why_not", lambda: None)
    monkeypatch.setattr(gpu.native, "lib", lambda: type("Extension", (), {"cuda": built}))
    launcher, why = gpu._usual.__wrapped__()
    assert why == reason
    assert isinstance(launcher, gpu._Extension) == built


def nvcc():
    sys.path.insert(0, str(ROOT))
    found = os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin/nvcc"
    return found if Path(found).exists() else None


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    """(file, kernel, architecture) → what ptxas says of it."""
    if nvcc() is None:
        pytest.skip("no nvcc (CUDA_HOME, /usr/local/cuda)")
    folder, found = tmp_path_factory.mktemp("ptxas"), {}
    for source in SOURCES:
        for arch in ARCHITECTURES:
            found.update(ptxas(source, arch, folder))
    return found


def ptxas(source, arch, folder):
    flags = ["-std=c++17", f"-I{ROOT / 'csrc'}", f"-arch=sm_{arch}", "-Xptxas", "-v", "-cubin"]
    command = [nvcc(), *flags, str(source), "-o", str(folder / "x.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = re.split(r"Compiling entry function '(\w+)'", done.stderr)[1:]
    return {
        (source.stem, name, arch): {
            "stack": number(r"(\d+) bytes stack", text),
            "spills": number(r"(\d+) bytes spill stores", text) + number(r"(\d+) bytes spill loads", text),
            "registers": number(r"Used (\d+) registers", text),
            "shared": number(r"(\d+) bytes smem", text),
        }
        for name, text in zip(kernels[::2], kernels[1::2], strict=True)
    }


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


@pytest.mark.slow
def test_kernels_stay_in_registers(resources):
    assert not {k: r for k, r in resources.items() if r["spills"] or r["stack"]}
    assert {name for _, name, _ in resources} == {f"ft_{name}" for name in gpu.KERNELS}


@pytest.mark.slow
def test_kernels_fit_a_multiprocessor(resources):
    assert not {k: r for k, r in resources.items() if r["shared"] > STATIC_SHARED}
    for (stem, name, arch), row in resources.items():
        bound = re.search(rf"__launch_bounds__\(([\w:]+)[^)]*\)\s+{name}\(", source_of(stem))
        assert bound, f"{name} names no launch bounds"
        threads = number(rf"{bound[1].split('::')[-1]} = (\d+)", source_of(stem))
        assert 32 <= threads <= 1024
        assert row["registers"] * threads <= REGISTERS, f"{name} for sm_{arch}"


def source_of(stem):
    return (ROOT / "csrc" / "cuda" / f"{stem}.cu").read_text()


@pytest.mark.slow
def test_the_gate_sees_a_spill(tmp_path):
    """The canary of the gate: a kernel that needs more registers than it may have."""
    if nvcc() is None:
        pytest.skip("no nvcc (CUDA_HOME, /usr/local/cuda)")
    source = tmp_path / "spilling.cu"
    source.write_text(
        'extern "C" __global__ void __launch_bounds__(1024, 2) ft_spilling(float* x, int n) {\n'
        "  float a[96];\n  for (int i = 0; i < 96; ++i) a[i] = x[threadIdx.x * 96 + i];\n"
        "  for (int k = 0; k < n; ++k) for (int i = 0; i < 96; ++i) a[i] = a[i] * a[(i + 7) % 96] + a[(i + 31) % 96];\n"
        "  for (int i = 0; i < 96; ++i) x[threadIdx.x * 96 + i] = a[i];\n}\n"
    )
    (row,) = ptxas(source, 90, tmp_path).values()
    assert row["spills"]


def nvrtc():
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    found = next((lib for f in folders for lib in sorted(f.rglob("libnvrtc.so.*")) if "alt" not in lib.name), None)
    return None if found is None else ctypes.CDLL(str(found))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nvrtc_compiles_every_source(source, arch):
    """As CuPy does where there is no nvcc: the file and ours of csrc, no std headers, no toolkit."""
    library = nvrtc()
    if library is None:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), b"kernel.cu", 0, None, None)
    options = [o.encode() for o in (*gpu.nvrtc_options(), f"-arch=sm_{arch}", "--device-as-default-execution-space")]
    code = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert code == 0, log.value.decode()
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    assert size.value > 0
    library.nvrtcDestroyProgram(ctypes.byref(program))


@emulated
def test_launch_follows_the_tensor(emulator):
    """Grid, threads and shared memory reach the launcher as they were given; the sum takes a second kernel."""
    emulator.launched.clear()
    p = torch.linspace(-1, 1, 300)
    fasttrack.ops.square_loss(p, torch.zeros(300), "sum", backend="cuda")
    assert [(name, how.grid, how.threads) for name, how in emulator.launched] == [
        ("regression_loss", (2, 1, 1), 256),
        ("regression_loss_sum", (1, 1, 1), 256),
    ]

"""The kernels of csrc/cuda run on the CPU: built by the host's compiler, one fiber per thread (tests/emulation)."""

import ctypes
import fcntl
import platform
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent / "emulation"
FOLDER = ROOT / "build" / "emulation"
SHARED_LIMIT = 227 * 1024  # bytes a block may have on Hopper, static and dynamic


def compiler():
    if platform.system() != "Linux":  # the image of shared memory is a section of an ELF file
        return None
    return shutil.which("g++") or shutil.which("clang++")


def build(name="kernels"):
    """The library of all ``.cu`` files, compiled where it is older than what it is made of."""
    kernels = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    made_of = [*kernels, *HERE.iterdir(), *(ROOT / "csrc").glob("*.h"), *(ROOT / "csrc" / "cuda").glob("*.h")]
    FOLDER.mkdir(parents=True, exist_ok=True)
    library = FOLDER / f"{name}.so"
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        if library.exists() and library.stat().st_mtime > max(p.stat().st_mtime for p in made_of):
            return library
        command = [compiler(), "-x", "c++", "-std=c++17", "-O2", "-ffp-contract=fast", "-fPIC", "-shared", "-w"]
        command += ["-U_FORTIFY_SOURCE"]  # which takes jumps between stacks for an attack
        command += ["-DFT_CUDA_EMULATION", f"-I{ROOT / 'csrc'}", f"-I{HERE}", "-include", "cuda_emulation.h"]
        command += [*map(str, kernels), str(HERE / "cuda_emulation.cpp"), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return library


class Emulator:
    """A launcher for ``fasttrack.gpu.install``.

    ``blocks_at_once`` is what it says a device holds; ``backwards`` turns the order of the threads around.
    """

    device_type = "cpu"

    def __init__(self, blocks_at_once=3, backwards=False):
        self.blocks_at_once, self.backwards = blocks_at_once, backwards
        self.library = ctypes.CDLL(str(build()))
        self.library.ft_emulate.restype = ctypes.c_char_p
        self.library.ft_argument_bytes.restype = ctypes.c_size_t
        self.launched = []

    def launch(self, kernel, how, arguments):
        self.launched.append((kernel.name, how))
        if how.cooperative:
            assert how.grid[0] * how.grid[1] * how.grid[2] <= self.blocks_at_once
        assert how.shared_bytes <= SHARED_LIMIT
        grid = (ctypes.c_uint * 3)(*how.grid)
        error = self.library.ft_emulate(
            kernel.name.encode(),
            grid,
            how.threads,
            ctypes.c_size_t(how.shared_bytes),
            how.cooperative,
            self.backwards,
            ctypes.c_char_p(arguments),
            ctypes.c_size_t(len(arguments)),
        )
        if error is not None:
            raise RuntimeError(f"{kernel.name}: {error.decode()}")

    def resident_blocks(self, kernel, threads, shared_bytes, device):
        return self.blocks_at_once if shared_bytes <= SHARED_LIMIT else 0

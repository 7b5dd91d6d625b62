"""What each backend needs here: whether it runs, why not, and what to install or set."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

__all__ = ["Backend", "Facts", "explain", "gather"]

_BUILD = "FASTTRACK_BUILD=cpu pip install --force-reinstall --no-deps ."
_REBUILD = f"in the source tree, with a C++ compiler: {_BUILD}"


@dataclass(frozen=True)
class Backend:
    """One backend on this machine.

    Args:
        available: whether it runs here.
        reason: what runs, or why nothing does.
        cure: what to install or set; None where it runs or where nothing helps.
    """

    available: bool
    reason: str
    cure: str | None = None


@dataclass(frozen=True)
class Facts:
    """What an explanation rests on.

    Args:
        system: "Linux", "Darwin" or "Windows".
        extension: why ``fasttrack._C`` cannot be used, None where it can.
        extension_files: files of that name in the package, for whatever Python.
        pure: the package was installed from a wheel without an extension.
        isa: instruction set in use; None without the extension.
        extension_cuda: the extension holds CUDA kernels.
        triton_missing: why Triton kernels cannot be used, None where they can.
        triton: version of triton, None where it is not installed.
        interpreting: Triton kernels run in triton's interpreter.
        cuda_missing: why CUDA kernels cannot be used, None where they can.
        device: torch sees a CUDA device.
        torch_cuda: the CUDA version torch was built for, None for a CPU build.
        driver: the CUDA version of the NVIDIA driver; None without a driver.
        driver_error: what the driver answered when it was started; 0 is success.
        nvidia: an NVIDIA GPU is plugged in.
        cupy: CuPy is installed.
        visible: CUDA_VISIBLE_DEVICES, None where it is not set.
        launcher: FASTTRACK_CUDA, None where it is not set.
    """

    system: str = "Linux"
    extension: str | None = None
    extension_files: tuple[str, ...] = ()
    pure: bool = False
    isa: str | None = None
    extension_cuda: bool = False
    triton_missing: str | None = None
    triton: str | None = None
    interpreting: bool = False
    cuda_missing: str | None = None
    device: bool = False
    torch_cuda: str | None = None
    driver: str | None = None
    driver_error: int = 0
    nvidia: bool = False
    cupy: bool = False
    visible: str | None = None
    launcher: str | None = None


def gather() -> Facts:
    """The facts of this machine."""
    import torch

    from fasttrack import gpu, native

    extension = native.why_not()
    driver, driver_error = _driver()
    return Facts(
        system=platform.system(),
        extension=extension,
        extension_files=tuple(sorted(p.name for p in Path(native.__file__).parent.glob("_C.*"))),
        pure=_pure(),
        isa=native.lib().isa() if extension is None else None,
        extension_cuda=extension is None and bool(native.lib().cuda),
        triton_missing=native.triton_why_not(),
        triton=_version("triton", "pytorch-triton"),
        interpreting=native.interpreting(),
        cuda_missing=gpu.why_not(),
        device=torch.cuda.is_available(),
        torch_cuda=torch.version.cuda,
        driver=driver,
        driver_error=driver_error,
        nvidia=_nvidia_gpu(),
        cupy=importlib.util.find_spec("cupy") is not None,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        launcher=os.environ.get("FASTTRACK_CUDA") or None,
    )


def explain(facts: Facts) -> dict[str, Backend]:
    """Backend → whether it runs, why not, and the way there."""
    return {"cuda": _cuda(facts), "triton": _triton(facts), "cpu": _cpu(facts), "reference": Backend(True, "PyTorch")}


def _cpu(facts: Facts) -> Backend:
    if facts.extension is None:
        return Backend(True, f"compiled kernels, {facts.isa}")
    if facts.system == "Windows":
        return Backend(False, "the compiled kernels need g++ or clang++, not MSVC", "install it in WSL")
    own = [name for name in facts.extension_files if name.removeprefix("_C") in EXTENSION_SUFFIXES]
    if not own:
        if facts.extension_files:
            return Backend(False, f"built for another Python: {', '.join(facts.extension_files)}", _REBUILD)
        why = "installed without compiled kernels (FASTTRACK_BUILD=none)" if facts.pure else "not built"
        return Backend(False, why, _REBUILD)
    why = " ".join(facts.extension.split())
    if "FASTTRACK_ISA" in why:
        return Backend(False, why, "unset FASTTRACK_ISA, or name an instruction set of this CPU")
    if "libgomp" in why:
        return Backend(False, why, "apt-get install libgomp1 (Fedora: dnf install libgomp)")
    return Backend(False, why, _REBUILD)


def _triton(facts: Facts) -> Backend:
    if facts.triton_missing is None:
        how = " in its interpreter, on CPU tensors (TRITON_INTERPRET=1; slow)" if facts.interpreting else ""
        return Backend(True, f"triton {facts.triton}{how}")
    if facts.triton is None:
        if facts.system != "Linux":
            return Backend(False, f"triton is not installed; it has no release for {facts.system}")
        return Backend(False, "triton is not installed", "pip install 'triton>=3.6'")
    missing = _no_device(facts)
    if missing is None:
        return Backend(False, facts.triton_missing)
    interpret = "TRITON_INTERPRET=1 runs the kernels in triton's interpreter, slowly, for tests"
    return Backend(False, missing.reason, f"{missing.cure}; {interpret}")


def _cuda(facts: Facts) -> Backend:
    if facts.cuda_missing is None:
        built = facts.extension_cuda and facts.launcher != "nvrtc"
        return Backend(
            True, "kernels built by nvcc" if built else "kernels compiled at first use by NVRTC, through CuPy"
        )
    if (missing := _no_device(facts)) is not None:
        return missing
    if facts.launcher == "extension":
        return Backend(False, facts.cuda_missing, "unset FASTTRACK_CUDA, or build with nvcc (FASTTRACK_BUILD=cuda)")
    if not facts.cupy:
        # The extra names CuPy for CUDA 13.
        old = facts.torch_cuda is not None and facts.torch_cuda.startswith("12.")
        cure = "pip install cupy-cuda12x" if old else "pip install 'fasttrack[cuda]'"
        return Backend(False, "built without nvcc, and CuPy, which could compile the kernels, is not installed", cure)
    return Backend(False, facts.cuda_missing)


def _no_device(facts: Facts) -> Backend | None:
    """Why torch sees no CUDA device; None where it sees one."""
    if facts.device:
        return None
    plugged = facts.nvidia or (facts.driver is not None and facts.driver_error == 0)
    if not plugged and facts.driver is None:
        return Backend(False, "no NVIDIA GPU and no libcuda here (CUDA error 35)", "needs an NVIDIA GPU and its driver")
    if facts.torch_cuda is None:
        index = "--index-url https://download.pytorch.org/whl/cu130"
        return Backend(False, "there is an NVIDIA GPU, but torch is a CPU build", f"pip install -U torch {index}")
    if facts.driver is None:
        cure = "install the NVIDIA driver (container: start it with --gpus all)"
        return Backend(False, "there is an NVIDIA GPU, but its driver (libcuda) is missing (CUDA error 35)", cure)
    if facts.visible is not None:
        cure = "unset CUDA_VISIBLE_DEVICES"
        return Backend(False, f"CUDA_VISIBLE_DEVICES={facts.visible!r} hides every GPU", cure)
    if _number(facts.driver) < _number(facts.torch_cuda):
        why = f"the driver serves CUDA {facts.driver}, torch was built for {facts.torch_cuda} (CUDA error 35)"
        return Backend(False, why, f"update the driver, or install a torch built for CUDA {facts.driver} or older")
    if facts.driver_error:
        return Backend(False, f"the NVIDIA driver answers error {facts.driver_error}", "see what nvidia-smi says")
    return Backend(False, "torch.cuda.is_available() is False", "see what nvidia-smi says")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _driver() -> tuple[str | None, int]:
    """CUDA version of the NVIDIA driver and what it answered to ``cuInit``; (None, 35) where there is none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return None, 35
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}", int(driver.cuInit(0))


def _nvidia_gpu() -> bool:
    """Whether an NVIDIA display controller is plugged in, as far as Linux tells."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _pure() -> bool:
    try:
        wheel = metadata.distribution("fasttrack").read_text("WHEEL")
    except metadata.PackageNotFoundError:
        return False
    return wheel is not None and "Root-Is-Purelib: true" in wheel


def _version(*packages: str) -> str | None:
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None

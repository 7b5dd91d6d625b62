"""What every test shares: the data folder, NaN-poisoned memory, and the compiled extension."""

import os
import sys
from pathlib import Path

# Threads that spin while they wait slow everything down on a shared machine; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

ROOT = Path(__file__).parent.parent


def pytest_configure(config):
    # `python -m pytest` puts the root on sys.path, where the folder kernels/ shadows other packages of that name.
    if Path(sys.argv[0]).name == "__main__.py" and sys.path[0] in ("", str(ROOT)):
        pytest.exit("run `pytest`, not `python -m pytest`: the root must not be on sys.path", returncode=4)
    if order := os.environ.get("FASTTRACK_CUDA_EMULATION"):
        # Before the contract is collected: it asks which backends can run.
        from cuda_emulation import Emulator

        from fasttrack import gpu

        gpu.install(Emulator(backwards=order == "backwards"))


def pytest_collection_modifyitems(items):
    """Those that take minutes first: with several workers (-n) nothing then waits for one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


torch.set_num_threads(min(2, os.cpu_count() or 1))


def data_root() -> Path:
    """The folder of FASTTRACK_DATA: skips where the variable is unset, fails where it is wrong."""
    value = os.environ.get("FASTTRACK_DATA")
    if not value:
        pytest.skip("FASTTRACK_DATA is not set: it names a folder with sequences/ and weights/")
    root = Path(value)
    missing = [name for name in ("sequences", "weights") if not (root / name).is_dir()]
    if missing:
        pytest.fail(f"FASTTRACK_DATA={value}: no folder {', '.join(missing)} in it")
    return root


@pytest.fixture(scope="session")
def data() -> Path:
    return data_root()


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict:
    """Options of every tracker at a size for tests, on made weights."""
    from small_trackers import small_options

    return small_options(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def seeded():
    """gradgradcheck draws its output gradients from the global generator: the same draw in every run."""
    torch.manual_seed(0)


@pytest.fixture
def poisoned(monkeypatch):
    """torch.empty and friends hand out NaN, so that an output cell nobody wrote fails its test."""

    def poison(make):
        def poisoned_make(*args, **kwargs):
            out = make(*args, **kwargs)
            return out.fill_(float("nan")) if out.is_floating_point() else out.fill_(-77)

        return poisoned_make

    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, poison(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))

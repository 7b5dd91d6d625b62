"""Checks an installed fasttrack from outside its source tree: ops against the reference, or the extension alone.

python .ci/smoke.py --backend cpu   # a handful of ops, against backend="reference"
python .ci/smoke.py --extension     # without torch: the compiled module by itself, against numpy
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def check(name: str, got: Any, want: Any) -> None:
    """Stop unless two arrays agree to 2e-4 of the largest value wanted; where all are zero nothing is proved."""
    import numpy as np

    a, b = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    size = float(np.abs(b).max())
    error = float(np.abs(a - b).max()) / size if a.shape == b.shape and size > 0 else float("inf")
    print(f"  {name:<16} {a.shape!s:<16} error {error:.1e}")
    if not error < 2e-4:
        raise SystemExit(f"{name}: error {error:.1e} of the largest value, allowed 2e-4")


def calls() -> dict[str, Callable[[str], Any]]:
    """Op → call of it on made data, taking the backend."""
    import torch

    from fasttrack import ops

    torch.manual_seed(0)
    features, weight, bias = torch.randn(1, 8, 24, 20), torch.randn(8, 7, 5), torch.randn(1)
    rois = torch.tensor([[0.0, 20.0, 31.0, 180.0, 250.0], [0.0, 5.5, 7.25, 99.0, 120.0]])
    frame = torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 12.0, 40.0, 30.0]], dtype=torch.float64)
    patch = torch.rand(1, 3, 32, 24)
    x, y = torch.randn(40, 24), torch.randn(40, 2)
    return {
        "conv_regression": lambda b: ops.conv_regression(features, weight, bias, backend=b),
        "prroi_pool": lambda b: ops.prroi_pool(features, rois, (3, 3), 1 / 16, backend=b),
        "ridge_solve": lambda b: ops.ridge_solve(x, y, 0.1, backend=b),
        "shrinkage_loss": lambda b: ops.shrinkage_loss(y, y.flip(0), backend=b),
        "hog": lambda b: ops.hog(patch, backend=b),
        "crop_resize": lambda b: ops.crop_resize(frame, boxes, (32, 32), backend=b),
        "response_peak": lambda b: ops.response_peak(features[0], backend=b).position,
    }


def check_extension() -> None:
    """The compiled module without torch: the score, position and PSR of a map with one peak."""
    import numpy as np

    if importlib.util.find_spec("torch") is not None:
        raise SystemExit("--extension is for an environment without torch")
    module = importlib.import_module("fasttrack._C")
    print(f"  {Path(str(module.__file__)).name}, {module.isa()}, CUDA kernels: {module.cuda}")
    maps = np.random.default_rng(0).random((2, 9, 12), dtype=np.float32)
    maps[0, 4, 7] = maps[1, 8, 0] = 3.0
    out = np.full((2, 4), np.nan, np.float32)
    module.response_peak(maps.ctypes.data, 2, 9, 12, 9 * 12, 12, out.ctypes.data)
    check("score", out[:, 2], [3.0, 3.0])
    check("psr", out[:, 3], [(3 - m.mean()) / m.std() for m in maps.astype(float)])
    check("position", np.round(out[:, :2]), [[4, 7], [8, 0]])


def main() -> None:
    """Run the checks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--backend", choices=("cpu", "triton", "cuda"))
    what.add_argument("--extension", action="store_true")
    asked = parser.parse_args()

    import fasttrack

    place = Path(str(fasttrack.__file__))
    if not place.is_relative_to(sys.prefix):
        raise SystemExit(f"not the installed package but {place}")
    print(f"fasttrack {fasttrack.__version__}, Python {sys.version.split()[0]}, {place.parent}")
    if asked.extension:
        check_extension()
        return
    for name, call in calls().items():
        check(name, call(asked.backend), call("reference"))


if __name__ == "__main__":
    main()

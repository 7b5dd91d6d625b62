"""Worst errors of every op on one backend over the small cases of its spec: python bench/correct.py BACKEND.

Prints one JSON line per spec: cases tried, worst error as a share of the tolerance, and why cases were left out.
Without a GPU: TRITON_INTERPRET=1 interprets Triton, FASTTRACK_CUDA_EMULATION=1 emulates CUDA.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from fasttrack import gpu, ops
from fasttrack.errors import BackendUnavailable
from fasttrack.spec import all_specs
from fasttrack.spec.base import Case, Spec, error_of, outputs_of


def main() -> None:
    (backend,) = sys.argv[1:]
    if os.environ.get("FASTTRACK_CUDA_EMULATION"):
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
        from cuda_emulation import Emulator

        gpu.install(Emulator())
    for spec in all_specs():
        print(json.dumps(report(spec, backend)), flush=True)


def report(spec: Spec, backend: str) -> dict[str, Any]:
    """Forward and gradients of each case in each dtype the kernels take, against float64."""
    worst, tried, left_out = 0.0, 0, Counter[str]()
    compiled = backend == "cpu" or torch.cuda.is_available()
    for case in spec.cases:
        if not case.tests or not (compiled or spec.interpretable(case)):
            continue
        for dtype in spec.dtypes:
            if dtype == torch.float64:
                continue
            try:
                worst = max(worst, share_of_tolerance(spec, case, dtype, backend))
                tried += 1
            except BackendUnavailable as refusal:
                lines = [line.strip() for line in str(refusal).splitlines() if f" {backend}:" in line]
                left_out[lines[0].partition(": ")[2] if lines else "no such kernel"] += 1
    return {"op": spec.stem, "function": spec.label, "tried": tried, "worst": worst, "left_out": dict(left_out)}


def share_of_tolerance(spec: Spec, case: Case, dtype: torch.dtype, backend: str) -> float:
    """Largest error over its bound; above 1 the result is wrong."""
    arguments = case.make(dtype)
    device = "cuda" if backend != "cpu" and torch.cuda.is_available() else "cpu"
    placed = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    names = [n for n in spec.gradients if isinstance(placed.get(n), torch.Tensor)]
    got, true = value_and_gradients(spec, placed, names, backend), value_and_gradients(spec, arguments, names, None)
    shares = [0.0]
    for k, (g, t) in enumerate(zip(got, true, strict=True)):
        bound = spec.tolerance_of(dtype, gradient=k >= len(got) - len(names))
        l2, peak = error_of(g, t) if g is not None and t is not None and t.numel() else (0.0, 0.0)
        shares += [l2 / bound.l2, peak / bound.peak]
    return max(shares)


def value_and_gradients(
    spec: Spec, arguments: dict[str, Any], names: list[str], backend: str | None
) -> list[torch.Tensor | None]:
    """Outputs, then gradients of their sum; of the float64 reference where ``backend`` is None."""
    if backend is None:
        wide = lambda v: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v  # noqa: E731
        arguments = {k: wide(v) for k, v in arguments.items()}
    leaves = {n: arguments[n].detach().clone().requires_grad_() for n in names}
    merged = {**arguments, **leaves}
    result = spec.reference(**merged) if backend is None else getattr(ops, spec.name)(**merged, backend=backend)
    outputs = outputs_of(result)
    if not names:
        return list(outputs)
    total = sum(o.sum() for o in outputs if o.requires_grad)
    if not isinstance(total, torch.Tensor):
        return [o.detach() for o in outputs]
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return [*(o.detach() for o in outputs), *gradients]


if __name__ == "__main__":
    main()

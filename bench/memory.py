"""Memory that one call holds at its peak: python bench/memory.py [FUNCTION …].

Prints one JSON line per public function, case and direction: bytes held (arguments, results and working memory at the
moment of most), and the most that may be held: 2 × (inputs + outputs, of a backward also gradients in and out), plus
the caches that the spec names. Only cases of at least a megabyte say something; the CPU kernels run, on one thread.
Every call runs in a process of its own (a fork, of which Linux counts the resident pages), after a small case has
brought the code into memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fasttrack import ops
from fasttrack.spec import all_specs
from fasttrack.spec.base import Case, Spec, outputs_of

MEGABYTE = 1 << 20
SMALLEST = MEGABYTE  # of inputs and outputs: pages and the allocator's margins blur anything less
# What one call holds beyond its arguments' share whatever their size: tables of transforms, a thread's block of
# working memory, the packed panels of torch's matrix products.
CONSTANT = 2 * MEGABYTE
_M_MMAP_THRESHOLD, _PR_SET_THP_DISABLE = -3, 41


def main() -> None:
    wanted = set(sys.argv[1:])
    specs = [spec for spec in all_specs() if not wanted or spec.name in wanted]
    if unknown := wanted - {spec.name for spec in specs}:
        raise SystemExit(f"no such function: {', '.join(sorted(unknown))}")
    for row in rows(specs, lambda spec: getattr(ops, spec.name)):
        print(json.dumps(row), flush=True)


def rows(specs: Iterable[Spec], function: Callable[[Spec], Callable[..., Any]]) -> Iterable[dict[str, Any]]:
    """Figures of every case that is large enough, forward and with its backward."""
    for spec in specs:
        small = min((c for c in spec.cases if c.tests), key=lambda c: abs(size_of(c.make()) - 10_000))
        for case in spec.cases:
            if not case.bench and size_of(case.make()) < SMALLEST:
                continue
            for backward in (False, True) if spec.gradients else (False,):
                found = in_a_fork(partial(measured, spec, case, small, function(spec), backward))
                if found["shared"] >= SMALLEST:
                    yield {"function": spec.label, "case": case.name, "backward": backward, **found}


def measured(spec: Spec, case: Case, small: Case, function: Callable[..., Any], backward: bool) -> dict[str, int]:
    """Bytes of a call: ``shared`` by its arguments and results, ``held`` at its peak, ``limit``."""
    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    # Freed memory goes back to the system at once, and comes in small pages: residence is then what is in use.
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    run(spec, small.make(), function, backward)
    arguments = case.make()
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = resident("VmRSS")
    kept = run(spec, arguments, function, backward)
    growth = resident("VmHWM") - before
    inputs = size_of(arguments)
    shared = inputs + sum(map(bytes_of, kept))
    caches = 0 if spec.caches is None else int(spec.caches(arguments))
    return {"shared": shared, "held": inputs + growth, "limit": 2 * shared + caches + CONSTANT}


def run(spec: Spec, arguments: dict[str, Any], function: Callable[..., Any], backward: bool) -> list[torch.Tensor]:
    """Outputs; with ``backward`` also the gradients of all that can have one, and those that came in."""
    names = [n for n in spec.gradients if isinstance(arguments.get(n), torch.Tensor)] if backward else []
    leaves = {n: arguments[n].detach().requires_grad_() for n in names}
    outputs = [*outputs_of(function(**{**arguments, **leaves}, backend="cpu"))]
    if not names:
        return outputs
    smooth = [o for o in outputs if o.requires_grad]
    incoming = [torch.ones_like(o) for o in smooth]
    gradients = torch.autograd.grad(smooth, list(leaves.values()), incoming, allow_unused=True)
    return [*outputs, *incoming, *(g for g in gradients if g is not None)]


def size_of(arguments: dict[str, Any]) -> int:
    """Bytes of all tensors among the arguments, also of those in tuples."""
    flat = [v for value in arguments.values() for v in (value if isinstance(value, (tuple, list)) else (value,))]
    return sum(bytes_of(v) for v in flat if isinstance(v, torch.Tensor))


def bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def resident(what: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.M)
    assert found is not None
    return 1024 * int(found[1])


def in_a_fork(job: Callable[[], dict[str, int]]) -> dict[str, int]:
    """The result of a job in a child process; the parent has no threads of its own yet."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            try:
                json.dump(job(), pipe)
            finally:
                pipe.flush()
                os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        raise SystemExit("a measured call ended without a result")
    return json.loads(text)


if __name__ == "__main__":
    main()

"""Hostile arguments to every public op: a typed error or the right answer, never a crash, never another error.

Each op is tried in a process of its own, so that a crash is a failed test that names the call.
"""

import os
import subprocess
import sys

import pytest
import torch

from fasttrack.spec import all_specs

TRIES = int(os.environ.get("FASTTRACK_FUZZ_TRIES", "150"))
SPECS = all_specs()


@pytest.mark.parametrize("index", range(len(SPECS)), ids=[f"{s.name}-{k}" for k, s in enumerate(SPECS)])
def test_hostile_arguments(index):
    command = [sys.executable, __file__, str(index), str(TRIES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1:] or ["nothing ran"]
    assert done.returncode == 0, f"exit {done.returncode} at {last[0]}\n{done.stderr[-3000:]}"


NUMBERS = (0, -1, 1, 2, -0.5, 1e-4, 1e4, float("nan"), float("inf"), -float("inf"))
WORDS = ("", "no such word", None)


def hostile_tensor(value, generator):
    """A variation of a tensor, and what was done to it."""

    def pick(n):
        return int(torch.randint(n, (), generator=generator))

    axis = pick(value.dim()) if value.dim() else 0
    flat = value.clone(memory_format=torch.contiguous_format)
    kind = pick(14)
    if kind <= 2 and value.numel() and value.is_floating_point():
        flat.view(-1)[pick(value.numel())] = (float("nan"), float("inf"), -float("inf"))[kind]
        return flat, f"one value is {('NaN', 'inf', '-inf')[kind]}"
    if kind == 3:
        return value.to((torch.int64, torch.bool, torch.float64, torch.float16, torch.complex64)[pick(5)]), "dtype"
    if kind == 4 and value.dim():
        return value.narrow(axis, 0, 0), f"axis {axis} empty"
    if kind == 5 and value.dim() and value.shape[axis] > 1:
        return value.narrow(axis, 0, value.shape[axis] - 1), f"axis {axis} one shorter"
    if kind == 6:
        return value.unsqueeze(axis), "one axis more"
    if kind == 7 and value.dim():
        return value.select(axis, 0) if value.shape[axis] else value.sum(axis), "one axis less"
    if kind == 8 and value.dim():
        return torch.cat([value, value], axis), f"axis {axis} twice"
    if kind == 9 and value.dim() > 1:
        return value.transpose(axis, -1 if axis != value.dim() - 1 else 0), "axes exchanged"
    if kind == 10 and value.dim():
        return value.flip(axis), "flipped"
    if kind == 11 and value.is_floating_point():
        return -value * 1000, "negative and large"
    if kind == 12:
        return value.to("meta"), "on the meta device"
    if kind == 13 and value.is_floating_point():
        return torch.zeros_like(value), "all zero"
    return value.expand(2, *value.shape)[1], "a view of an expansion"


def hostile(value, generator):
    def pick(options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    if isinstance(value, torch.Tensor):
        return hostile_tensor(value, generator)
    if isinstance(value, bool) or value is None:
        return value, "as it is"
    if isinstance(value, int):
        new = pick((0, -1, 1, 2, 3, 7, float("nan"), "5", None))
    elif isinstance(value, float):
        new = pick(NUMBERS)
    elif isinstance(value, str):
        new = pick(WORDS)
    elif isinstance(value, tuple):
        new = pick(((), (0, 0), (-1, 3), (1, 1), (2, 3, 4), value[:1], None, "ab"))
    else:
        return value, "as it is"
    return new, repr(new)


def peaks_of(response):
    """(K, 4) rows of ``response_table``."""
    from fasttrack import ops

    return ops.response_table(response.flatten(0, 1), backend="reference").double()


def is_right(spec, arguments, got):
    """Whether the float64 reference agrees; where it cannot run the call, nobody should have answered."""
    from fasttrack.spec.base import outputs_of

    truth = outputs_of(spec.truth(arguments))
    if spec.name == "grey_filter":
        # Where the peak of a response lies that is as flat as rounding is anybody's; it must be that of the response.
        truth = (truth[0], peaks_of(got[0]))
    dtypes = [v.dtype for v in arguments.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    half = [d for d in dtypes if d in (torch.float16, torch.bfloat16)]
    bound = spec.tolerance_of(half[0] if half else torch.float32)
    # Cases are made so that rounding stays small; variations are not.
    bound = type(bound)(bound.l2 * 50, bound.peak * 50)
    if all(v.isfinite().all() for v in arguments.values() if isinstance(v, torch.Tensor) and v.is_floating_point()):
        return all(bound.admits(g, t) for g, t in zip(got, truth, strict=True))
    # Where a NaN or an infinity spreads to depends on the algorithm: dense sums and transforms spread it further than
    # sparse ones. What is finite on both sides must agree.
    for g, t in zip(got, truth, strict=True):
        both = g.isfinite() & t.isfinite()
        if g.shape != t.shape or not bound.admits(g[both], t[both]):
            return False
    return True


def main(index, tries):
    from fasttrack import ops
    from fasttrack.errors import FasttrackError
    from fasttrack.spec.base import outputs_of

    torch.set_num_threads(1)
    spec = SPECS[index]
    function = getattr(ops, spec.name)
    cases = [case for case in spec.cases if case.tests and not case.bench]
    for attempt in range(tries):
        generator = torch.Generator().manual_seed(attempt)
        case = cases[attempt % len(cases)]
        arguments, done = case.make(seed=attempt), []
        for _ in range(1 + attempt % 2):
            name = sorted(arguments)[int(torch.randint(len(arguments), (), generator=generator))]
            arguments[name], what = hostile(arguments[name], generator)
            done.append(f"{name}: {what}")
        print(f"{spec.name} {case.name} attempt {attempt}: {'; '.join(done)}", flush=True)
        try:
            got = outputs_of(function(**arguments))
        except FasttrackError:
            continue
        if any(g.is_meta for g in got):
            continue
        assert is_right(spec, arguments, got), "a wrong answer instead of an error"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

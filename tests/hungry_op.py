"""The canary of tests/test_memory.py: an op that holds eleven times its input, measured like every other."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

from memory import rows

from fasttrack.spec.base import Case, Spec, Tolerance


def case(name, numbers):
    return Case(name, lambda generator, dtype: {"x": torch.ones(numbers, dtype=dtype)})


def hungry(x, backend=None):
    return sum([x.clone() for _ in range(10)])


def modest(x, backend=None):
    return x.exp()


if __name__ == "__main__":
    cases = (case("small", 1000), case("large", 2_000_000))
    spec = Spec("hungry", "hungry", hungry, cases, {torch.float32: Tolerance(0, 0)}, ("x",))
    for function in (hungry, modest):
        for row in rows([spec], lambda _, function=function: function):
            print(json.dumps({**row, "function": function.__name__}))

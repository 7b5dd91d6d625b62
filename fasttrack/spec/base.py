"""What an op's spec consists of, and how two results are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

# Numbers up to which a case is worth interpreting or emulating, at a millisecond per program.
_INTERPRETED_NUMBERS = 20_000

__all__ = ["Case", "Cost", "Spec", "Tolerance", "error_of", "outputs_of"]


@dataclass(frozen=True)
class Tolerance:
    """Largest error of a result against the float64 reference.

    Args:
        l2: ‖got − truth‖₂ / ‖truth‖₂.
        peak: max|got − truth| / max|truth|: one wrong cell must not hide in the norm.
        witness: worst ``(l2, peak)`` ever seen over all cases, the reason for the two bounds.
    """

    l2: float
    peak: float
    witness: str = ""

    def admits(self, got: Tensor, truth: Tensor) -> bool:
        """Whether ``got`` agrees with ``truth``: same shape, same non-finite places, both errors in bounds."""
        if got.shape != truth.shape:
            return False
        if truth.numel() == 0:
            return True
        l2, peak = error_of(got, truth)
        return l2 <= self.l2 and peak <= self.peak


def error_of(got: Tensor, truth: Tensor) -> tuple[float, float]:
    """Relative errors ``(l2, peak)`` in float64; infinite where non-finite values differ."""
    got, truth = got.detach().cpu().double(), truth.detach().cpu().double()
    same = (got == truth) | (got.isnan() & truth.isnan())
    finite = got.isfinite() & truth.isfinite()
    if not bool((finite | same).all()):
        return float("inf"), float("inf")
    gap = (got - truth)[finite & ~same]
    if gap.numel() == 0:
        return 0.0, 0.0
    true = truth[finite]
    # A truth of zeros has no scale of its own: then the error is absolute.
    norm, peak = float(true.norm()) or 1.0, float(true.abs().max()) or 1.0
    return float(gap.norm()) / norm, float(gap.abs().max()) / peak


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    """The tensors of an op's result, one or several."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


@dataclass(frozen=True)
class Cost:
    """Counted work of one call: floating-point operations, and bytes that must move."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Case:
    """One set of arguments.

    Args:
        name: short, unique within the op.
        build: arguments by name, made with the generator in the given float dtype.
        bench: also a benchmark row (a size that trackers use).
        tests: whether the contract runs it (false for sizes too large for the reference).
        differences: whether finite differences mean anything (false for extents near their step of 1e-6).
    """

    name: str
    build: Callable[[Generator, torch.dtype], dict[str, Any]]
    bench: bool = False
    tests: bool = True
    differences: bool = True

    def make(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Any]:
        """Arguments of this case; the same seed gives the same values, rounded to ``dtype``."""
        return self.build(torch.Generator().manual_seed(seed), dtype)


@dataclass(frozen=True)
class Spec:
    """Everything the contract and the benchmarks need to know of one public function.

    Args:
        stem: file name of the op in spec, ops, csrc, tests and bench.
        name: name of the public function in ``fasttrack.ops``.
        reference: the same function in plain PyTorch: loops or einsum, float64, autograd.
        cases: arguments to try.
        tolerance: per dtype of the floating inputs.
        gradients: arguments that receive a gradient (empty: not differentiable).
        cost: counted work of a case's arguments.
        dtypes: float dtypes the function takes.
        tables: arguments that are looked up in, whatever their size, and not worked through.
        caches: bytes that one call keeps beside its arguments and results, as the function's docstring says; beyond
            them it holds at most twice its inputs and outputs.
    """

    stem: str
    name: str
    reference: Callable[..., Any]
    cases: tuple[Case, ...]
    tolerance: Mapping[torch.dtype, Tolerance]
    gradients: tuple[str, ...] = ()
    gradient_tolerance: Mapping[torch.dtype, Tolerance] = field(default_factory=dict)
    cost: Callable[[dict[str, Any]], Cost] | None = None
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    caches: Callable[[dict[str, Any]], float] | None = None
    tables: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The function's name and the words its cases choose, which tell its specs apart."""
        return "-".join([self.name, *(value for value in self.cases[0].make().values() if isinstance(value, str))])

    def interpretable(self, case: Case) -> bool:
        """Whether a case is small enough for kernels that are interpreted or emulated instead of run."""
        arguments = case.make()
        numbers = sum(v.numel() for k, v in arguments.items() if isinstance(v, Tensor) and k not in self.tables)
        return numbers <= _INTERPRETED_NUMBERS

    def tolerance_of(self, dtype: torch.dtype, *, gradient: bool = False) -> Tolerance:
        """Bounds for a dtype; gradients have their own where the spec gives them."""
        if gradient and dtype in self.gradient_tolerance:
            return self.gradient_tolerance[dtype]
        return self.tolerance[dtype]

    def truth(self, arguments: dict[str, Any]) -> Any:
        """The reference of the arguments in float64."""
        wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
        return self.reference(**wide)

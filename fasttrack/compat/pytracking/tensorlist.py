"""A list of tensors that computes like one tensor, and the decorator that lets a function take such lists."""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from torch import Tensor

from fasttrack.errors import ArgumentError

__all__ = ["TensorList", "tensor_operation"]

Function = TypeVar("Function", bound=Callable[..., Any])


def _operands(other: Any, count: int) -> Iterable[Any]:
    """What stands opposite each of ``count`` elements: a list element by element, anything else again and again."""
    return other if isinstance(other, list) else itertools.repeat(other, count)


def _forward(op: Callable[[Any, Any], Any]) -> Any:
    def method(self: TensorList, other: Any) -> TensorList:
        return TensorList(map(op, self, _operands(other, len(self))))

    return method


def _reflected(op: Callable[[Any, Any], Any]) -> Any:
    def method(self: TensorList, other: Any) -> TensorList:
        return TensorList(map(op, _operands(other, len(self)), self))

    return method


def _in_place(op: Callable[[Any, Any], Any]) -> Any:
    def method(self: TensorList, other: Any) -> TensorList:
        for place, operand in enumerate(_operands(other, len(self))):
            self[place] = op(self[place], operand)
        return self

    return method


def _unary(op: Callable[[Any], Any]) -> Any:
    def method(self: TensorList) -> TensorList:
        return TensorList(map(op, self))

    return method


class TensorList(list[Any]):
    """A list of tensors on which arithmetic and the methods of tensors act on each element.

    ``a ∘ b`` for ∘ in ``+ - * / @ % <= >=``, and ``b ∘ a``, is the list of ``a[i] ∘ b[i]`` where b is a list (the
    shorter of the two decides how many), of ``a[i] ∘ b`` where it is not. ``+= -= *= /= @=`` change the tensors
    themselves, in place where tensors can. ``==``, ``<`` and ``>`` are those of lists.

    ``a.name(…)`` for every method of ``torch.Tensor`` that a list does not have itself is the list of
    ``a[i].name(…)``; ``a.name`` for every other attribute of tensors (``shape``, ``dtype``) the list of ``a[i].name``.
    Elements need not be tensors: numbers, other lists and objects with the attributes asked for serve as well.

    Args:
        list_of_tensors: the elements; nothing is copied. None: an empty list.

    Raises:
        AttributeError: of a name that neither lists nor tensors have.

    Source: behaviour of ``pytracking.TensorList``.
    """

    # NumPy leaves the arithmetic of its scalars and arrays with this list to the reflected methods below.
    __array_ufunc__ = None

    def __init__(self, list_of_tensors: Iterable[Any] | None = None) -> None:
        super().__init__(() if list_of_tensors is None else list_of_tensors)

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorList:
        return TensorList(copy.deepcopy(element, memo) for element in self)

    def __getitem__(self, item: Any) -> Any:
        """The element at an index; the list of those of a slice, or at each index of a tuple or list."""
        if isinstance(item, (tuple, list)):
            return TensorList(list.__getitem__(self, index) for index in item)
        found = list.__getitem__(self, item)
        return TensorList(found) if isinstance(item, slice) else found

    __add__ = _forward(operator.add)
    __sub__ = _forward(operator.sub)
    __mul__ = _forward(operator.mul)
    __truediv__ = _forward(operator.truediv)
    __matmul__ = _forward(operator.matmul)
    __mod__ = _forward(operator.mod)
    __le__ = _forward(operator.le)
    __ge__ = _forward(operator.ge)
    __radd__ = _reflected(operator.add)
    __rsub__ = _reflected(operator.sub)
    __rmul__ = _reflected(operator.mul)
    __rtruediv__ = _reflected(operator.truediv)
    __rmatmul__ = _reflected(operator.matmul)
    __rmod__ = _reflected(operator.mod)
    __iadd__ = _in_place(operator.iadd)
    __isub__ = _in_place(operator.isub)
    __imul__ = _in_place(operator.imul)
    __itruediv__ = _in_place(operator.itruediv)
    __imatmul__ = _in_place(operator.imatmul)
    __pos__ = _unary(operator.pos)
    __neg__ = _unary(operator.neg)

    def __getattr__(self, name: str) -> Any:
        # Names of protocols stay those of a list: copying, pickling and NumPy must not meet the hooks of tensors.
        of_tensor = None if name.startswith("__") else getattr(Tensor, name, None)
        if of_tensor is None:
            raise AttributeError(f"'TensorList' object has no attribute {name!r}; neither has torch.Tensor")
        if not callable(of_tensor):
            return self.attribute(name)

        def each(*args: Any, **kwargs: Any) -> TensorList:
            return TensorList(getattr(element, name)(*args, **kwargs) for element in self)

        return each

    def concat(self, other: Iterable[Any]) -> TensorList:
        """The elements of this list, then those of ``other``; no tensor is copied."""
        return TensorList(itertools.chain(self, other))

    def copy(self) -> TensorList:
        """A new list of the same elements."""
        return TensorList(self)

    def unroll(self) -> TensorList:
        """The elements of this list and of the TensorLists in it, however deep, in one list; itself if it is flat."""
        if not any(isinstance(element, TensorList) for element in self):
            return self
        nested = (element.unroll() if isinstance(element, TensorList) else (element,) for element in self)
        return TensorList(itertools.chain.from_iterable(nested))

    def list(self) -> list[Any]:
        """A plain list of the same elements."""
        return [*self]

    def attribute(self, attr: str, *args: Any) -> TensorList:
        """The attribute ``attr`` of each element; one further argument stands in where an element has none."""
        return TensorList(getattr(element, attr, *args) for element in self)

    def apply(self, fn: Callable[[Any], Any]) -> TensorList:
        """``fn`` of each element."""
        return TensorList(map(fn, self))


def tensor_operation(op: Function) -> Function:
    """Let a function of one or two operands take TensorLists for them and return the TensorList of its results.

    The operands are the first two positional arguments. Where one is a TensorList the function is called once for
    each element; where both are, for each pair (the shorter decides how many). An operand that is no TensorList, and
    every further argument, is the same in each call.

    Raises:
        ArgumentError: from the function made, when it is called without a positional argument.

    Source: behaviour of ``pytracking.libs.tensorlist.tensor_operation``.
    """

    @functools.wraps(op)
    def each(*args: Any, **kwargs: Any) -> Any:
        if not args:
            raise ArgumentError(op.__name__, "the first operand", "given by position", "no positional argument")
        operands, rest = args[:2], args[2:]
        if not any(isinstance(operand, TensorList) for operand in operands):
            return op(*args, **kwargs)
        columns = (operand if isinstance(operand, TensorList) else itertools.repeat(operand) for operand in operands)
        return TensorList(op(*row, *rest, **kwargs) for row in zip(*columns, strict=False))

    return cast(Function, each)

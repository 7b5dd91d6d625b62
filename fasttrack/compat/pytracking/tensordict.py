"""A dictionary of tensors that answers to the methods of one tensor."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["TensorDict"]


class TensorDict(OrderedDict[str, Any]):
    """An ordered dictionary of tensors on which the methods of tensors act on each value.

    ``d.name(…)``, for every method of ``torch.Tensor`` that a dictionary does not have itself, is the dictionary of
    ``d[key].name(…)``; a value that has no such method stays as it is.

    Raises:
        AttributeError: of a name that neither dictionaries nor the methods of tensors have.

    Source: behaviour of ``pytracking.TensorDict``.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorDict:
        return TensorDict((key, copy.deepcopy(value, memo)) for key, value in self.items())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not callable(getattr(Tensor, name, None)):
            raise AttributeError(f"'TensorDict' object has no attribute {name!r}; nor is it a method of torch.Tensor")

        def each(*args: Any, **kwargs: Any) -> TensorDict:
            return self.apply(lambda value: getattr(value, name)(*args, **kwargs) if hasattr(value, name) else value)

        return each

    def concat(self, other: Mapping[str, Any]) -> TensorDict:
        """The items of this dictionary, then those of ``other``, which win; no tensor is copied."""
        return TensorDict({**self, **other})

    def copy(self) -> TensorDict:
        """A new dictionary of the same values."""
        return TensorDict(self)

    def attribute(self, attr: str, *args: Any) -> TensorDict:
        """The attribute ``attr`` of each value; one further argument stands in where a value has none."""
        return self.apply(getattr, attr, *args)

    def apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> TensorDict:
        """``fn(value, …)`` of each value."""
        return TensorDict((key, fn(value, *args, **kwargs)) for key, value in self.items())

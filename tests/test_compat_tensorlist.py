"""TensorList, TensorDict and tensor_operation: each against loops over the elements."""

import copy
import operator
import pickle

import numpy as np
import pytest
import torch

from fasttrack.compat.pytracking.tensordict import TensorDict
from fasttrack.compat.pytracking.tensorlist import TensorList, tensor_operation
from fasttrack.errors import ArgumentError


def made(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TensorList(torch.rand(n, n, generator=generator, dtype=torch.float64) + 1 for n in (2, 3))


def same(got, want):
    return (
        type(got) is TensorList
        and len(got) == len(want)
        and all(torch.equal(torch.as_tensor(g), torch.as_tensor(w)) for g, w in zip(got, want, strict=True))
    )


FORWARD = [operator.add, operator.sub, operator.mul, operator.truediv, operator.mod, operator.le, operator.ge]
OTHERS = {
    "number": (0.7, lambda i: 0.7),
    "tensor": (torch.tensor(1.5), lambda i: torch.tensor(1.5)),
    "numpy": (np.float64(0.4), lambda i: 0.4),
    "list": ([0.6, 0.8], lambda i: [0.6, 0.8][i]),
    "tensorlist": (made(1), lambda i: made(1)[i]),
}


@pytest.mark.parametrize("op", FORWARD, ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", OTHERS)
def test_arithmetic_acts_on_each_element_from_both_sides(op, other):
    a = made()
    operand, at = OTHERS[other]
    assert same(op(a, operand), [op(a[i], at(i)) for i in range(2)])
    assert same(op(operand, a), [op(at(i), a[i]) for i in range(2)])
    assert not same(op(a, operand), a)


def test_hand_computed_values():
    a = TensorList([torch.tensor([1.0, 2.0]), torch.tensor([4.0])])
    assert same(10 - a, [[9.0, 8.0], [6.0]])
    assert same(8 / a, [[8.0, 4.0], [2.0]])
    assert same(a @ a, [5.0, 16.0]) and same([torch.ones(2), torch.ones(1)] @ a, [3.0, 4.0])
    assert same(-a, [[-1.0, -2.0], [-4.0]]) and same(+a, a)
    assert same(a * [2, 3], [[2.0, 4.0], [12.0]]), "a list is no repetition, as it would be for lists"


def test_the_shorter_list_decides():
    a, one = made(), [1.0]
    assert same(a + one, [a[0] + 1]) and same(one + a, [a[0] + 1])
    with pytest.raises(IndexError):
        a += [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv"])
@pytest.mark.parametrize("other", ["number", "list", "tensorlist"])
def test_in_place_forms_change_the_tensors_themselves(name, other):
    a, before = made(), made()
    tensors = list(a)
    operand, at = OTHERS[other]
    result = getattr(operator, name)(a, operand)
    assert result is a and all(element is tensor for element, tensor in zip(a, tensors, strict=True))
    assert same(a, [getattr(operator, name[1:])(before[i], at(i)) for i in range(2)])


def test_in_place_forms_replace_what_cannot_change():
    a = TensorList([1, 2.5])
    a += 1
    assert a == [2, 3.5]
    b = made()
    b @= made(1)
    assert same(b, [x @ y for x, y in zip(made(), made(1), strict=True)])


def test_indices():
    a = TensorList([torch.tensor(float(n)) for n in range(4)])
    assert isinstance(a[2], torch.Tensor) and a[-1] == 3 and a[np.int64(1)] is a[1] and a[torch.tensor(1)] is a[1]
    assert same(a[1:3], [1.0, 2.0]) and same(a[[3, 0]], [3.0, 0.0]) and same(a[2, 1], [2.0, 1.0])
    assert same(a[[]], []) and a[0:1][0] is a[0]
    with pytest.raises(IndexError):
        a[4]


def test_methods_and_attributes_of_tensors_reach_each_element():
    a = made()
    assert same(a.abs().sum(), [t.abs().sum() for t in a])
    assert same(a.mean(dim=0, keepdim=True), [t.mean(dim=0, keepdim=True) for t in a])
    assert a.shape == [torch.Size([2, 2]), torch.Size([3, 3])] and a.dtype == [torch.float64] * 2
    assert TensorList([a, a]).numel() == [[4, 9], [4, 9]], "lists in lists"
    tensor = a[0]
    a.unsqueeze_(-1)
    assert tensor.shape == (2, 2, 1)
    with pytest.raises(AttributeError, match="'TensorList' object has no attribute 'pool_stride'; neither has torch"):
        a.pool_stride


def test_attribute_apply_concat_copy_unroll_and_list():
    a, b = made(), made(1)
    assert a.attribute("ndim") == [2, 2] and TensorList([1j, "x"]).attribute("real", None) == [0.0, None]
    with pytest.raises(AttributeError):
        a.attribute("pool_stride")
    assert same(a.apply(torch.exp), [torch.exp(t) for t in a])
    joined = a.concat(b)
    assert len(joined) == 4 and joined[0] is a[0] and joined[3] is b[1] and len(a) == 2
    assert a.copy() is not a and a.copy()[1] is a[1] and type(a.list()) is list
    nested = TensorList([a, TensorList([b, a[0]]), b[1]])
    assert [id(t) for t in nested.unroll()] == [id(t) for t in (*a, *b, a[0], b[1])]
    assert a.unroll() is a and len(TensorList()) == 0
    a.extend(2 * b)
    assert type(a) is TensorList and len(a) == 4


def test_copies_and_pickles_are_lists_of_their_own():
    a = made()
    for twin in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert same(twin, a) and twin[0] is not a[0]
    assert same(copy.copy(a), a) and copy.copy(a)[0] is a[0]
    tensor = torch.ones(2)
    pair = copy.deepcopy(TensorList([tensor, tensor]))
    assert pair[0] is pair[1], "what was one stays one"


def test_gradients_pass():
    a = TensorList([torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2)])
    sum((3 * a * a).sum()).backward()
    assert same(a.grad, [[6.0, 6.0]] * 2)


@tensor_operation
def affine(a, b=0.0, offset=0.0, *, scale=1.0):
    """Some function."""
    return scale * (a - b) + offset


def test_tensor_operation_takes_lists_for_its_two_operands():
    a, b = made(), made(1)
    t = torch.tensor(2.0, dtype=torch.float64)
    assert same(affine(a), a) and same(affine(a, scale=2.0), 2 * a)
    assert same(affine(a, b, 1.0, scale=2.0), [2 * (x - y) + 1 for x, y in zip(a, b, strict=True)])
    assert same(affine(a, t), [x - 2 for x in a]) and same(affine(t, b), [2 - y for y in b])
    assert same(affine(a, b[:1]), [a[0] - b[0]]), "the shorter decides"
    assert torch.equal(affine(t, t, t), t) and affine.__name__ == "affine" and affine.__doc__ == "Some function."
    with pytest.raises(ArgumentError, match="affine: the first operand must be given by position, got no positional"):
        affine(b=a)


def test_tensordict_applies_methods_to_its_values():
    d = TensorDict({"a": torch.tensor([3.0, -4.0]), "n": 5})
    assert d.abs().sum() == {"a": torch.tensor(7.0), "n": 5} and type(d.abs()) is TensorDict
    assert d.attribute("shape", None) == {"a": torch.Size([2]), "n": None}
    assert d.apply(lambda v, k, plus: v * k + plus, 2, plus=1)["n"] == 11
    both = d.concat({"n": 6, "z": 7})
    assert list(both.items())[1:] == [("n", 6), ("z", 7)] and both["a"] is d["a"] and d["n"] == 5
    assert d.copy() is not d and d.copy()["a"] is d["a"]
    twin = copy.deepcopy(d)
    assert torch.equal(twin["a"], d["a"]) and twin["a"] is not d["a"] and twin["n"] == 5
    assert pickle.loads(pickle.dumps(d))["n"] == 5
    with pytest.raises(AttributeError, match="'TensorDict' object has no attribute 'pool_stride'"):
        d.pool_stride

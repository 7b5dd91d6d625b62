"""The regression losses at one position, for every kernel that needs them.

They are the losses of ``regression_loss`` (its docstrings have the formulas): error e = p − y, forms numbered as
there. At |e| = threshold the truncated loss counts the position as easy; at e = 0 every loss has value and
gradient 0; a NaN stays a NaN.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["FORMS", "loss_at", "position_weight"]

FORMS = ("truncated", "shrinkage_modified", "shrinkage_original", "focal", "square")

_TRUNCATED = tl.constexpr(0)
_SHRINKAGE_MODIFIED = tl.constexpr(1)
_SHRINKAGE_ORIGINAL = tl.constexpr(2)
_FOCAL = tl.constexpr(3)


@triton.jit
def _bounded_exp(x):
    """exp(x), saturated at exp(±87) instead of reaching 0 or infinity; NaN stays NaN."""
    x = tl.where(x > 87.0, 87.0, x)
    return tl.exp(tl.where(x < -87.0, -87.0, x))


@triton.jit
def position_weight(target, a, FORM: tl.constexpr):
    """What multiplies e² at a position by its label alone: exp(2ay) truncated, exp(y) shrinkage, else 1."""
    if FORM == _TRUNCATED:
        return _bounded_exp(2.0 * a * target)
    elif FORM <= _SHRINKAGE_ORIGINAL:  # both shrinkage forms
        return _bounded_exp(target)
    else:
        return target * 0.0 + 1.0


@triton.jit
def loss_at(prediction, target, a, c, FORM: tl.constexpr):
    """(value, ∂value/∂prediction) of float32 blocks; ``c`` is the threshold of the truncated loss."""
    e = prediction - target
    size = tl.abs(e)
    weight = position_weight(target, a, FORM)
    if FORM == _TRUNCATED:
        kept = tl.where(size <= c, 0.0, e)
        return weight * kept * kept, 2.0 * weight * kept
    elif FORM <= _SHRINKAGE_ORIGINAL:
        # s = 1/(1 + t), t = exp(a(c − l)), 1 − s = t·s; t is bounded, so t·s stays finite.
        # d/dp e²s = 2es + e²·a·(dl/de)·s(1 − s), and e·dl/de = |e| for l = |e|, e for l = e.
        ratio = size if FORM == _SHRINKAGE_MODIFIED else e
        t = _bounded_exp(a * (c - ratio))
        s = 1.0 / (1.0 + t)
        base = weight * e * s
        return base * e, base * (2.0 + a * ratio * (t * s))
    elif FORM == _FOCAL:
        return size * size * size, 3.0 * size * e
    else:
        return e * e, 2.0 * e

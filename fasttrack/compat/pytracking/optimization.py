"""``pytracking.libs.optimization``: conjugate gradients, Gauss–Newton, Newton and gradient descent.

Variables are tensors or TensorLists, changed in place. Nothing here asks the device for a number while it runs, unless
``debug`` or a stop by ``cg_eps`` wants one.
"""

from fasttrack.compat.pytracking._conjugate_gradient import ConjugateGradientBase, L2Problem, MinimizationProblem
from fasttrack.compat.pytracking._descent import GradientDescent, GradientDescentL2
from fasttrack.compat.pytracking._gauss_newton import ConjugateGradient, GaussNewtonCG
from fasttrack.compat.pytracking._newton import NewtonCG

__all__ = [
    "ConjugateGradient",
    "ConjugateGradientBase",
    "GaussNewtonCG",
    "GradientDescent",
    "GradientDescentL2",
    "L2Problem",
    "MinimizationProblem",
    "NewtonCG",
]

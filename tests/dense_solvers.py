"""Conjugate gradients and Gauss–Newton with dense matrices and plain numbers, in float64."""

import torch


class DenseCG:
    """The steps of preconditioned conjugate gradients, number by number; ``blocks`` have scalars of their own."""

    def __init__(self, blocks, fletcher_reeves=True, standard_alpha=True, forget=0.0):
        self.blocks, self.fletcher_reeves, self.standard_alpha, self.forget = (
            blocks,
            fletcher_reeves,
            standard_alpha,
            forget,
        )
        self.p = self.rho = self.last = None

    def dots(self, a, b):
        return [float(a[block] @ b[block]) for block in self.blocks]

    def times(self, scalars, v):
        out = torch.zeros_like(v)
        for scalar, block in zip(scalars, self.blocks, strict=True):
            out[block] = scalar * v[block]
        return out

    def run(self, A, b, steps, x, M=None):
        """``steps`` steps from x; M stands for the inverse of A."""
        if self.forget == 0:
            self.p = self.rho = None
        elif self.p is not None:
            self.rho = [rho / self.forget for rho in self.rho]
        r, norms = b - A @ x, []
        norms.append(float(r.norm()))
        for _ in range(steps):
            z = r if M is None else M @ r
            rho = self.dots(r, z)
            if self.p is None:
                self.p = z
            else:
                gone = [0.0] * len(rho) if self.fletcher_reeves else self.dots(self.last, z)
                beta = [(new - old) / before for new, old, before in zip(rho, gone, self.rho, strict=True)]
                self.p = z + self.times([max(0.0, value) for value in beta], self.p)
            self.rho, self.last, q = rho, r, A @ self.p
            above = rho if self.standard_alpha else self.dots(self.p, r)
            alpha = [a / c for a, c in zip(above, self.dots(self.p, q), strict=True)]
            x, r = x + self.times(alpha, self.p), r - self.times(alpha, q)
            norms.append(float(r.norm()))
        return x, norms


def jacobian(function, x):
    """The residuals at x and their Jacobian, row by row."""
    x = x.detach().requires_grad_()
    residuals = function(x)
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in residuals]
    return residuals.detach(), torch.stack(rows)

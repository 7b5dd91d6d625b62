"""One frame of a correlation-filter tracker: detection at all scales, then training on one map.

plain: full complex FFTs, one map after the other. rfft: the fastest PyTorch form known: half spectra of all scales
in one call, sums over channels as real matrix products where that wins. Run on one thread.
"""

import pytest
import torch

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.correlation_filter import SPECS, detect, train

ROWS = [
    pytest.param(spec.cases[0].make()["kernel"], case, id=f"{spec.cases[0].make()['kernel']}-{case.name}")
    for spec in SPECS
    for case in spec.cases
    if case.bench
]
BOUND = {"linear": Tolerance(3e-5, 3e-5), "gaussian": Tolerance(1e-3, 1e-3)}


class Plain:
    """What a user writes: fft2, conj, sum over channels, ifft2."""

    def __init__(self, model, lam, kernel, sigma, label, window):
        self.template, self.b = model
        self.lam, self.kernel, self.sigma, self.window = lam, kernel, sigma, window
        self.label = torch.fft.fft2(label)

    def products(self, a, b):
        return (a.conj() * b).sum(0)

    def values(self, products, energy, count):
        distance = (energy - 2 * torch.fft.ifft2(products).real).clamp(min=0)
        return torch.fft.fft2(torch.exp(-distance / (self.sigma**2 * count)))

    def detect(self, search):
        out = []
        for z in search:
            z = z * self.window
            products = self.products(self.template, torch.fft.fft2(z))
            if self.kernel == "linear":
                out.append(torch.fft.ifft2(products / self.b).real)
                continue
            x = torch.fft.ifft2(self.template).real
            k = self.values(products, x.square().sum() + z.square().sum(), z.numel())
            out.append(torch.fft.ifft2(k * self.b).real)
        return torch.stack(out)

    def train(self, x):
        x = x * self.window
        f = torch.fft.fft2(x)
        power = self.products(f, f)
        if self.kernel == "linear":
            scale = 1 / x.numel()
            return scale * f * self.label.conj(), scale * power.real + self.lam
        return f, self.label / (self.values(power, 2 * x.square().sum(), x.numel()) + self.lam)

    def whole(self, spectrum, height, width):
        """A model of the half spectra with swapped axes as one of full spectra."""
        full = torch.empty(*spectrum.shape[:-2], height, width, dtype=spectrum.dtype)
        rows = spectrum.transpose(-1, -2)
        full[..., : rows.shape[-2], :] = rows
        rest = torch.arange(rows.shape[-2], height)
        mirror = (-torch.arange(width)) % width
        image = rows[..., height - rest, :][..., mirror]
        full[..., rest, :] = image.conj() if image.is_complex() else image
        return full

    def frame(self, x, search):
        return self.detect(search), self.train(x)


class Rfft(Plain):
    """Half spectra; the window is multiplied once for all scales, products are summed without temporaries."""

    def __init__(self, model, lam, kernel, sigma, label, window):
        super().__init__(model, lam, kernel, sigma, label, window)
        self.label = torch.fft.rfft2(label)
        self.height, self.width = label.shape
        self.weight = torch.full((self.width // 2 + 1,), 2.0)
        self.weight[0] = 1
        if self.width % 2 == 0:
            self.weight[-1] = 1

    def whole(self, spectrum, height, width):
        return super().whole(spectrum, height, width)[..., : width // 2 + 1].contiguous()

    def values(self, products, energy, count):
        distance = energy - 2 * torch.fft.irfft2(products, s=(self.height, self.width))
        return torch.fft.rfft2(distance.clamp_(min=0).mul_(-1 / (self.sigma**2 * count)).exp_())

    def energy(self, spectra):
        pairs = torch.view_as_real(spectra)
        return (pairs.square().sum((-4, -3, -1)) @ self.weight).div(self.height * self.width)

    def detect(self, search):
        z = torch.fft.rfft2(search * self.window)
        products = torch.einsum("chw,schw->shw", self.template.conj(), z)
        if self.kernel == "linear":
            return torch.fft.irfft2(products.div_(self.b), s=(self.height, self.width))
        energy = self.energy(self.template) + self.energy(z)
        k = self.values(products, energy[:, None, None], self.template.shape[0] * self.height * self.width)
        return torch.fft.irfft2(k.mul_(self.b), s=(self.height, self.width))

    def train(self, x):
        f = torch.fft.rfft2(x * self.window)
        power = torch.view_as_real(f).square().sum((0, 3))
        if self.kernel == "linear":
            scale = 1 / x.numel()
            return f.mul_(scale * self.label.conj()), power.mul_(scale).add_(self.lam)
        energy = 2 * (power @ self.weight).sum() / (self.height * self.width)
        k = self.values(torch.complex(power, torch.zeros_like(power)), energy, x.numel())
        return f, self.label / (k + self.lam)


class Ours:
    def __init__(self, model, lam, kernel, sigma, label, window, backend):
        self.model, self.label, self.window, self.backend = model, label, window, backend
        self.options = lam, kernel, sigma

    def frame(self, x, search):
        response = ops.cf_detect(self.model, search, self.window, backend=self.backend)
        model = ops.cf_train(x, self.label, *self.options, self.window, backend=self.backend)
        return response, (model.template, model.coefficients)


def sides(arguments):
    """Side → one frame's function, and the truth of what it returns (response, denominator or dual variables)."""
    x, y, search, window = (arguments[n] for n in ("features", "label", "search", "window"))
    options = arguments["lam"], arguments["kernel"], arguments.get("sigma", 0.5)
    wide = [t.double() for t in (x, y, search, window)]
    template, b = train((wide[0] * wide[3])[None], wide[1][None], *options)
    response = detect(template, b, (wide[2] * wide[3])[None], *options[1:])[0]
    ready = ops.cf_train(x, y, *options, window)
    made = {"cpu": Ours(ready, *options, y, window, "cpu")}
    for name, side in (("plain", Plain), ("rfft", Rfft)):
        made[name] = side((ready.template, ready.coefficients), *options, y, window)
        made[name].template, made[name].b = (
            made[name].whole(t, *y.shape) for t in (ready.template, ready.coefficients)
        )
    truth = {"cpu": b[0], "plain": made["plain"].whole(b[0], *y.shape), "rfft": made["rfft"].whole(b[0], *y.shape)}
    return {name: lambda s=side: s.frame(x, search) for name, side in made.items()}, response, truth


@pytest.mark.parametrize("side", ["plain", "rfft", "cpu"])
@pytest.mark.parametrize(("kernel", "case"), ROWS)
def test_frame(benchmark, kernel, case, side):
    functions, response, truth = sides(case.make())
    got, (_, b) = functions[side]()
    assert BOUND[kernel].admits(got, response), "the response to be timed is wrong"
    assert BOUND[kernel].admits(
        *(
            torch.view_as_real(torch.complex(t, torch.zeros_like(t)) if not t.is_complex() else t)
            for t in (b, truth[side])
        )
    ), "the model to be timed is wrong"
    benchmark.group = f"correlation_filter {kernel} {case.name}"
    benchmark.extra_info["side"] = side
    benchmark(functions[side])

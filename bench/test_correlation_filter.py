"""One frame of a correlation-filter tracker: detection at all scales, then training on one map.

plain: full complex FFTs, one map after the other. rfft: the fastest PyTorch form known: half spectra of all scales
in one call, the model's conjugate kept (an einsum takes two to four times as long as product and sum), energies by
products of BLAS, on the maps where they are at hand; windowed maps and products in memory that is used again.
"""

import pytest
import torch
from sides import OURS, make

from fasttrack import ops
from fasttrack.spec.base import Tolerance
from fasttrack.spec.correlation_filter import KERNELS, SPECS, detect, train

ROWS = [
    pytest.param(spec, kernel, case, id=f"{kernel}-{case.name}")
    for spec, kernel in zip(SPECS[:2], KERNELS, strict=True)
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
        full = spectrum.new_empty(*spectrum.shape[:-2], height, width)
        rows = spectrum.transpose(-1, -2)
        full[..., : rows.shape[-2], :] = rows
        rest = torch.arange(rows.shape[-2], height, device=rows.device)
        mirror = (-torch.arange(width, device=rows.device)) % width
        image = rows[..., height - rest, :][..., mirror]
        full[..., rest, :] = image.conj() if image.is_complex() else image
        return full

    def frame(self, x, search):
        return self.detect(search), self.train(x)


class Rfft(Plain):
    """Half spectra of all scales at once; in-place arithmetic where autograd is not in the way."""

    def __init__(self, model, lam, kernel, sigma, label, window):
        super().__init__(model, lam, kernel, sigma, label, window)
        self.label = torch.fft.rfft2(label)
        self.height, self.width = label.shape
        self.seen = torch.empty(0, device=label.device)  # windowed search maps

    def whole(self, spectrum, height, width):
        return super().whole(spectrum, height, width)[..., : width // 2 + 1].contiguous()

    def values(self, products, energy, count):
        distance = energy - 2 * torch.fft.irfft2(products, s=(self.height, self.width))
        return torch.fft.rfft2(distance.clamp_(min=0).mul_(-1 / (self.sigma**2 * count)).exp_())

    def template_energy(self):
        """By Parseval: every bin counts twice but those of the columns that are their own mirror."""
        own = [self.conj[..., 0], *([self.conj[..., -1]] if self.width % 2 == 0 else [])]
        whole = torch.view_as_real(self.conj).flatten()
        once = sum(torch.view_as_real(column).square().sum() for column in own)
        return (2 * torch.dot(whole, whole) - once) / (self.height * self.width)

    def detect(self, search):
        if self.seen.shape != search.shape:
            self.seen = torch.empty_like(search)
        maps = torch.mul(search, self.window, out=self.seen)
        products = torch.fft.rfft2(maps).mul_(self.conj).sum(1)
        if self.kernel == "linear":
            return torch.fft.irfft2(products.div_(self.b), s=(self.height, self.width))
        energy = self.template_energy() + torch.stack([torch.dot(z, z) for z in maps.flatten(1)])
        k = self.values(products, energy[:, None, None], self.template.shape[0] * self.height * self.width)
        return torch.fft.irfft2(k.mul_(self.b), s=(self.height, self.width))

    def train(self, x):
        x = x * self.window
        f = torch.fft.rfft2(x)
        power = torch.view_as_real(f).square().sum(0).sum(-1)
        if self.kernel == "linear":
            scale = 1 / x.numel()
            return f.mul_(scale * self.label.conj()), power.mul_(scale).add_(self.lam)
        energy = 2 * torch.dot(x.flatten(), x.flatten())
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
    ready = ops.cf_train(x, y, *options, window, backend="reference")
    made = {name: Ours(ready, *options, y, window, name) for name in OURS}
    for name, side in (("plain", Plain), ("rfft", Rfft)):
        made[name] = side((ready.template, ready.coefficients), *options, y, window)
        made[name].template, made[name].b = (
            made[name].whole(t, *y.shape) for t in (ready.template, ready.coefficients)
        )
    made["rfft"].conj = made["rfft"].template.conj().resolve_conj()
    truth = {
        **dict.fromkeys(OURS, b[0]),
        "plain": made["plain"].whole(b[0], *y.shape),
        "rfft": made["rfft"].whole(b[0], *y.shape),
    }
    return {name: lambda s=side: s.frame(x, search) for name, side in made.items()}, response, truth


@pytest.mark.parametrize("side", ["plain", "rfft", *OURS])
@pytest.mark.parametrize(("spec", "kernel", "case"), ROWS)
def test_frame(benchmark, spec, kernel, case, side):
    arguments = make(case)
    functions, response, truth = sides(arguments)
    got, (_, b) = functions[side]()
    assert BOUND[kernel].admits(got, response), "the response to be timed is wrong"
    assert BOUND[kernel].admits(
        *(
            torch.view_as_real(torch.complex(t, torch.zeros_like(t)) if not t.is_complex() else t)
            for t in (b, truth[side])
        )
    ), "the model to be timed is wrong"
    benchmark.group = f"correlation_filter {kernel} {case.name}"
    cost = spec.cost(arguments)
    benchmark.extra_info.update(side=side, flops=cost.flops, bytes=cost.bytes)
    benchmark(functions[side])


LEARNT = [
    pytest.param(spec, kernel, case, id=f"learnt-{kernel}-{case.name}")
    for spec, kernel in zip(SPECS[2:], KERNELS, strict=True)
    for case in spec.cases
    if case.bench
]


def learning(arguments):
    """Side → one more frame learnt by a filter of one target, which keeps moving, and the filter it learns into."""
    x, y, newer, window, rate = (arguments[n] for n in ("features", "label", "newer", "window", "rate"))
    options = arguments["lam"], arguments["kernel"], arguments["sigma"]
    made = {}
    for name in OURS:
        model = ops.cf_train(x, y, *options, window, backend=name)
        state = [model.template, model.coefficients]
        made[name] = (
            lambda m=model, b=name: ops.cf_learn_(m, newer, y, rate, options[0], window, backend=b),
            state,
        )
    for name, side in (("plain", Plain), ("rfft", Rfft)):
        own = side((None, None), *options, y, window)
        state = [*own.train(x[0])]

        def learn(own=own, state=state):
            for old, fresh in zip(state, own.train(newer[0]), strict=True):
                old.lerp_(fresh, rate)

        made[name] = (learn, state)
    return made


@pytest.mark.parametrize("side", ["plain", "rfft", *OURS])
@pytest.mark.parametrize(("spec", "kernel", "case"), LEARNT)
def test_learning(benchmark, spec, kernel, case, side):
    arguments = make(case)
    learn, state = learning(arguments)[side]
    learn()
    x, y, newer, window = (arguments[n].double() for n in ("features", "label", "newer", "window"))
    options = arguments["lam"], arguments["kernel"], arguments["sigma"]
    old, new = (train(maps * window, y[None], *options)[1] for maps in (x, newer))
    wanted, got = torch.lerp(old, new, arguments["rate"])[0], state[1].squeeze(0)
    if side not in OURS:
        own = (Plain if side == "plain" else Rfft)((None, None), *options, y, window)
        wanted = own.whole(wanted, *y.shape)
    assert BOUND[kernel].admits(torch.view_as_real(got + 0j), torch.view_as_real(wanted + 0j)), (
        "what is learnt is wrong"
    )
    benchmark.group = f"correlation_filter learning {kernel} {case.name}"
    benchmark.extra_info.update(side=side)
    benchmark(learn)

"""Windows, labels, interpolation and regularisation against their formulas, one sample at a time."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fasttrack.compat.pytracking import complex as cplx
from fasttrack.compat.pytracking import dcf, fourier
from fasttrack.compat.pytracking.tensorlist import TensorList
from fasttrack.errors import DtypeError, RangeError, ShapeError

SIZES = [1, 2, 5, 8, 31]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def agrees(got, want, tolerance=1e-13):
    """Worst seen: below 1e-14."""
    got, want = torch.as_tensor(got), torch.as_tensor(want, dtype=torch.float64)
    return got.shape == want.shape and got.dtype == torch.float64 and bool((got - want).abs().max() <= tolerance)


def check(got, want, tolerance=1e-13):
    want = torch.as_tensor(want, dtype=torch.float64)
    assert agrees(got, want, tolerance)
    for wrong in (torch.zeros_like(want), 1.001 * want, want.roll(1, -1) if want.shape[-1] > 2 else want + 1e-6):
        assert not agrees(got, wrong, tolerance)


@pytest.mark.parametrize("n", SIZES)
def test_cosine_windows(n):
    check(dcf.hann1d(n), [0.5 * (1 - math.cos(2 * math.pi * j / (n + 1))) for j in range(1, n + 1)])
    half = [0.5 * (1 + math.cos(2 * math.pi * j / (n + 2))) for j in range(n // 2 + 1)]
    check(dcf.hann1d(n, centered=False), (half + half[1 : n - n // 2][::-1])[:n])
    two = dcf.hann2d(torch.tensor([n, 4.0]), False)
    check(two[0, 0], torch.outer(dcf.hann1d(n, False), dcf.hann1d(4, False)))
    assert two.shape == (1, 1, n, 4)
    assert dcf.hann1d(3).tolist() == pytest.approx([0.5, 1, 0.5]), "by hand"
    assert dcf.hann1d(4, False).tolist() == pytest.approx([1, 0.75, 0.25, 0.75]), "by hand"


@pytest.mark.parametrize(
    ("size", "effective"), [((9, 8), (5, 4)), ((9, 8), (4, 5)), ((5, 6), (9, 10)), ((7, 7), (7, 7))]
)
def test_clipped_windows(size, effective):
    want = np.empty(size)
    inner = [m + (m - n) % 2 for n, m in zip(size, effective, strict=True)]
    for y in range(size[0]):
        for x in range(size[1]):
            want[y, x] = 1
            for place, n, m in zip((y, x), size, inner, strict=True):
                j = min(max(place - (n - m) // 2, 0), m - 1) + 1
                want[y, x] *= 0.5 * (1 - math.cos(2 * math.pi * j / (m + 1)))
    whole, part = torch.tensor(size), torch.tensor(effective)
    check(dcf.hann2d_clipped(whole, part)[0, 0], want)
    assert part.tolist() == list(effective), "the argument is not changed"
    swapped = np.roll(want, (-(size[0] // 2), -(size[1] // 2)), (0, 1))
    check(dcf.hann2d_clipped(whole, part.double() + 0.3, centered=False)[0, 0], swapped)


@pytest.mark.parametrize("n", [*SIZES, 30])
@pytest.mark.parametrize("sigma", [0.5, 2.25])
def test_gaussians_and_labels(n, sigma):
    k = range(-((n - 1) // 2), n // 2 + 1)
    want = [math.sqrt(2 * math.pi) * sigma / n * math.exp(-2 * (math.pi * sigma * i / n) ** 2) for i in k]
    got = dcf.gauss_fourier(n, sigma)
    assert agrees(got, want) and not agrees(got, [1.001 * v for v in want])
    assert agrees(dcf.gauss_fourier(n, sigma, half=True), want[(n - 1) // 2 :])
    for center, pad in ((0, 0), (0.75, 1), (-1.5, 0)):
        want = [math.exp(-(((j - (n - 1) / 2) - center) ** 2) / (2 * sigma**2)) for j in range(n + pad)]
        got = dcf.gauss_spatial(n, sigma, center, pad)
        assert agrees(got, want) and not agrees(got, [v + 1e-6 for v in want])
    sz, widths = torch.tensor([n, 7.0]), torch.tensor([sigma, 1.5])
    label = dcf.label_function(sz, widths)
    assert agrees(label[0, 0], torch.outer(dcf.gauss_fourier(n, sigma), dcf.gauss_fourier(7, 1.5, True)))
    scores = dcf.label_function_spatial(sz, widths, torch.tensor([0.5, -1.0]), torch.tensor([1, 0]))
    assert agrees(scores[0, 0], torch.outer(dcf.gauss_spatial(n, sigma, 0.5, 1), dcf.gauss_spatial(7, 1.5, -1.0)))
    plain = dcf.label_function_spatial(sz, widths)
    assert plain.shape == (1, 1, n, 7) and agrees(plain, plain.flip((2, 3))), "about the middle"


def test_the_label_is_the_gaussian_summed_over_its_periods():
    """Poisson: the samples of the series are Σ_m exp(−(x + mn)²/2σ²)."""
    n, sigma = 15, 2.5
    scores = fourier.sample_fs(torch.view_as_real(dcf.label_function((n, n), (sigma, sigma)) + 0j))[0, 0]
    periodic = [sum(math.exp(-((x + m * n) ** 2) / (2 * sigma**2)) for m in range(-3, 4)) for x in range(n)]
    want = torch.outer(torch.tensor(periodic), torch.tensor(periodic))
    check(scores, want)


def test_a_gradient_reaches_the_centre():
    center = torch.tensor([0.3, -0.2], requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: dcf.label_function_spatial((5, 4), (1.0, 2.0), c), center)


def keys(x, a):
    """The cubic interpolation kernel."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x <= 2 else 0.0


@pytest.mark.parametrize("a", [-0.5, -0.75, 0.5])
def test_transform_of_the_cubic_kernel_is_its_integral(a):
    f = torch.tensor([0, 1e-6, 9e-4, 1.1e-3, 0.01, 0.3, -0.3, 0.5, 1.7])
    nodes, weights = np.polynomial.legendre.leggauss(60)
    pieces = [(nodes / 2 + 0.5 + left, weights / 2) for left in range(-2, 2)]
    want = [
        sum(w * keys(x, a) * math.cos(2 * math.pi * v * x) for xs, ws in pieces for x, w in zip(xs, ws, strict=True))
        for v in f.tolist()
    ]
    check(dcf.cubic_spline_fourier(f, a), want, 1e-10)  # worst seen: 4e-11
    assert dcf.cubic_spline_fourier(f[:1], a).item() == 1
    assert torch.autograd.gradcheck(lambda f: dcf.cubic_spline_fourier(f, a), f[4:].clone().requires_grad_())
    single = dcf.cubic_spline_fourier(f.float(), a)
    assert single.dtype == torch.float32 and (single - torch.tensor(want)).abs().max() < 2e-7  # worst seen: 5e-8
    slope = torch.zeros(1, requires_grad=True)
    dcf.cubic_spline_fourier(slope, a).backward()
    assert slope.grad.item() == 0, "no NaN at 0"


@pytest.mark.parametrize("size", [(5, 7), (4, 6), (3, 3)])
@pytest.mark.parametrize("method", ["ideal", "bicubic"])
@pytest.mark.parametrize("centering", [True, False])
def test_interpolation_coefficients(size, method, centering):
    factors = dcf.get_interp_fourier(torch.tensor(size).double(), method, -0.75, centering)
    for factor, k, n in zip(factors, fourier.get_frequency_coord(size), size, strict=True):
        f = k.double() / n
        want = (dcf.cubic_spline_fourier(f, -0.75) if method == "bicubic" else torch.ones_like(f)) / n
        if centering:
            want = torch.view_as_real(want * torch.exp(-1j * math.pi * f))
        assert agrees(factor, want) and not agrees(factor, want + 1e-6)


@pytest.mark.parametrize("method", ["ideal", "bicubic"])
@pytest.mark.parametrize("layout", ["trailing", "native"])
@pytest.mark.parametrize("width", [7, 3])
def test_interpolated_samples_pass_through_the_samples(method, layout, width):
    """Both kernels are 1 at 0 and 0 at the other samples, so the series at the cells' centres is the map itself."""
    x = torch.randn(2, 3, 5, width, generator=torch.Generator().manual_seed(0))
    a = fourier.cfft2(x)
    a = torch.view_as_complex(a) if layout == "native" else a
    series = dcf.interpolate_dft(a, dcf.get_interp_fourier((5, width), method, -0.5, centering=False))
    assert series.shape == a.shape and series.dtype == a.dtype
    if method == "ideal":
        assert agrees(fourier.sample_fs(series), x) and not agrees(fourier.sample_fs(series), 1.001 * x)
    centred = dcf.interpolate_dft(a, dcf.get_interp_fourier((5, width), method, -0.5))
    back = fourier.shift_fs(centred, (math.pi / 5, math.pi / width))
    assert agrees(
        torch.view_as_real(back) if layout == "native" else back,
        torch.view_as_real(series + 0j) if layout == "native" else series,
    )
    ky, kx = dcf.get_interp_fourier((5, width), method, -0.5)
    in_turn = dcf.interpolate_dft(dcf.interpolate_dft(a, ky), torch.view_as_complex(kx))
    assert torch.allclose(in_turn, centred, rtol=0, atol=1e-14)


def test_cubic_series_is_the_sum_of_its_kernels():
    """The periodic Σ_m x[m]·b(t − m) evaluated at every t of a fine grid, from many frequencies of the spectrum."""
    n, a = 5, -0.5
    x = torch.randn(n, generator=torch.Generator().manual_seed(1))
    k = torch.arange(-400, 401)
    spectrum = torch.exp(-2j * math.pi / n * k[:, None] * torch.arange(n)) @ (x + 0j)
    coefficients = spectrum * dcf.cubic_spline_fourier(k / n, a) / n
    t = torch.arange(0, n, 0.25)
    got = (torch.exp(2j * math.pi / n * t[:, None] * k) @ coefficients).real
    want = [sum(x[m % n].item() * keys(v - m, a) for m in range(-3, n + 3)) for v in t.tolist()]
    check(got, want, 1e-7)  # worst seen: 3e-8, the frequencies left out


def params(**changes):
    values = {
        "use_reg_window": True, "reg_window_min": 1e-4, "reg_window_edge": 10e-3, "reg_window_power": 2,
        "reg_sparsity_threshold": 0.05,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def slow_reg_filter(size, target, p):
    """Every coefficient as a sum over the window, every one of both signs kept."""
    h, w = size
    if getattr(p, "reg_window_square", False):
        target = (math.sqrt(target[0] * target[1]),) * 2

    def where(n):
        low = -((n - 1) // 2)
        around = list(range(low, low + n))
        return around if getattr(p, "reg_window_centered", True) else around[-low:] + around[:-low]

    window = np.array([[p.reg_window_min + (p.reg_window_edge - p.reg_window_min) * (
        abs(2 * y / target[0]) ** p.reg_window_power + abs(2 * x / target[1]) ** p.reg_window_power)
        for x in where(w)] for y in where(h)])  # fmt: skip
    y, x = np.arange(h)[:, None], np.arange(w)

    def wave(k, j):
        return np.exp(2j * np.pi * (k * y / h + j * x / w))

    places = [(k, j) for k in range(-(h // 2), h // 2 + 1) for j in range(w // 2 + 1)]
    dft = {place: (window * wave(*place).conj()).mean() for place in places}
    peak = max(abs(v) for v in dft.values())
    dft = {place: v for place, v in dft.items() if abs(v) >= p.reg_sparsity_threshold * peak}
    space = np.zeros(size)
    for (k, j), v in dft.items():
        if k != -h / 2:  # the highest frequency of an even size is its own negative
            space += (1 if j in (0, w / 2) else 2) * (v * wave(k, j)).real
    dft[0, 0] += p.reg_window_min - space.min()
    rows, columns = (max(indices) for indices in zip(*dft, strict=True))
    out = np.zeros((2 * rows + 1, 2 * columns + 1))
    for (k, j), v in dft.items():
        out[rows + k, columns + j] = v.real
        out[rows - k, columns - j] = v.real
    return out


@pytest.mark.parametrize("size", [(21, 21), (24, 17), (25, 24)])
@pytest.mark.parametrize(
    "changes", [{}, {"reg_window_centered": False}, {"reg_window_square": True}, {"reg_sparsity_threshold": 0.3}]
)
def test_regularisation_filter_is_the_sparse_spectrum_of_its_window(size, changes):
    p = params(**changes)
    got = dcf.get_reg_filter(torch.tensor(size).double(), torch.tensor([6.0, 9.0]), p)
    want = slow_reg_filter(size, (6, 9), p)
    assert got.shape[:2] == (1, 1) and agrees(got[0, 0], want) and not agrees(got[0, 0], 1.001 * want)
    assert 1 < got.numel() < size[0] * size[1], "fewer coefficients than pixels"


def test_regularisation_filter_without_a_window_is_one_number():
    got = dcf.get_reg_filter((9, 9), (3, 3), params(use_reg_window=False, reg_window_min=0.25))
    assert got.shape == (1, 1, 1, 1) and got.item() == 0.25


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5), (2, 1, 1, 1)])
def test_max2d_is_the_largest_of_all(shape):
    a = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    value, place = dcf.max2d(a)
    assert value.shape == shape[:-2] and place.shape == (*shape[:-2], 2) and place.dtype == torch.int64
    for index in np.ndindex(*shape[:-2]):
        row, column = np.unravel_index(a[index].numpy().argmax(), shape[-2:])
        assert value[index] == a[index][row, column] and place[index].tolist() == [row, column]
    tied = torch.tensor([[1.0, 5, 2], [5, 3, 1], [5, 0, 0]])
    assert dcf.max2d(tied)[1].tolist() == [1, 0], "the first column, there the first row"


@pytest.mark.parametrize("layout", ["trailing", "native"])
@pytest.mark.parametrize("sizes", [((15, 17), (9, 11)), ((16, 18), (8, 10))])
def test_a_filter_of_these_functions_finds_a_shift(sizes, layout):
    """The ridge regression h = ȳ·x/(Σ|x|² + λ) per resolution, and its scores on a grid four times as fine."""
    generator = torch.Generator().manual_seed(2)
    scene = torch.randn(1, 4, 6, 6, generator=generator)

    def spectra(shift_y, shift_x):
        """Of one smooth scene sampled at two resolutions, moved by parts of the period."""
        series = fourier.cfft2(torch.nn.functional.pad(scene, (0, 1, 0, 1)))
        moved = fourier.shift_fs(series, (-2 * math.pi * shift_y, -2 * math.pi * shift_x))
        maps = TensorList([fourier.sample_fs(moved, size) for size in sizes])
        xf = fourier.cfft2(maps) / (maps.size(2) * maps.size(3))
        return xf if layout == "trailing" else xf.apply(torch.view_as_complex)

    odd = TensorList([torch.tensor(size) // 2 * 2 + 1 for size in sizes])
    yf = TensorList([dcf.label_function(size, size / 16) for size in odd])
    xf = spectra(0, 0)
    energy = cplx.abs_sqr(xf).sum(1, keepdim=True) + 1e-6
    filters = cplx.div(cplx.mult(yf, cplx.conj(xf)), energy)
    scores = cplx.mult(filters, spectra(3 / 15, -2 / 17)).sum(1, keepdim=True)
    grid = fourier.sample_fs(fourier.sum_fs(scores), (60, 68))
    assert dcf.max2d(grid)[1].flatten().tolist() == [12, 60]
    at_rest = fourier.sample_fs(fourier.sum_fs(cplx.mult(filters, xf).sum(1, keepdim=True)), (60, 68))
    assert dcf.max2d(at_rest)[1].flatten().tolist() == [0, 0]


def test_default_precision_is_single():
    torch.set_default_dtype(torch.float32)
    for made in (
        dcf.hann2d((5, 4)), dcf.hann2d_clipped((5, 4), (3, 2)), dcf.gauss_spatial(5, 1.0), dcf.gauss_fourier(5, 1.0),
        dcf.get_interp_fourier((5, 5))[0], dcf.get_reg_filter((9, 9), (3, 3), params()),
    ):  # fmt: skip
        assert made.dtype == torch.float32


def test_wrong_arguments_are_refused():
    with pytest.raises(ShapeError, match=r"hann2d: sz must be two sizes, \(height, width\), got 5"):
        dcf.hann2d(5)
    with pytest.raises(ShapeError, match=r"label_function: sigma must be two numbers, \(y, x\), got \[1.0\]"):
        dcf.label_function((5, 5), [1.0])
    with pytest.raises(RangeError, match="get_interp_fourier: method must be 'ideal' or 'bicubic', got 'linear'"):
        dcf.get_interp_fourier((5, 5), "linear")
    with pytest.raises(RangeError, match="get_interp_fourier: windowing must be False, got True"):
        dcf.get_interp_fourier((5, 5), windowing=True)
    with pytest.raises(ShapeError, match=r"interpolate_dft: a must be a half spectrum, .* got shape \(1, 1, 5, 5\)"):
        dcf.interpolate_dft(torch.zeros(1, 1, 5, 5), torch.zeros(1))
    with pytest.raises(DtypeError, match="interpolate_dft: interp_fs must be a tensor or a pair of tensors, got float"):
        dcf.interpolate_dft(torch.zeros(1, 1, 5, 5, 2), 1.0)
    with pytest.raises(ShapeError, match=r"max2d: a must be of at least 2 dimensions, got shape \(3,\)"):
        dcf.max2d(torch.zeros(3))

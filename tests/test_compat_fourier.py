"""Complex arithmetic and Fourier series against NumPy and sums over frequencies, in both layouts, odd and even."""

import numpy as np
import pytest
import torch

from fasttrack.compat.pytracking import complex as cplx
from fasttrack.compat.pytracking import fourier
from fasttrack.compat.pytracking.tensorlist import TensorList
from fasttrack.errors import ArgumentError, DtypeError, RangeError, ShapeError

LAYOUTS = {"trailing": torch.view_as_real, "native": lambda z: z}


def random(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def native(a):
    return a if a.is_complex() else torch.complex(a[..., 0], a[..., 1])


def agrees(got, want, tolerance=1e-13):
    """Worst seen: below 4e-15 in float64."""
    got, want = torch.as_tensor(got), torch.as_tensor(want)
    return got.shape == want.shape and bool((got - want).abs().max() <= tolerance * want.abs().max())


def check(got, want, layout, tolerance=1e-13):
    assert got.is_complex() == (layout == "native") and got.dtype in (torch.float64, torch.complex128)
    assert agrees(native(got), want, tolerance)
    for wrong in (torch.zeros_like(want), want.roll(1, -1), 1.001 * want, want.conj()):
        assert not agrees(native(got), wrong, tolerance)


PRODUCTS = {
    "mult": lambda a, b: a * b,
    "mult_conj": lambda a, b: a * np.conj(b),
    "div": lambda a, b: a / b,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_pointwise_products_are_those_of_numpy(name, layout):
    a, b, r = random(2, 3, 4, 5), random(3, 1, 5, seed=1), random(4, 5, seed=2, dtype=torch.float64)
    b = b[None]
    to, op = LAYOUTS[layout], getattr(cplx, name)
    truth = PRODUCTS[name]
    check(op(to(a), to(b)), torch.tensor(truth(a.numpy(), b.numpy())), layout)
    check(op(to(a), r), torch.tensor(truth(a.numpy(), r.numpy())), layout)
    check(op(r, to(a)), torch.tensor(truth(r.numpy(), a.numpy())), layout)
    listed = op(TensorList([to(a), to(b)]), r)
    assert type(listed) is TensorList and torch.equal(listed[0], op(to(a), r))
    for operands in ((to(a), to(b)), (to(a), r), (r, to(a))):
        leaves = [x.clone().requires_grad_() for x in operands]
        assert torch.autograd.gradcheck(lambda *x: native(op(*x)), leaves, fast_mode=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("conj_a", "conj_b"), [(False, False), (True, False), (False, True), (True, True)])
def test_matrix_products_are_sums_of_products(conj_a, conj_b, layout):
    a, b = random(2, 3, 4), random(2, 4, 5, seed=1)
    a, b = a[None], b[None]
    to = LAYOUTS[layout]
    kinds = {"cc": (a, b), "rc": (a.real.contiguous(), b), "cr": (a, b[0, 0].real.contiguous())}
    for kind, (left, right) in kinds.items():
        x, y = (p.conj() if conj else p for p, conj in ((left, conj_a), (right, conj_b)))
        want = torch.einsum("...mk,...kn->...mn", x.to(a.dtype), y.to(a.dtype)).resolve_conj()
        operands = [to(p) if p.is_complex() else p for p in (left, right)]
        check(cplx.mtimes(*operands, conj_a=conj_a, conj_b=conj_b), want, layout)
        leaves = [x.clone().requires_grad_() for x in operands]
        product = lambda p, q: native(cplx.mtimes(p, q, conj_a, conj_b))  # noqa: E731
        assert torch.autograd.gradcheck(product, leaves, fast_mode=True), kind
    few = cplx.mtimes_real_complex(kinds["rc"][0], to(b)[..., :0, :] if layout == "trailing" else b[..., :0])
    assert native(few).shape == (1, 2, 3, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_and_sizes(layout):
    z = random(2, 3, 4, 5)
    a = LAYOUTS[layout](z)
    assert torch.equal(native(cplx.conj(a)), z.conj()) and cplx.conj(a).is_complex() == a.is_complex()
    assert torch.equal(cplx.real(a), z.real) and torch.equal(cplx.imag(a), z.imag)
    assert torch.equal(cplx.imag(cplx.conj(a)), -z.imag)
    assert agrees(cplx.abs_sqr(a), torch.tensor(np.abs(z.numpy()) ** 2)) and agrees(cplx.abs(a), z.abs())
    assert not agrees(cplx.abs_sqr(a), z.abs()) and not agrees(cplx.abs(a), 1.001 * z.abs())
    for name in ("conj", "abs", "abs_sqr", "real", "imag"):
        op = getattr(cplx, name)
        assert torch.autograd.gradcheck(lambda x, op=op: op(x) + 0, a.clone().requires_grad_(), fast_mode=True), name
    zero = torch.zeros_like(a).requires_grad_()
    cplx.abs(zero).sum().backward()
    assert torch.equal(zero.grad, torch.zeros_like(zero)), "no NaN at 0"


def test_hand_computed_values():
    a = torch.tensor([3.0, 4.0]).expand(1, 1, 1, 2)
    b = torch.tensor([1.0, -2.0]).expand(1, 1, 1, 2)
    for op, want in (("mult", (11, -2)), ("mult_conj", (-5, 10)), ("div", (-1, 2))):
        assert torch.allclose(getattr(cplx, op)(a, b), torch.tensor([[[want]]]).float()), op
    assert cplx.abs(a).item() == 5 and cplx.abs_sqr(a).item() == 25
    assert cplx.conj(a).flatten().tolist() == [3, -4]
    assert torch.allclose(cplx.exp_imag(torch.tensor([0.0, torch.pi / 2])), torch.eye(2), atol=1e-7)
    one = torch.ones(2)
    assert cplx.complex(one).tolist() == [[1, 0], [1, 0]] and cplx.complex(None, one).tolist() == [[0, 1], [0, 1]]
    assert cplx.complex(one, 2 * one).tolist() == [[1, 2], [1, 2]]
    pair = cplx.complex(TensorList([one, one]), TensorList([one, -one]))
    assert pair[1].tolist() == [[1, -1], [1, -1]]


def test_what_counts_as_complex():
    assert cplx.is_complex(torch.zeros(1, 1, 1, 2)) and not cplx.is_complex(torch.zeros(1, 1, 2))
    assert cplx.is_real(torch.zeros(1, 1, 2, 3)) and cplx.is_complex(torch.zeros(3, dtype=torch.complex64))
    a, r = random(1, 1, 3, 2), torch.rand(1, 1, 3, 2, dtype=torch.float64)
    assert torch.equal(cplx.mult(a, r), a * r), "a real map of width 2 is real beside a native one"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_precision_is_that_of_the_operands(dtype):
    z, w = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    a, b = torch.view_as_real(z).to(dtype), torch.view_as_real(w).to(dtype)
    bound = 4 * torch.finfo(dtype).eps  # worst seen: 1 eps
    for name, truth in PRODUCTS.items():
        got, want = (
            getattr(cplx, name)(a, b),
            torch.tensor(truth(native(a.double()).numpy(), native(b.double()).numpy())),
        )
        assert got.dtype == dtype and agrees(native(got.double()), want, bound)
        assert not agrees(native(got.double()), (1 + 8 * bound) * want, bound)
    assert cplx.abs(a).dtype == cplx.conj(a).dtype == dtype
    assert fourier.cfft2(a[..., 0]).dtype == fourier.sample_fs(fourier.cfft2(a[..., 0])).dtype == dtype


def test_any_strides_do():
    z = torch.view_as_real(random(2, 3, 4, 5))
    odd = torch.empty(z.numel() + 1, dtype=z.dtype)[1:].view(z.shape).copy_(z)
    for strided in (z.permute(1, 0, 3, 2, 4), z.transpose(0, 4).contiguous().transpose(0, 4), odd, z[..., ::2, :]):
        want = native(strided) * native(strided)
        assert agrees(native(cplx.mult(strided, strided)), want)
        assert agrees(native(cplx.conj(strided)), native(strided).conj().resolve_conj())


def test_wrong_operands_are_refused():
    c, r = torch.zeros(1, 1, 3, 3, 2), torch.zeros(1, 1, 3, 3)
    for name in ("conj", "abs", "abs_sqr", "real", "imag"):
        with pytest.raises(
            ShapeError, match=rf"{name}: a must be complex: of complex dtype, or with .* got shape \(1,"
        ):
            getattr(cplx, name)(r)
    for name in ("mult", "mult_conj", "div", "mtimes"):
        with pytest.raises(ShapeError, match=rf"{name}: one operand must be complex"):
            getattr(cplx, name)(r, r)
        with pytest.raises(
            ShapeError, match=rf"{name}: b must be complex, or real with at most 4 dimensions, got shape"
        ):
            getattr(cplx, name)(c, torch.zeros(1, 1, 3, 3, 1))
        with pytest.raises(ShapeError, match=rf"{name}: b must be complex, or real with at most 4 dimensions"):
            getattr(cplx, name)(torch.view_as_complex(c), c)
    with pytest.raises(ShapeError, match="mult_real_cplx: b must be complex"):
        cplx.mult_real_cplx(c, r)
    with pytest.raises(ShapeError, match="mtimes_complex_real: a must be complex"):
        cplx.mtimes_complex_real(r, c)
    with pytest.raises(ShapeError, match="mtimes_real_complex: b must be complex"):
        cplx.mtimes_real_complex(r, r)
    with pytest.raises(ShapeError, match="div_cplx_real: a must be complex"):
        cplx.div_cplx_real(r, r)
    with pytest.raises(ShapeError, match=r"complex: b must be of the shape of a, \(2,\), got shape \(3,\)"):
        cplx.complex(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ArgumentError, match="complex: a must be a tensor where b is None"):
        cplx.complex(None)
    with pytest.raises(DtypeError, match=r"must be of floating point, got torch\.int64"):
        cplx.conj(c.long())


def slow_spectrum(x):
    """â(k, l) for k = −⌊h/2⌋ … ⌊h/2⌋, l = 0 … ⌊w/2⌋, one sum per coefficient."""
    *lead, h, w = x.shape
    y, z = np.arange(h)[:, None], np.arange(w)
    out = np.zeros((*lead, 2 * (h // 2) + 1, w // 2 + 1), dtype=complex)
    for i, k in enumerate(range(-(h // 2), h // 2 + 1)):
        for l in range(w // 2 + 1):  # noqa: E741
            out[..., i, l] = (x.numpy() * np.exp(-2j * np.pi * (k * y / h + l * z / w))).sum((-2, -1))
    return torch.tensor(out)


def slow_samples(spectrum, grid):
    """Σ over all frequencies of both signs, one term at a time."""
    h, w = spectrum.shape[-2:]
    y, x = np.arange(grid[0])[:, None] / grid[0], np.arange(grid[1]) / grid[1]
    out = np.zeros((*spectrum.shape[:-2], *grid))
    for i, k in enumerate(range(-((h - 1) // 2), h // 2 + 1)):
        for l in range(w):  # noqa: E741
            coefficient = spectrum[..., i, l].numpy()[..., None, None]
            out += (1 if l == 0 else 2) * (coefficient * np.exp(2j * np.pi * (k * y + l * x))).real
    return torch.tensor(out)


SIZES = [(5, 7), (4, 7), (5, 6), (4, 6), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("size", SIZES)
def test_spectra_are_centred_and_always_odd(size):
    x = random(2, 3, *size, dtype=torch.float64)
    got = fourier.cfft2(x)
    want = slow_spectrum(x)
    assert got.shape == (2, 3, 2 * (size[0] // 2) + 1, size[1] // 2 + 1, 2) and agrees(native(got), want)
    if min(size) > 2:
        for wrong in (torch.zeros_like(want), want.roll(1, -2), 1.001 * want):
            assert not agrees(native(got), wrong)
    if size[0] % 2 and size[1] % 2:
        for layout in LAYOUTS.values():
            back = fourier.cifft2(layout(native(got)))
            assert agrees(back, x) and back.dtype == torch.float64
    else:
        grid = got.shape[2], 2 * got.shape[3] - 1
        assert agrees(fourier.cifft2(got), slow_samples(want, grid) / (grid[0] * grid[1]))
    if size[1] % 2 == 0 and size[0] % 2:
        assert agrees(fourier.cifft2(got, (size[0], size[1])), x), "an even width comes back when it is asked for"


def test_hand_computed_spectra():
    impulse = torch.zeros(1, 1, 4, 5)
    impulse[..., 0, 0] = 1
    ones = fourier.cfft2(impulse)
    assert torch.equal(ones[..., 0], torch.ones(1, 1, 5, 3)) and torch.equal(ones[..., 1], torch.zeros(1, 1, 5, 3))
    flat = fourier.cfft2(torch.ones(1, 1, 5, 5))[..., 0]
    assert flat[0, 0, 2, 0] == 25 and flat.count_nonzero() == 1
    rows = torch.arange(4.0).view(1, 1, 4, 1)
    assert fourier.rfftshift2(rows).flatten().tolist() == [2, 3, 0, 1, 2]
    assert fourier.rfftshift2(torch.arange(5.0).view(1, 1, 5, 1)).flatten().tolist() == [3, 4, 0, 1, 2]
    assert fourier.irfftshift2(torch.arange(5.0).view(1, 1, 5, 1)).flatten().tolist() == [2, 3, 4, 0, 1]
    assert fourier.irfftshift2(rows).flatten().tolist() == [1, 2, 3, 0]
    series = torch.zeros(1, 1, 3, 2, 2)
    series[0, 0, 1, 0, 0], series[0, 0, 1, 1, 0] = 5, 0.5  # 5 + cos(2πx)
    assert torch.allclose(fourier.sample_fs(series, (3, 4))[0, 0, 2], torch.tensor([6.0, 5, 4, 5]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grid", [None, (5, 5), (5, 8), (6, 5), (8, 9), (9, 6), (31, 32)])
@pytest.mark.parametrize("rows", [5, 4])
def test_samples_are_sums_over_all_frequencies(rows, grid, layout):
    z = random(2, 3, rows, 3)
    a = LAYOUTS[layout](z)
    height, width = grid if grid is not None else (rows, 5)
    want = slow_samples(z, (height, width))
    asked = grid if grid is None else torch.tensor(grid).float()
    got = fourier.sample_fs(a, asked)
    assert got.dtype == torch.float64 and agrees(got, want)
    for wrong in (torch.zeros_like(want), want.roll(1, -2), want.roll(1, -1), 1.001 * want):
        assert not agrees(got, wrong)
    assert agrees(fourier.sample_fs(a, grid, rescale=False), want / (height * width))
    assert agrees(fourier.sample_fs(a, grid_sz=grid, rescale=False), want / (height * width))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shifts_move_the_maps(layout):
    x = random(2, 3, 5, 7, dtype=torch.float64)
    a = LAYOUTS[layout](native(fourier.cfft2(x)))
    shift = 2 * torch.pi * torch.tensor([2 / 5, -3 / 7], dtype=torch.float64)
    moved = fourier.shift_fs(a, shift)
    assert agrees(fourier.cifft2(moved), x.roll((-2, 3), (2, 3)), 1e-12) and moved.dtype == a.dtype
    assert not agrees(fourier.cifft2(moved), x.roll((2, -3), (2, 3)), 1e-12)
    k = torch.arange(-2, 3).view(-1, 1), torch.arange(4)
    factor = torch.tensor(np.exp(1j * (0.3 * k[0].numpy() - 1.1 * k[1].numpy())))
    check(fourier.shift_fs(a, shift=(0.3, -1.1)), native(a) * factor, layout)
    assert torch.equal(fourier.shift_fs(a, torch.zeros(2)), a)
    both = fourier.shift_fs(TensorList([a, a]), TensorList([shift, 0 * shift]))
    assert torch.equal(both[0], moved) and torch.equal(both[1], a)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_align_frequency_zero(layout):
    a, b, c = random(2, 1, 5, 4), random(2, 1, 3, 2, seed=1), random(2, 1, 4, 3, seed=2)
    to = LAYOUTS[layout]
    want = sum(slow_samples(z, (9, 9)) for z in (a, b, c))
    total = fourier.sum_fs(TensorList([to(b), to(a), to(c)]))
    assert agrees(fourier.sample_fs(total, (9, 9)), want) and not agrees(fourier.sample_fs(to(a), (9, 9)), want)
    first = fourier.sum_fs12([to(z.permute(2, 3, 0, 1)) for z in (b, a, c)])
    assert torch.equal(native(first).permute(2, 3, 0, 1), native(total))
    single = to(a)
    assert fourier.sum_fs([single]) is not single and torch.equal(fourier.sum_fs([single]), single), "a new tensor"


@pytest.mark.parametrize("width", [7, 3])
def test_inner_products_are_those_of_the_maps(width):
    x, y = random(2, 3, 5, width, dtype=torch.float64), random(2, 3, 5, width, seed=1, dtype=torch.float64)
    a, b = fourier.cfft2(x), fourier.cfft2(y)
    want = (x * y).sum() * x[0, 0].numel()
    for layout in LAYOUTS.values():
        got = fourier.inner_prod_fs(layout(native(a)), layout(native(b)))
        assert got.shape == () and agrees(got, want) and not agrees(got, 1.001 * want)
    real = native(a).abs(), native(b).abs()
    whole = [torch.cat((r, r[..., 1:]), -1) for r in real]
    assert agrees(fourier.inner_prod_fs(*real), (whole[0] * whole[1]).sum())
    assert agrees(fourier.inner_prod_fs(TensorList([a, b]), b)[0], want)


def test_frequencies():
    ky, kx = fourier.get_frequency_coord(torch.tensor([5.0, 6.0]))
    assert ky.shape == (1, 1, 5, 1) and ky.flatten().tolist() == [-2, -1, 0, 1, 2]
    assert kx.shape == (1, 1, 1, 4) and kx.flatten().tolist() == [0, 1, 2, 3] and kx.dtype == torch.float32
    ky, kx = fourier.get_frequency_coord((4, 3), add_complex_dim=True, device="cpu")
    assert ky.shape == (1, 1, 4, 1, 1) and ky.flatten().tolist() == [-1, 0, 1, 2] and kx.shape == (1, 1, 1, 2, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients(layout):
    a = LAYOUTS[layout](random(1, 2, 5, 3)).requires_grad_()
    b = LAYOUTS[layout](random(1, 2, 3, 2)).requires_grad_()
    shift = torch.tensor([0.4, -0.7], dtype=torch.float64, requires_grad=True)
    x = random(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    for function, leaves in (
        (lambda x: native(fourier.cfft2(x)), (x,)),
        (lambda a: fourier.sample_fs(a, (8, 7)), (a,)),
        (fourier.cifft2, (a,)),
        (lambda a, s: native(fourier.shift_fs(a, s)), (a, shift)),
        (lambda a, b: native(fourier.sum_fs([b, a])), (a, b)),
        (lambda a: fourier.inner_prod_fs(a, a * 2), (a,)),
    ):
        assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


def test_compilation_finds_one_graph():
    def response(x, y):
        product = cplx.div(cplx.mult_conj(fourier.cfft2(x), fourier.cfft2(y)), cplx.abs(fourier.cfft2(x)) + 1)
        return fourier.sample_fs(fourier.shift_fs(product, (0.3, 0.1)), (9, 8))

    x, y = random(1, 2, 5, 7, dtype=torch.float64), random(1, 2, 5, 7, seed=1, dtype=torch.float64)
    compiled = torch.compile(response, fullgraph=True, backend="eager")
    assert agrees(compiled(x, y), response(x, y)) and not agrees(compiled(y, x), response(x, y))


def test_what_is_no_spectrum_is_refused():
    a, x = torch.zeros(1, 1, 5, 3, 2), torch.zeros(1, 1, 5, 5)
    wanted = r"a must be a half spectrum, \(N, C, h, w\) of complex dtype or real \(N, C, h, w, 2\), got shape \(1, 1,"
    for name in ("cifft2", "sample_fs", "shift_fs"):
        with pytest.raises(ShapeError, match=f"{name}: {wanted}"):
            getattr(fourier, name)(x, (5, 5))
    with pytest.raises(DtypeError, match=r"cfft2: a must be real, got torch\.complex64"):
        fourier.cfft2(torch.zeros(1, 1, 5, 5, dtype=torch.complex64))
    with pytest.raises(ShapeError, match=r"cfft2: a must be \(N, C, h, w\), got shape \(5, 5\)"):
        fourier.cfft2(x[0, 0])
    with pytest.raises(ShapeError, match="rfftshift2: a must be of at least 3 dimensions, the rows in the third"):
        fourier.rfftshift2(x[0, 0])
    with pytest.raises(ShapeError, match=r"cifft2: signal_sizes must be \(5, 5\) or \(5, 4\), got \(6, 5\); sample_fs"):
        fourier.cifft2(a, signal_sizes=[6, 5])
    with pytest.raises(RangeError, match=r"sample_fs: grid_sz must be at least the size of the series, \(5, 5\), got"):
        fourier.sample_fs(a, torch.tensor([7.0, 4.0]))
    with pytest.raises(ShapeError, match=r"shift_fs: shift must be two numbers, \(y, x\), got tensor\(0.\)"):
        fourier.shift_fs(a, torch.zeros(()))
    with pytest.raises(ShapeError, match=r"get_frequency_coord: sz must be two sizes, \(height, width\), got 5"):
        fourier.get_frequency_coord(5)
    with pytest.raises(
        ArgumentError, match="sum_fs: a must be a list of at least one half spectrum, got an empty list"
    ):
        fourier.sum_fs([])
    with pytest.raises(DtypeError, match="sum_fs: a must be half spectra of one layout"):
        fourier.sum_fs([a, torch.view_as_complex(a)])
    with pytest.raises(ShapeError, match=r"sum_fs: a must be half spectra of which the tallest, .* is the widest"):
        fourier.sum_fs([a, torch.zeros(1, 1, 3, 4, 2)])
    with pytest.raises(ShapeError, match=r"inner_prod_fs: b must be of the shape of a, \(1, 1, 5, 3, 2\)"):
        fourier.inner_prod_fs(a, a[..., 0])
    with pytest.raises(DtypeError, match=r"inner_prod_fs: b must be of the layout of a, torch\.float32, got"):
        fourier.inner_prod_fs(a, torch.view_as_complex(a))
    with pytest.raises(ShapeError, match="inner_prod_fs: a must be a half spectrum"):
        fourier.inner_prod_fs(x[0], x[0])

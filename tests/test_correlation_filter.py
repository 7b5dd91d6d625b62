"""Correlation filters against dense ridge regression, plain MOSSE and KCF; shifts, updates, sizes, gradients."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from fasttrack import dispatch, nn, ops
from fasttrack.errors import ArgumentError, BackendUnavailable, DtypeError, RangeError, ShapeError
from fasttrack.ops import CorrelationFilter
from fasttrack.spec import correlation_filter as spec
from fasttrack.spec.base import Tolerance, error_of
from fasttrack.vision.labels import gaussian_map, hann_window

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
KERNELS = pytest.mark.parametrize("kernel", ["linear", "gaussian"])
BOUND = {"linear": Tolerance(3e-5, 3e-5), "gaussian": Tolerance(1e-3, 1e-3)}


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def label_of(height, width, sigma=1.5, dtype=torch.float32):
    centre = torch.tensor([[height // 2, width // 2]], dtype=dtype)
    return gaussian_map((height, width), centre, (sigma, sigma))[0]


def shifts(maps):
    """Every cyclic shift that brings cell p to the origin: (H·W, C·H·W)."""
    height, width = maps.shape[-2:]
    return torch.stack([maps.roll((-i, -j), (-2, -1)).flatten() for i in range(height) for j in range(width)])


def assert_close(got, truth, kernel="linear"):
    bound = BOUND[kernel]
    assert bound.admits(got, truth), f"{error_of(got, truth)} beyond {bound}"
    for wrong in (torch.zeros_like(truth), truth.roll(1, -1), truth * 1.01):
        assert not bound.admits(wrong, truth)


@BOTH
@pytest.mark.parametrize("size", [(1, 4, 6), (3, 5, 4), (2, 9, 8)])
def test_linear_is_ridge_regression_on_all_shifts(size, backend):
    x, z, lam = noise(*size), noise(*size, seed=1), 0.1
    y = label_of(*size[1:])
    samples, seen = shifts(x.double()), shifts(z.double())
    n = x.numel()
    # λ/κ = λ·C·H·W is the weight of ‖w‖².
    w = torch.linalg.solve(samples.T @ samples + lam * n * torch.eye(n).double(), samples.T @ y.double().flatten())
    got = ops.cf_detect(ops.cf_train(x, y, lam, backend=backend), z, backend=backend)
    assert_close(got, (seen @ w).reshape(size[1:]))


@BOTH
@pytest.mark.parametrize("size", [(1, 4, 6), (3, 5, 4), (2, 9, 8)])
def test_gaussian_is_kernel_ridge_regression_on_all_shifts(size, backend):
    x, z, lam, sigma = noise(*size), noise(*size, seed=1), 0.01, 0.7
    y = label_of(*size[1:])
    samples, seen = shifts(x.double()), shifts(z.double())

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (sigma**2 * x.numel()))

    alpha = torch.linalg.solve(kernel(samples, samples) + lam * torch.eye(len(samples)).double(), y.double().flatten())
    got = ops.cf_detect(ops.cf_train(x, y, lam, "gaussian", sigma, backend=backend), z, backend=backend)
    assert_close(got, (kernel(seen, samples) @ alpha).reshape(size[1:]), "gaussian")


@BOTH
@KERNELS
def test_the_response_moves_with_the_patch(kernel, backend):
    x, y = noise(4, 24, 30), label_of(24, 30, 2.0)
    model = ops.cf_train(x, y, 1e-4, kernel, backend=backend)
    home = ops.cf_detect(model, x, backend=backend)
    assert (home - y).abs().max() < 0.02  # λ is small: the training sample gives its label back
    moves = [(0, 0), (3, -5), (-7, 11)]
    seen = ops.cf_detect(model, torch.stack([x.roll(m, (1, 2)) for m in moves]), backend=backend)
    peaks = ops.response_peak(seen)
    for (i, j), response, at in zip(moves, seen, peaks.position.tolist(), strict=True):
        assert_close(response, home.double().roll((i, j), (0, 1)), kernel)
        assert at == pytest.approx([12 + i, 15 + j], abs=0.1)


@BOTH
def test_one_channel_is_mosse(backend):
    """A plain MOSSE in NumPy: full spectra, numerator and denominator averaged over five frames."""
    frames, rate, lam = noise(5, 20, 27, seed=3), 0.125, 0.05
    y = label_of(20, 27)
    kappa, g = 1 / (20 * 27), np.fft.fft2(y.numpy().astype(np.float64))
    model = a = b = None
    for frame in frames:
        f = np.fft.fft2(frame.numpy().astype(np.float64))
        new = ops.cf_train(frame[None], y, lam, backend=backend)
        if model is None:
            model, a, b = new, g * f.conj(), f * f.conj()
        else:
            model = ops.cf_update(model, new, rate, backend=backend)
            a, b = (1 - rate) * a + rate * g * f.conj(), (1 - rate) * b + rate * f * f.conj()
    seen = noise(1, 20, 27, seed=9)
    h = kappa * a / (kappa * b + lam)
    truth = np.fft.ifft2(h * np.fft.fft2(seen[0].numpy().astype(np.float64))).real
    assert_close(ops.cf_detect(model, seen, backend=backend), torch.from_numpy(truth))
    assert_close(model.coefficients, torch.from_numpy((kappa * b + lam).real.T[:, :11].copy()))


@BOTH
def test_the_gaussian_update_averages_spectra_and_dual_variables(backend):
    x, y = noise(2, 3, 15, 12), label_of(15, 12)
    first, second = (ops.cf_train(m, y, 0.01, "gaussian", 0.6, backend=backend) for m in x)
    got = ops.cf_update(first, second, 0.3, backend=backend)
    wide = [spec.train(m[None].double(), y[None].double(), 0.01, "gaussian", 0.6) for m in x]
    template, alpha = (0.7 * p + 0.3 * q for p, q in zip(*wide, strict=True))
    for g, t in ((got.template, template[0]), (got.coefficients, alpha[0])):
        assert_close(torch.view_as_real(g), torch.view_as_real(t), "gaussian")
    seen = noise(1, 3, 15, 12, seed=5)
    truth = spec.detect(template, alpha, seen[None].double(), "gaussian", 0.6)[0]
    assert_close(ops.cf_detect(got, seen, backend=backend), truth, "gaussian")


@KERNELS
def test_update_in_place_and_its_ends(kernel):
    x, y = noise(2, 3, 10, 12), label_of(10, 12)
    first, second = (ops.cf_train(m, y, 0.1, kernel) for m in x)
    wanted = ops.cf_update(first, second, 0.2)
    memory = first.template.data_ptr()
    for field in ("template", "coefficients"):
        assert torch.equal(getattr(ops.cf_update(first, second, 0.0), field), getattr(first, field))
        assert torch.allclose(getattr(ops.cf_update(first, second, 1.0), field), getattr(second, field), rtol=1e-5)
    same = ops.cf_update_(first, second, 0.2)
    assert same is first and first.template.data_ptr() == memory
    assert torch.allclose(first.template, wanted.template, rtol=1e-5, atol=1e-6)
    assert torch.allclose(first.coefficients, wanted.coefficients, rtol=1e-5, atol=1e-6)


@BOTH
@KERNELS
@pytest.mark.parametrize("targets", [None, (0, 1, 2), (2, 0), (1,), ()])
def test_learning_is_training_and_averaging(kernel, backend, targets):
    """Of all targets or some of them, in any order; the others stay as they are, to the bit."""
    x, window = noise(3, 4, 10, 12), noise(10, 12, seed=4).abs()
    model = ops.cf_train(noise(3, 4, 10, 12, seed=1), label_of(10, 12), 0.1, kernel, 0.6)
    places = [0, 1, 2] if targets is None else list(targets)
    labels = torch.stack([label_of(10, 12, 1.0 + k) for k in range(3)])
    for label in (labels[:1][0], labels[places]):
        taught = ops.cf_train(x[places], label, 0.1, kernel, 0.6, window)
        before = [getattr(model, f).clone() for f in ("template", "coefficients")]
        memory = model.template.data_ptr(), model.coefficients.data_ptr()
        again = ops.cf_learn_(model, x[places], label, 0.3, 0.1, window, targets, backend=backend)
        assert again is model and (model.template.data_ptr(), model.coefficients.data_ptr()) == memory
        for old, field in zip(before, ("template", "coefficients"), strict=True):
            wanted = old.clone()
            wanted[places] = 0.7 * old[places] + 0.3 * getattr(taught, field)
            got = getattr(model, field)
            left = [k for k in range(3) if k not in places]
            assert torch.equal(got[left], old[left])
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
            if places:  # canary: a model that learns nothing, or all of it
                moved = (got[places] - old[places]).norm() / (getattr(taught, field) - old[places]).norm()
                assert float(moved) == pytest.approx(0.3, rel=1e-3)


def test_learning_of_one_target_and_its_ends():
    x, y = noise(2, 3, 10, 12), label_of(10, 12)
    for dtype in (torch.float32, torch.float64, torch.float16):
        model, taught = (ops.cf_train(m.to(dtype), y.to(dtype), 0.1) for m in x)
        before = model.template.clone()
        ops.cf_learn_(model, x[1].to(dtype), y.to(dtype), 0.0, 0.1)
        assert torch.equal(model.template, before)
        ops.cf_learn_(model, x[1].to(dtype), y.to(dtype), 1.0, 0.1)
        torch.testing.assert_close(model.template, taught.template, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model.coefficients, taught.coefficients)


@KERNELS
def test_many_targets_share_the_threads(kernel):
    """More cells than a team is woken for; the result is that of one thread."""
    x, y = noise(9, 8, 48, 64), label_of(48, 64)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            model = ops.cf_train(x, y, 0.1, kernel)
            ops.cf_learn_(model, x.flip(0), y, 0.2, 0.1)
            results.append((model.template, model.coefficients, ops.cf_detect(model, x[:, None].repeat(1, 3, 1, 1, 1))))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        torch.testing.assert_close(one, three, rtol=1e-5, atol=1e-6)


@KERNELS
def test_window_is_the_product(kernel):
    x, y, w = noise(3, 16, 18), label_of(16, 18), hann_window((16, 18))
    seen = noise(2, 3, 16, 18, seed=2)
    apart = ops.cf_train(ops.cf_features_window(x, w), y, 0.01, kernel)
    fused = ops.cf_train(x, y, 0.01, kernel, window=w)
    assert torch.allclose(fused.template, apart.template, rtol=1e-4, atol=1e-5)
    truth = ops.cf_detect(apart, ops.cf_features_window(seen, w))
    assert_close(ops.cf_detect(fused, seen, w), truth.double(), kernel)


@KERNELS
def test_targets_are_independent(kernel):
    x, y = noise(3, 4, 12, 10), torch.stack([label_of(12, 10, s) for s in (1.0, 1.5, 2.0)])
    seen = noise(3, 2, 4, 12, 10, seed=7)
    together = ops.cf_train(x, y, 0.01, kernel)
    assert together.batched
    got = ops.cf_detect(together, seen)
    for t in range(3):
        alone = ops.cf_train(x[t], y[t], 0.01, kernel)
        assert torch.equal(ops.cf_detect(alone, seen[t]), got[t])
        assert torch.equal(ops.cf_detect(alone, seen[t, 0]), got[t, 0])
    assert torch.equal(ops.cf_detect(together, seen[:, 1]), got[:, 1])


SMOOTH = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (4, 15), (5, 81), (16, 16), (17 - 1, 33 - 1), (30, 125), (27, 24)]
SMOOTH += [(54, 45), (64, 50), (75, 20), (100, 72), (128, 3), (160, 9), (6, 512), (512, 6), (243, 25), (400, 8)]


@KERNELS
@pytest.mark.parametrize("size", SMOOTH, ids=lambda s: f"{s[0]}x{s[1]}")
def test_smooth_sizes(size, kernel, poisoned):
    x, y = noise(3, *size), label_of(*size)
    seen = noise(2, 3, *size, seed=4)
    truth = spec.correlation_filter(x.double(), y.double(), seen.double(), 0.01, kernel, 0.5)
    got = ops.correlation_filter(x, y, seen, 0.01, kernel, backend="cpu")
    assert BOUND[kernel].admits(got, truth), error_of(got, truth)


@KERNELS
def test_other_sizes_run_on_the_reference_and_say_so(kernel, caplog):
    dispatch._WARNED.clear()
    x, y, seen = noise(2, 13, 22), label_of(13, 22), noise(1, 2, 13, 22, seed=1)
    with pytest.raises(BackendUnavailable, match=r"prime factors above 5, got height 13 \(fft_size gives 15\)"):
        ops.cf_train(x, y, backend="cpu")
    with pytest.raises(BackendUnavailable, match=r"prime factors above 5, got width 22 \(fft_size gives 24\)"):
        ops.cf_train(x[:, :12], y[:12], backend="cpu")
    got = ops.correlation_filter(x, y, seen, 0.01, kernel)
    assert_close(got, spec.correlation_filter(x.double(), y.double(), seen.double(), 0.01, kernel, 0.5), kernel)
    assert any("prime factors above 5" in r.message for r in caplog.records)


def test_fft_size():
    sizes = [ops.fft_size(n) for n in (1, 2, 7, 11, 13, 31, 97, 121, 163, 331, 511)]
    assert sizes == [1, 2, 8, 12, 15, 32, 100, 125, 180, 360, 512]
    with pytest.raises(RangeError, match="fft_size: n must be an integer ≥ 1, got 0"):
        ops.fft_size(0)


@KERNELS
def test_strides_and_threads(kernel):
    x, y = noise(2, 9, 20, 24), label_of(20, 24)
    seen = noise(2, 3, 9, 20, 24, seed=1)
    wanted = ops.correlation_filter(x, y, seen, 0.01, kernel)
    wide = torch.full((2, 3, 9, 25, 31), 7.0)
    wide[..., 2:22, 3:27] = seen
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(ops.correlation_filter(last, y, wide[..., 2:22, 3:27], 0.01, kernel), wanted)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = ops.correlation_filter(x, y, seen, 0.01, kernel)
    finally:
        torch.set_num_threads(before)
    assert BOUND[kernel].admits(wanted, alone.double())


@BOTH
@KERNELS
def test_nan_stays_in_its_map(kernel, backend):
    x, y, seen = noise(2, 3, 10, 9), label_of(10, 9), noise(2, 2, 3, 10, 9, seed=1)
    clean = ops.correlation_filter(x, y, seen, 0.01, kernel, backend=backend)
    seen[0, 1, 1, 3, 4] = float("nan")
    got = ops.correlation_filter(x, y, seen, 0.01, kernel, backend=backend)
    assert got[0, 1].isnan().all()
    assert torch.equal(got[0, 0], clean[0, 0]) and torch.equal(got[1], clean[1])


def test_eight_threads_at_once():
    x, y, seen = noise(8, 5, 24, 20), label_of(24, 20), noise(8, 2, 5, 24, 20, seed=2)
    wanted = [ops.correlation_filter(x[i], y, seen[i], 0.01) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: ops.correlation_filter(x[i], y, seen[i], 0.01), range(8)))
    for g, w in zip(got, wanted, strict=True):
        assert BOUND["linear"].admits(g, w.double())


@KERNELS
def test_gradients_in_everything(kernel):
    """Through both functions and the update: features, label, window, search, to second order."""
    x, y, seen = (noise(*s, seed=i, dtype=torch.float64) for i, s in enumerate([(2, 3, 4), (3, 4), (2, 3, 4)]))
    window = hann_window((3, 4)).double()
    leaves = [t.clone().requires_grad_() for t in (x, y, window, seen)]

    def function(x, y, window, seen):
        model = ops.cf_train(x, y, 0.1, kernel, window=window)
        model = ops.cf_update(model, ops.cf_train(x.flip(1) + 0.3, y, 0.1, kernel), 0.25)
        return ops.cf_detect(model, seen, window)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@KERNELS
def test_gradients_of_the_kernels_route(kernel):
    x, y, seen = noise(2, 3, 9, 8), label_of(9, 8), noise(2, 2, 3, 9, 8, seed=1)
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.to(dtype).requires_grad_() for t in (x.clone(), y.clone(), seen.clone())]
        model = ops.cf_train(leaves[0], leaves[1], 0.1, kernel)
        model = ops.cf_update(model, ops.cf_train(leaves[0].flip(-1), leaves[1], 0.1, kernel), 0.5)
        (ops.cf_detect(model, leaves[2]) * y.to(dtype)).sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for got, truth in zip(*grads, strict=True):
        assert_close(got, truth, kernel)


@KERNELS
def test_models_pass_through_compile(kernel):
    x, y, seen = noise(2, 3, 8, 9), label_of(8, 9), noise(2, 3, 8, 9, seed=1)

    def track(model: CorrelationFilter, x, seen):
        model = ops.cf_update(model, ops.cf_train(x, y, 0.01, kernel), 0.1)
        return model, ops.cf_detect(model, seen)

    torch._dynamo.reset()
    model = ops.cf_train(x[0], y, 0.01, kernel)
    leaf = x[1].clone().requires_grad_()
    wanted_model, wanted = track(model, leaf, seen)
    got_model, got = torch.compile(track, fullgraph=True, backend="aot_eager")(model, leaf, seen)
    assert isinstance(got_model, CorrelationFilter) and got_model.kernel == kernel
    assert_close(got, wanted, kernel)
    assert_close(torch.view_as_real(got_model.template), torch.view_as_real(wanted_model.template), kernel)
    (grad,), (truth,) = (torch.autograd.grad(r.square().sum(), leaf) for r in (got, wanted))
    assert_close(grad, truth, kernel)


def test_module_is_the_function():
    x, y, seen, w = noise(3, 8, 9), label_of(8, 9), noise(2, 3, 8, 9, seed=1), hann_window((8, 9))
    layer = nn.CorrelationFilter(0.01, "gaussian", 0.7)
    assert torch.equal(layer(x, y, seen, w), ops.correlation_filter(x, y, seen, 0.01, "gaussian", 0.7, w))
    assert "kernel='gaussian'" in repr(layer)


def test_messages():
    x, y = noise(3, 8, 9), label_of(8, 9)
    model = ops.cf_train(x, y)
    for error, text, call in (
        (ShapeError, r"cf_train: features must be \(C, H, W\) or", lambda: ops.cf_train(x[0], y)),
        (ShapeError, r"features must be \(…, C, H, W\) with C, H, W ≥ 1", lambda: ops.cf_train(x[:0], y)),
        (ShapeError, r"label must be \(8, 9\) or with the targets", lambda: ops.cf_train(x, y[:7])),
        (DtypeError, "label must be of the dtype of features", lambda: ops.cf_train(x, y.double())),
        (RangeError, "lam must be a finite number > 0", lambda: ops.cf_train(x, y, 0.0)),
        (RangeError, "sigma must be a finite number > 0, got nan", lambda: ops.cf_train(x, y, sigma=float("nan"))),
        (RangeError, "kernel must be one of 'linear', 'gaussian'", lambda: ops.cf_train(x, y, kernel="poly")),
        (ShapeError, r"window must be of the size of features, \(8, 9\)", lambda: ops.cf_train(x, y, window=y[1:])),
        (ShapeError, r"with C, H, W = \(3, 8, 9\) of the model", lambda: ops.cf_detect(model, x[:, :, 1:])),
        (ShapeError, r"cf_detect: features must be \(C, H, W\) or", lambda: ops.cf_detect(model, x[None, None])),
        (DtypeError, "features must be of the dtype of model", lambda: ops.cf_detect(model, x.double())),
        (RangeError, r"rate must be a number in \[0, 1\], got 1.5", lambda: ops.cf_update(model, model, 1.5)),
        (RangeError, "new must be of the kernel", lambda: ops.cf_update(model, replace(model, sigma=2.0), 0.5)),
        (ShapeError, "new.template", lambda: ops.cf_update(model, ops.cf_train(x[:2], y), 0.5)),
        (ShapeError, "cf_features_window: window", lambda: ops.cf_features_window(x, y[0])),
    ):
        with pytest.raises(error, match=text):
            call()
    many = ops.cf_train(torch.stack([x, x]), y)
    for error, text, call in (
        (RangeError, "cf_learn_: rate must be a finite number ≥ 0", lambda: ops.cf_learn_(model, x, y, -0.1)),
        (RangeError, r"rate must be a number in \[0, 1\], got 2", lambda: ops.cf_learn_(model, x, y, 2)),
        (RangeError, "lam must be a finite number > 0", lambda: ops.cf_learn_(model, x, y, 0.1, 0.0)),
        (ShapeError, r"features must be \(C, H, W\), got", lambda: ops.cf_learn_(model, x[None], y, 0.1)),
        (ShapeError, r"\(T, C, H, W\) with C, H, W = \(3, 8, 9\)", lambda: ops.cf_learn_(many, x[None], y, 0.1)),
        (ShapeError, r"label must be \(8, 9\) or with", lambda: ops.cf_learn_(model, x, y[1:], 0.1)),
        (ShapeError, "window must be of the size", lambda: ops.cf_learn_(model, x, y, 0.1, window=y[1:])),
        (DtypeError, "features must be of the dtype of model", lambda: ops.cf_learn_(model, x.double(), y, 0.1)),
        (RangeError, r"targets must be some of 0..1, each once, got \[1, 1\]",
         lambda: ops.cf_learn_(many, torch.stack([x, x]), y, 0.1, targets=(1, 1))),
        (RangeError, r"targets must be some of 0..1", lambda: ops.cf_learn_(many, x[None], y, 0.1, targets=(2,))),
        (ArgumentError, "cf_learn_: features must be a tensor that asks for no gradient",
         lambda: ops.cf_learn_(model, x.clone().requires_grad_(), y, 0.1)),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()
    asking = replace(model, template=model.template.clone().requires_grad_())
    with pytest.raises(ArgumentError, match="cf_update_: model must be a tensor that asks for no gradient"):
        ops.cf_update_(asking, model, 0.5)


def test_the_kernels_own_backward_refuses_the_gaussian_kernel():
    x = noise(1, 2, 4, 5).requires_grad_()
    pairs, _ = torch.ops.fasttrack.correlation_filter_train(x, label_of(4, 5)[None], None, 0.1, 0.5, True)
    with pytest.raises(ArgumentError, match="through the reference"):
        pairs.sum().backward()

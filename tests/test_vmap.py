"""``torch.func`` over the ops: vmap, per-sample gradients and forward mode against loops and differences."""

import pickle

import pytest
import torch
from recorded_ops import recorded_ops
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import fasttrack
from fasttrack import dispatch, ops
from fasttrack.errors import ArgumentError, RoiIndexError, TransformError
from fasttrack.spec.base import Tolerance, outputs_of

V, N = 3, 2
SUMMED = Tolerance(2e-5, 5e-5, witness="5e-6, 6e-6: sums in another order")


def made(*shape, low=None):
    return torch.randn(*shape) if low is None else torch.rand(*shape) + low


def rois(*lead):
    rows = torch.rand(*lead, 5) * 4
    rows[..., 0] = torch.randint(0, N, lead)
    rows[..., 3:] += rows[..., 1:3] + 1
    return rows


def frames(*lead):
    return torch.randint(0, 255, (*lead, 16, 18, 3), dtype=torch.uint8)


def boxes(*lead):
    return torch.rand(*lead, 4) * 5 + 3


def intervals(*lead):
    low = torch.rand(*lead, 2, 1) * 3
    return torch.cat([low, low + 1 + torch.rand(*lead, 2, 1)], -1)


# Name → function, arguments, which of them are mapped.
MAPPED = {
    "conv": (ops.conv_regression, lambda: (made(V, N, 3, 9, 8), made(3, 4, 3), made(1)), (0, None, None)),
    "conv, one map": (ops.conv_regression, lambda: (made(V, 3, 9, 8), made(3, 4, 3)), (0, None)),
    "conv, weights": (ops.conv_regression, lambda: (made(V, N, 3, 9, 8), made(V, 3, 4, 3), made(V, 1)), (0, 0, 0)),
    "conv, weights only": (ops.conv_regression, lambda: (made(N, 3, 9, 8), made(V, 3, 4, 3), made(1)), (None, 0, None)),
    "conv, bias only": (ops.conv_regression, lambda: (made(N, 3, 9, 8), made(3, 4, 3), made(V, 1)), (None, None, 0)),
    "conv, reduction": (
        ops.conv_regression,
        lambda: (made(V, N, 3, 9, 8), made(2, 4, 3), made(1), made(V, 2, 3)),
        (0, None, None, 0),
    ),
    "conv, per map": (ops.conv_regression, lambda: (made(V, N, 3, 9, 8), made(N, 3, 4, 3), made(V, N)), (0, None, 0)),
    "conv, last axis": (ops.conv_regression, lambda: (made(3, 9, 8, V), made(3, V, 4, 3)), (3, 1)),
    "prroi": (lambda x, r: ops.prroi_pool(x, r, 2), lambda: (made(V, N, 3, 7, 6), rois(V, 4)), (0, 0)),
    "prroi, features": (lambda x, r: ops.prroi_pool(x, r, (2, 3)), lambda: (made(V, N, 3, 7, 6), rois(4)), (0, None)),
    "prroi, rois": (lambda x, r: ops.prroi_pool(x, r, 2), lambda: (made(N, 3, 7, 6), rois(V, 4)), (None, 0)),
    "prroi grid": (
        lambda x, a, b: ops.prroi_pool_grid(x, a, b, 2),
        lambda: (made(V, N, 3, 7, 6), intervals(V), intervals()),
        (0, 0, None),
    ),
    "prroi filter": (
        ops.prroi_filter_score,
        lambda: (made(V, N, 3, 7, 6), rois(V, 4), made(V, 3, 2, 2)),
        (0, 0, 0),
    ),
    "prroi filter, rois": (
        ops.prroi_filter_score,
        lambda: (made(N, 3, 7, 6), rois(V, 4), made(3, 2, 2)),
        (None, 0, None),
    ),
    "prroi filter, features": (
        ops.prroi_filter_score,
        lambda: (made(V, N, 3, 7, 6), rois(4), made(3, 2, 2)),
        (0, None, None),
    ),
    "prroi linear": (
        lambda x, r, a, w: ops.prroi_linear_score(x, r, a, w, 2),
        lambda: (made(V, N, 3, 7, 6), rois(V, 4), made(5, 12), made(V, 5)),
        (0, 0, None, 0),
    ),
    "shrinkage": (
        lambda p, y, w: ops.shrinkage_loss(p, y, weight=w),
        lambda: (made(V, 4, 5), made(V, 4, 5), made(4, 5, low=0.1)),
        (0, 0, None),
    ),
    "truncated, none": (
        lambda p, y: ops.truncated_loss(p, y, reduction="none"),
        lambda: (made(V, 4), made(4)),
        (0, None),
    ),
    "square, scalars": (ops.square_loss, lambda: (made(V), made(V)), (0, 0)),
    "focal, sum": (lambda p, y: ops.focal_regression_loss(p, y, "sum"), lambda: (made(V, 6), made(V, 6)), (0, 0)),
    "ridge": (ops.ridge_solve, lambda: (made(V, N, 5, 9), made(V, N, 5, 2), made(V, low=0.5)), (0, 0, 0)),
    "ridge, one": (lambda X, y: ops.ridge_solve(X, y, 0.5), lambda: (made(V, 9, 4), made(9)), (0, None)),
    "ridge linear": (
        lambda P, W, y: ops.ridge_linear(P, W, y, 0.5),
        lambda: (made(V, 9, 5), made(4, 5), made(V, 9)),
        (0, None, 0),
    ),
    "ridge linear, layers": (
        lambda P, W, y: ops.ridge_linear(P, W, y, 0.5),
        lambda: (made(V, 9, 5), made(V, 4, 5), made(V, 9)),
        (0, 0, 0),
    ),
    "filter": (
        ops.correlation_filter,
        lambda: (made(V, N, 3, 8, 9), made(8, 9), made(V, N, 2, 3, 8, 9)),
        (0, None, 0),
    ),
    "filter, labels": (
        ops.correlation_filter,
        lambda: (made(V, 3, 8, 9), made(V, 8, 9), made(V, 3, 8, 9)),
        (0, 0, 0),
    ),
    "filter, Gaussian": (
        lambda x, y, z: ops.correlation_filter(x, y, z, kernel="gaussian"),
        lambda: (made(V, 3, 8, 9), made(V, 8, 9), made(V, 3, 8, 9)),
        (0, 0, 0),
    ),
    "filter, windows": (
        lambda x, y, z, w: ops.correlation_filter(x, y, z, window=w),
        lambda: (made(V, 3, 8, 9), made(8, 9), made(V, 3, 8, 9), made(V, 8, 9)),
        (0, None, 0, 0),
    ),
    "lrn": (ops.lrn, lambda: (made(V, N, 6, 5, 4),), (0,)),
    "relu lrn maxpool": (ops.relu_lrn_maxpool, lambda: (made(V, N, 6, 7, 5),), (0,)),
    "pca": (
        lambda x, m, b: ops.pca_apply(x, ops.PCAModel(m, b, m)),
        lambda: (made(V, 6, 5), made(5), made(5, 2)),
        (0, None, None),
    ),
    "pca, bases": (
        lambda x, m, b: ops.pca_apply(x, ops.PCAModel(m, b, m)),
        lambda: (made(V, 6, 5), made(5), made(V, 5, 2)),
        (0, None, 0),
    ),
}
# Without a derivative.
PLAIN = {
    "hog": (ops.hog, lambda: (made(V, N, 3, 16, 20, low=0.0) * 255,), (0,)),
    "grey": (lambda x: ops.grey(x, 2), lambda: (made(V, N, 3, 8, 10, low=0.0) * 255,), (0,)),
    "color names": (
        ops.color_names,
        lambda: (made(V, N, 3, 8, 8, low=0.0) * 255, made(32768, 3)),
        (0, None),
    ),
    "peak": (lambda x: tuple(ops.response_peak(x)), lambda: (made(V, N, 9, 7),), (0,)),
    "table": (ops.response_table, lambda: (made(V, N, 9, 7),), (0,)),
    "crop, boxes": (lambda f, b: ops.crop_resize(f, b, (8, 6)), lambda: (frames(), boxes(V, 4)), (None, 0)),
    "crop, frames": (lambda f, b: ops.crop_resize(f, b, 8), lambda: (frames(V), boxes(4)), (0, None)),
    "pca fit": (lambda x: tuple(ops.pca_fit(x, 2)), lambda: (made(V, 9, 4),), (0,)),
}


def example(arguments, in_dims, i):
    return [a if d is None else a.select(d, i) for a, d in zip(arguments, in_dims, strict=True)]


def assert_same(got, truth, what):
    for g, t in zip(outputs_of(got), outputs_of(truth), strict=True):
        assert SUMMED.admits(g, t.double()), what
        if t.abs().max() > 0:
            wrong = g.roll(1, 0)
            assert torch.equal(wrong, g) or not SUMMED.admits(wrong, t.double()), "examples changed places, and passed"
            assert not SUMMED.admits(g * 1.01, t.double())


@pytest.mark.parametrize("name", [*MAPPED, *PLAIN])
@pytest.mark.filterwarnings("error")  # torch warns where it loops for want of a rule
def test_vmap_is_the_loop(name):
    function, make, in_dims = {**MAPPED, **PLAIN}[name]
    arguments = make()
    got = vmap(function, in_dims)(*arguments)
    rows = [outputs_of(function(*example(arguments, in_dims, i))) for i in range(V)]
    assert_same(got, tuple(torch.stack(parts) for parts in zip(*rows, strict=True)), name)


@pytest.mark.parametrize("name", MAPPED)
def test_gradients_per_sample(name):
    """vmap(grad) in every argument, and grad through vmap, against one backward per example."""
    function, make, in_dims = MAPPED[name]
    arguments = make()
    places = tuple(range(len(arguments)))

    def energy(*args):
        out = function(*args)
        return (out * torch.cos(torch.arange(out.numel(), dtype=out.dtype)).reshape(out.shape)).sum()

    def loop(args):
        leaves = [a.clone().requires_grad_() for a in args]
        found = torch.autograd.grad(energy(*leaves), leaves, allow_unused=True)
        return [torch.zeros_like(a) if g is None else g for a, g in zip(args, found, strict=True)]

    rows = [loop(example(arguments, in_dims, i)) for i in range(V)]
    for place, got in enumerate(vmap(grad(energy, places), in_dims)(*arguments)):
        assert_same(got, torch.stack([row[place] for row in rows]), f"{name}: gradient in argument {place}")
    whole = grad(lambda *args: vmap(energy, in_dims)(*args).sum(), places)(*arguments)
    for place, (got, axis) in enumerate(zip(whole, in_dims, strict=True)):
        parts = torch.stack([row[place] for row in rows], 0 if axis is None else axis)
        bound = Tolerance(2e-5, 5e-5)
        assert bound.admits(got, (parts.sum(0) if axis is None else parts).double()), f"{name}: argument {place}"


@pytest.mark.parametrize("name", MAPPED)
def test_forward_mode_agrees_with_reverse(name):
    """⟨u, J v⟩ of torch.func.jvp and of dual tensors against ⟨Jᵀu, v⟩ of the kernels' own backward."""
    function, make, in_dims = MAPPED[name]
    arguments = example(make(), in_dims, 0)
    along = [torch.randn_like(a) for a in arguments]
    value, tangent = jvp(function, tuple(arguments), tuple(along))
    u = torch.randn_like(value)
    leaves = [a.clone().requires_grad_() for a in arguments]
    out = function(*leaves)
    back = torch.autograd.grad(out, leaves, u, allow_unused=True)
    parts = [(b * v).double().sum() for b, v in zip(back, along, strict=True) if b is not None]
    wanted, scale = float(sum(parts)), sum(float((b * v).abs().sum()) for b, v in zip(back, along, strict=True))
    assert abs(float((u * tangent).double().sum()) - wanted) <= 1e-5 * scale
    assert tangent.abs().max() > 0
    assert Tolerance(1e-5, 1e-5).admits(value, out.double())
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(a, v) for a, v in zip(arguments, along, strict=True)]
        same = forward_ad.unpack_dual(function(*duals)).tangent
        assert Tolerance(1e-5, 1e-5).admits(same, tangent.double())


def test_higher_orders():
    x, w = made(1, 2, 5, 5).double(), made(2, 3, 2).double()
    assert torch.allclose(jacfwd(ops.conv_regression)(x, w), jacrev(ops.conv_regression)(x, w))
    p, y = made(6).double(), made(6).double()
    got = hessian(lambda p: ops.square_loss(p, y, "sum"))(p)
    assert torch.allclose(got, 2 * torch.eye(6, dtype=torch.float64))
    features, rows = made(N, 2, 6, 6), rois(3)
    twice = jacrev(grad(lambda r: ops.prroi_pool(features, r, 2).square().sum()))(rows)
    flat = rows.clone().requires_grad_()
    (first,) = torch.autograd.grad(ops.prroi_pool(features, flat, 2).square().sum(), flat, create_graph=True)
    (row,) = torch.autograd.grad(first[1, 2], flat)
    assert Tolerance(1e-4, 1e-4).admits(twice[1, 2], row.double())
    assert row.abs().max() > 0


def test_mapped_rois_name_images_of_their_own_example():
    features, rows = made(V, N, 2, 6, 6), rois(V, 4)
    rows[0, 1, 0] = N  # the first image of the next example, were it not refused
    with pytest.raises(RoiIndexError, match=r"prroi_pool: rois\[1, 0\] must be a whole number"):
        vmap(lambda x, r: ops.prroi_pool(x, r, 2))(features, rows)


def test_vmap_keeps_the_explicit_backend():
    p = made(V, 4).double()
    with pytest.raises(fasttrack.errors.BackendUnavailable, match="asked for cpu"):
        vmap(lambda p: ops.square_loss(p, p, backend="cpu"))(p)
    with fasttrack.use_backend("reference"):
        assert vmap(ops.square_loss)(p, p).shape == (V,)


def test_compiled_vmap_folds():
    weight, x = made(3, 4, 3), made(V, N, 3, 9, 8)
    mapped = vmap(lambda x: ops.conv_regression(x, weight))
    torch._dynamo.reset()
    assert torch.equal(torch.compile(mapped, fullgraph=True, backend="aot_eager")(x), mapped(x))


FRAME, BOX = torch.zeros(16, 18, 3, dtype=torch.uint8), torch.tensor([[1.0, 2.0, 5.0, 6.0]])
REFUSALS = {
    "spectra": (
        lambda x: ops.FeatureSpectra(x, (3, 3)).response(x[:, :3, :3], None),
        r"FeatureSpectra: no vmap or grad: .*call conv_regression",
    ),
    "learn in place": (
        lambda x: ops.cf_learn_(ops.cf_train(x, x[0]), x, x[0], 0.1).template,
        r"correlation_filter_learn: no vmap: it writes into its arguments; call cf_train and cf_update",
    ),
    "crop into": (
        lambda x: ops.crop_resize(FRAME, BOX, 8, out=torch.zeros(1, 3, 8, 8) + 0 * x.sum()),
        r"crop_resize_into: no vmap: .*call crop_resize without out=",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_vmap_cannot_do_says_what_can(name):
    function, message = REFUSALS[name]
    with pytest.raises(TransformError, match=message) as caught:
        vmap(function)(made(V, 3, 8, 9))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("name", ["hog", "grey", "table", "color names"])
def test_ops_without_a_derivative_refuse_every_mode(name):
    """Never a silent zero: not in reverse, not through vmap, not in forward mode."""
    function, make, in_dims = PLAIN[name]
    arguments = make()
    first = example(arguments, in_dims, 0)

    def total(x):
        return function(x, *first[1:]).sum()

    with pytest.raises(ArgumentError, match="has no gradient: pass"):
        grad(total)(first[0])
    with pytest.raises((TransformError, ArgumentError), match="no gradient"):
        grad(lambda x: vmap(total)(x).sum())(arguments[0])
    with pytest.raises(TransformError, match="no forward mode: it has no derivative"):
        jvp(total, (first[0],), (torch.ones_like(first[0]),))


def test_forward_mode_does_not_leave_an_explicit_backend():
    p = made(4)
    with pytest.raises(TransformError, match="only the reference has tangents, asked for cpu; leave the backend open"):
        jvp(lambda p: ops.square_loss(p, p.detach(), backend="cpu"), (p,), (p,))
    with forward_ad.dual_level(), pytest.raises(TransformError, match="asked for cpu"):
        ops.square_loss(forward_ad.make_dual(p, p), p, backend="cpu")


def test_vmap_of_a_running_average_and_of_brightness():
    """The two ops of correlation filters that the functions above do not reach."""
    x, z, y = made(V, 3, 8, 9), made(V, 3, 8, 9), made(8, 9)

    def averaged(x, z):
        return ops.cf_update(ops.cf_train(x, y), ops.cf_train(z, y), 0.3).coefficients

    assert_same(vmap(averaged)(x, z), torch.stack([averaged(x[i], z[i]) for i in range(V)]), "cf_update")
    model = ops.cf_train(made(1, 1, 16, 16), made(16, 16))
    where, frame = boxes(V, 1), frames()

    def brightness(box):
        return ops.grey_filter_detect(model, frame, box, None, 1)[0]

    assert_same(vmap(brightness)(where), torch.stack([brightness(b) for b in where]), "grey_filter_detect")


def test_every_op_is_tried():
    """Each registered op runs under some vmap here, or is one that refuses it."""
    with recorded_ops() as seen:
        for function, make, in_dims in {**MAPPED, **PLAIN}.values():
            arguments = make()
            vmap(function, in_dims)(*arguments)
            if function not in [f for f, _, _ in PLAIN.values()]:
                places = tuple(range(len(arguments)))
                vmap(grad(lambda *a, f=function: f(*a).sum(), places), in_dims)(*arguments)
    writing = {"correlation_filter_learn", "grey_filter_learn", "crop_resize_into"}
    objects = {"feature_spectra", "conv_regression_problem"}  # which hold memory, and refuse
    # Under vmap another op takes their place, or formulas that can be differentiated again.
    replaced = {"conv_regression_weight_gradient", "ridge_adjoint"}
    others = {"grey_filter_detect", "correlation_filter_update"}  # in tests of their own
    assert set(dispatch.table()) - seen <= writing | objects | replaced | others

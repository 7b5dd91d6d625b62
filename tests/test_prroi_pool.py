"""Hand-computed truths, geometry and messages of the RoI pooling."""

import threading

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fasttrack import nn, ops
from fasttrack.errors import DeviceError, DtypeError, RangeError, RoiIndexError, ShapeError
from fasttrack.spec.prroi_pool import SPECS, grid_rois

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
NAN, INF = float("nan"), float("inf")
QUAD = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def pool(features, box, size, backend="cpu", scale=1.0):
    return ops.prroi_pool(features, torch.tensor([[0.0, *box]]), size, scale, backend=backend)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@BOTH
def test_golden(backend):
    # On [0, 1]² the surface is 1 + x + 2y; the mean of a linear surface over a bin is its value in the middle.
    got = pool(QUAD, (0, 0, 1, 1), 2, backend)
    assert got.tolist() == [[[[1.75, 2.25], [2.75, 3.25]]]]


@BOTH
def test_one_cell_by_hand(backend):
    """The surface of one cell is hat(x)·hat(y): its integral over [−1, 1]² is 1, over a quadrant ¼."""
    one = torch.full((1, 1, 1, 1), 8.0)
    assert pool(one, (-1, -1, 1, 1), 1, backend).item() == pytest.approx(8 / 4)
    assert pool(one, (-1, -1, 1, 1), 2, backend).flatten().tolist() == pytest.approx([8 / 4] * 4)
    # ∫₀^½ hat = ½ − ⅛ = ⅜ along x, and the whole of y: 8·⅜·1 / (½·2).
    assert pool(one, (0, -1, 0.5, 1), 1, backend).item() == pytest.approx(3)


@BOTH
def test_bins_off_the_map(backend):
    """Divided by the whole area; 0 where nothing is met; the surface falls to 0 one cell beyond the map."""
    ones = torch.ones(1, 1, 4, 4)
    # x in [3, 7]: ½ of a cell's fall in the first of two bins, nothing in the second; y inside.
    assert pool(ones, (3, 1, 7, 2), (1, 2), backend).flatten().tolist() == pytest.approx([0.25, 0])
    assert pool(ones, (4, 0, 9, 3), 3, backend).abs().max() == 0
    assert pool(ones, (-40, -40, 40, 40), 1, backend).item() == pytest.approx(16 / 6400)


@BOTH
@pytest.mark.parametrize("box", [(2, 1, 1, 3), (1, 3, 2, 1), (1, 1, 1, 3), (1, 2, 3, 2), (3, 3, 1, 1)])
def test_empty_and_flipped(backend, box):
    features = normal(1, 2, 5, 5).requires_grad_()
    rois = torch.tensor([[0.0, *box]], requires_grad=True)
    out = ops.prroi_pool(features, rois, 3, backend=backend)
    by_features, by_rois = torch.autograd.grad(out.sum(), (features, rois))
    assert out.abs().max() == by_features.abs().max() == by_rois.abs().max() == 0


@BOTH
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("column", [1, 2, 3, 4])
def test_coordinates_that_are_not_finite(backend, bad, column):
    """NaN for that RoI alone, and no gradient from it."""
    features = normal(1, 2, 5, 5).requires_grad_()
    rois = torch.tensor([[0.0, 1, 1, 3, 3], [0.0, 1, 1, 3, 3]])
    rois[1, column] = bad
    rois.requires_grad_()
    out = ops.prroi_pool(features, rois, 2, backend=backend)
    assert out[0].isfinite().all()
    assert out[1].isnan().all()
    by_features, by_rois = torch.autograd.grad(out[0].sum() + out[1].sum(), (features, rois))
    assert by_rois[1].tolist() == [0] * 5
    alone = torch.autograd.grad(ops.prroi_pool(features, rois[:1], 2, backend=backend).sum(), features)[0]
    assert torch.equal(by_features, alone)


@BOTH
def test_huge_coordinates(backend):
    """Beyond what an integer holds: still exact zeros or the whole map over the whole area."""
    ones = torch.ones(1, 1, 4, 4)
    assert pool(ones, (1e30, 0, 2e30, 3), 2, backend).abs().max() == 0
    assert pool(ones, (-3e38, 0, 3e38, 3), 2, backend).isfinite().all()
    assert pool(ones, (-2e30, 0, -1e30, 3), 2, backend).abs().max() == 0


@BOTH
@pytest.mark.parametrize(
    ("index", "shown"), [(2.0, "2"), (-1.0, "-1"), (0.5, "0.5"), (0.002, "0.002"), (NAN, "nan"), (1e30, "1e\\+30")]
)
def test_no_such_image(backend, index, shown):
    rois = torch.tensor([[1.0, 0, 0, 2, 2], [index, 0, 0, 2, 2]])
    wanted = rf"rois\[1, 0\] must be a whole number in 0…1, an image of features, got {shown}"
    with pytest.raises(RoiIndexError, match="prroi_pool: " + wanted):
        ops.prroi_pool(torch.zeros(2, 3, 4, 4), rois, 2, backend=backend)
    with pytest.raises(RoiIndexError, match=wanted):
        ops.prroi_filter_score(torch.zeros(2, 3, 4, 4), rois, torch.zeros(3, 2, 2), backend=backend)


@BOTH
def test_dense_sampling(backend):
    """The mean of many bilinear samples of each bin, as a program without the integral would compute it."""
    features, box, n = normal(1, 3, 6, 7), (-0.8, 1.3, 5.1, 6.4), 400
    padded = torch.nn.functional.pad(features, (2, 2, 2, 2))
    size = (2, 3)
    grid = [
        box[axis] + (box[axis + 2] - box[axis]) * (torch.arange(bins * n, dtype=torch.float64) + 0.5) / (bins * n)
        for axis, bins in ((1, size[0]), (0, size[1]))
    ]
    y, x = (2 * (g + 2) / (length + 3) - 1 for g, length in zip(grid, features.shape[2:], strict=True))
    where = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
    samples = torch.nn.functional.grid_sample(padded.double(), where, align_corners=True)
    truth = samples.view(1, 3, size[0], n, size[1], n).mean((3, 5))
    # The midpoint rule is off by the square of its step at each fold of the surface.
    assert torch.allclose(pool(features, box, size, backend).double(), truth, atol=1e-5)
    assert not torch.allclose(pool(features, box, size, backend, 1.001).double(), truth, atol=1e-5)


@BOTH
def test_tiny_bins_keep_their_digits(backend):
    """Bins of 10⁻⁶ cells, in double coordinates: the value of the surface, not a difference of round-offs."""
    rois = torch.tensor([[0, 0.25, 0.5, 0.25 + 3e-6, 0.5 + 2e-6]], dtype=torch.float64)
    got = ops.prroi_pool(QUAD, rois, (2, 3), backend=backend)
    assert torch.allclose(got, torch.full((1, 1, 2, 3), 2.25), rtol=4e-6)


boxes = st.tuples(*[st.floats(-6, 14, width=32)] * 2, *[st.floats(0.0625, 12, width=32)] * 2)
bins = st.integers(1, 6)
PROPERTY = settings(max_examples=60, deadline=None)


def corners(box):
    x, y, w, h = box
    return x, y, x + w, y + h


@PROPERTY
@given(box=boxes, p=bins, q=bins, dx=st.integers(0, 3), dy=st.integers(0, 3))
def test_translation_by_whole_cells(box, p, q, dx, dy):
    features = torch.zeros(1, 3, 20, 20)
    features[:, :, 4:12, 4:12] = normal(1, 3, 8, 8)
    moved = features.roll((dy, dx), (2, 3))
    x1, y1, x2, y2 = corners(box)
    got = pool(moved, (x1 + dx, y1 + dy, x2 + dx, y2 + dy), (p, q))
    assert torch.allclose(got, pool(features, (x1, y1, x2, y2), (p, q)), atol=2e-5)


@PROPERTY
@given(box=boxes, p=bins, q=bins)
def test_bins_add_up(box, p, q):
    """The mean of the bins is the bin of the whole RoI."""
    features, whole = normal(1, 4, 9, 11), corners(box)
    parts = pool(features, whole, (p, q)).double().mean((2, 3))
    assert torch.allclose(parts, pool(features, whole, 1).double().view(1, 4), atol=1e-6)


@PROPERTY
@given(box=boxes, cut=st.floats(0.1, 0.9))
def test_parts_of_a_roi_add_up(box, cut):
    """The area-weighted mean of two halves is the whole, wherever it is cut."""
    features = normal(1, 4, 9, 11)
    x1, y1, x2, y2 = corners(box)
    middle = float(torch.tensor(x1 + cut * (x2 - x1)))
    assume(x1 < middle < x2)
    share = (middle - x1) / (x2 - x1)
    left, right = pool(features, (x1, y1, middle, y2), 1), pool(features, (middle, y1, x2, y2), 1)
    whole = pool(features, (x1, y1, x2, y2), 1)
    assert torch.allclose(share * left + (1 - share) * right, whole, atol=2e-5)


@PROPERTY
@given(box=boxes, p=bins, q=bins, power=st.integers(-4, 4))
def test_scale_is_a_change_of_units(box, p, q, power):
    features, edges, scale = normal(1, 2, 9, 11), corners(box), 2.0**power
    scaled = pool(features, [v / scale for v in edges], (p, q), scale=scale)
    assert torch.equal(scaled, pool(features, edges, (p, q)))


@PROPERTY
@given(box=boxes, p=bins, q=bins)
def test_constant_and_mirrored_maps(box, p, q):
    features = normal(1, 2, 9, 9)
    x1, y1, x2, y2 = corners(box)
    mirrored = pool(features.flip(3), (8 - x2, y1, 8 - x1, y2), (p, q)).flip(3)
    assert torch.allclose(mirrored, pool(features, (x1, y1, x2, y2), (p, q)), atol=2e-5)
    transposed = pool(features.transpose(2, 3), (y1, x1, y2, x2), (q, p)).transpose(2, 3)
    assert torch.allclose(transposed, pool(features, (x1, y1, x2, y2), (p, q)), atol=1e-6)
    if x1 >= 0 and y1 >= 0 and x2 <= 8 and y2 <= 8:
        assert torch.allclose(pool(torch.ones(1, 1, 9, 9), (x1, y1, x2, y2), (p, q)), torch.ones(()), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 32, 37, 96])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_formats(channels, layout):
    features = normal(2, channels, 9, 11)
    rois = torch.tensor([[0.0, 1.3, -0.4, 7.7, 6.1], [1.0, 0.2, 0.3, 9.9, 8.8]])
    other = features.to(memory_format=layout).requires_grad_()
    got = ops.prroi_pool(other, rois, (3, 5), backend="cpu")
    truth = ops.prroi_pool(features.double(), rois, (3, 5))
    assert torch.allclose(got.double(), truth, atol=2e-6)
    assert got.is_contiguous()
    crop = ops.prroi_pool(features[:, ::2, 1:, 1:], rois, 2, backend="cpu")
    assert torch.equal(crop, ops.prroi_pool(features[:, ::2, 1:, 1:].contiguous(), rois, 2, backend="cpu"))


def test_grid_is_its_expanded_rois():
    spec = next(s for s in SPECS if s.name == "prroi_pool_grid")
    for case in spec.cases:
        arguments = case.make()
        features, columns, rows = (arguments[n] for n in ("features", "boxes_x", "boxes_y"))
        got = ops.prroi_pool_grid(**arguments)
        columns, rows = (b.expand(features.shape[0], *b.shape[-2:]) for b in (columns, rows))
        assert torch.equal(ops.prroi_grid_rois(columns, rows), grid_rois(columns, rows))
        for n in range(features.shape[0]):
            for gy in range(rows.shape[1]):
                for gx in range(columns.shape[1]):
                    box = (columns[n, gx, 0], rows[n, gy, 0], columns[n, gx, 1], rows[n, gy, 1])
                    one = pool(features[n : n + 1], box, arguments["output_size"], scale=arguments["spatial_scale"])
                    assert torch.allclose(got[n, gy, gx], one[0], atol=1e-6)


def test_shared_rows_change_nothing():
    """RoIs pooled together in y give the same bits as each alone, in any order."""
    spec = SPECS[0]
    arguments = next(c for c in spec.cases if c.name == "shared").make()
    together = ops.prroi_pool(**arguments, backend="cpu")
    alone = [ops.prroi_pool(**{**arguments, "rois": r[None]}, backend="cpu") for r in arguments["rois"]]
    assert torch.equal(together, torch.cat(alone))
    order = torch.randperm(len(alone), generator=torch.Generator().manual_seed(1))
    shuffled = ops.prroi_pool(**{**arguments, "rois": arguments["rois"][order]}, backend="cpu")
    assert torch.equal(shuffled, together[order])


def bench_sized(seed=0):
    rois = torch.rand(400, 5, generator=torch.Generator().manual_seed(seed)) * 14
    rois[:, 0] = torch.arange(400) % 3
    rois[:, 3:] += rois[:, 1:3]
    return normal(3, 70, 17, 19, seed=seed), rois, normal(400, 70, 4, 4, seed=seed + 1)


def all_results(features, rois, grad):
    leaves = [features.clone().requires_grad_(), rois.clone().requires_grad_()]
    out = ops.prroi_pool(*leaves, 4, 0.9, backend="cpu")
    weight = normal(70, 4, 4).requires_grad_()
    score = ops.prroi_filter_score(*leaves, weight, 0.9, backend="cpu")
    of_score = torch.autograd.grad(score, [*leaves, weight], grad[:, 0, 0, 0])
    return [out.detach(), *torch.autograd.grad(out, leaves, grad), score.detach(), *of_score]


def test_same_bits_on_any_number_of_threads():
    """The pooling is deterministic; the products of torch in the scores are not promised to be."""
    arguments, before, results = bench_sized(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(all_results(*arguments))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0][:3], other[:3], strict=True))
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(results[0][3:], other[3:], strict=True))


def test_eight_threads_at_once():
    truth, wrong = [all_results(*bench_sized(seed)) for seed in range(2)], []

    def work(seed):
        got = all_results(*bench_sized(seed))
        if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(got, truth[seed], strict=True)):
            wrong.append(seed)

    workers = [threading.Thread(target=work, args=(i % 2,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_messages():
    features, rois = torch.zeros(1, 3, 4, 4), torch.zeros(2, 5)
    with pytest.raises(ShapeError, match=r"prroi_pool: features must be \(N, C, H, W\), got shape \(3, 4, 4\)"):
        ops.prroi_pool(features[0], rois, 2)
    with pytest.raises(
        ShapeError, match=r"rois must be \(K, 5\), rows \(image index, x1, y1, x2, y2\), got shape \(2, 4"
    ):
        ops.prroi_pool(features, rois[:, 1:], 2)
    with pytest.raises(DtypeError, match=r"rois must be float32 or float64, got torch.float16"):
        ops.prroi_pool(features, rois.half(), 2)
    with pytest.raises(DtypeError, match=r"features must be a torch.Tensor, got list"):
        ops.prroi_pool([1.0], rois, 2)
    with pytest.raises(DeviceError, match=r"rois must be on the device of features, cpu, got meta"):
        ops.prroi_pool(features, rois.to("meta"), 2)
    for size in (0, (2, 0), (1, 2, 3), 1.5):
        with pytest.raises(RangeError, match=r"output_size must be one int ≥ 1 or two, \(P, Q\), got"):
            ops.prroi_pool(features, rois, size)
        with pytest.raises(RangeError, match=r"prroi_linear_score: output_size must be one int ≥ 1 or two"):
            ops.prroi_linear_score(features, rois, torch.zeros(2, 12), torch.zeros(2), size)
    for scale in (0.0, -1.0, NAN, INF):
        with pytest.raises(RangeError, match=r"spatial_scale must be a finite number > 0, got"):
            ops.prroi_pool(features, rois, 2, scale)
    with pytest.raises(
        ShapeError, match=r"prroi_pool_grid: boxes_x must be \(G, 2\) or \(N, G, 2\), .*got shape \(3, 3\)"
    ):
        ops.prroi_pool_grid(features, torch.zeros(3, 3), torch.zeros(3, 2), 2)
    with pytest.raises(ShapeError, match=r"boxes_y must be .* N the images of features, got shape \(2, 3, 2\)"):
        ops.prroi_pool_grid(features, torch.zeros(3, 2), torch.zeros(2, 3, 2), 2)
    with pytest.raises(DtypeError, match=r"boxes_y must be of the dtype of boxes_x, torch.float32, got torch.float64"):
        ops.prroi_pool_grid(features, torch.zeros(3, 2), torch.zeros(3, 2).double(), 2)
    with pytest.raises(
        ShapeError, match=r"prroi_grid_rois: boxes_y must be of 2 images, as boxes_x, got shape \(3, 2\)"
    ):
        ops.prroi_grid_rois(torch.zeros(2, 3, 2), torch.zeros(3, 2))
    with pytest.raises(ShapeError, match=r"prroi_filter_score: weight must be \(3, 'P', 'Q'\) for features of shape"):
        ops.prroi_filter_score(features, rois, torch.zeros(4, 2, 2))
    with pytest.raises(ShapeError, match=r"weight_fc must be \(D, C·P·Q\) with C·P·Q = 3·2·2, got shape \(5, 11\)"):
        ops.prroi_linear_score(features, rois, torch.zeros(5, 11), torch.zeros(5), 2)
    with pytest.raises(ShapeError, match=r"weight_ridge must be \(5,\), the D of weight_fc, got shape \(4,\)"):
        ops.prroi_linear_score(features, rois, torch.zeros(5, 12), torch.zeros(4), 2)


def test_error_type_is_an_index_error():
    with pytest.raises(IndexError):
        ops.prroi_pool(torch.zeros(0, 3, 4, 4), torch.zeros(1, 5), 2)


@BOTH
def test_empty_sizes(backend):
    assert ops.prroi_pool(torch.zeros(0, 3, 4, 4), torch.zeros(0, 5), 2, backend=backend).shape == (0, 3, 2, 2)
    assert ops.prroi_pool(torch.zeros(1, 0, 4, 4), torch.zeros(2, 5), 2, backend=backend).shape == (2, 0, 2, 2)
    box = torch.tensor([[0.0, 0, 0, 2, 2]])
    assert ops.prroi_pool(torch.zeros(1, 3, 0, 4), box, 2, backend=backend).abs().max() == 0


def test_module_is_its_function():
    module = nn.PrRoIPool2D(3, 2, 1 / 16)
    features, rois = normal(1, 4, 6, 7), torch.tensor([[0.0, 10, 12, 80, 90]])
    assert torch.equal(module(features, rois), ops.prroi_pool(features, rois, (3, 2), 1 / 16))
    assert not module.state_dict()
    assert repr(module) == "PrRoIPool2D(3, 2, spatial_scale=0.0625)"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("channels", "size"), [(64, (8, 8)), (128, (4, 4)), (68, (4, 8)), (65, (8, 8)), (64, (9, 7))])
def test_large_outputs_are_written_past_the_caches(channels, size, shared):
    """The path of outputs beyond 8 MB gives the bits of the ordinary one, whole blocks or not, in rows or alone."""
    features = normal(1, channels, 10, 12)
    rois = torch.rand(1100, 5, generator=torch.Generator().manual_seed(5)) * 9
    rois[:, 0] = 0
    rois[:, 2::2] = rois[::25, 2::2].repeat_interleave(25, 0) if shared else rois[:, 2::2]
    rois[:, 3:] += rois[:, 1:3]
    large = ops.prroi_pool(features, rois, size, backend="cpu")
    assert large.numel() > 2**21
    parts = [ops.prroi_pool(features, part, size, backend="cpu") for part in rois.split(275)]
    assert torch.equal(large, torch.cat(parts))

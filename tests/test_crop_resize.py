"""Hand-computed truths, borders, strides and messages of crop_resize."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrack import ops
from fasttrack.errors import ArgumentError, BoxError, DeviceError, DtypeError, RangeError, ShapeError
from fasttrack.spec.crop_resize import SPECS

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
SPEC = SPECS[0]


def frame_of(height=31, width=45, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, channels), generator=generator, dtype=torch.uint8)


def box(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


@BOTH
def test_by_hand(backend):
    # A row 10, 20, 50 stretched from 3 to 6 samples: they sit at −¼, ¼, ¾, 1¼, 1¾, 2¼.
    frame = torch.tensor([[10, 20, 50]], dtype=torch.uint8)
    got = ops.crop_resize(frame, box((0, 0, 3, 1)), (1, 6), backend=backend)
    assert got.flatten().tolist() == [10.0, 12.5, 17.5, 27.5, 42.5, 50.0]
    got = ops.crop_resize(frame, box((0, 0, 3, 1)), (1, 6), border="constant", backend=backend)
    assert got.flatten().tolist() == [7.5, 12.5, 17.5, 27.5, 42.5, 37.5]
    # Two samples left of the frame: black, and half a pixel into it.
    got = ops.crop_resize(frame, box((-2.5, 0, 3, 1)), (1, 3), border="constant", backend=backend)
    assert got.flatten().tolist() == [0.0, 0.0, 5.0]


@BOTH
def test_mean_and_std_apply_to_the_black_border_too(backend):
    frame = torch.full((4, 4, 3), 110, dtype=torch.uint8)
    options = {"mean": (100.0, 90.0, 110.0), "std": (10.0, 4.0, 1.0), "border": "constant", "backend": backend}
    got = ops.crop_resize(frame, box((0, 0, 4, 4), (50, 50, 4, 4)), 2, **options)
    assert got[0, :, 0, 0].tolist() == pytest.approx([1.0, 5.0, 0.0], abs=1e-5)
    assert got[1, :, 1, 1].tolist() == pytest.approx([-10.0, -22.5, -110.0], rel=1e-6)
    one = ops.crop_resize(frame, box((0, 0, 4, 4)), 2, mean=100.0, std=10.0, backend=backend)
    assert torch.allclose(one, torch.ones_like(one), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(0, 26), st.integers(1, 45), st.integers(1, 31), st.booleans(), st.booleans())
def test_aligned_box_returns_its_pixels(x, y, w, h, grey, constant):
    frame = frame_of(channels=1 if grey else 3)
    w, h = min(w, 45 - x), min(h, 31 - y)
    border = "constant" if constant else "replicate"
    got = ops.crop_resize(frame, box((x, y, w, h)), (h, w), border=border, backend="cpu")
    assert torch.equal(got[0], frame[y : y + h, x : x + w].permute(2, 0, 1).float())


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0, 20), st.floats(0, 12), st.floats(0.5, 24), st.floats(0.5, 16), st.integers(1, 70), st.integers(1, 70)
)
def test_ramp_is_exact_inside(x, y, w, h, out_w, out_h):
    """On a linear image the bilinear surface is the image: sample = position."""
    frame = (3 * torch.arange(45)[None, :] + 2 * torch.arange(31)[:, None]).to(torch.uint8)
    got = ops.crop_resize(frame, box((x, y, w, h)), (out_h, out_w), backend="cpu")[0, 0].double()
    u = (x + (torch.arange(out_w).double() + 0.5) * w / out_w - 0.5).clamp(0, 44)
    v = (y + (torch.arange(out_h).double() + 0.5) * h / out_h - 0.5).clamp(0, 30)
    truth = 3 * u[None, :] + 2 * v[:, None]
    assert (got - truth).abs().max() < 5e-5
    assert (got - (truth + 3e-3)).abs().max() > 5e-5


@pytest.mark.parametrize("border", ["replicate", "constant"])
@pytest.mark.parametrize("height", [1, 2, 3, 24])
@pytest.mark.parametrize("width", [1, 2, 3, 17])
def test_small_frames_and_far_boxes(border, height, width):
    frame = frame_of(height, width)
    boxes = box(
        (-3, -2, width + 6, height + 6), (1e7, -1e7, 5, 5), (-1e300, 0, 1e300, 9), (0, 0, width, height), (0, 0, 1, 1)
    )
    arguments = {"frame": frame, "boxes": boxes, "size": (9, 21), "border": border}
    got, truth = ops.crop_resize(**arguments, backend="cpu"), SPEC.truth(arguments)
    assert SPEC.tolerance[torch.float64].admits(got, truth)


def test_nothing_beyond_the_frame_is_read():
    """The kernel fetches 8 bytes per pixel: at the last rows it must not touch what follows the frame."""
    store = torch.full((40 * 60 * 3,), 255, dtype=torch.uint8)
    frame = store[: 20 * 30 * 3].view(20, 30, 3).zero_()
    got = ops.crop_resize(frame, box((-4, -4, 40, 30), (20, 10, 10, 10)), 33, backend="cpu")
    assert torch.equal(got, torch.zeros_like(got))


@pytest.mark.parametrize("layout", ["planar", "column_major", "cut", "wide_pixels", "expanded", "rgba_view"])
def test_strides(layout):
    plain = frame_of(24, 34)
    if layout == "planar":
        frame = plain.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    elif layout == "column_major":
        frame = plain.permute(1, 0, 2).contiguous().permute(1, 0, 2)
    elif layout == "cut":
        frame = frame_of(60, 70)[11:35, 13:47]
    elif layout == "wide_pixels":
        frame = frame_of(24, 68)[:, ::2]
    elif layout == "expanded":
        frame = plain[:1].expand(24, 34, 3)
    else:
        frame = torch.randint(0, 256, (24, 34, 4), dtype=torch.uint8)[..., :3]
    boxes = box((-3.5, 2.25, 30, 21), (5, 5, 34, 24), (0, 0, 34, 24))
    got = ops.crop_resize(frame, boxes, (13, 19), backend="cpu")
    assert torch.equal(got, ops.crop_resize(frame.contiguous(), boxes, (13, 19), backend="cpu"))


def test_numpy_view_is_not_copied():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    frame = torch.from_numpy(image)
    before = ops.crop_resize(frame, box((0, 0, 30, 20)), (20, 30))
    image[...] = 255 - image
    assert torch.equal(ops.crop_resize(frame, box((0, 0, 30, 20)), (20, 30)), 255 - before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions_are_float64(dtype):
    """Far from the origin a float32 position would be off by whole grey levels."""
    frame = torch.zeros(2, 40000, dtype=torch.uint8)
    frame[:, 1::2] = 200
    boxes = torch.tensor([[39000.125, 0.0, 7.0, 2.0]], dtype=dtype)
    arguments = {"frame": frame, "boxes": boxes, "size": (2, 64)}
    assert SPEC.tolerance[dtype].admits(ops.crop_resize(**arguments, backend="cpu"), SPEC.truth(arguments))


def test_same_result_on_any_number_of_threads():
    frame, before = frame_of(240, 320), torch.get_num_threads()
    for boxes in (box((10.5, 20.5, 250.0, 180.0)), torch.cat([box((5.0 + k, 3.5, 90.0, 77.0)) for k in range(7)])):
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(ops.crop_resize(frame, boxes, (171, 193), backend="cpu"))
        torch.set_num_threads(before)
        assert torch.equal(*results)


@BOTH
@pytest.mark.parametrize("border", ["replicate", "constant"])
def test_out_is_overwritten_and_returned(backend, border):
    frame, boxes = frame_of(), box((-3.5, 2.25, 30, 21), (5, 5, 34, 24))
    arguments = {"frame": frame, "boxes": boxes, "size": (13, 19), "border": border, "mean": 100.0, "std": 50.0}
    out = torch.full((2, 3, 13, 19), float("nan"))
    assert ops.crop_resize(**arguments, out=out, backend=backend) is out
    assert torch.equal(out, ops.crop_resize(**arguments, backend=backend))
    view = torch.full((4, 3, 13, 19), -7.0)
    ops.crop_resize(**arguments, out=view[1:3], backend=backend)
    assert torch.equal(view[1:3], out)
    assert (view[[0, 3]] == -7).all()
    kept = out.clone()
    with pytest.raises(BoxError):
        ops.crop_resize(frame, box((1, 1, 4, 4), (1, 1, -1, 4)), (13, 19), out=out, backend=backend)
    assert torch.equal(out, kept)


def test_out_under_compile():
    frame, boxes = frame_of(), box((-3.5, 2.25, 30, 21))

    def crop(frame, boxes, out):
        return ops.crop_resize(frame, boxes, (13, 19), out=out) + 1

    out = torch.zeros(1, 3, 13, 19)
    got = torch.compile(crop, fullgraph=True, backend="aot_eager")(frame, boxes, out)
    wanted = ops.crop_resize(frame, boxes, (13, 19))
    assert torch.equal(out, wanted)
    assert torch.equal(got, wanted + 1)


def test_messages_of_out():
    frame, boxes = frame_of(), box((1, 1, 4, 4))
    with pytest.raises(ShapeError, match=r"out must be contiguous, of shape \(1, 3, 5, 5\), got shape \(1, 3, 5, 6\)"):
        ops.crop_resize(frame, boxes, 5, out=torch.empty(1, 3, 5, 6))
    with pytest.raises(ShapeError, match=r"out must be contiguous, .* strides \(75, 1, 15, 3\)"):
        ops.crop_resize(frame, boxes, 5, out=torch.empty(1, 3, 5, 5).contiguous(memory_format=torch.channels_last))
    with pytest.raises(DtypeError, match=r"crop_resize: out must be float32, got torch.float64"):
        ops.crop_resize(frame, boxes, 5, out=torch.empty(1, 3, 5, 5, dtype=torch.float64))
    with pytest.raises(DeviceError, match=r"out must be on the device of frame, cpu, got meta"):
        ops.crop_resize(frame, boxes, 5, out=torch.empty(1, 3, 5, 5, device="meta"))
    with pytest.raises(ArgumentError, match=r"out must be a tensor that asks for no gradient"):
        ops.crop_resize(frame, boxes, 5, out=torch.empty(1, 3, 5, 5, requires_grad=True))
    store = torch.zeros(4096, dtype=torch.uint8)
    with pytest.raises(ArgumentError, match=r"out must be memory of its own, got memory of frame or boxes"):
        shared = store[: 3 * 25 * 4].view(torch.float32).view(1, 3, 5, 5)
        ops.crop_resize(store[1024:].view(32, 32, 3), boxes, 5, out=shared)


@BOTH
def test_bad_boxes(backend):
    frame = frame_of()
    for bad in ((float("nan"), 0, 4, 4), (0, float("inf"), 4, 4), (0, 0, 0, 4), (0, 0, 4, -1), (0, 0, float("nan"), 1)):
        with pytest.raises(BoxError, match=r"crop_resize: boxes\[1\] must be finite x, y, w, h with w > 0 and h > 0"):
            ops.crop_resize(frame, box((1, 1, 4, 4), bad), 5, backend=backend)
    with pytest.raises(BoxError, match=r"got \(2, 3, 0, 4\)"):
        ops.crop_resize(frame, box((2, 3, 0, 4)), 5, backend=backend)


def test_messages():
    frame, boxes = frame_of(), box((1, 1, 4, 4))
    with pytest.raises(DtypeError, match=r"crop_resize: frame must be uint8, got torch.float32"):
        ops.crop_resize(frame.float(), boxes, 5)
    with pytest.raises(DtypeError, match=r"frame must be a torch.Tensor, got ndarray"):
        ops.crop_resize(frame.numpy(), boxes, 5)
    with pytest.raises(ShapeError, match=r"frame must be \(H, W, 3\), .* got shape \(3, 31, 45\)"):
        ops.crop_resize(frame.permute(2, 0, 1), boxes, 5)
    with pytest.raises(ShapeError, match=r"frame must be .*H, W ≥ 1, got shape \(0, 45, 3\)"):
        ops.crop_resize(frame[:0], boxes, 5)
    with pytest.raises(DtypeError, match=r"boxes must be float32 or float64, got torch.int64"):
        ops.crop_resize(frame, boxes.long(), 5)
    with pytest.raises(ShapeError, match=r"boxes must be \(K, 4\), got shape \(4,\)"):
        ops.crop_resize(frame, boxes[0], 5)
    with pytest.raises(ShapeError, match=r"boxes must be \(K, 4\), rows \(x, y, w, h\), got shape \(1, 3\)"):
        ops.crop_resize(frame, boxes[:, :3], 5)
    with pytest.raises(DeviceError, match=r"boxes must be on the device of frame, cpu, got meta"):
        ops.crop_resize(frame, boxes.to("meta"), 5)
    with pytest.raises(ArgumentError, match=r"crop_resize has no gradient: pass boxes.detach\(\)"):
        ops.crop_resize(frame, boxes.requires_grad_(), 5)
    boxes = boxes.detach()
    for size in (0, (5, 0), (5,), (5, 5, 5), 2.5, (2.5, 3)):
        with pytest.raises(RangeError, match=r"size must be one int ≥ 1 or two, \(out_h, out_w\), got"):
            ops.crop_resize(frame, boxes, size)
    with pytest.raises(RangeError, match=r"border must be one of 'replicate', 'constant', got 'wrap'"):
        ops.crop_resize(frame, boxes, 5, border="wrap")
    with pytest.raises(ShapeError, match=r"mean must be one number or 3, one per channel, got 2 numbers"):
        ops.crop_resize(frame, boxes, 5, mean=(1.0, 2.0))
    with pytest.raises(RangeError, match=r"mean must be finite, got nan"):
        ops.crop_resize(frame, boxes, 5, mean=float("nan"))
    with pytest.raises(RangeError, match=r"std must be a finite number > 0, got 0.0"):
        ops.crop_resize(frame, boxes, 5, std=(1.0, 0.0, 1.0))


@BOTH
def test_averages_by_hand(backend):
    """Two rows 0, 1, 10, 20, 7 | 1, 1, 11, 20, 9 in blocks of 2 × 2: 0.75 and 15.25, the last column goes."""
    frame = torch.tensor([[0, 1, 10, 20, 7], [1, 1, 11, 20, 9]], dtype=torch.uint8)
    got = ops.crop_resize(frame, box((0, 0, 4, 2)), (1, 2), antialias=True, backend=backend)
    assert got.flatten().tolist() == [1.0, 15.0]
    half = torch.tensor([[3, 4], [3, 4]], dtype=torch.uint8)  # 3.5: up
    assert ops.crop_resize(half, box((0, 0, 2, 2)), 1, antialias=True, backend=backend).item() == 4.0
    assert ops.crop_resize(half, box((0, 0, 1.9, 2)), 1, antialias=True, backend=backend).item() == pytest.approx(3.45)


@pytest.mark.parametrize("border", ["replicate", "constant"])
@pytest.mark.parametrize("channels", [1, 3])
def test_averages_of_any_side_are_the_reference_s(border, channels):
    """Sides 1 to 256 and above, in the frame, over its edge and beside it; uneven ones in one call."""
    frame = frame_of(700, 531, channels)
    boxes = box(*((5.0 * s - 40, 90 - s, 4.3 * s, 5.9 * s) for s in (1.5, 2, 3, 4, 6, 16, 17, 60, 255, 256, 300, 900)))
    arguments = {"frame": frame, "boxes": boxes, "size": (5, 4), "border": border, "antialias": True}
    got, truth = ops.crop_resize(**arguments, backend="cpu"), SPEC.truth(arguments)
    assert SPEC.tolerance[torch.float64].admits(got, truth)
    for k in range(len(boxes)):
        alone = ops.crop_resize(**{**arguments, "boxes": boxes[k : k + 1]}, backend="cpu")
        assert (got[k] - alone[0]).abs().max() < 1e-4
    assert not SPEC.tolerance[torch.float64].admits(ops.crop_resize(**{**arguments, "antialias": False}), truth)


@pytest.mark.parametrize("side", [2, 3, 7, 100, 256])
def test_averages_are_rounded_exactly(side):
    """Sums around every tie: blocks of k and k + 1 in all proportions next to the half."""
    n = side * side
    frame = torch.full((side, side * 4), 254, dtype=torch.uint8).view(side, 4, side)
    for block, more in enumerate((n // 2 - 1, n // 2, (n + 1) // 2, n)):
        one = torch.full((n,), 254, dtype=torch.uint8)
        one[:more] += 1
        frame[:, block] = one.view(side, side)
    frame = frame.reshape(side, 4 * side)
    got = ops.crop_resize(frame, box((0, 0, 4 * side, side)), (1, 4), antialias=True, backend="cpu")
    truth = SPEC.truth({"frame": frame, "boxes": box((0, 0, 4 * side, side)), "size": (1, 4), "antialias": True})
    assert torch.equal(got.double(), truth)
    assert got.flatten().tolist()[::3] == [254.0, 255.0]


def test_averages_on_any_number_of_threads_and_strides():
    frame, before = frame_of(900, 1200), torch.get_num_threads()
    boxes = box((10.5, 20.5, 1100.0, 800.0), (50.0, 100.0, 700.0, 600.0))
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(ops.crop_resize(frame, boxes, (171, 193), antialias=True, backend="cpu"))
    torch.set_num_threads(before)
    assert torch.equal(*results)
    planar = frame.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(ops.crop_resize(planar, boxes, (171, 193), antialias=True, backend="cpu"), results[0])

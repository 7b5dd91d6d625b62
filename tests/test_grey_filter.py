"""The whole against its steps, bit for bit; targets, windows, frames and messages of grey_filter."""

import pytest
import torch

from fasttrack import ops
from fasttrack.errors import ArgumentError, BackendUnavailable, BoxError, DtypeError, RangeError, ShapeError
from fasttrack.vision.labels import gaussian_map, hann_window

BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])
KERNELS = pytest.mark.parametrize("kernel", ["linear", "gaussian"])
SIZE = (24, 30)
BOXES = ((12.25, 8.5, 33.0, 25.5), (-6.5, 20.0, 71.0, 60.0), (40.0, 30.25, 95.0, 76.0))


def frame_of(height=90, width=130, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, channels), generator=generator, dtype=torch.uint8)


def rows(*boxes, move=0.0):
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) + torch.tensor([move, move, 0, 0]).double()


def label_of(*size):
    return gaussian_map(size, torch.tensor([[(n - 1) / 2 for n in size]]), (1.5, 1.5))[0]


def maps_of(frame, boxes, size=SIZE, cell=1, backend="cpu"):
    patch = size[0] * cell, size[1] * cell
    return ops.grey(ops.crop_resize(frame, boxes, patch, antialias=True, backend=backend), cell, backend=backend)


def trained(kernel, backend="cpu", cell=1):
    return ops.cf_train(
        maps_of(frame_of(), rows(*BOXES), SIZE, cell, backend), label_of(*SIZE), 0.01, kernel, 0.5, hann_window(SIZE)
    )


@BOTH
@KERNELS
@pytest.mark.parametrize("cell", [1, 2])
@pytest.mark.parametrize("scales", [1, 3])
def test_detection_is_its_steps(kernel, backend, cell, scales):
    model, frame, window = trained(kernel, cell=cell), frame_of(seed=1), hann_window(SIZE)
    boxes = torch.cat([rows(box, move=2.0 * s) for box in BOXES for s in range(scales)])
    response, table = ops.grey_filter_detect(model, frame, boxes, window, cell, backend=backend)
    maps = maps_of(frame, boxes, SIZE, cell, backend).unflatten(0, (3, scales))
    wanted = ops.cf_detect(model, maps, window, backend=backend)
    assert response.shape == (3, scales, *SIZE)
    assert torch.equal(response, wanted)
    assert torch.equal(table, ops.response_table(wanted.flatten(0, 1), backend=backend))


@BOTH
@KERNELS
@pytest.mark.parametrize("targets", [None, (2, 0), (1,), ()])
def test_learning_is_its_steps(kernel, backend, targets):
    window, label, frame = hann_window(SIZE), label_of(*SIZE), frame_of(seed=1)
    places = [0, 1, 2] if targets is None else list(targets)
    boxes = rows(*(BOXES[k] for k in places))
    whole, steps = trained(kernel), trained(kernel)
    memory = whole.template.data_ptr(), whole.coefficients.data_ptr()
    again = ops.grey_filter_learn_(whole, frame, boxes, label, 0.3, 0.02, window, targets, backend=backend)
    assert again is whole and (whole.template.data_ptr(), whole.coefficients.data_ptr()) == memory
    maps = maps_of(frame, boxes, backend=backend)
    ops.cf_learn_(steps, maps, label, 0.3, 0.02, window, targets, backend=backend)
    for field in ("template", "coefficients"):
        assert torch.equal(getattr(whole, field), getattr(steps, field))
        if places:  # canary: nothing learnt
            assert not torch.equal(getattr(whole, field), getattr(trained(kernel), field))


@KERNELS
def test_the_peak_is_where_the_window_moved(kernel):
    """A window moved by (4, 4) px sees the target four cells up and left of the middle."""
    frame, label, window = frame_of(), label_of(*SIZE), hann_window(SIZE)
    box = rows((30.0, 40.0, float(SIZE[1]), float(SIZE[0])))
    moved = box + torch.tensor([4.0, 4.0, 0, 0]).double()
    home = (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2
    _, table = ops.grey_filter(frame, box, moved, label, 1e-3, kernel, 0.5, window)
    assert table[0, :2].tolist() == pytest.approx([home[0] - 4, home[1] - 4], abs=0.5)


@pytest.mark.parametrize("layout", ["grey", "one_channel", "expanded", "planar", "cut"])
def test_layouts_of_frames(layout):
    model, window, boxes = trained("linear"), hann_window(SIZE), rows(*BOXES)
    frame = frame_of(90, 130, 1, seed=3)
    frame = {
        "grey": frame[..., 0],
        "one_channel": frame,
        "expanded": frame.expand(-1, -1, 3),
        "planar": frame_of(3, 90, 130, seed=4).permute(1, 2, 0),
        "cut": frame_of(120, 170, 3, seed=5)[7:97, 9:139],
    }[layout]
    got, _ = ops.grey_filter_detect(model, frame, boxes, window, backend="cpu")
    truth, _ = ops.grey_filter_detect(model, frame.contiguous(), boxes, window, backend="reference")
    torch.testing.assert_close(got, truth, rtol=1e-3, atol=1e-4)


def test_nothing_is_written_for_a_bad_box():
    model, frame, label = trained("linear"), frame_of(), label_of(*SIZE)
    before = model.template.clone()
    bad = rows(*BOXES)
    bad[1, 2] = -1.0
    with pytest.raises(BoxError, match=r"boxes\[1\] must be finite x, y, w, h with w > 0"):
        ops.grey_filter_learn_(model, frame, bad, label, 0.5)
    with pytest.raises(BoxError, match=r"boxes\[1\]"):
        ops.grey_filter_detect(model, frame, bad)
    assert torch.equal(model.template, before)


def test_other_sizes_run_on_the_reference():
    size = (22, 26)
    arguments = frame_of(), rows((10.0, 10.0, 30.0, 28.0)), rows((11.0, 12.0, 30.0, 28.0)), label_of(*size)
    response, _ = ops.grey_filter(*arguments)
    assert torch.equal(response, ops.grey_filter(*arguments, backend="reference")[0])
    with pytest.raises(BackendUnavailable, match="prime factors above 5, got height 22"):
        ops.grey_filter(*arguments, backend="cpu")


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ShapeError, r"boxes must be as many for each of the model's 3 targets", {"boxes": rows(*BOXES, BOXES[0])}),
        (ShapeError, r"boxes must be \(K, 4\)", {"boxes": torch.zeros(3, 3)}),
        (DtypeError, "frame must be uint8", {"frame": torch.zeros(9, 9, 3)}),
        (ShapeError, r"window must be \(24, 30\), got shape \(30, 24\)", {"window": torch.ones(30, 24)}),
        (DtypeError, "window must be float32", {"window": torch.ones(SIZE, dtype=torch.float64)}),
        (RangeError, "cell_size must be an int ≥ 1, got 0", {"cell_size": 0}),
        (ArgumentError, "pass boxes.detach", {"boxes": rows(*BOXES).requires_grad_()}),
    ],
)
def test_messages_of_detection(error, message, change):
    arguments = {"model": trained("linear"), "frame": frame_of(), "boxes": rows(*BOXES), **change}
    with pytest.raises(error, match=message):
        ops.grey_filter_detect(**arguments)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ShapeError, r"boxes must be \(2, 4\), one row for each target that learns", {"targets": [0, 1]}),
        (RangeError, r"targets must be some of 0..2, each once, got \[0, 0, 1\]", {"targets": [0, 0, 1]}),
        (ShapeError, r"label must be \(24, 30\) or \(3, 24, 30\)", {"label": torch.ones(2, *SIZE)}),
        (RangeError, r"rate must be a number in \[0, 1\], got 2", {"rate": 2}),
        (RangeError, "lam must be a finite number > 0", {"lam": 0.0}),
    ],
)
def test_messages_of_learning(error, message, change):
    arguments = {"model": trained("linear"), "frame": frame_of(), "boxes": rows(*BOXES)}
    arguments |= {"label": label_of(*SIZE), "rate": 0.1, **change}
    with pytest.raises(error, match=message):
        ops.grey_filter_learn_(**arguments)


def test_the_model_must_have_targets_and_one_channel():
    model = ops.cf_train(torch.rand(2, 2, *SIZE), label_of(*SIZE))
    with pytest.raises(ShapeError, match=r"model must be of targets of one channel, \(T, 1, w, h//2 \+ 1\), got"):
        ops.grey_filter_detect(model, frame_of(), rows(*BOXES[:2]))


@pytest.mark.parametrize("size", [(0, 30), (24, 0)])
@pytest.mark.parametrize("kernel", ["linear", "gaussian"])
def test_maps_without_cells_are_refused(size, kernel):
    boxes = rows(*BOXES)
    with pytest.raises(ShapeError, match=r"label must be \(…, h, w\) with h, w ≥ 1, got shape \(\d+, \d+\)"):
        ops.grey_filter(frame_of(), boxes, boxes, torch.zeros(size), kernel=kernel)
    empty = torch.zeros(3, 1, size[1], size[0] // 2 + 1, dtype=torch.complex64)
    model = ops.CorrelationFilter(empty, empty[:, 0].real, size[0], "linear", 0.5)
    with pytest.raises(ShapeError, match="model must be of maps with h, w ≥ 1"):
        ops.grey_filter_detect(model, frame_of(), boxes)

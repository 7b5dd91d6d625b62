"""Image patches against loops over pixels, and their places against the rule written out in tensors."""

import math

import numpy as np
import pytest
import torch

from fasttrack.compat.pytracking.preprocessing import (
    numpy_to_torch,
    sample_patch,
    sample_patch_multiscale,
    sample_patch_transformed,
    torch_to_numpy,
)
from fasttrack.errors import RangeError, ShapeError


def image(height=23, width=31, channels=2, batch=1):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64) * 255


def slow_place(size, pos, sample_sz, output_sz, mode, most):
    """Step, offset and edges of the patch, one axis after the other, in float32 where a rounding hangs on it."""
    single = [np.float32(side) for side in sample_sz]
    if mode != "replicate":
        ratios = [side / np.float32(n) for side, n in zip(single, size, strict=True)]
        ratio = max(ratios) if mode == "inside" else min(ratios)
        ratio = max(ratio, np.float32(1))
        ratio = min(ratio, np.float32(most)) if most is not None else ratio
        single = [np.float32(int(side / ratio)) for side in single]
    step = 1
    if output_sz is not None:
        fraction = min(side / np.float32(out) for side, out in zip(single, output_sz, strict=True))
        while step + 1 <= float(fraction) - 0.1:
            step += 1
    edges = []
    for center, side, n in zip(pos, single, size, strict=True):
        offset = math.trunc(center) % step
        pixels = len(range(offset, n, step))
        count = max(round(float(side / np.float32(step))), 2)
        first = (math.trunc(center) - offset) // step - (count - 1) // 2
        if mode != "replicate":
            if first < 0 and first + count > pixels:
                first -= first + (first + count - pixels)
            elif first < 0:
                first = 0
            elif first + count > pixels:
                first -= first + count - pixels
            over = (max(-first, 0) + max(first + count - pixels, 0)) // 2
            first = -over if over > 0 else first
        edges.append((offset, first, first + count))
    return step, edges


def slow_patch(im, step, edges, output_sz, is_mask):
    """The samples of every output pixel, one at a time."""
    (oy, top, bottom), (ox, left, right) = edges
    seen = im[:, :, oy::step, ox::step].numpy()

    def pixel(y, x):
        inside = 0 <= y < seen.shape[2] and 0 <= x < seen.shape[3]
        if is_mask and not inside:
            return np.zeros(seen.shape[:2])
        return seen[:, :, min(max(y, 0), seen.shape[2] - 1), min(max(x, 0), seen.shape[3] - 1)]

    height, width = bottom - top, right - left
    if output_sz is None:
        output_sz = height, width
    out = np.zeros((*seen.shape[:2], *output_sz))
    for i in range(output_sz[0]):
        for j in range(output_sz[1]):
            if is_mask:
                out[:, :, i, j] = pixel(top + i * height // output_sz[0], left + j * width // output_sz[1])
                continue
            y = max((i + 0.5) * height / output_sz[0] - 0.5, 0)
            x = max((j + 0.5) * width / output_sz[1] - 0.5, 0)
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    weight = max(1 - abs(y - row), 0) * max(1 - abs(x - column), 0)
                    at = top + min(row, height - 1), left + min(column, width - 1)
                    out[:, :, i, j] += weight * pixel(*at)
    return torch.tensor(out)


CASES = {
    "inside": ((11.5, 14.2), (9.0, 12.0), (7, 8)),
    "enlarged": ((11.5, 14.2), (6.0, 5.0), (13, 12)),
    "as it is": ((11.5, 14.2), (8.0, 7.0), (8, 7)),
    "no output": ((4.5, 3.2), (13.0, 12.0), None),
    "over the corner": ((1.0, 30.0), (11.0, 8.0), (9, 9)),
    "every second": ((12.0, 15.0), (19.0, 21.0), (9, 9)),
    "every third, odd centre": ((13.0, 16.0), (31.0, 38.0), (9, 12)),
    "just below two": ((12.0, 15.0), (18.8, 18.8), (9, 9)),
    "larger than the image": ((3.0, 20.0), (60.0, 70.0), (12, 16)),
    "larger on one side": ((3.0, 20.0), (10.0, 70.0), (12, 12)),
    "beyond the image": ((-40.0, 80.0), (9.0, 8.0), (5, 5)),
    "negative centre": ((-0.7, -3.4), (24.0, 30.0), (9, 9)),
    "tiny": ((5.0, 5.0), (0.3, 0.4), (4, 4)),
    "half to even": ((9.0, 9.0), (6.5, 7.5), (6, 5)),
}


@pytest.mark.parametrize(
    ("mode", "most"), [("replicate", None), ("inside", None), ("inside", 1.5), ("inside_major", None)]
)
@pytest.mark.parametrize("is_mask", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_patches_are_the_pixels_of_their_place(case, is_mask, mode, most):
    pos, sample_sz, output_sz = CASES[case]
    im = image()
    step, edges = slow_place((23, 31), pos, sample_sz, output_sz, mode, most)
    want = slow_patch(im, step, edges, output_sz, is_mask)
    asked = None if output_sz is None else torch.tensor(output_sz).float()
    got, place = sample_patch(im, torch.tensor(pos), torch.tensor(sample_sz), asked, mode, most, is_mask)
    (_, top, bottom), (_, left, right) = edges
    assert place.tolist() == [[step * edge for edge in (top, left, bottom, right)]] and place.dtype == torch.int64
    assert got.shape == want.shape and got.dtype == torch.float64 and got.is_contiguous()
    assert (got - want).abs().max() < 1e-10  # worst seen: 2e-13, of values up to 255
    if want.abs().max() > 0 and case not in ("beyond the image", "tiny"):
        for wrong in (torch.zeros_like(want), want.roll(1, -1), want.roll(1, -2), 1.001 * want):
            assert (got - wrong).abs().max() > 1e-3
    assert got.untyped_storage().data_ptr() != im.untyped_storage().data_ptr()


def test_hand_computed_patches():
    im = torch.arange(36.0).view(1, 1, 6, 6)
    four, two = torch.tensor([4.0, 4.0]), torch.tensor([2.0, 2.0])
    patch, place = sample_patch(im, torch.tensor([2.0, 3.0]), two)
    assert patch.flatten().tolist() == [15, 16, 21, 22] and place.tolist() == [[2, 3, 4, 5]]
    patch, place = sample_patch(im, torch.tensor([2.0, 3.0]), four, two)  # 4/2 − 0.1 < 2: every pixel is looked at
    assert patch.flatten().tolist() == [11.5, 13.5, 23.5, 25.5] and place.tolist() == [[1, 2, 5, 6]]
    patch, place = sample_patch(im, torch.tensor([2.0, 3.0]), four + 1, two)  # of 5 px every second, of the odd columns
    assert patch.flatten().tolist() == [15, 17, 27, 29] and place.tolist() == [[2, 2, 6, 6]]
    patch, place = sample_patch(im, torch.tensor([0.0, 0.0]), two + 1)
    assert patch.flatten().tolist() == [0, 0, 1, 0, 0, 1, 6, 6, 7] and place.tolist() == [[-1, -1, 2, 2]]
    patch, place = sample_patch(im, torch.tensor([0.0, 0.0]), two + 1, is_mask=True)
    assert patch.flatten().tolist() == [0, 0, 0, 0, 0, 1, 0, 6, 7]
    patch, place = sample_patch(im, torch.tensor([0.0, 0.0]), two + 1, mode="inside")
    assert patch.flatten().tolist() == [0, 1, 2, 6, 7, 8, 12, 13, 14] and place.tolist() == [[0, 0, 3, 3]]


@pytest.mark.parametrize("seed", range(3))
def test_places_of_random_patches(seed):
    rng = np.random.default_rng(seed)
    im = torch.zeros(1, 1, 48, 64)
    for _ in range(60):
        pos, sides = rng.uniform(-20, 80, 2), rng.uniform(1, 200, 2)
        output = rng.integers(4, 60, 2)
        mode, most = ("replicate", "inside", "inside_major")[rng.integers(3)], (None, 1.5)[rng.integers(2)]
        pos, sides = torch.tensor(pos).float(), torch.tensor(sides).float()
        patch, place = sample_patch(im, pos, sides, torch.tensor(output), mode, most)
        step, ((_, top, bottom), (_, left, right)) = slow_place(
            (48, 64), pos.tolist(), sides.tolist(), output.tolist(), mode, most
        )
        assert place.tolist() == [[step * edge for edge in (top, left, bottom, right)]]
        assert patch.shape[2:] == tuple(output)


def test_memory_order_and_precision_do_not_matter():
    im = image(channels=3, batch=2)
    hwc = im.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    pos, size, out = torch.tensor([10.0, 28.0]), torch.tensor([17.0, 20.0]), torch.tensor([8.0, 9.0])
    want, _ = sample_patch(im, pos, size, out)
    for other in (hwc, im.expand(2, -1, -1, -1), im.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.allclose(sample_patch(other, pos, size, out)[0], want, rtol=0, atol=1e-12)
    single, _ = sample_patch(im.float(), pos, size, out)
    assert single.dtype == torch.float32 and (single - want).abs().max() < 1e-4  # worst seen: 3e-5, of values up to 255
    assert torch.equal(sample_patch(im, pos.tolist(), size.tolist(), (8, 9))[0], want)


def test_the_image_gets_a_gradient():
    im = image(9, 8, 1).requires_grad_()
    size, out = torch.tensor([12.0, 13.0]), torch.tensor([5.0, 5.0])
    for mode in ("replicate", "inside"):
        crop = lambda x, mode=mode: sample_patch(x, torch.tensor([2.0, 6.0]), size, out, mode)[0]  # noqa: E731
        assert torch.autograd.gradcheck(crop, im, fast_mode=True)


def test_several_scales():
    im, pos, out = image(), torch.tensor([10.0, 12.0]), torch.tensor([6.0, 7.0])
    scales = torch.tensor([0.9, 1.5, 2.6])
    patches, places = sample_patch_multiscale(im, pos, scales, out, mode="inside", max_scale_change=1.5)
    assert patches.shape == (3, 2, 6, 7) and places.shape == (3, 4)
    for k, scale in enumerate(scales):
        patch, place = sample_patch(im, pos, scale * out, out, "inside", 1.5)
        assert torch.equal(patches[k : k + 1], patch) and torch.equal(places[k : k + 1], place)
    for one in (1.5, [1.5], torch.tensor([1.5])):
        single, place = sample_patch_multiscale(im, pos, one, out)
        assert torch.equal(single, sample_patch(im, pos, 1.5 * out, out)[0]) and place.shape == (1, 4)


def test_transforms_see_the_patch():
    im, pos, out = image(), torch.tensor([10.0, 12.0]), torch.tensor([6.0, 7.0])

    def flip(patch, is_mask=False):
        return patch.flip(3) if not is_mask else -patch

    def twice(patch, is_mask=False):
        return torch.cat([patch, patch])

    patch, _ = sample_patch(im, pos, 1.5 * out, out)
    assert torch.equal(
        sample_patch_transformed(im, pos, 1.5, out, [flip, twice]), torch.cat([patch.flip(3), patch, patch])
    )
    mask, _ = sample_patch(im, pos, 1.5 * out, out, is_mask=True)
    assert torch.equal(sample_patch_transformed(im, pos, 1.5, out, [flip], is_mask=True), -mask)


def test_arrays_become_batches_and_come_back():
    a = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    batch = numpy_to_torch(a)
    assert batch.shape == (1, 3, 5, 7) and batch.dtype == torch.float32 and batch[0, 2, 4, 6] == a[4, 6, 2]
    assert np.array_equal(torch_to_numpy(batch), a)
    assert torch.equal(numpy_to_torch(a[..., ::-1]), batch.flip(1)), "BGR as a view"
    assert torch_to_numpy(batch.requires_grad_()).shape == a.shape
    with pytest.raises(ShapeError, match=r"numpy_to_torch: a must be an image \(H, W, C\), got shape \(5, 7\)"):
        numpy_to_torch(a[..., 0])
    with pytest.raises(ShapeError, match=r"torch_to_numpy: a must be \(1, C, H, W\), got shape \(2, 3, 5, 7\)"):
        torch_to_numpy(torch.zeros(2, 3, 5, 7))


def test_wrong_arguments_are_refused():
    im, pos, size = image(), torch.tensor([10.0, 12.0]), torch.tensor([6.0, 7.0])
    with pytest.raises(
        ShapeError, match=r"sample_patch: im must be \(N, C, H, W\) with H, W ≥ 1, got shape \(2, 23, 31\)"
    ):
        sample_patch(im[0], pos, size)
    with pytest.raises(RangeError, match="mode must be 'replicate' or 'inside' or 'inside_major', got 'reflect'"):
        sample_patch(im, pos, size, mode="reflect")
    with pytest.raises(ShapeError, match=r"sample_patch: pos must be two numbers, \(y, x\), got"):
        sample_patch(im, pos[:1], size)
    with pytest.raises(ShapeError, match=r"sample_patch: sample_sz must be two sizes, \(height, width\)"):
        sample_patch(im, pos, size[:1])
    with pytest.raises(RangeError, match=r"sample_patch: pos must be finite, got tensor\(\[nan, 12.\]\)"):
        sample_patch(im, torch.tensor([math.nan, 12.0]), size)
    with pytest.raises(RangeError, match="sample_patch: output_sz must be at least 1 × 1"):
        sample_patch(im, pos, size, torch.tensor([0.5, 3.0]))
    with pytest.raises(RangeError, match="sample_patch_multiscale: scales must be at least one, got none"):
        sample_patch_multiscale(im, pos, [], size)
